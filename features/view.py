"""Feature views: one declaration each; the version is a hash of all that determines the values."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Entity = Literal["symbol", "series", "document"]
RawKind = Literal["observations", "bars"]
HorizonUnit = Literal["session", "week", "month"]

# Raised when reading or materializing changes what a declaration means.
ENGINE_VERSION = 1

NAME = re.compile(r"[a-z][a-z0-9_]*")
RESERVED = frozenset({"entity", "date", "known_at", "known_until"})

# What SQL passes over, beside the texts in quotes that it does not.
QUOTED_OR_BLANK = re.compile(
    r"""('(?:[^']|'')*'|"(?:[^"]|"")*")|(?:--[^\n]*|/\*.*?\*/|\s)+""", re.DOTALL
)


@dataclass(frozen=True)
class FeatureView:
    """A declared computation over raw tables.

    Attributes
    ----------
    name : lower case, digits and underscores.
    description : one line for people; not part of the version.
    entity : what a row is about.
    source : raw table that the SQL reads as `known`: the rows visible at a point in time,
        one vintage each (`raw.observations_as_of`, `raw.bars_as_of`).
    sql : SELECT from `known` giving columns `entity`, `date`, one for each feature, and
        `known_at`: the newest known_at among the raw rows that the value is made of.
    features : names of the value columns, in the order of a window's last axis.
    window : T, values per window.
    target : the feature that is forecast.
    horizon, horizon_unit : how far ahead the target lies.
    largest_gap : sessions (or months) that may be missing between two neighbours in a
        window; a longer gap, like a price break, is never spanned.
    """

    name: str
    description: str
    entity: Entity
    source: RawKind
    sql: str
    features: tuple[str, ...]
    window: int
    target: str
    horizon: int
    horizon_unit: HorizonUnit
    largest_gap: int = 3

    def __post_init__(self) -> None:
        from db.errors import UsageError

        if not NAME.fullmatch(self.name):
            raise UsageError(f"feature view {self.name!r}: names are lower case with underscores")
        if self.window < 1 or self.horizon < 1:
            raise UsageError(f"feature view {self.name}: window and horizon must be positive")
        if self.largest_gap < 0:
            raise UsageError(f"feature view {self.name}: largest_gap must not be negative")
        for value, kind in (
            (self.entity, Entity),
            (self.source, RawKind),
            (self.horizon_unit, HorizonUnit),
        ):
            if value not in get_args(kind):
                raise UsageError(
                    f"feature view {self.name}: {value!r} is none of {', '.join(get_args(kind))}"
                )
        for feature in self.features:
            if not NAME.fullmatch(feature) or feature in RESERVED:
                raise UsageError(
                    f"feature view {self.name}: feature {feature!r} must be lower case with "
                    f"underscores and none of {', '.join(sorted(RESERVED))}"
                )
        if len(set(self.features)) < len(self.features):
            raise UsageError(f"feature view {self.name}: a feature is named twice")
        if self.target not in self.features:
            raise UsageError(
                f"feature view {self.name}: target {self.target!r} is none of its features "
                f"({', '.join(self.features)})"
            )

    @property
    def declaration(self) -> dict[str, Any]:
        """All that determines the values, JSON-able."""
        content = asdict(self) | {"engine": ENGINE_VERSION}
        content["sql"] = _without_blanks(self.sql)
        del content["description"]
        return content

    @property
    def version(self) -> str:
        """Hash of the declaration: 12 hexadecimal digits."""
        text = json.dumps(self.declaration, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def table(self) -> str:
        """Table of the materialized values in the store."""
        return f"features.{self.name}_{self.version}"


def _without_blanks(sql: str) -> str:
    """The SQL on one line, without comments; what is in quotes stays as it is."""
    return QUOTED_OR_BLANK.sub(lambda match: match[1] or " ", sql).strip()
