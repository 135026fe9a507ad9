"""What the predicates find in an increment; no Great Expectations here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from db.quality.batch import Batch
from db.quality.columns import Judged, dates, document_columns, judged_columns
from db.quality.expectations import Suite
from db.quality.measures import Measures, Rows, column_measures, increment_measures
from db.quality.rules import Mask, Rule
from db.quality.spikes import JudgeBreaks, Spikes, find_spikes, no_breaks
from db.quality.suites import COLUMN_RULES, Limits, increment_rules, row_rules

# The rules that speak of a row's date; a row that passes them was delivered for it.
DATE_RULES = frozenset({"date_given", "date_only", "in_calendar", "not_future"})


@dataclass(frozen=True)
class Findings:
    """Which rows fail which rule, and the measures of the increment.

    Attributes
    ----------
    canonical : the increment in its declared types.
    suites : the frames that the predicates read, for Great Expectations to read too.
    masks : failing rows by rule name; rules that no row fails have none.
    failing : rows that fail at least one row rule.
    skipped : rules that were not run, with the reason.
    failed_rules : row rules that at least one row fails, in declared order.
    failed_measures : increment rules that fail.
    """

    canonical: pd.DataFrame
    suites: Sequence[Suite]
    masks: Mapping[str, Mask]
    failing: Mask
    spikes: Spikes
    measures: Measures
    skipped: Mapping[str, str] = field(default_factory=dict)
    failed_rules: tuple[Rule, ...] = ()
    failed_measures: tuple[Rule, ...] = ()

    def count(self, rule: Rule) -> int:
        """Rows (or, for an increment rule, increments) that fail by predicate."""
        if rule.level == "table":
            return int(rule in self.failed_measures)
        return int(self.masks[rule.name].sum()) if rule.name in self.masks else 0


def find(batch: Batch, limits: Limits, judge: JudgeBreaks | None = None) -> Findings:
    """Runs every predicate of the batch's suites on an increment with rows."""
    columns = column_measures(batch)
    if any(value > 0 for value in columns.values.values()):
        return _unreadable(batch, columns)
    rules = row_rules(batch.kind, batch.frequency, limits)
    if batch.kind == "documents":
        return _of_documents(batch, columns, rules, limits)
    judged = judged_columns(batch, limits.tolerance)
    before_spikes = [rule for rule in rules if rule.name != "spike"]
    masks, skipped = _masks(before_spikes, judged)
    good = ~_any(masks.values(), len(batch.frame))
    dated = ~_any((masks[name] for name in DATE_RULES & set(masks)), len(batch.frame))

    older = older_rows(batch, judged)
    spikes = find_spikes(batch, judged, good, older, judge)
    if spikes.mask.any():
        masks["spike"] = spikes.mask
        good &= ~spikes.mask
    judged.columns["spike"] = spikes.mask

    measures = increment_measures(batch, Rows(judged, dated, good, older), limits)
    table_rules = increment_rules(batch.kind, batch.frequency, limits)
    row_suite = Suite(
        f"{batch.source}.rows",
        judged.columns,
        [rule for rule in rules if rule.name not in skipped],
    )
    return Findings(
        canonical=judged.canonical,
        suites=[row_suite, _increment_suite(batch, measures, table_rules)],
        masks=masks,
        failing=~good,
        spikes=spikes,
        measures=measures,
        skipped=skipped,
        failed_rules=tuple(rule for rule in rules if rule.name in masks),
        failed_measures=_failed(table_rules, measures),
    )


def _of_documents(
    batch: Batch, measures: Measures, rules: tuple[Rule, ...], limits: Limits
) -> Findings:
    """Documents are judged one by one: they have no calendar, no path and no age."""
    judged = document_columns(batch.frame, batch.fetched_at or batch.until)
    masks, _ = _masks(rules, Judged(batch.frame, judged, {}, np.empty(0, dtype=np.int64)))
    failing = _any(masks.values(), len(batch.frame))
    table_rules = increment_rules(batch.kind, batch.frequency, limits)
    return Findings(
        canonical=batch.frame,
        suites=[
            Suite(f"{batch.source}.rows", judged, rules),
            _increment_suite(batch, measures, table_rules),
        ],
        masks=masks,
        failing=failing,
        spikes=Spikes(no_breaks(), np.full(len(failing), -1, dtype=np.int64)),
        measures=measures,
        failed_rules=tuple(rule for rule in rules if rule.name in masks),
    )


def older_rows(batch: Batch, judged: Judged) -> pd.DataFrame:
    """History rows whose key the increment does not bring again."""
    if batch.history is None or batch.history.empty:
        return pd.DataFrame(columns=list(batch.required))
    keys = [batch.entity, batch.day]
    both = pd.concat(
        [
            frame[keys].astype({batch.entity: "str"}).assign(**{batch.day: dates(frame[batch.day])})
            for frame in (batch.history, judged.canonical)
        ],
        ignore_index=True,
    )
    again = both.duplicated(keep="last").to_numpy()[: len(batch.history)]
    return batch.history[~again]


def _masks(rules: Sequence[Rule], judged: Judged) -> tuple[dict[str, Mask], dict[str, str]]:
    masks: dict[str, Mask] = {}
    skipped: dict[str, str] = {}
    for rule in rules:
        absent = [name for name in rule.check.columns if name in judged.skipped]
        if absent:
            skipped[rule.name] = judged.skipped[absent[0]]
            continue
        mask = rule.check.fails(judged.columns)
        if mask.any():
            masks[rule.name] = mask
    return masks, skipped


def _any(masks: Iterable[Mask], length: int) -> Mask:
    failing = np.zeros(length, dtype=bool)
    for mask in masks:
        failing |= mask
    return failing


def _increment_suite(batch: Batch, measures: Measures, rules: Sequence[Rule]) -> Suite:
    return Suite(f"{batch.source}.increment", measures.frame(), rules)


def _failed(rules: Sequence[Rule], measures: Measures) -> tuple[Rule, ...]:
    frame = measures.frame()
    return tuple(rule for rule in rules if rule.check.fails(frame).any())


def _unreadable(batch: Batch, measures: Measures) -> Findings:
    """Columns are missing or hold something else: nothing more can be judged."""
    rules = [rule for rule in COLUMN_RULES if rule.check.columns[0] in measures.values]
    length = len(batch.frame)
    return Findings(
        canonical=batch.frame,
        suites=[_increment_suite(batch, measures, rules)],
        masks={},
        failing=np.zeros(length, dtype=bool),
        spikes=Spikes(no_breaks(), np.full(length, -1, dtype=np.int64)),
        measures=measures,
        failed_measures=_failed(rules, measures),
    )
