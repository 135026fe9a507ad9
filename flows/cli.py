"""The command line. Only light imports here: `lookback --help` stays under half a second."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from db.errors import LookbackError

if TYPE_CHECKING:
    from db.settings import Settings
    from signals.backfill import Retrain

DAY = click.DateTime(["%Y-%m-%d"])
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class Commands(click.Group):
    """Turns our errors into one line and their exit code; others keep their traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LookbackError as error:
            _fail(error)


def _fail(error: LookbackError) -> NoReturn:
    click.echo(f"lookback: {error}", err=True)
    sys.exit(error.exit_code)


def _settings(**overrides: Any) -> Settings:
    from db.settings import load_settings

    return load_settings(**overrides)


def _print_json(content: Any) -> None:
    click.echo(json.dumps(content, default=str, indent=2))


def _print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    from flows.display import print_table

    print_table(columns, rows, title)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lookback")
def main() -> None:
    """Lookback turns prices, macro series and text into trading signals, night by night.

    Settings come from LOOKBACK_* variables and lookback.toml; everything is written under
    LOOKBACK_HOME (default ~/.lookback). Exit codes: 0 good, 1 failed, 2 wrong usage,
    3 finished with some source or signal missing.
    """


@main.command()
@click.option(
    "--session",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Trading day to run for; default: the newest whose cut-off has passed.",
)
@JSON
def nightly(session: datetime | None, as_json: bool) -> None:
    """Run one night: fetch, validate, append, materialize, score, publish."""
    from flows.run import run_nightly

    sys.exit(run_nightly(_settings(), session.date() if session else None, as_json=as_json))


@main.command()
@click.option(
    "--inbox",
    type=click.Path(),
    help="A folder of texts to take over, beside LOOKBACK_HOME/inbox.",
)
@JSON
def sentiment(inbox: str | None, as_json: bool) -> None:
    """Take over, score and publish the texts that have come in."""
    from flows.run import run_sentiment

    sys.exit(run_sentiment(_settings(), inbox, as_json=as_json))


@main.command()
@click.argument("models", nargs=-1)
@click.option(
    "--device",
    metavar="cpu|N",
    help="Train on the CPU, or on the CUDA device of this number; default: whatever there is.",
)
@JSON
def train(models: tuple[str, ...], device: str | None, as_json: bool) -> None:
    """Train new versions of MODELS (default: all) on what the newest night knows."""
    from flows.run import run_train

    sys.exit(run_train(_settings(), models, device=device, as_json=as_json))


@main.command()
@click.option("--from", "first", type=DAY, required=True, help="First date.")
@click.option("--to", "last", type=DAY, required=True, help="Last date.")
@click.option("--signal", "names", multiple=True, help="Only this one; may be given again.")
@click.option("--recipe", help="Train walk-forward versions by this recipe only.")
@click.option(
    "--retrain",
    type=click.Choice(["month", "quarter", "half", "year"]),
    default="year",
    show_default=True,
    help="How often a walk-forward version is trained.",
)
@click.option("--walk-forward", is_flag=True, help="Pass over the champions of the time.")
@JSON
def backfill(
    first: datetime,
    last: datetime,
    names: tuple[str, ...],
    recipe: str | None,
    retrain: Retrain,
    walk_forward: bool,
    as_json: bool,
) -> None:
    """Score past nights as they would have been, each from what was known then.

    The champion of the time scores; where there was none, versions are trained walk-forward.
    """
    from flows.backfill import Asked, run_backfill

    asked = Asked(first.date(), last.date(), names, recipe, retrain, walk_forward)
    sys.exit(run_backfill(_settings(), asked, as_json=as_json))


@main.command()
@click.argument("systems", nargs=-1)
@click.option("--quick", is_flag=True, help="Small parts and two epochs, to see that it works.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the page and its pictures; default: under LOOKBACK_HOME/reproduce.",
)
def reproduce(systems: tuple[str, ...], quick: bool, output: Path | None) -> None:
    """Run the chapter's SYSTEMS (default: all) by its own protocol and an honest one.

    Needs LOOKBACK_REFERENCE_DATA. What was finished before is taken up. Each system has its
    section of the page, results.md, which stays until the system is run again; film reviews are
    run with the chapter's networks of text, which stand beside others there.
    """
    from flows.reproduce import run_reproduce

    sys.exit(run_reproduce(_settings(), systems, few=quick, output=output))


@main.command()
@click.argument("query")
@JSON
def sql(query: str, as_json: bool) -> None:
    """Run one read-only SQL QUERY on the published file."""
    from db.publishing import query_published

    columns, rows = query_published(_settings(), query)
    if as_json:
        _print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        # as DuckDB gives them: what is copied from here goes on into other programs
        _print_rows(columns, [[_plain(value) for value in row] for row in rows])


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Default: LOOKBACK_SERVE_PORT.")
@click.option("--allow-remote", is_flag=True, help="Let other machines in; not encrypted.")
def serve(host: str, port: int | None, allow_remote: bool) -> None:
    """Serve the published data, read-only, to DuckDB clients (Quack) until Ctrl-C."""
    from flows.serve import run_serve

    sys.exit(run_serve(_settings(), host, port, allow_remote=allow_remote))


@main.group()
def signals() -> None:
    """What leaves: the newest scores, and their history as files."""


@signals.command("latest")
@JSON
def signals_latest(as_json: bool) -> None:
    """Show the newest live score of every signal and entity."""
    from flows.display import SIGNALS_LATEST

    _show(SIGNALS_LATEST, as_json, "signals_latest")


@signals.command("export")
@click.option("--signal", required=True, help="Name of the signal.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "csv", "alphalens", "vectorbt", "bt", "zipline"]),
    required=True,
    help="Rows as they are, or files in the shape that a tool takes.",
)
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="File of rows, else a folder."
)
@click.option("--from", "first", type=DAY, help="First date.")
@click.option("--to", "last", type=DAY, help="Last date.")
@click.option("--horizon", type=int, help="Of a signal with several horizons.")
@click.option("--long", default=0.1, show_default=True, help="Share of a date's names held.")
@click.option("--short", default=0.1, show_default=True, help="Share of a date's names sold.")
def signals_export(
    signal: str,
    form: str,
    output: Path,
    first: datetime | None,
    last: datetime | None,
    horizon: int | None,
    long: float,
    short: float,
) -> None:
    """Write a signal's history for a backtest, dated by when it could be traded."""
    from flows.export import Asked, export

    asked = Asked(
        signal,
        form,
        output,
        first=first.date() if first else None,
        last=last.date() if last else None,
        horizon=horizon,
        long=long,
        short=short,
    )
    for path in export(_settings(), asked):
        click.echo(path)


@main.group()
def features() -> None:
    """What it sees: feature views."""


@features.command("list")
@click.option("--windows", is_flag=True, help="Count the windows too, which reads every value.")
@JSON
def features_list(windows: bool, as_json: bool) -> None:
    """Show the views and their versions: how far they are materialized, coverage, size."""
    from flows.features import COLUMNS, list_views

    rows = list_views(_settings(), count_windows=windows)
    if as_json:
        _print_json(rows)
    else:
        _print_rows(COLUMNS, [list(row.values()) for row in rows], "feature views")


@features.command("materialize")
@click.argument("views", nargs=-1)
@click.option("--rebuild", is_flag=True, help="Forget what there is and compute all of it.")
def features_materialize(views: tuple[str, ...], rebuild: bool) -> None:
    """Bring VIEWS (default: all) up to date with the raw tables, and publish them."""
    from flows.features import run_materialize

    sys.exit(run_materialize(_settings(), views, rebuild=rebuild))


@features.command("window")
@click.argument("view")
@click.option("--entity", help="Symbol or series; default: the first.")
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="Date of the last value.")
@click.option(
    "--cutoff",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]),
    help="UTC instant up to which rows may be known; default: the night's of --as-of.",
)
@JSON
def features_window(
    view: str, entity: str | None, as_of: datetime | None, cutoff: datetime | None, as_json: bool
) -> None:
    """Show one window of VIEW as it could be seen at a cut-off, oldest value first."""
    from flows.features import read_window

    columns, rows = read_window(
        _settings(),
        view,
        entity,
        as_of.date() if as_of else None,
        cutoff.replace(tzinfo=UTC) if cutoff else None,
    )
    if as_json:
        _print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        _print_rows(columns, rows, view)


@main.group()
def models() -> None:
    """How it learns: model versions."""


@models.command("list")
@JSON
def models_list(as_json: bool) -> None:
    """Show every model version with its stage and its figure beside the best baseline's."""
    from flows.display import VERSION_COLUMNS
    from flows.models import list_versions

    rows = list_versions(_settings())
    if as_json:
        _print_json(rows)
    else:
        shown = [[row[name] for name in VERSION_COLUMNS] for row in rows]
        _print_rows(VERSION_COLUMNS, shown, "model versions")


@models.command("show")
@click.argument("model")
@click.argument("version", required=False)
@JSON
def models_show(model: str, version: str | None, as_json: bool) -> None:
    """Show one VERSION of MODEL (default: the champion): layers, figures, losses, lineage."""
    from flows.models import show_version

    shown = show_version(_settings(), model, version)
    if as_json:
        _print_json(shown)
    else:
        from flows.display import print_version

        print_version(shown)


@models.command("promote")
@click.argument("model")
@click.argument("version")
@click.option("--reason", required=True, help="Why; it stays beside the promotion.")
def models_promote(model: str, version: str, reason: str) -> None:
    """Make VERSION of MODEL champion by hand."""
    from flows.models import promote_version

    click.echo(promote_version(_settings(), model, version, reason))


@models.command("rollback")
@click.argument("model")
def models_rollback(model: str) -> None:
    """Make the last champion of MODEL that can score champion again."""
    from flows.models import roll_back

    click.echo(roll_back(_settings(), model))


def _show(query: str, as_json: bool, title: str) -> None:
    from db.publishing import query_published

    columns, rows = query_published(_settings(), query)
    if as_json:
        _print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        _print_rows(columns, rows, title)


@main.command()
@click.option("--session", type=DAY, help="Trading day of the night; default: the newest night.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; default: LOOKBACK_HOME/reports/<session>.html, and latest.html.",
)
def report(session: datetime | None, output: Path | None) -> None:
    """Write one self-contained HTML page for a session: scores, record, models, data."""
    from flows.report_page import write_report

    click.echo(write_report(_settings(), session.date() if session else None, output))


@main.command()
@JSON
def check(as_json: bool) -> None:
    """Say whether the newest night is there and fresh; the exit code is for monitoring."""
    from flows.health import check_health

    findings = check_health(_settings())
    if as_json:
        _print_json([finding.__dict__ for finding in findings])
    else:
        _print_rows(
            ["", "what", "finding"], [(f.level, f.subject, f.message) for f in findings], "health"
        )
    sys.exit(max((finding.exit_code for finding in findings), default=0))


@main.command()
@JSON
def doctor(as_json: bool) -> None:
    """Look at this installation: versions, settings, writable home, packages that must fit."""
    from flows.health import examine

    findings = examine()
    if as_json:
        _print_json([finding.__dict__ for finding in findings])
    else:
        _print_rows(
            ["", "what", "finding"], [(f.level, f.subject, f.message) for f in findings], "doctor"
        )
    sys.exit(max((finding.exit_code for finding in findings), default=0))


if __name__ == "__main__":
    main()
