"""Pictures of the report: SVG that takes its colours and its type from the page.

Each is drawn for a width of some 340 pixels, a phone's. Figures are drawn in stand-in
colours; the page's own, which follow the reader's light or dark theme, take their place.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from signals.report.record import Bucket, Curve, Fifths
from signals.report.scores import CrossSection, Forecast
from signals.report.versions import Losses

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

WIDTH, HEIGHT = 4.5, 2.9  # inches of 72 units
# Room around the axes for labels, inches: fixed, because fitting it takes ten times as long.
LEFT, RIGHT, BOTTOM, TOP = 0.55, 0.12, 0.32, 0.38
POINTS_SHOWN = 800
BARS_SHOWN = 300
# A mean of fewer dates is nothing but the first of them.
FEWEST_DATES = 8

INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
FIRST, SECOND, THIRD = "#050505", "#060606", "#070707"
OF_THE_PAGE = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    PAPER: "var(--card)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    THIRD: "var(--third)",
}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lookback",
    # an entity may be called $x$
    "text.parse_math": False,
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "patch.linewidth": 0,
}


def forecast(given: Forecast, unit: str) -> str:
    """Actual values, past forecasts with their band, and what is forecast now."""
    with _drawing(f"{given.entity}: actual values and forecasts, {unit}") as picture:
        axes = picture.axes
        realised = {point.target: point.realised for point in given.past}
        known = sorted({**dict(given.known), **realised}.items())
        (line,) = axes.plot(*_dated(known), color=INK, linewidth=1.4)
        handles, labels = [line], ["actual"]
        if given.past:
            past = [(point.target, point.value) for point in given.past]
            (line,) = axes.plot(*_dated(past), color=FIRST, linewidth=1.2)
            _band(axes, given.past, FIRST, 0.14)
            handles.append(line)
            labels.append("forecast")
        if given.ahead:
            ahead = [(point.target, point.value) for point in given.ahead]
            if known:
                _band(axes, given.ahead, SECOND, 0.22, begin=known[-1])
                axes.plot(*_dated([known[-1], *ahead]), color=SECOND, linewidth=1.6)
            (line,) = axes.plot(
                *_dated(ahead), "o-" if len(ahead) > 1 else "o", color=SECOND, markersize=4
            )
            if len(ahead) == 1:
                _whisker(axes, given)
            handles.append(line)
            labels.append("now, 5–95 %")
        axes.legend(handles, labels, **_above())
        _of_dates(axes)
    return picture.svg


def distribution(given: CrossSection, name: str) -> str:
    """How many entities have which value, and where the highest and the lowest stand."""
    with _drawing(
        f"Distribution of the values of {name} over {len(given.values)} entities"
    ) as picture:
        axes = picture.axes
        values = np.array(given.values)
        bins = min(40, max(8, len(values) // 12))
        axes.hist(values, bins=bins, color=FIRST, alpha=0.85, rwidth=0.92)
        axes.margins(y=0.2)
        top = axes.get_ylim()[1]
        for side, align in ((given.lowest, "left"), (given.highest, "right")):
            if side:
                axes.text(
                    side[0].value,
                    top * 0.97,
                    _short(side[0].entity),
                    ha=align,
                    va="top",
                    color=SECOND,
                )
                axes.axvline(side[0].value, color=SECOND, linewidth=1.2, ymax=0.86)
        axes.set_ylabel("entities")
        _whole(axes.yaxis)
    return picture.svg


def rank_ic(label: Curve, tradable: Curve | None) -> str:
    """Rank IC by date, its mean over a year, and the same of what could be traded."""
    with _drawing("Rank IC by date and its mean over the year before") as picture:
        axes = picture.axes
        dates, values = _bars(label)
        days = np.diff(dates).min() / np.timedelta64(1, "D") if len(dates) > 1 else 1
        axes.bar(dates, values, width=0.8 * days, color=MUTED, alpha=0.45)
        handles, labels = [], []
        for curve, color, name in (
            (label, FIRST, "a year's mean: label"),
            (tradable, SECOND, "tradable"),
        ):
            if curve is not None:
                points = list(zip(curve.dates, curve.running, strict=True))
                points = points[min(FEWEST_DATES, len(points)) - 1 :]
                handles += axes.plot(*_dated(points), color=color, linewidth=2)
                labels.append(name)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.legend(handles, labels, **_above())
        _of_dates(axes)
        _focus(axes, values)
    return picture.svg


def running(performance: Sequence[dict[str, Any]], entity: str) -> str:
    """Mean absolute error over a year of a series' forecasts, beside the last value's."""
    with _drawing(
        f"{entity}: mean absolute error over a year of forecasts and of the last value"
    ) as picture:
        axes = picture.axes
        handles, labels = [], []
        for column, color, name in (
            ("running_mae", FIRST, "forecast"),
            ("running_naive_mae", MUTED, "last known value"),
        ):
            points = [(row["as_of"], row[column]) for row in performance if row[column] is not None]
            if points:
                style = "o-" if len(points) < 8 else "-"
                handles += axes.plot(*_dated(points), style, color=color, markersize=4)
                labels.append(name)
        axes.legend(handles, labels, **_above())
        _of_dates(axes)
        drawn = [row[name] for row in performance for name in ("running_mae", "running_naive_mae")]
        axes.set_ylim(0, 1.08 * max(value for value in drawn if value is not None))
    return picture.svg


def running_ic(performance: Sequence[dict[str, Any]], entity: str) -> str:
    """IC and rank IC of a series' expected and realised changes over a year."""
    with _drawing(f"{entity}: IC of expected and realised change over a year") as picture:
        axes = picture.axes
        handles, labels = [], []
        for column, color, name in (
            ("running_ic", FIRST, "IC over a year"),
            ("running_rank_ic", SECOND, "rank IC"),
        ):
            points = [(row["as_of"], row[column]) for row in performance if row[column] is not None]
            if points:
                style = "o-" if len(points) < 8 else "-"
                handles += axes.plot(*_dated(points), style, color=color, markersize=4)
                labels.append(name)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.legend(handles, labels, **_above())
        _of_dates(axes)
    return picture.svg


def fifths(given: Fifths) -> str:
    """Mean return of each fifth, against the label and tradable, in percent."""
    with _drawing("Mean return of each fifth of the entities by value") as picture:
        axes = picture.axes
        places = np.array([row.fifth for row in given.rows], "float64")
        handles, labels = [], []
        for shift, color, name in ((-0.19, FIRST, "label"), (0.19, SECOND, "tradable")):
            mean = [getattr(row, name) for row in given.rows]
            error = [getattr(row, f"{name}_error") for row in given.rows]
            if any(value is not None for value in mean):
                drawn = axes.bar(places + shift, _percent(mean), width=0.34, color=color)
                axes.errorbar(
                    places + shift,
                    _percent(mean),
                    yerr=_percent(error),
                    fmt="none",
                    ecolor=INK,
                    elinewidth=1,
                )
                handles.append(drawn)
                labels.append(name)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.set_xticks(places, ["lowest", *("" for _ in places[2:]), "highest"])
        axes.set_xlim(0.5, 5.5)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("return, %")
        axes.legend(handles, labels, **_above())
    return picture.svg


def reliability(buckets: Sequence[Bucket]) -> str:
    """Share that rose by probability of a rise; a calibrated one lies on the diagonal."""
    with _drawing("Observed share by forecast probability") as picture:
        axes = picture.axes
        expected = [bucket.expected for bucket in buckets]
        observed = [bucket.observed for bucket in buckets]
        low, high = min(*expected, *observed), max(*expected, *observed)
        around = max(0.02, 0.1 * (high - low))
        ends = [low - around, high + around]
        axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        noise = [
            2 * (bucket.expected * (1 - bucket.expected) / bucket.rows) ** 0.5 for bucket in buckets
        ]
        axes.errorbar(
            expected, observed, yerr=noise, fmt="o", color=FIRST, markersize=5, elinewidth=1
        )
        axes.set(xlabel="probability said", ylabel="share that was so")
    return picture.svg


def coverage(buckets: Sequence[Bucket]) -> str:
    """Share of outcomes below each forecast quantile, and the share that should lie there."""
    with _drawing("Share of outcomes below each forecast quantile") as picture:
        axes = picture.axes
        places = list(range(len(buckets)))
        names = [f"{100 * bucket.expected:.0f} %" for bucket in buckets]
        observed = [100 * bucket.observed for bucket in buckets]
        should = [100 * bucket.expected for bucket in buckets]
        drawn = axes.bar(places, observed, width=0.5, color=FIRST)
        (line,) = axes.plot(places, should, "D", color=SECOND, markersize=7, markeredgewidth=0)
        for place, value in zip(places, observed, strict=True):
            axes.text(place, value + 2, f"{value:.0f} %", ha="center", va="bottom", color=INK)
        axes.set_xticks(places, names)
        axes.set_ylim(0, 118)
        axes.set_yticks([0, 25, 50, 75, 100])
        axes.grid(visible=False, axis="x")
        axes.legend([drawn, line], ["observed, %", "should be"], **_above())
    return picture.svg


def losses(given: Losses) -> str:
    """Training and validation loss by epoch, the epoch that was kept marked."""
    with _drawing(f"Training and validation loss of {given.variant} by epoch") as picture:
        axes = picture.axes
        epochs = np.arange(1, len(given.training) + 1)
        lines = axes.plot(epochs, given.training, color=FIRST)
        lines += axes.plot(epochs, given.validation, color=SECOND)
        axes.axvline(given.best, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("epoch")
        axes.legend(lines, ["training", f"validation, kept: epoch {given.best}"], **_above())
        values = np.array(given.training + given.validation)
        if values.min() > 0 and values.max() > 3 * values.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:.3g}")
            axes.yaxis.set_minor_formatter("{x:.2g}")
        _whole(axes.xaxis)
    return picture.svg


def sparkline(history: Sequence[float | None]) -> str:
    """Ranks over the newest dates as a small line, a dot at the last; empty for fewer than two."""
    if sum(value is not None for value in history) < 2:
        return ""
    width, height, edge = 72, 18, 2.5
    step = (width - 2 * edge) / max(1, len(history) - 1)
    parts, pen_is_up = [], True
    x = y = 0.0
    for number, value in enumerate(history):
        if value is None:
            pen_is_up = True
            continue
        x, y = edge + number * step, edge + (1 - value) * (height - 2 * edge)
        parts.append(f"{'M' if pen_is_up else 'L'}{x:.1f} {y:.1f}")
        pen_is_up = False
    return (
        f'<svg class="spark" viewBox="0 0 {width} {height}" aria-hidden="true">'
        f'<path d="{"".join(parts)}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="2.2"/></svg>'
    )


# --------------------------------------------------------------------------- drawing


@dataclass
class Picture:
    """Axes to draw on, and the finished SVG once they are left."""

    axes: Axes
    svg: str = ""


@contextmanager
def _drawing(described: str) -> Iterator[Picture]:
    """A picture in the page's style; `described` is for those who cannot see it."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        axes = figure.add_subplot()
        picture = Picture(axes)
        yield picture
        left = LEFT + (0.15 if axes.get_ylabel() else 0)
        bottom = BOTTOM + (0.18 if axes.get_xlabel() else 0)
        top = TOP if axes.get_legend() else RIGHT
        figure.subplots_adjust(left / WIDTH, bottom / HEIGHT, 1 - RIGHT / WIDTH, 1 - top / HEIGHT)
        buffer = io.StringIO()
        said_by_the_page = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=said_by_the_page)
    picture.svg = _finished(buffer.getvalue(), described)


def _finished(svg: str, described: str) -> str:
    """The SVG for a page: no size of its own, the page's colours and type, identifiers apart."""
    # several pictures on one page: each has its own identifiers
    mark = hashlib.sha256(svg.encode()).hexdigest()[:8]
    head, body = svg[svg.index("<svg") :].split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>p{mark}-", body)
    body = re.sub(r"<[^>]*>", _shortened, body)
    for stand_in, color in OF_THE_PAGE.items():
        body = body.replace(stand_in, color)
    return (
        f'<svg class="picture" role="img" aria-label="{escape(described, quote=True)}" '
        f'{view.group(0) if view else ""} xmlns:xlink="http://www.w3.org/1999/xlink">{body}'
    )


def _shortened(tag: re.Match[str]) -> str:
    """A tag with places to a hundredth of a unit; what stands between tags is text."""
    return re.sub(r"(\d+\.\d{2})\d+", r"\1", tag.group())


def _dated(points: Sequence[tuple[date, float | None]]) -> tuple[Any, Any]:
    """Dates and values; of more than a picture can show every second, third..., and the last."""
    shown = points[:: -(-len(points) // POINTS_SHOWN)] if points else points
    if points and shown[-1] != points[-1]:
        shown = [*shown, points[-1]]
    return (
        np.array([day for day, _ in shown], "datetime64[D]"),
        np.array([np.nan if value is None else value for _, value in shown], "float64"),
    )


def _bars(curve: Curve) -> tuple[Any, Any]:
    """Dates and values of a curve; of more dates than can be told apart, means of months."""
    dates, values = np.array(curve.dates, "datetime64[D]"), np.array(curve.values)
    if len(dates) <= BARS_SHOWN:
        return dates, values
    months, place = np.unique(dates.astype("datetime64[M]"), return_inverse=True)
    means = np.bincount(place, values) / np.bincount(place)
    return months.astype("datetime64[D]"), means


def _band(
    axes: Axes,
    points: Sequence[Any],
    color: str,
    alpha: float,
    begin: tuple[date, float | None] | None = None,
) -> None:
    """Fill between the 5 % and 95 % quantiles; from the last known value, if given."""
    edges = [(point.target, point.q05, point.q95) for point in points]
    if begin is not None:
        edges.insert(0, (begin[0], begin[1], begin[1]))
    if any(low is None or high is None for _, low, high in edges):
        return
    days, low = _dated([(day, low) for day, low, _ in edges])
    _, high = _dated([(day, high) for day, _, high in edges])
    axes.fill_between(days, low, high, color=color, alpha=alpha, linewidth=0)


def _whisker(axes: Axes, given: Forecast) -> None:
    point = given.ahead[0]
    if point.q05 is not None and point.q95 is not None:
        day, _ = _dated([(point.target, None)])
        axes.vlines(day, point.q05, point.q95, color=SECOND, linewidth=1.6)


def _above() -> dict[str, Any]:
    """The legend in one line above the axes, where it covers nothing."""
    return {
        "loc": "lower left",
        "bbox_to_anchor": (-0.02, 0.99),
        "ncols": 3,
        "borderaxespad": 0.0,
        "handlelength": 1.2,
        "handletextpad": 0.4,
        "columnspacing": 1.1,
        "borderpad": 0.1,
    }


def _of_dates(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", size=3)


def _whole(axis: Axis) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _focus(axes: Axes, values: npt.NDArray[np.float64]) -> None:
    """Leave out the most extreme bars, which would flatten the lines that matter."""
    sizes = np.abs(values)
    high = max(0.02, float(np.quantile(sizes, 0.97) if len(sizes) > 20 else sizes.max()))
    axes.set_ylim(-1.15 * high, 1.15 * high)


def _percent(values: Sequence[float | None]) -> list[float]:
    return [np.nan if value is None else 100 * value for value in values]


def _short(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:11]}…"
