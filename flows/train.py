"""The weekly flow: new versions of models, compared with the champions, published."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner

from db.clock import night as night_of
from db.sessions import sessions
from db.settings import load_settings
from flows import steps
from flows.report import TrainReport
from flows.tasks import materialize_all, publish, train_all


@flow(
    name="train",
    flow_run_name="train",
    task_runner=ThreadPoolTaskRunner(max_workers=4),  # type: ignore[arg-type]
)
def train(models: list[str] | None = None, device: str | None = None) -> TrainReport:
    """Train new versions of models on what the newest night knows.

    Parameters
    ----------
    models : names from the catalogs; None for all that nights score with.
    device : `cpu`, or the number of a CUDA device; whatever there is if left out.

    Raises
    ------
    StoreError
        The store is locked for too long, foreign, or of another profile.
    """
    settings = load_settings()
    calendar = sessions(settings.calendar)
    run = steps.Run(settings, "train", night_of(settings, calendar, steps.newest_session(settings)))
    with steps.alone(run), steps.running(run):
        materialize_all(run)
        trained = train_all(run, models or steps.models_to_train(run), device=device)
        published, exit_code = publish(run)
    report = TrainReport(
        run.run_id,
        run.night.session,
        exit_code,
        tuple(run.missing),
        tuple(version.summary for version in trained),
        str(published),
        run.work.seconds,
    )
    create_table_artifact(
        key="training",
        table=[{name: str(value) for name, value in row.items()} for row in report.trained],
        description=f"Versions trained as of {report.session}",
    )
    return report
