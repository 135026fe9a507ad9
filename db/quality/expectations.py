"""Great Expectations: verdicts on pandas batches, quietly and without a network.

The import costs 5–15 s, so it is made in the functions that need it.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from db.quality.rules import Rule

# Counts without any values of the data, so that none get into Data Docs.
COUNTS_ONLY = {"result_format": "BASIC", "partial_unexpected_count": 0}

# Great Expectations keeps one current context for the process; nights may use threads.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Suite:
    """Rules for the columns of one frame, under the name `<source>.rows` or `.increment`."""

    name: str
    frame: pd.DataFrame
    rules: Sequence[Rule]


@dataclass(frozen=True)
class Outcome:
    """What Great Expectations says of one rule; `problem` where it could not say."""

    expectation: str
    success: bool
    evaluated: int
    unexpected: int
    problem: str | None = None


@dataclass(frozen=True)
class Validation:
    """Outcomes by rule name, and the validation result that Data Docs are made of."""

    suite: str
    outcomes: dict[str, Outcome]
    document: Any = field(repr=False)


def run_suites(source: str, suites: Sequence[Suite]) -> list[Validation]:
    """Validates each suite's frame; nothing is written and nothing is sent."""
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _without_fingerprint()
        batches = _quiet_context().data_sources.add_pandas(source)
        return [_run(batches, suite) for suite in suites]


def _without_fingerprint() -> None:
    """Frames are not hashed: nothing reads the hash, and it takes 13 s of 9.7 M rows."""
    from great_expectations.execution_engine import pandas_execution_engine

    pandas_execution_engine.HASH_THRESHOLD = 0


def _quiet_context() -> Any:
    """An ephemeral context: no analytics, no progress bars, no sites, stores in memory."""
    import great_expectations
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    return great_expectations.get_context(mode="ephemeral", project_config=config)


def _run(batches: Any, suite: Suite) -> Validation:
    from great_expectations import ExpectationSuite

    asset = batches.add_dataframe_asset(name=suite.name)
    definition = asset.add_batch_definition_whole_dataframe(suite.name)
    batch = definition.get_batch(batch_parameters={"dataframe": suite.frame})
    expectations = [rule.expectation() for rule in suite.rules]
    document = batch.validate(
        ExpectationSuite(name=suite.name, expectations=expectations), result_format=COUNTS_ONLY
    )
    outcomes = {
        result.expectation_config.meta["rule"]: _outcome(result) for result in document.results
    }
    return Validation(suite.name, outcomes, document)


def _outcome(result: Any) -> Outcome:
    counts = result.result
    problem = None
    if "element_count" not in counts:
        problem = _first_message(result.exception_info)
    return Outcome(
        expectation=result.expectation_config.type,
        success=bool(result.success),
        evaluated=int(counts.get("element_count") or 0),
        unexpected=int(counts.get("unexpected_count") or 0),
        problem=problem,
    )


def _first_message(exception_info: dict[str, Any]) -> str:
    """The message of an expectation that raised; one for each metric, or one for all."""
    if "exception_message" in exception_info:
        return str(exception_info["exception_message"])
    messages = [info["exception_message"] for info in exception_info.values()]
    return str(messages[0]) if messages else "no counts were given"
