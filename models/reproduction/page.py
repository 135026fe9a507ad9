"""What the page of results says of a system, made from what was measured; nothing is typed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.recipes import Task
from models.reproduction.figures import Forecaster, Measured
from models.reproduction.systems import System


@dataclass(frozen=True)
class Column:
    """A column of a table of forecasters.

    Attributes
    ----------
    title : its head.
    key : of the metrics; of an interval, both ends.
    digits : after the point.
    """

    title: str
    key: str | tuple[str, str]
    digits: int = 3


@dataclass(frozen=True)
class Aim:
    """What the improved network was meant to reach.

    Attributes
    ----------
    text : in words.
    reached : the figure that it is about, mean over the seeds; None where not defined.
    target : what it was to reach.
    above : whether it has to lie above the target, and not below.
    """

    text: str
    reached: float | None
    target: float | None
    above: bool

    @property
    def is_met(self) -> bool:
        """Whether it was reached."""
        if self.reached is None or self.target is None:
            return False
        return self.reached > self.target if self.above else self.reached <= self.target

    @property
    def line(self) -> str:
        """One line for the page."""
        if self.reached is None or self.target is None:
            return f"not met: {self.text}: not defined"
        by = abs(self.reached - self.target)
        found = f"{self.reached:.4g} against {self.target:.4g}"
        return f"{'met' if self.is_met else f'not met, by {by:.2g}'}: {self.text}: {found}"


@dataclass(frozen=True)
class Section:
    """One system on the page.

    Attributes
    ----------
    system : what it is.
    book, honest : what was measured; None where it was not run.
    pictures : caption -> file name beside the page.
    """

    system: System
    book: Measured | None
    honest: Measured
    pictures: Mapping[str, str]


COLUMNS: Mapping[Task, tuple[Column, ...]] = {
    "level": (
        Column("RMSE, points", "rmse", 2),
        Column("RMSE, scaled", "rmse_scaled", 5),
        Column("IC of levels", "ic", 4),
        Column("IC of returns", "return_ic"),
        Column("its 90 % interval", ("return_ic_low", "return_ic_high")),
        Column("hit rate", "hit_rate"),
        Column("in q05–q95", "quantiles.coverage"),
    ),
    "changes": (
        Column("MAE, the book's units", "mae", 3),
        Column("MASE", "mase"),
        Column("in q05–q95", "quantiles.coverage"),
    ),
    "path": (
        Column("MAE", "mae", 3),
        Column("MASE", "mase"),
        Column("in q05–q95", "quantiles.coverage"),
    ),
    "direction": (
        Column("AUC, pooled", "auc"),
        Column("AUC within weeks", "auc_within_date"),
        Column("its 90 % interval", ("auc_within_date_low", "auc_within_date_high")),
        Column("within weeks, tradable", "direction_of.tradable.auc_within_date"),
        Column("accuracy", "accuracy"),
        Column("log-loss", "log_loss", 4),
        Column("calibration error", "calibration_error"),
    ),
}
RANKED = (
    Column("rank IC, label", "cross_section.rank_ic", 4),
    Column("t", "cross_section.rank_ic_t", 1),
    Column("ICIR", "cross_section.rank_icir", 2),
    Column("rank IC, tradable", "cross_section.tradable.rank_ic", 4),
    Column("t", "cross_section.tradable.rank_ic_t", 1),
    Column("net of beta", "cross_section.net_of_beta.rank_ic", 4),
    Column("net of five factors", "cross_section.net_of_factors.rank_ic", 4),
    Column("turnover a week", "cross_section.turnover", 2),
    Column("weeks the top fifth beat the bottom", "cross_section.tradable.spread_hit_rate", 2),
)
HEAD = """# Results

Made by `lookback reproduce`; nothing here is typed by hand. A system that is run again replaces its
own section, which says what it was made with.

**Book** is the chapter's protocol with its flaws: its split, its scaling, and early stopping that
watches the span which is reported. **Honest** learns its scales on the training span only, stops
on a validation span before the test, and takes a label into a span only if it was known before
the next one began; of texts the validation span is a part of the training texts. Figures of
networks are mean ± standard deviation over seeds; baselines have none. The networks of the honest
protocol were chosen on the validation span.

MASE: mean absolute error, divided by that of "next month's change is this month's" on the
training span (Hyndman, Koehler 2006). Intervals are 90 %, by the stationary bootstrap, and of texts
by resampling texts; t is Newey and West's. *Tradable* is the return from the close of the session
after the score to that of the session after the label's week."""


def section_text(section: Section, setup: str) -> str:
    """The section of a system as Markdown.

    Parameters
    ----------
    section : what was measured.
    setup : what it was made with, one sentence.
    """
    return "\n\n".join(_section(section, setup))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, figures to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _section(section: Section, setup: str) -> Iterator[str]:
    system = section.system
    yield f"## {system.title}\n\n`{system.name}`. The book: {system.book_says}."
    yield setup
    yield f"**What that number measures.** {system.measures}"
    if section.book is not None:
        yield f"### The book's protocol\n\n{_spans(section.book)}"
        yield from _tables(section.book)
    yield f"### Honest\n\n{_spans(section.honest)} {system.note}"
    yield from _tables(section.honest)
    if section.honest.comparison is not None:
        yield _comparison(section.honest.comparison)
    found = aims(section)
    if found:
        yield aims_text("### Aims of the improved network", found)
    yield from pictures_text(section.pictures)


def aims_text(heading: str, found: Iterable[Aim]) -> str:
    """A line for each aim, under a heading."""
    return f"{heading}\n\n" + "\n".join(f"- {aim.line}" for aim in found)


def pictures_text(pictures: Mapping[str, str]) -> Iterator[str]:
    """A line for each picture: caption -> file name beside the page."""
    return (f"![{caption}]({name})" for caption, name in pictures.items())


def _spans(measured: Measured) -> str:
    train, test = measured.train, measured.test
    return (
        f"Learned from {train['windows']:,} windows, {train['first_as_of']} to "
        f"{train['last_as_of']}; test {test['first_as_of']} to {test['last_as_of']}, "
        f"{test['windows']:,} windows."
    )


def _tables(measured: Measured) -> Iterator[str]:
    yield forecasters_table(measured.forecasters.values(), COLUMNS[measured.task])
    if measured.task == "direction":
        has = any(
            each.mean("cross_section.tradable.rank_ic") is not None
            for each in measured.forecasters.values()
        )
        yield forecasters_table(measured.forecasters.values(), RANKED if has else RANKED[:3])
        if has:
            yield _decay(measured)
    if measured.task in {"changes", "path"}:
        yield _by_series(measured)
    if measured.task == "path":
        yield _by_horizon(measured)


def forecasters_table(
    forecasters: Iterable[Forecaster], columns: Sequence[Column], each_is: str = "seed"
) -> str:
    """A Markdown table of forecasters.

    Parameters
    ----------
    forecasters : one row each.
    columns : after name and number of weights.
    each_is : what the figures of a network are several of.
    """
    rows = [
        [
            _named(each, each_is),
            f"{each.parameters:,}",
            *(_cell(each, column) for column in columns),
        ]
        for each in forecasters
    ]
    return table(["", "parameters", *(column.title for column in columns)], rows)


def _named(forecaster: Forecaster, each_is: str = "seed") -> str:
    if forecaster.is_baseline:
        return forecaster.label
    count = len(forecaster.metrics)
    return f"**{forecaster.label}** ({count} {each_is if count == 1 else f'{each_is}s'})"


def _cell(forecaster: Forecaster, column: Column) -> str:
    if isinstance(column.key, tuple):
        ends = [forecaster.mean(key) for key in column.key]
        if any(end is None for end in ends):
            return "–"
        return " to ".join(f"{end:.{column.digits}f}" for end in ends)
    return spread(forecaster.values(column.key), column.digits)


def spread(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation of several values; one as it is; a dash for none."""
    if not values:
        return "–"
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def _decay(measured: Measured) -> str:
    """Rank IC of a score with returns that begin some weeks later."""
    rows = []
    for each in measured.forecasters.values():
        of_seeds = [metrics["cross_section"]["decay"] for metrics in each.metrics]
        if all(step["rank_ic"] is not None for decay in of_seeds for step in decay):
            curve = np.mean([[step["rank_ic"] for step in decay] for decay in of_seeds], axis=0)
            rows.append([_named(each), *(f"{value:.4f}" for value in curve)])
    lags = range(len(rows[0]) - 1) if rows else ()
    return table(["rank IC, label, weeks later", *(str(lag) for lag in lags)], rows)


def _by_series(measured: Measured) -> str:
    names = _series(measured)
    rows = [
        [
            _named(each),
            *(spread(each.values(f"series.{name}.{key}"), 4) for name in names for key in KEYS),
        ]
        for each in measured.forecasters.values()
    ]
    return table(["", *(f"{name} {key.upper()}" for name in names for key in KEYS)], rows)


KEYS = ("mae", "mase")


def _series(measured: Measured) -> list[str]:
    first = next(iter(measured.forecasters.values()))
    # by name: a trial that is taken up has them in another order than one just made
    return sorted(first.metrics[0]["series"])


def _by_horizon(measured: Measured) -> str:
    parts = []
    for name in _series(measured):
        rows = []
        for each in measured.forecasters.values():
            curves = np.array(
                [
                    [step["mae"] for step in metrics["series"][name]["by_horizon"]]
                    for metrics in each.metrics
                ],
                "float64",
            )
            rows.append([_named(each), *(f"{value:.4g}" for value in curves.mean(axis=0))])
        steps = range(1, len(rows[0]))
        parts.append(table([f"{name}: MAE, months ahead", *(str(step) for step in steps)], rows))
    return "\n\n".join(parts)


def _comparison(comparison: Metrics) -> str:
    rows = []
    for name, found in comparison["forecasters"].items():
        difference = found.get("difference")
        rows.append(
            [
                name,
                f"{found['loss']:.5g}",
                _interval(difference) if difference else "the benchmark",
                f"{found['mcs_p']:.2f}",
                "yes" if found["in_confidence_set"] else "no",
            ]
        )
    p = comparison["spa_p"]
    said = "not defined" if p is None else f"p = {p:.3f}"
    return (
        f"Losses by date, {comparison['n_dates']} dates. Hansen's test of superior ability, "
        f"“nothing beats {comparison['benchmark']}”: {said}. The model confidence set holds the "
        "best forecaster with 90 %.\n\n"
        + table(["", "loss", "difference, 90 % interval", "MCS p", "in the set"], rows)
    )


def _interval(difference: Metrics) -> str:
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return f"{difference['mean_difference']:.3g}"
    return f"{difference['mean_difference']:.3g} ({low:.3g} to {high:.3g})"


Metrics = dict[str, Any]


# --------------------------------------------------------------------------- aims


def aims(section: Section) -> list[Aim]:
    """What the improved network of a system was meant to reach, and whether it did."""
    networks = [each for each in section.honest.forecasters.values() if not each.is_baseline]
    improved = next((each for each in networks if each.label != "chapter"), None)
    if improved is None:
        return []
    return {"level": _level_aims, "changes": _path_aims, "path": _path_aims}.get(
        section.honest.task, _panel_aims
    )(improved, section.honest)


def _level_aims(improved: Forecaster, measured: Measured) -> list[Aim]:
    persistence = measured.forecasters["persistence"].mean("rmse")
    return [
        Aim("RMSE no worse than persistence's", improved.mean("rmse"), persistence, False),
        Aim(
            "lower end of the interval of the IC of returns above zero",
            improved.mean("return_ic_low"),
            0.0,
            True,
        ),
    ]


def _path_aims(improved: Forecaster, measured: Measured) -> list[Aim]:
    var = measured.forecasters["var"]
    found = []
    for name in _series(measured):
        key = f"series.{name}.mase"
        if measured.task == "changes":
            found.append(Aim(f"MASE of {name} below 1", improved.mean(key), 1.0, False))
        found.append(
            Aim(f"MASE of {name} below the VAR's", improved.mean(key), var.mean(key), False)
        )
    return found


def _panel_aims(improved: Forecaster, measured: Measured) -> list[Aim]:
    label, tradable = "cross_section.rank_ic", "cross_section.tradable.rank_ic"
    found = [
        Aim("rank IC against the label at least 0.04", improved.mean(label), 0.04, True),
        Aim(
            "rank IC against the tradable return at least 0.025",
            improved.mean(tradable),
            0.025,
            True,
        ),
        Aim("its t above 3", improved.mean(f"{tradable}_t"), 3.0, True),
    ]
    for each in measured.baselines():
        if each.label.split(",")[0] in {"reversal", "ridge", "logistic", "boosting"}:
            found.append(
                Aim(
                    f"rank IC, label, above {each.label}'s",
                    improved.mean(label),
                    each.mean(label),
                    True,
                )
            )
    return found
