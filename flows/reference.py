"""The store of the reference data: real histories, taken over as a night takes over files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from db.clock import night
from db.errors import LookbackError, UsageError
from db.sessions import sessions
from db.settings import Settings, load_settings
from db.sources.catalog import sources
from features.catalog import feature_views
from features.view import FeatureView
from flows import steps

FOLDER_VARIABLE = "LOOKBACK_REFERENCE_DATA"
# The newest session on which everything in the reference data was known.
SESSION = date(2022, 12, 30)
# Where a night would find them: drops of profile `files`, and the names of their series.
DROPS = {
    "bars/us_equities.parquet": "us_equities_adj_close_daily_2007_2018.parquet",
    "observations/SP500.csv": "sp500_close_daily_1990_2022.csv",
    "observations/UMCSENT.csv": "UMCSENT.csv",
    "observations/IPGMFN.csv": "IPGMFN.csv",
    "observations/VIXCLS.csv": "VIXCLS.csv",
}


def reference_folder() -> Path:
    """Where the reference data lie.

    Raises
    ------
    UsageError
        LOOKBACK_REFERENCE_DATA is not set, or names no folder.
    """
    found = os.environ.get(FOLDER_VARIABLE)
    if not found or not Path(found).is_dir():
        raise UsageError(
            f"the reference data are needed: set {FOLDER_VARIABLE} to their folder"
            + (f"; {found} is none" if found else "")
        )
    return Path(found).absolute()


def reference_settings(home: Path, drops: Sequence[str], symbols: int | None = None) -> Settings:
    """Settings of a store of profile `files` in a folder of its own, its drops in place.

    Parameters
    ----------
    home : folder of the store.
    drops : which of `DROPS` it takes over.
    symbols : of the bars, only so many of the symbols; all if left out.
    """
    reference = reference_folder()
    for drop in drops:
        place = home / "files" / drop
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            continue
        if symbols is not None and place.parent.name == "bars":
            _write_some(reference / DROPS[drop], place, symbols)
        else:
            place.symlink_to(reference / DROPS[drop])
    return load_settings(home=home, profile="files", files_dir=home / "files")


def _write_some(bars: Path, place: Path, symbols: int) -> None:
    """A drop of so many symbols, evenly chosen by name."""
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    whole = pq.read_table(bars)
    names = np.sort(pc.unique(whole["ticker"].cast("string")).to_numpy(zero_copy_only=False))
    chosen = names[np.linspace(0, len(names) - 1, symbols).astype("int64")]
    kept = pc.is_in(whole["ticker"].cast("string"), value_set=_strings(chosen))
    pq.write_table(whole.filter(kept), place)


def _strings(values: Any) -> Any:
    import pyarrow as pa

    return pa.array(list(values), pa.string())


def reference_store(
    home: Path,
    drops: Sequence[str],
    views: Collection[str],
    say: Callable[[str], None],
    symbols: int | None = None,
) -> Settings:
    """The store, with everything taken over and the views materialized; kept for the next time.

    What further drops bring is taken over beside what is there.

    Parameters
    ----------
    home : folder of the store.
    drops : which of `DROPS` it holds.
    views : that are materialized, and those that they read.
    say : told what is being done.
    symbols : of the bars, only so many of the symbols; all if left out.

    Raises
    ------
    LookbackError
        A source could not be taken over.
    """
    settings = reference_settings(home, drops, symbols)
    run = steps.Run(settings, "nightly", night(settings, sessions(settings.calendar), SESSION))
    done = home / "taken_over.json"
    there = json.loads(done.read_text()) if done.exists() else []
    if not set(drops) <= set(there):
        shutil.rmtree(home / "staging", ignore_errors=True)
        catalog = sources(settings)
        for source, request in zip(catalog, steps.requests(run, catalog), strict=True):
            say(f"take over {source.name}")
            delivery, _ = steps.take_over(run, steps.fetch(run, source, request))
            if delivery.status in {"failed", "stopped"}:
                raise LookbackError(f"{source.name}: {'; '.join(delivery.problems)}")
        shutil.rmtree(run.staging, ignore_errors=True)
        done.write_text(json.dumps(sorted({*there, *drops})))
    for view in _with_those_beneath(views):
        say(f"materialize {view.name}")
        steps.materialize_view(run, view, lambda *_: None)
    run.reads.forget()
    return settings


def _with_those_beneath(names: Collection[str]) -> list[FeatureView]:
    """The views and those that they read, each after these."""
    wanted = set(names)
    for view in reversed(feature_views().values()):
        if view.name in wanted:
            wanted |= {given.table for given in view.inputs if not given.is_raw}
    return [view for name, view in feature_views().items() if name in wanted]
