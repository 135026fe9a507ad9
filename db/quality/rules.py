"""Rules of the quality gate: one declaration gives the expectation and the predicate.

A `Check` says what must hold of a column. It builds the Great Expectations expectation
(the verdict that is recorded and shown in Data Docs) and, from the same numbers, a
vectorised mask of the rows that fail (what goes to quarantine). Missing values pass
every check except `NotNull`: a rule of its own says where a value is required.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

Mask = npt.NDArray[np.bool_]

# quarantine: the failing rows; stop: the whole increment is held for the night;
# report: the night says so, the rows are good.
Effect = Literal["quarantine", "stop", "report"]
Level = Literal["row", "table"]

LARGEST = float(np.finfo(np.float64).max)


class Check(Protocol):
    """What must hold of one or two columns of a frame."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the check reads."""
        ...

    def expectation(self, **common: Any) -> Any:
        """The Great Expectations expectation; `common` holds meta and severity."""
        ...

    def fails(self, frame: pd.DataFrame) -> Mask:
        """Which rows fail: shape (n_rows,), bool."""
        ...


@dataclass(frozen=True)
class NotNull:
    """A value is given."""

    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def expectation(self, **common: Any) -> Any:
        import great_expectations.expectations as gxe

        return gxe.ExpectColumnValuesToNotBeNull(column=self.column, **common)

    def fails(self, frame: pd.DataFrame) -> Mask:
        return frame[self.column].isna().to_numpy()


@dataclass(frozen=True)
class Between:
    """A number lies between two limits; `above` excludes the lower one."""

    column: str
    minimum: float | None = None
    maximum: float | None = None
    above: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def expectation(self, **common: Any) -> Any:
        import great_expectations.expectations as gxe

        return gxe.ExpectColumnValuesToBeBetween(
            column=self.column,
            min_value=self.minimum,
            max_value=self.maximum,
            strict_min=self.above,
            **common,
        )

    def fails(self, frame: pd.DataFrame) -> Mask:
        values = frame[self.column].to_numpy()
        failing = np.zeros(len(values), dtype=bool)
        if self.minimum is not None:
            failing |= values <= self.minimum if self.above else values < self.minimum
        if self.maximum is not None:
            failing |= values > self.maximum
        return failing


@dataclass(frozen=True)
class NotAbove:
    """The value of `column` is not above that of `ceiling` in the same row."""

    column: str
    ceiling: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column, self.ceiling)

    def expectation(self, **common: Any) -> Any:
        import great_expectations.expectations as gxe

        return gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A=self.ceiling,
            column_B=self.column,
            or_equal=True,
            ignore_row_if="either_value_is_missing",
            **common,
        )

    def fails(self, frame: pd.DataFrame) -> Mask:
        above: Mask = frame[self.column].to_numpy() > frame[self.ceiling].to_numpy()
        return above


@dataclass(frozen=True)
class Unique:
    """No other row has the same value."""

    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def expectation(self, **common: Any) -> Any:
        import great_expectations.expectations as gxe

        return gxe.ExpectColumnValuesToBeUnique(column=self.column, **common)

    def fails(self, frame: pd.DataFrame) -> Mask:
        return repeated(frame[self.column].to_numpy())


@dataclass(frozen=True)
class Is:
    """A yes-or-no column holds `expected`."""

    column: str
    expected: bool

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def expectation(self, **common: Any) -> Any:
        import great_expectations.expectations as gxe

        return gxe.ExpectColumnValuesToBeInSet(
            column=self.column, value_set=[self.expected], **common
        )

    def fails(self, frame: pd.DataFrame) -> Mask:
        different: Mask = frame[self.column].to_numpy() != self.expected
        return different


@dataclass(frozen=True)
class Rule:
    """A check with its name, the words for a person, and what follows from a failure.

    Attributes
    ----------
    name : stable identifier, stored with quarantined rows and results.
    check : what must hold.
    reason : why a failing row (or increment) is held, in plain words.
    effect : `quarantine` rules judge rows; `stop` and `report` rules judge the increment.
    """

    name: str
    check: Check
    reason: str
    effect: Effect = "quarantine"

    @property
    def level(self) -> Level:
        """Whether the rule judges rows or the increment as a whole."""
        return "row" if self.effect == "quarantine" else "table"

    def expectation(self) -> Any:
        """The expectation, which carries the rule's name and reason into Data Docs."""
        return self.check.expectation(
            meta={"rule": self.name},
            description=f"{self.name}: fails where {self.reason}",
            severity="critical" if self.effect == "stop" else "warning",
        )


@dataclass(frozen=True)
class Result:
    """What came of one rule on one increment; a row of `validation_results`.

    Attributes
    ----------
    suite : `<source>.rows` or `<source>.increment`.
    rule, expectation : our name and the Great Expectations type.
    column : the column judged; two are joined by a comma.
    level : `row` or `table`.
    evaluated, unexpected : rows judged and rows that failed.
    detail : why it was skipped, or what was found, in plain words.
    """

    suite: str
    rule: str
    expectation: str
    column: str
    level: Level
    success: bool
    evaluated: int
    unexpected: int
    detail: str


def repeated(keys: npt.NDArray[Any]) -> Mask:
    """Which keys occur more than once: shape (n,); free of hashing where they ascend."""
    if len(keys) < 2 or bool((keys[1:] > keys[:-1]).all()):
        return np.zeros(len(keys), dtype=bool)
    return pd.Series(keys).duplicated(keep=False).to_numpy()
