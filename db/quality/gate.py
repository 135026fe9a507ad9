"""The quality gate: an increment goes in, a verdict comes out.

Row rules send failing rows to quarantine, increment rules stop the source for the
night. Each rule is declared once (`db.quality.suites`); Great Expectations gives the
verdict and a predicate made from the same declaration picks the rows. Where the two do
not agree the gate lets nothing through.
"""

from __future__ import annotations

from pathlib import Path

from db.quality.batch import Batch
from db.quality.data_docs import write_data_docs
from db.quality.expectations import Outcome, Validation, run_suites
from db.quality.findings import Findings, find
from db.quality.measures import age_measures
from db.quality.rules import Result, Rule
from db.quality.spikes import JudgeBreaks, no_breaks
from db.quality.suites import Limits, increment_rules, row_rules
from db.quality.verdict import Stop, Verdict, divide

__all__ = ["Batch", "Limits", "Verdict", "validate"]


def validate(
    batch: Batch,
    docs_dir: Path | None = None,
    *,
    limits: Limits | None = None,
    judge: JudgeBreaks | None = None,
) -> Verdict:
    """Judges one source's increment.

    Parameters
    ----------
    batch
        The increment, its past and what it is judged against.
    docs_dir
        Data Docs are written under it, by night; none when left out.
    limits
        How far an increment may stray; the defaults of `Limits`.
    judge
        Stands in for `db.quality.breaks.judge_breaks`.

    Raises
    ------
    UsageError
        There is no suite for the batch's kind.
    """
    limits = limits or Limits()
    rules = row_rules(batch.kind, batch.frequency, limits)
    verdict = (
        _nothing_new(batch, limits) if batch.frame.empty else _judge(batch, rules, limits, judge)
    )
    if docs_dir is not None:
        write_data_docs([verdict], docs_dir)
    return verdict


def _judge(
    batch: Batch, rules: tuple[Rule, ...], limits: Limits, judge: JudgeBreaks | None
) -> Verdict:
    findings = find(batch, limits, judge)
    validations = run_suites(batch.source, findings.suites)
    results = _results(batch, findings, validations, rules)
    stop = _stop(findings, validations)
    accepted, rejected = divide(batch, findings, stop)
    return Verdict(
        source=batch.source,
        kind=batch.kind,
        session=batch.session,
        accepted=accepted,
        rejected=rejected,
        breaks=findings.spikes.breaks if stop is None else no_breaks(),
        results=results,
        stopped=stop.reason if stop else None,
        stale=_stale(findings),
        documents={validation.suite: validation.document for validation in validations},
    )


def _results(
    batch: Batch, findings: Findings, validations: list[Validation], rules: tuple[Rule, ...]
) -> list[Result]:
    """One result for each rule, those that were skipped included."""
    results = [
        _skipped(batch, rule, findings.skipped[rule.name])
        for rule in rules
        if rule.name in findings.skipped
    ]
    for suite, validation in zip(findings.suites, validations, strict=True):
        results += [
            _result(findings, rule, suite.name, validation.outcomes[rule.name])
            for rule in suite.rules
        ]
    return results


def _skipped(batch: Batch, rule: Rule, why: str) -> Result:
    return Result(
        suite=f"{batch.source}.rows",
        rule=rule.name,
        expectation="",
        column=", ".join(rule.check.columns),
        level=rule.level,
        success=True,
        evaluated=0,
        unexpected=0,
        detail=f"skipped: {why}",
    )


def _result(findings: Findings, rule: Rule, suite: str, outcome: Outcome) -> Result:
    detail = _disagreement(findings, rule, outcome)
    if detail is None and rule.level == "table":
        detail = findings.measures.found[rule.check.columns[0]]
    elif detail is None:
        detail = "" if outcome.success else rule.reason
    return Result(
        suite=suite,
        rule=rule.name,
        expectation=outcome.expectation,
        column=", ".join(rule.check.columns),
        level=rule.level,
        success=outcome.success,
        evaluated=outcome.evaluated,
        unexpected=outcome.unexpected,
        detail=detail,
    )


def _disagreement(findings: Findings, rule: Rule, outcome: Outcome) -> str | None:
    """In words, where expectation and predicate do not say the same of a rule."""
    if outcome.problem is not None:
        return f"rule {rule.name}: Great Expectations could not judge it: {outcome.problem}"
    counted = findings.count(rule)
    if counted == outcome.unexpected and (counted == 0) == outcome.success:
        return None
    return (
        f"rule {rule.name}: Great Expectations counts {outcome.unexpected} failures, "
        f"the predicate {counted}; the gate contradicts itself"
    )


def _stop(findings: Findings, validations: list[Validation]) -> Stop | None:
    """The increment rules that hold everything back, joined into one line."""
    stops = [
        Stop(rule.name, f"{rule.reason} ({findings.measures.found[rule.check.columns[0]]})")
        for rule in findings.failed_measures
        if rule.effect == "stop"
    ]
    for suite, validation in zip(findings.suites, validations, strict=True):
        for rule in suite.rules:
            words = _disagreement(findings, rule, validation.outcomes[rule.name])
            if words is not None:
                stops.append(Stop("agreement", words))
    if not stops:
        return None
    return Stop(stops[0].rule, "; ".join(stop.reason for stop in stops))


def _stale(findings: Findings) -> str | None:
    for rule in findings.failed_measures:
        if rule.effect == "report":
            return findings.measures.found[rule.check.columns[0]]
    return None


def _nothing_new(batch: Batch, limits: Limits) -> Verdict:
    """An empty increment: only the age of what is stored is judged, by predicate alone."""
    if batch.kind == "documents":  # they come when there are any
        rejected = batch.frame.assign(rule="", reason="")
        return Verdict(
            batch.source, batch.kind, batch.session, batch.frame, rejected, no_breaks(), []
        )
    rule = next(
        rule
        for rule in increment_rules(batch.kind, batch.frequency, limits)
        if rule.name == "stale"
    )
    measures = age_measures(batch)
    found = measures.found[rule.check.columns[0]]
    stale = bool(rule.check.fails(measures.frame()).any())
    stored = batch.history is not None and not batch.history.empty
    return Verdict(
        source=batch.source,
        kind=batch.kind,
        session=batch.session,
        accepted=batch.frame,
        rejected=batch.frame.assign(rule="", reason=""),
        breaks=no_breaks(),
        results=[
            Result(
                suite=f"{batch.source}.increment",
                rule=rule.name,
                expectation="",
                column=rule.check.columns[0],
                level="table",
                success=not stale,
                evaluated=1,
                unexpected=int(stale),
                detail=f"no new rows; {found}",
            )
        ],
        stopped=None if stored else "no rows were delivered and none are stored",
        stale=found if stale else None,
    )
