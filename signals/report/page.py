"""The page: what was read and drawn, put into one HTML file that asks for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from db.publishing import open_published
from db.settings import Settings
from signals.report import pictures
from signals.report.night import Finding, Night, Verdict, read_night, verdict
from signals.report.reading import Row, require_tables
from signals.report.record import Fifths, Record, read_record
from signals.report.scores import Forecast, Scores, read_scores
from signals.report.versions import Model, read_model

FOLDER = Path(__file__).parent
MINUS = "−"
HORIZONS_SHOWN = 24


@dataclass(frozen=True)
class Picture:
    """A picture with what it shows in words."""

    title: str
    svg: str
    note: str = ""


@dataclass(frozen=True)
class Shown:
    """One signal on the page."""

    scores: Scores
    record: Record
    model: Model
    pictures: tuple[Picture, ...]


def report_page(
    settings: Settings, session: date | None = None, findings: Sequence[Finding] = ()
) -> tuple[date, str]:
    """The report of a session, by default of the newest night, and that session.

    Parameters
    ----------
    settings : say where the publication and the models' folders lie.
    session : trading day that a night was for.
    findings : what `check` found, where the page is of the newest night.

    Returns
    -------
    session, page
        The page is HTML in UTF-8 without a request to anywhere.

    Raises
    ------
    StoreError
        Nothing is published, or by an older Lookback.
    UsageError
        There was no night of that session.
    """
    with open_published(settings) as connection:
        require_tables(connection)
        night = read_night(connection, session)
        shown = []
        models: dict[str, Model] = {}
        for scores in read_scores(connection, night.session):
            if scores.model not in models:
                models[scores.model] = read_model(connection, scores.model, settings.home)
            record = read_record(connection, scores, night.session)
            model = models[scores.model]
            shown.append(Shown(scores, record, model, tuple(_pictures(scores, record, model))))
    publication = settings.published.resolve().parent.name
    return night.session, _rendered(settings, night, shown, findings, publication)


def _pictures(scores: Scores, record: Record, model: Model) -> list[Picture]:
    return [
        *_of_scores(scores),
        *_of_record(scores, record),
        *(
            Picture(
                f"Loss of {losses.variant}",
                pictures.losses(losses),
                f"{losses.model_version}, in the scaled units that it learns in.",
            )
            for losses in model.losses
        ),
    ]


def _of_scores(scores: Scores) -> list[Picture]:
    if scores.cross_section is not None:
        name, across = scores.name, scores.cross_section
        if len(across.values) < 2:
            return []
        return [
            Picture(
                f"Values on {scores.as_of}",
                pictures.distribution(across, name),
                f"{len(across.values):,} entities; the lowest and the highest are named.",
            )
        ]
    return [
        Picture(
            f"{forecast.entity}: actual and forecast",
            pictures.forecast(forecast, scores.unit),
            _of_forecast(forecast, scores),
        )
        for forecast in scores.forecasts
        if forecast.known or forecast.past
    ]


def _of_forecast(forecast: Forecast, scores: Scores) -> str:
    past = (
        f"Forecasts before are those of one {scores.horizon_unit} ahead, at the date they were for."
        if forecast.past and scores.horizon == 1
        else ""
    )
    return " ".join(filter(None, [scores.unit.capitalize() + ".", past]))


def _of_record(scores: Scores, record: Record) -> list[Picture]:
    found = []
    if record.rank_ic is not None:
        unit = "date" if len(record.rank_ic.dates) <= pictures.BARS_SHOWN else "month's mean"
        found.append(
            Picture(
                "Rank IC by date",
                pictures.rank_ic(record.rank_ic, record.tradable_rank_ic),
                f"{len(record.rank_ic.dates):,} dates, {record.rank_ic.dates[0]} to "
                f"{record.rank_ic.dates[-1]}. Grey: each "
                f"{unit} against its label. Lines: mean of the year up to each date.",
            )
        )
    if record.fifths is not None:
        found.append(
            Picture(
                "Returns by fifths of value",
                pictures.fifths(record.fifths),
                _of_fifths(record.fifths, scores),
            )
        )
    for entity, performance in record.series.items():
        if any(row["running_mae"] is not None for row in performance):
            found.append(
                Picture(
                    f"{entity}: error over a year",
                    pictures.running(performance, entity),
                    "Mean absolute error over the year up to each date, in the signal's unit.",
                )
            )
        if any(row["running_ic"] is not None for row in performance):
            found.append(
                Picture(
                    f"{entity}: IC over a year",
                    pictures.running_ic(performance, entity),
                    "Correlation of expected and realised change over the year up to each date.",
                )
            )
    if record.probabilities:
        found.append(
            Picture(
                "Calibration",
                pictures.reliability(record.probabilities),
                f"{sum(bucket.rows for bucket in record.probabilities):,} outcomes of the newest "
                "year of dates, in tenths by probability; bars are two standard errors. Calibrated "
                "ones lie on the line.",
            )
        )
    if record.quantiles:
        found.append(
            Picture(
                "Calibration of the quantiles",
                pictures.coverage(record.quantiles),
                f"Share of {max(bucket.rows for bucket in record.quantiles):,} outcomes of the "
                "newest year of dates that fell below each forecast quantile.",
            )
        )
    return found


def _of_fifths(fifths: Fifths, scores: Scores) -> str:
    lowest, highest = fifths.rows[0], fifths.rows[-1]
    parts = [f"{fifths.dates:,} dates, {fifths.first} to {fifths.last}"]
    for name in ("label", "tradable"):
        ends = getattr(lowest, name), getattr(highest, name)
        if None not in ends:
            parts.append(f"highest less lowest, {name}: {percent(ends[1] - ends[0], signed=True)}")
    return (
        "; ".join(parts) + f". Mean return of a {scores.horizon_unit}, label from the close of "
        "as_of, tradable from that of tradable_from; each date clipped at its 0.5 % and 99.5 % "
        "quantiles; bars are standard errors."
    )


# --------------------------------------------------------------------------- the page


def _rendered(
    settings: Settings,
    night: Night,
    shown: Sequence[Shown],
    findings: Sequence[Finding],
    publication: str,
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,  # names and reasons come from sources: text, never markup
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "number": number,
        "signed": signed,
        "ic": correlation,
        "percent": percent,
        "count": count,
        "minute": minute,
        "duration": duration,
        "svg": Markup,  # drawn here, from text that was escaped
        "sparkline": _sparkline,
    }
    environment.filters |= filters
    template = environment.get_template("page.html")
    return template.render(
        style=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),  # noqa: S704
        profile=settings.profile,
        night=night,
        verdict=verdict(night, findings),
        headline=headline(night, findings),
        shown=shown,
        findings=sorted(findings, key=lambda finding: LEVELS.index(finding.level)),
        worries=[finding for finding in findings if finding.level != "good"],
        problems=problems(night, findings),
        changes=changes(night, shown),
        rows_newest=sum(each.scores.rows for each in shown),
        rows_new=sum(row["new"] for row in night.written),
        rows_revised=sum(row["revised"] for row in night.written),
        fresh=sum(not row["stale"] for row in night.freshness),
        delivered={row["source"]: row for row in night.deliveries},
        failed_deliveries=_without_freshness(night),
        publication=publication,
        horizons_shown=HORIZONS_SHOWN,
    )


def _sparkline(history: Sequence[float | None]) -> str:
    from markupsafe import Markup

    return Markup(pictures.sparkline(history))  # noqa: S704  numbers only


def _without_freshness(night: Night) -> list[Row]:
    """Deliveries of sources that have never given a row."""
    fresh = {row["source"] for row in night.freshness}
    return [row for row in night.deliveries if row["source"] not in fresh]


LEVELS = ["failed", "missing", "warning", "good"]


def headline(night: Night, findings: Sequence[Finding]) -> str:
    """The night in one sentence."""
    said: Verdict = verdict(night, findings)
    if night.run is None:
        return "No night has finished yet: these are scores of a backfill."
    if said == "good":
        return "The night finished and nothing is missing."
    if said == "failed":
        failed = [finding.subject for finding in findings if finding.level == "failed"]
        return f"Something failed: {', '.join(failed)}." if failed else "The night failed."
    lines = problems(night, findings)
    several = f"{len(lines)} things are missing" if len(lines) != 1 else "one thing is missing"
    return f"The night finished; {several}."


def problems(night: Night, findings: Sequence[Finding]) -> list[str]:
    """What is missing, one line each: what the run says, then what `check` adds."""
    lines = list(night.missing)
    for finding in findings:
        # the status of the last run repeats the lines of the run
        told = finding.subject.startswith("last ") and any(
            line in finding.message for line in lines
        )
        if finding.level in {"missing", "failed"} and not told:
            lines.append(f"{finding.subject}: {finding.message}")
    return list(dict.fromkeys(lines))


@dataclass(frozen=True)
class Change:
    """Something that is another than it was the night before: what of whom, and why."""

    subject: str
    what: str
    why: str = ""


def changes(night: Night, shown: Sequence[Shown]) -> list[Change]:
    """What is another than it was the night before."""
    found = []
    for change in night.promotions:
        if change["replaced"]:
            what = f"{change['model_version']} replaces {change['replaced']}"
            found.append(Change(change["model"], what, change["reason"]))
        else:
            found.append(
                Change(change["model"], f"{change['model_version']} is its first champion")
            )
    for row in night.written:
        if row["revised"]:
            found.append(Change(row["signal"], f"{count(row['revised'])} published rows revised"))
    for each in shown:
        for subject in each.record.newly_drifted:
            found.append(Change(each.scores.name, f"{subject} has drifted from its training span"))
    return found


# --------------------------------------------------------------------------- numbers


def number(value: Any, digits: int = 4) -> str:
    """A figure with four significant digits, thousands apart; a dash where there is none."""
    if value is None or value != value:  # noqa: PLR0124  NaN
        return "–"
    size = abs(value)
    if size >= 1_000:
        text = f"{value:,.{0 if size >= 100_000 else 2}f}"
    elif size >= 1:
        text = f"{value:,.2f}"
    else:
        text = f"{value:.{digits}f}" if size >= 0.001 or value == 0 else f"{value:.2g}"
    return text.replace("-", MINUS)


def signed(value: Any, digits: int = 4) -> str:
    """The same with its sign."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value == value and value > 0 else text  # noqa: PLR0124


def correlation(value: Any) -> str:
    """A correlation with its sign, to a thousandth."""
    return "–" if value is None else f"{value:+.3f}".replace("-", MINUS)


def percent(value: Any, digits: int = 2, *, signed: bool = False) -> str:
    """A share in percent."""
    if value is None or value != value:  # noqa: PLR0124  NaN
        return "–"
    text = f"{100 * value:{'+' if signed else ''}.{digits}f} %"
    return text.replace("-", MINUS)


def count(value: Any) -> str:
    """A whole number, thousands apart."""
    return "–" if value is None else f"{value:,.0f}"


def minute(value: datetime | None) -> str:
    """A time to the minute; the page says that all are UTC."""
    return "–" if value is None else f"{value:%Y-%m-%d %H:%M}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
