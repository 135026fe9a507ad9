"""`lookback reproduce`: the chapter's systems under both protocols, and the page about them.

The page is made of sections that stay: running some systems replaces theirs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from db.clock import night
from db.errors import UsageError
from db.sessions import sessions
from db.settings import Settings
from db.warehouse import open_warehouse
from features import holding
from features.catalog import feature_view
from flows.display import new_console
from flows.progress import ConsoleProgress, step
from flows.reference import SESSION, reference_folder, reference_store
from flows.reproduce_texts import TextRun
from models import backend, evaluation, tasks
from models.encoding import Floats, Scale
from models.examples import Examples, read_examples
from models.recipes import LISTS, Recipe
from models.reproduction import page, pictures, sections, tradable
from models.reproduction.figures import Measured, in_time, measure
from models.reproduction.systems import QUICK_SYMBOLS, SYSTEMS, System, quick
from models.reproduction.trials import Outcome, ProtocolName, Trial, run, trials
from models.spans import Spans, split_at
from models.text.reproduction.systems import GLOVE, LEARNED, REVIEWS, TEXT_SYSTEMS
from models.text.reproduction.systems import quick as quick_text
from models.training import Epoch

PAGE = "results.md"
PICTURES = "results"
FACTORS = "fama_french_5_factors_daily.csv"
MARKET = ["Mkt-RF", "RF"]
DROPS = {
    "sp500_next_close": ("observations/SP500.csv",),
    "equity_week_direction": ("bars/us_equities.parquet",),
    "macro_outlook": ("observations/UMCSENT.csv", "observations/IPGMFN.csv"),
    "macro_path": ("observations/UMCSENT.csv", "observations/IPGMFN.csv"),
}
RETURNS = ("label", "tradable")


def run_reproduce(
    settings: Settings, names: Sequence[str], *, few: bool, output: Path | None
) -> int:
    """Run systems and write their sections of the page; returns the exit code.

    Raises
    ------
    UsageError
        There is no such system, or no reference data; the page that is there holds something
        else, or results of small parts would come among those of whole data.
    """
    chosen = _chosen(names)
    reference_folder()
    if find_spec("jax") is not None:
        os.environ.setdefault("KERAS_BACKEND", "jax")
    home = settings.home / "reproduce" / ("quick" if few else "whole")
    place = output or home / "page"
    _kept(place / PAGE, few)
    console = new_console()
    console.print(f"Keras on {backend.described()}; trials lie in {home}", highlight=False)
    with ConsoleProgress(console).shown():
        written = reproduce(settings, home, chosen, place, few)
    console.print(f"written {written}", highlight=False, soft_wrap=True)
    return 0


def _chosen(names: Sequence[str]) -> list[str]:
    """Names of the systems to run, in the order of the page; all if none is named.

    The networks of the book stand beside others in the section of film reviews, which is run
    with them.
    """
    every = [*SYSTEMS, *TEXT_SYSTEMS]
    for name in names:
        if name not in every:
            raise UsageError(f"no system {name!r}; there are: {', '.join(every)}")
    wanted = set(names or every)
    if wanted & {LEARNED, GLOVE}:
        wanted.add(REVIEWS)
    return [name for name in every if name in wanted]


def reproduce(
    settings: Settings, home: Path, chosen: Sequence[str], output: Path, few: bool
) -> Path:
    """Run systems one after the other and write the section of each; gives the page's path.

    Parameters
    ----------
    settings : of whoever asks; word vectors may lie in its folder of corpora.
    home : folder of the store of reference data, and of the trials, which are taken up again.
    chosen : names of systems.
    output : folder of the page; pictures lie in a folder beside it.
    few : whether only small parts of the data are taken.
    """
    by_windows = [SYSTEMS[name] for name in chosen if name in SYSTEMS]
    of_text = [TEXT_SYSTEMS[name] for name in chosen if name in TEXT_SYSTEMS]
    setup = _setup(few)
    if by_windows:
        store = _store(home, by_windows, few)
        for system in by_windows:
            own = quick(system) if few else system
            section = _Run(own, store, home / "trials").section(output)
            _write(output, system.name, page.section_text(section, setup), few)
    if of_text:
        runs = TextRun.of(settings, home, output / PICTURES, setup)
        for each in of_text:
            _write(output, each.name, runs.section(quick_text(each) if few else each), few)
    return output / PAGE


def _store(home: Path, chosen: Sequence[System], few: bool) -> Settings:
    """The store of the reference data that systems read windows from."""
    drops = sorted({drop for system in chosen for drop in DROPS[system.name]})
    views = {recipe.view for system in chosen for recipe in system.recipes}
    if any(system.name == "equity_week_direction" for system in chosen):
        views.add(holding.VIEW)
    with step("store of the reference data") as shown:
        return reference_store(
            home / "store",
            drops,
            views,
            lambda said: shown.move(0, 1, said),
            symbols=QUICK_SYMBOLS if few else None,
        )


def _kept(file: Path, few: bool) -> tuple[sections.Kept, ...]:
    """The sections of the page that is there.

    Raises
    ------
    UsageError
        It holds something else, or what a section of small parts or whole data does not go with.
    """
    if not file.exists():
        return ()
    try:
        found = sections.parse(file.read_text(encoding="utf-8"))
        sections.require_alike(found, is_small=few)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    return found


def _write(output: Path, system: str, text: str, few: bool) -> None:
    """Put the section of a system into the page, all others staying as they are."""
    file = output / PAGE
    new = sections.Kept(system, text, few)
    every = sections.merged(_kept(file, few), new, [*SYSTEMS, *TEXT_SYSTEMS])
    output.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(sections.joined(page.HEAD, every), encoding="utf-8")
    unfinished.replace(file)


def _setup(few: bool) -> str:
    frameworks = ", ".join(f"{name} {found}" for name, found in backend.versions().items())
    small = " **Small parts only (`--quick`): no figure below means anything.**" if few else ""
    return f"Trained with Keras on {backend.described()} ({frameworks}), on the CPU.{small}"


@dataclass
class _Run:
    """One system: reads its data once, runs its trials, measures and draws."""

    system: System
    settings: Settings
    root: Path
    spans: dict[str, Spans] = field(default_factory=dict)
    scale: Scale | None = None
    returns: dict[int, dict[str, Floats]] = field(default_factory=dict)

    @property
    def cutoff(self) -> datetime:
        """Up to when the honest protocol knows things."""
        return night(self.settings, sessions(self.settings.calendar), SESSION).cutoff

    def section(self, output: Path) -> page.Section:
        """Run both protocols and draw what there is to see."""
        book = None
        if self.system.book_data is not None:
            with step(f"{self.system.name}: the book's data"):
                data = self.system.book_data(reference_folder())
            self.scale = data.scale
            self.spans = {"chapter": data.spans}
            outcomes = self._trials("book", lambda recipe: data.spans)
            book = self._measured("book", outcomes, self.scale)
            del data
        self.spans = {}
        outcomes = self._trials("honest", self._honest_spans)
        honest = self._measured("honest", outcomes, None)
        with step(f"{self.system.name}: pictures"):
            drawn = self._pictures(outcomes, honest, output / PICTURES)
        return page.Section(self.system, book, honest, drawn)

    def _trials(self, protocol: ProtocolName, spans_of: Callable[[Recipe], Spans]) -> list[Outcome]:
        return [self._trial(trial, spans_of) for trial in trials(self.system, protocol)]

    def _trial(self, trial: Trial, spans_of: Callable[[Recipe], Spans]) -> Outcome:
        with step(f"{trial.system}, {trial.protocol}: {trial.name}") as shown:

            def on_epoch(epoch: Epoch) -> None:
                losses = f"loss {epoch.loss:.4g}, validation {epoch.val_loss:.4g}"
                shown.move(epoch.epoch, epoch.max_epochs, f"epoch {epoch.epoch}: {losses}")

            outcome = run(trial, spans_of(trial.recipe), self.root, on_epoch)
            headline = tasks.HEADLINES[trial.recipe.task]
            found = outcome.manifest.metrics.get(headline)
            shown.detail = f"{headline} {found:.4g}" if found is not None else ""
            return outcome

    def _honest_spans(self, recipe: Recipe) -> Spans:
        key = _inputs(recipe)
        if key not in self.spans:
            with open_warehouse(self.settings, "reproduce") as warehouse:
                examples = read_examples(warehouse, recipe, self.cutoff)
            self.spans[key] = split_at(examples, self.system.honest)
        return self.spans[key]

    def _test(self, outcome: Outcome) -> Examples:
        found = self.spans.get(_inputs(outcome.trial.recipe)) or self.spans["chapter"]
        return found.test

    def _measured(
        self, protocol: ProtocolName, outcomes: Sequence[Outcome], scale: Scale | None
    ) -> Measured:
        of_entities = self.system.name == "equity_week_direction" and protocol == "honest"
        with step(f"{self.system.name}, {protocol}: figures"):
            against = (lambda outcome: self._returns(self._test(outcome))) if of_entities else None
            return measure(outcomes, self._test, scale, against)

    def _returns(self, test: Examples) -> Mapping[str, Floats]:
        """What scores are held against beside the label: by test span."""
        if id(test) not in self.returns:
            self.returns[id(test)] = self._other_returns(test)
        return self.returns[id(test)]

    def _other_returns(self, test: Examples) -> dict[str, Floats]:
        dates, entities = test.index["as_of"], test.index["entity"].astype("str").to_numpy()
        with open_warehouse(self.settings, "reproduce") as warehouse:
            traded, periods = tradable.tradable_returns(warehouse, self.cutoff, dates, entities)
            weekly = warehouse.frame(
                f"""
                SELECT entity, date, weekly_return
                FROM {feature_view("equity_weekly_return").table}
                WHERE known_at <= $1 AND (known_until IS NULL OR known_until > $1)
                """,
                self.cutoff,
            )
        wide = weekly.pivot_table(index="date", columns="entity", values="weekly_return")
        wide.index = pd.DatetimeIndex(wide.index)
        daily = pd.read_csv(reference_folder() / FACTORS, index_col="Date")
        daily.index = pd.to_datetime(daily.index.astype(str))
        daily = daily / 100
        found = {"tradable": traded}
        before = np.concatenate([[wide.index[0] - pd.Timedelta(days=7)], wide.index[:-1]])
        for name, columns in (("net_of_beta", MARKET), ("net_of_factors", list(daily.columns))):
            factors = evaluation.compounded(daily[columns], before, wide.index)
            betas = evaluation.trailing_betas(wide, factors, dates=np.unique(dates))
            over = evaluation.compounded(daily[columns], periods.from_, periods.until)
            over.index = pd.DatetimeIndex(periods.dates)
            found[name] = evaluation.net_of_factors(traded, dates, entities, betas, over)
        return found

    def _pictures(
        self, outcomes: Sequence[Outcome], honest: Measured, folder: Path
    ) -> dict[str, str]:
        name = self.system.name
        files = {"loss by epoch, honest": f"{name}_loss.png"}
        pictures.loss_curves(pictures.histories(outcomes), folder / files["loss by epoch, honest"])
        test = self._test(next(each for each in outcomes if not each.trial.is_baseline))
        series = tasks.series_of(self.system.recipes[-1])
        if honest.task == "level":
            files["forecasts"] = f"{name}_forecasts.png"
            pictures.levels(outcomes, test, folder / files["forecasts"])
        elif honest.task == "changes":
            files["forecasts"] = f"{name}_forecasts.png"
            pictures.changes(outcomes, test, series, folder / files["forecasts"])
        elif honest.task == "path":
            files["error by horizon"] = f"{name}_horizons.png"
            pictures.by_horizon(honest, series, folder / files["error by horizon"])
        else:
            files["rank IC over time"] = f"{name}_rank_ic.png"
            pictures.rank_ic(self._curves(outcomes), folder / files["rank IC over time"])
        return {caption: f"{PICTURES}/{file}" for caption, file in files.items()}

    def _curves(self, outcomes: Sequence[Outcome]) -> dict[str, dict[str, pd.Series[float]]]:
        """Rank IC by week of each forecaster's first seed, by kind of return."""
        first: dict[str, Outcome] = {}
        for outcome in outcomes:
            first.setdefault(outcome.trial.label, outcome)
        curves: dict[str, dict[str, pd.Series[float]]] = {name: {} for name in RETURNS}
        for label, outcome in first.items():
            test = self._test(outcome)
            held: dict[str, Any] = {"label": test.y[:, 0, 0], **self._returns(test)}
            for name in RETURNS:
                curves[name][label] = in_time(outcome, test, held[name])
        return curves


def _inputs(recipe: Recipe) -> str:
    """What tells the examples of one recipe from those of another."""
    return repr([recipe.view, *(getattr(recipe, name) for name in LISTS), recipe.steps])
