"""Tables on a terminal, and the queries behind the commands that list things."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from db.ingest import Delivery
    from flows.report import NightReport, TrainReport
    from flows.sentiment import SentimentReport

SIGNALS_LATEST = """
    SELECT signal, entity, as_of, horizon || ' ' || horizon_unit AS horizon, value,
        known_at, tradable_from, model_version, age
    FROM signals_latest
    ORDER BY signal, signals_latest.horizon, entity
"""

# Of a version, what fits on a line.
VERSION_COLUMNS = (
    "model",
    "model_version",
    "stage",
    "parameters",
    "metric",
    "test",
    "best_baseline",
    "baseline_test",
    "seconds",
)

WIDE = 170
NAME_WIDTH = 28
# Symbols of the newest day that are shown.
NEWEST_SHOWN = 30


def cell(value: Any) -> str:
    """A value as a person reads it: thousands apart, times to the minute in UTC."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1 else f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return str(value)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    title: str = "",
    console: Console | None = None,
) -> None:
    """Print rows as a table; numbers to the right."""
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for number, name in enumerate(columns):
        numeric = any(isinstance(row[number], int | float) for row in rows)
        # names and dates stay whole, sentences may be folded
        short = max((len(cell(row[number])) for row in rows), default=0) <= NAME_WIDTH
        table.add_column(
            name, justify="right" if numeric else "left", overflow="fold", no_wrap=short
        )
    for row in rows:
        # text as it is: what stands in brackets is no markup
        table.add_row(*(Text(cell(value)) for value in row))
    (console or new_console()).print(table)


def new_console(*, stderr: bool = False) -> Console:
    """A console; a pipe has no width of its own, so what a log will read is not folded."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=WIDE)


def print_night(report: NightReport, whole_seconds: float) -> None:
    """Print what a night did: sources, quality, models, signals."""
    from flows.report import extremes

    console = new_console()
    console.print()
    console.print(
        f"[bold]Night of {report.session}[/] · cut-off {cell(report.cutoff)} UTC · "
        f"profile {report.profile} · run {report.run_id}",
        highlight=False,
    )
    print_deliveries(report.deliveries, console)
    console.print(
        f"{report.rules_checked} expectations checked, {len(report.failed_checks)} failed"
        + (f"; Data Docs: {report.data_docs}" if report.data_docs else ""),
        highlight=False,
        soft_wrap=True,
    )
    for failed in report.failed_checks:
        console.print(
            escape(
                f"  {failed.source}: {failed.rule} ({failed.unexpected:,} rows) {failed.detail}"
            ),
            highlight=False,
            soft_wrap=True,
        )
    print_trained(report.trained, console)
    columns = ["signal", "entity", "as_of", "horizon", "value", "last", "tradable_from", "age"]
    print_table(
        columns,
        [[row[name] for name in columns] for row in extremes(report.signals)],
        "signals_latest; last: the target's newest known value",
        console,
    )
    _print_end(report, whole_seconds, console)


def print_sentiment(report: SentimentReport, whole_seconds: float) -> None:
    """Print what a run did with incoming texts: files, rows, scores, the newest day."""
    console = new_console()
    console.print()
    console.print(
        f"[bold]Texts[/] up to {cell(report.cutoff)} UTC · profile {report.profile} · "
        f"run {report.run_id}",
        highlight=False,
    )
    print_deliveries(report.deliveries, console)
    if report.files:
        columns = ["file", "rows", "appended", "unchanged", "quarantined", "now in", "reason"]
        rows = [
            (f.name, f.rows, f.appended, f.unchanged, f.quarantined, f.place, f.reason)
            for f in report.files
        ]
        print_table(columns, rows, "files of the inbox", console)
    if report.rejected:
        columns = list(report.rejected[0])
        rows = [tuple(row.values()) for row in report.rejected]
        print_table(columns, rows, "put into quarantine (raw.quarantine has each row)", console)
    print_trained(report.trained, console)
    texts = report.texts
    if texts is not None:
        console.print(
            f"{texts.documents:,} texts scored by {texts.model_version or 'no version'}, "
            f"{texts.repeated:,} of them repeat an earlier one, {texts.too_old:,} are older than "
            f"what it learned from; {texts.days:,} days of symbols are new or other than before",
            highlight=False,
            soft_wrap=True,
        )
    if report.newest:
        columns = list(report.newest[0])
        rows = [tuple(row.values()) for row in report.newest[:NEWEST_SHOWN]]
        print_table(
            columns, rows, f"sentiment_daily from {report.newest[0]['session']} on", console
        )
    _print_end(report, whole_seconds, console)


def _print_end(
    report: NightReport | SentimentReport, whole_seconds: float, console: Console
) -> None:
    """Print what is missing, where it was published, how long it took."""
    for line in report.missing:
        console.print(f"[yellow]missing[/] {escape(line)}", highlight=False, soft_wrap=True)
    console.print(
        f"published {report.published}\n"
        f"Lookback's own work {report.seconds:.1f} s, in all {whole_seconds:.1f} s "
        f"(Prefect's start and bookkeeping included); exit code {report.exit_code}",
        highlight=False,
        soft_wrap=True,
    )


def print_deliveries(deliveries: Sequence[Delivery], console: Console) -> None:
    """Print what each source delivered."""
    print_table(
        ["source", "status", "fetched", "unchanged", "appended", "quarantined"],
        [
            (d.source, d.status, d.fetched, d.unchanged, d.appended, d.quarantined)
            for d in deliveries
        ],
        "fetched, validated, appended",
        console,
    )


def print_trained(trained: Sequence[dict[str, Any]], console: Console) -> None:
    """Print versions, the best baseline's figure beside each, and why the champions are it."""
    if not trained:
        return
    rows = [[row[name] for name in VERSION_COLUMNS] for row in trained]
    print_table(VERSION_COLUMNS, rows, "trained", console)
    for row in trained:
        if row["stage"] == "champion":
            console.print(
                f"{row['model']}: {escape(row['model_version'])}, {escape(row['reason'])}",
                highlight=False,
                soft_wrap=True,
            )


def print_training(report: TrainReport) -> None:
    """Print the versions that a training made, the baseline's error beside theirs."""
    console = new_console()
    print_trained(report.trained, console)
    for line in report.missing:
        console.print(f"[yellow]missing[/] {escape(line)}", highlight=False, soft_wrap=True)
    console.print(
        f"published {report.published}\nLookback's own work {report.seconds:.1f} s; "
        f"exit code {report.exit_code}",
        highlight=False,
        soft_wrap=True,
    )


def is_figure(value: Any) -> bool:
    """Whether it fits a cell: a number or none."""
    return value is None or isinstance(value, int | float)


def print_version(shown: dict[str, Any]) -> None:
    """Print one model version: lineage, layers, figures beside the baselines', losses."""
    console = new_console()
    console.print(f"[bold]{escape(shown['model'])} {escape(shown['model_version'])}[/]")
    print_table(["", ""], list(shown["lineage"].items()), "lineage", console)
    if shown["layers"]:
        columns = list(shown["layers"][0])
        rows = [[row[name] for name in columns] for row in shown["layers"]]
        print_table(columns, rows, "layers", console)
    spans = {name: span for name, span in shown["spans"].items() if isinstance(span, dict)}
    if spans:
        columns = list(next(iter(spans.values())))
        rows = [[name, *(span[column] for column in columns)] for name, span in spans.items()]
        print_table(["span", *columns], rows, "spans", console)
    if shown["spans"].get("corpora"):
        columns = ["name", "texts", "published", "licence"]
        rows = [[row[name] for name in columns] for row in shown["spans"]["corpora"]]
        rows += [[name, None, None, licence] for name, licence in shown["borrowed"]]
        print_table(columns, rows, "learned from, and what is in it", console)
    sides = {"this version": shown["metrics"], **shown["baselines"]}
    decides = shown["decided_by"]
    rows = [[decides["metric"], *(decides["figures"][name] for name in sides)]]
    others = [name for name, value in shown["metrics"].items() if is_figure(value)]
    rows += [
        [name, *(side.get(name) for side in sides.values())]
        for name in others
        if name != decides["metric"]
    ]
    better = "more" if decides["higher_is_better"] else "less"
    title = f"figures; {decides['metric']} decides who is champion, {better} is better"
    print_table(["test span", *sides], rows, title, console)
    losses = shown["history"]
    if losses:
        best = min(range(len(losses["val_loss"])), key=losses["val_loss"].__getitem__)
        console.print(
            f"{len(losses['loss'])} epochs, kept {best + 1}: loss {losses['loss'][best]:.4g}, "
            f"validation {losses['val_loss'][best]:.4g}; curve: {shown['loss_curve']}",
            soft_wrap=True,
            highlight=False,
        )
    for change in shown["promotions"]:
        console.print(
            f"{cell(change['promoted_at'])} {escape(change['model_version'])} replaced "
            f"{change['replaced'] or 'nothing'}: {escape(change['reason'])}",
            soft_wrap=True,
            highlight=False,
        )
