"""The verdict on an increment: which rows go on, which are held, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.quality.batch import Batch
from db.quality.findings import Findings
from db.quality.rules import Result

# Before the name of the rule that holds a row which fails no rule itself.
TABLE = "table: "

Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Verdict:
    """What the gate decided; `len(frame) == len(accepted) + len(rejected)`.

    Attributes
    ----------
    source, kind, session : of the batch.
    accepted : rows in their declared types, in the order they came; empty when stopped.
    rejected : all other rows as they were fetched, with `rule` (the first rule that
        failed; `table: <rule>` for a row that is held only because the increment is
        stopped) and `reason` (all of them, in plain words); both categorical.
    breaks : every break that `judge_breaks` found, in history too, for
        `raw.price_breaks`; empty when stopped.
    results : one for each rule.
    stopped : why the whole increment is held for the night, or None.
    stale : what is older than it should be, or None; such rows are good.
    documents : Great Expectations validation results by suite, for Data Docs.
    """

    source: str
    kind: str
    session: date
    accepted: pd.DataFrame
    rejected: pd.DataFrame
    breaks: pd.DataFrame
    results: list[Result]
    stopped: str | None = None
    stale: str | None = None
    documents: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Stop:
    """The increment rules that hold an increment, and their words."""

    rule: str
    reason: str

    @property
    def row_rule(self) -> str:
        """The rule of rows that are good but held; they are tried again another night."""
        return f"{TABLE}{self.rule}"


def divide(
    batch: Batch, findings: Findings, stop: Stop | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accepted and rejected rows; together they are the increment."""
    failing = findings.failing
    if stop is None and not failing.any():
        return findings.canonical, _with_reasons(
            batch.frame.iloc[:0], [], [], np.empty(0, dtype=np.intp)
        )
    held = np.flatnonzero(failing) if stop is None else np.arange(len(batch.frame))
    rules, reasons, code = _reasons(findings, held, stop)
    rejected = _with_reasons(batch.frame.iloc[held], rules, reasons, code)
    kept = ~failing if stop is None else np.zeros(len(failing), dtype=bool)
    return findings.canonical[kept], rejected


def _reasons(
    findings: Findings, held: Any, stop: Stop | None
) -> tuple[list[str], list[str], Codes]:
    """Rule and reason of each distinct way to fail, and which way each held row failed.

    A row's way is the set of rules that it fails and the spike that it belongs to.
    """
    masks = [findings.masks[rule.name][held] for rule in findings.failed_rules]
    ways = pd.DataFrame(dict(enumerate(masks)), index=range(len(held)))
    ways["spike"] = findings.spikes.of_row[held]
    code = ways.groupby(list(ways.columns), sort=False).ngroup().to_numpy().astype(np.intp)
    distinct = ways.drop_duplicates().itertuples(index=False, name=None)
    rules, reasons = [], []
    for *flags, spike in distinct:
        failed = [rule for rule, flag in zip(findings.failed_rules, flags, strict=True) if flag]
        if not failed and stop is not None:
            rules.append(stop.row_rule)
            reasons.append(stop.reason)
            continue
        rules.append(failed[0].name)
        words = [rule.reason for rule in failed if rule.name != "spike"]
        if spike >= 0:
            words.append(str(findings.spikes.breaks["reason"].iloc[spike]))
        reasons.append("; ".join(words))
    return rules, reasons, code


def _with_reasons(
    rows: pd.DataFrame, rules: list[str], reasons: list[str], code: Codes
) -> pd.DataFrame:
    """`rows` with categorical `rule` and `reason`: 9.7 M held rows share a few texts."""
    return rows.assign(rule=_categorical(rules, code), reason=_categorical(reasons, code))


def _categorical(texts: list[str], code: Codes) -> pd.Categorical[str]:
    """Text number `code` of each row: shape (n_rows,)."""
    number, distinct = pd.factorize(pd.Index(texts, dtype="str"))
    return pd.Categorical.from_codes(number[code], pd.Index(distinct, dtype="str"))
