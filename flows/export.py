"""`lookback signals export`: what a backtest reads, as files, for whoever has no Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.errors import UsageError
from db.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from signals.readers import Signals


@dataclass(frozen=True)
class Asked:
    """What is to be written.

    Attributes
    ----------
    signal, format : names.
    output : file of the formats `parquet` and `csv`, folder of the others.
    first, last : of `as_of`, both included; None for all.
    horizon : of a signal with several.
    long, short : shares of a cross-section that weights hold, where a format has weights.
    """

    signal: str
    format: str
    output: Path
    first: date | None = None
    last: date | None = None
    horizon: int | None = None
    long: float = 0.1
    short: float = 0.1


def export(settings: Settings, asked: Asked) -> list[Path]:
    """Write the newest publication's rows of a signal; the files written.

    Every format but `parquet` and `csv` is dated by `tradable_from`.

    Raises
    ------
    UsageError
        No such format, signal or rows.
    StoreError
        Nothing is published.
    """
    from signals import readers

    if asked.format not in (*ROWS, *SHAPES):
        raise UsageError(f"no format {asked.format!r}; there are: {', '.join((*ROWS, *SHAPES))}")
    signals = readers.read(
        settings.home,
        signal=asked.signal,
        start=asked.first,
        end=asked.last,
        horizon=asked.horizon,
    )
    if asked.format in ROWS:
        asked.output.parent.mkdir(parents=True, exist_ok=True)
        ROWS[asked.format](signals.to_pandas(), asked.output)
        return [asked.output]
    close = readers.prices(settings.home, entities=signals.entities)
    asked.output.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in SHAPES[asked.format](signals, close, asked).items():
        path = asked.output / name
        if path.suffix == ".json":
            path.write_text(json.dumps(content, indent=2))
        else:
            content.to_parquet(path)
        written.append(path)
    return written


def _parquet(rows: pd.DataFrame, path: Path) -> None:
    rows.to_parquet(path, index=False)


def _csv(rows: pd.DataFrame, path: Path) -> None:
    rows.to_csv(path, index=False, date_format="%Y-%m-%dT%H:%M:%S%z")


def _alphalens(signals: Signals, close: pd.DataFrame, asked: Asked) -> Mapping[str, Any]:
    from signals import readers

    factor, prices = readers.to_alphalens(signals, close)
    return {"factor.parquet": factor.rename("factor").to_frame(), "prices.parquet": prices}


def _vectorbt(signals: Signals, close: pd.DataFrame, asked: Asked) -> Mapping[str, Any]:
    from signals import readers

    close, size = readers.to_vectorbt(signals, close, long=asked.long, short=asked.short)
    return {"close.parquet": close, "size.parquet": size}


def _bt(signals: Signals, close: pd.DataFrame, asked: Asked) -> Mapping[str, Any]:
    from signals import readers

    close, weights = readers.to_bt(signals, close, long=asked.long, short=asked.short)
    return {"close.parquet": close, "weights.parquet": weights}


def _zipline(signals: Signals, close: pd.DataFrame, asked: Asked) -> Mapping[str, Any]:
    from signals import readers

    frame, sids = readers.to_zipline(signals)
    frame.columns = frame.columns.astype(str)
    return {"frame.parquet": frame, "sids.json": {name: int(sid) for name, sid in sids.items()}}


ROWS: Mapping[str, Callable[[pd.DataFrame, Path], None]] = {"parquet": _parquet, "csv": _csv}
# What each format's files hold, by name.
SHAPES: Mapping[str, Callable[[Signals, pd.DataFrame, Asked], Mapping[str, Any]]] = {
    "alphalens": _alphalens,
    "vectorbt": _vectorbt,
    "bt": _bt,
    "zipline": _zipline,
}
