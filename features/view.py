"""Feature views: one declaration each; the version is a hash of all that determines the values."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from db.errors import UsageError

if TYPE_CHECKING:
    from features.rolling import Rows

    # Gives one array for each feature, a value for each row that is asked for of the view's
    # first input; or a frame (or an Arrow table) with rows of its own: entity, date, the
    # features and known_at.
    Transform = Callable[[Mapping[str, Rows]], Any]

Entity = Literal["symbol", "series", "document"]
RawKind = Literal["observations", "bars", "sentiment"]
HorizonUnit = Literal["session", "week", "month"]
Scope = Literal["entity", "all"]
Static = Literal["symbol", "month", "weekday"]
Stored = Literal["float32", "float64"]

# Raised when reading or materializing changes what a declaration means.
ENGINE_VERSION = 2

NAME = re.compile(r"[a-z][a-z0-9_]*")
# What a transform calls the mask of the rows that it wants, where it does not want all.
ROWS = "rows"
RESERVED = frozenset({"entity", "date", "known_at", "known_until", "as_of", ROWS})

# What SQL passes over, beside the texts in quotes that it does not.
QUOTED_OR_BLANK = re.compile(
    r"""('(?:[^']|'')*'|"(?:[^"]|"")*")|(?:--[^\n]*|/\*.*?\*/|\s)+""", re.DOTALL
)


@dataclass(frozen=True)
class Input:
    """What a view reads: rows of a raw table, or of another view.

    Attributes
    ----------
    table : `bars`, `observations`, `sentiment`, or the name of another view.
    entities : only these symbols or series; empty for all.
    without : none that begin so: vendors write indices `^GSPC`.
    shared : every entity of the view reads these rows (an index, a macro series), and not
        only its own.
    memory : rows of the raw table, before the date of a value, that the value may be made
        of; None for the whole history. The smaller, the less a night has to read again.
        Leave it out where a view beneath leaves rows out, so that raw rows do not count its.
    """

    table: str
    entities: tuple[str, ...] = ()
    without: str = ""
    shared: bool = False
    memory: int | None = None

    @property
    def is_raw(self) -> bool:
        """Whether it is a raw table, not another view."""
        return self.table in get_args(RawKind)


@dataclass(frozen=True)
class Feature:
    """One value of a view.

    Attributes
    ----------
    name : lower case, digits and underscores.
    memory : rows of the view that it looks back over: within that many rows after a price
        break or a long gap it has no value.
    description : what it is, with its unit; not part of the version.
    """

    name: str
    memory: int = 0
    description: str = ""


@dataclass(frozen=True)
class FeatureView:
    """A declared computation over raw tables and other views.

    Either `sql` or `transform` says how. A value's date is never before those of the rows
    that it is made of, and where a view has several inputs, or several series in a shared
    one, a row exists only once all of them have theirs of that date: what is newest at a
    time is for `join` to find.

    Attributes
    ----------
    name : lower case, digits and underscores.
    description : one line for people; not part of the version.
    entity : what a row is about.
    inputs : what it reads.
    features : the values, in the order of a window's last axis.
    window : T, values per window.
    target : the feature that is forecast.
    horizon, horizon_unit : how far ahead the target lies; the unit is also that of the
        spacing of rows.
    sql : SELECT over the inputs by their names (and `sessions`), giving columns `entity`,
        `date`, one for each feature, and `known_at`: the newest known_at among the rows
        that the value is made of. Inputs hold one vintage of each row, the one that was
        known. Averages over moving windows are rounded by where they begin; with a
        `memory`, use `transform` and `features.rolling`.
    transform : Python instead of SQL: takes the inputs by name as `features.rolling.Rows`, gives
        one array for each feature, and under `rows` a mask of those it wants, if not all.
    scope : `entity` where a value is made of its own entity's rows (and of shared inputs);
        `all` where it is made of those of other entities too, such as a rank.
    largest_gap : sessions (or weeks, or months) that may be missing between two neighbours
        in a window; a longer gap, like a price break, is never spanned.
    static : inputs of a model that are no series: columns of `Windows.index`.
    stored : precision of the values in the store; windows are float32 in any case.
    """

    name: str
    description: str
    entity: Entity
    inputs: tuple[Input, ...]
    features: tuple[Feature, ...]
    window: int
    target: str
    horizon: int
    horizon_unit: HorizonUnit
    sql: str | None = None
    transform: Transform | None = None
    scope: Scope = "entity"
    largest_gap: int = 3
    static: tuple[Static, ...] = ()
    stored: Stored = "float64"

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise UsageError(f"feature view {self.name!r}: names are lower case with underscores")
        if self.window < 1 or self.horizon < 1:
            raise self.wrong("window and horizon must be positive")
        if self.largest_gap < 0:
            raise self.wrong("largest_gap must not be negative")
        self._require_one_of(self.entity, Entity)
        self._require_one_of(self.horizon_unit, HorizonUnit)
        self._require_one_of(self.scope, Scope)
        self._require_one_of(self.stored, Stored)
        for static in self.static:
            self._require_one_of(static, Static)
        if (self.sql is None) == (self.transform is None):
            raise self.wrong("give either sql or transform")
        self._check_inputs()
        self._check_features()

    def wrong(self, what: str) -> UsageError:
        """The error for a declaration that cannot be, named after the view."""
        return UsageError(f"feature view {self.name}: {what}")

    def _require_one_of(self, value: str, kind: Any) -> None:
        if value not in get_args(kind):
            raise self.wrong(f"{value!r} is none of {', '.join(get_args(kind))}")

    def _check_inputs(self) -> None:
        if not self.inputs:
            raise self.wrong("it reads nothing; name its inputs")
        names = [given.table for given in self.inputs]
        if len(set(names)) < len(names):
            raise self.wrong("an input is named twice")
        for given in self.inputs:
            if given.memory is not None and given.memory < 0:
                raise self.wrong(f"the memory of input {given.table} must not be negative")

    def _check_features(self) -> None:
        for feature in self.features:
            if not NAME.fullmatch(feature.name) or feature.name in RESERVED:
                raise self.wrong(
                    f"feature {feature.name!r} must be lower case with underscores and none of "
                    f"{', '.join(sorted(RESERVED))}"
                )
            if feature.memory < 0:
                raise self.wrong(f"the memory of feature {feature.name} must not be negative")
        if len(set(self.names)) < len(self.names):
            raise self.wrong("a feature is named twice")
        if self.target not in self.names:
            raise self.wrong(
                f"target {self.target!r} is none of its features ({', '.join(self.names)})"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in the order of a window's last axis."""
        return tuple(feature.name for feature in self.features)

    @property
    def own_inputs(self) -> tuple[Input, ...]:
        """Inputs that are read entity by entity."""
        return tuple(given for given in self.inputs if not given.shared)

    @property
    def compares(self) -> bool:
        """Whether values are made of other entities' rows, here or in a view that it reads."""
        return self.scope == "all" or any(view.compares for view in self._upstream(self.inputs))

    @property
    def whole(self) -> bool:
        """Whether all entities are computed at once, whichever of them something touched."""
        if self.compares or not self.own_inputs:
            return True
        beneath = self._upstream(self.own_inputs)
        return len(beneath) == len(self.own_inputs) and all(view.whole for view in beneath)

    @staticmethod
    def _upstream(inputs: tuple[Input, ...]) -> list[FeatureView]:
        """Views among the inputs."""
        from features.catalog import feature_view

        return [feature_view(given.table) for given in inputs if not given.is_raw]

    @cached_property
    def declaration(self) -> dict[str, Any]:
        """All that determines the values, JSON-able; views that it reads are in by version."""
        from features.catalog import feature_view

        content: dict[str, Any] = {
            "name": self.name,
            "entity": self.entity,
            "inputs": [asdict(given) for given in self.inputs],
            "upstream": {
                given.table: feature_view(given.table).version
                for given in self.inputs
                if not given.is_raw
            },
            "features": [[feature.name, feature.memory] for feature in self.features],
            "window": self.window,
            "target": self.target,
            "horizon": self.horizon,
            "horizon_unit": self.horizon_unit,
            "scope": self.scope,
            "largest_gap": self.largest_gap,
            "static": list(self.static),
            "stored": self.stored,
            "engine": ENGINE_VERSION,
        }
        if self.sql is not None:
            return content | {"sql": _without_blanks(self.sql)}
        return content | {"transform": self._code_hash()}

    def _code_hash(self) -> str:
        """Hash of the code behind a transform: its module and the window kernels, no comments."""
        from features import rolling

        transform = inspect.unwrap(self.transform)  # type: ignore[arg-type]
        modules = [sys.modules[transform.__module__], rolling]
        code = "".join(_code(inspect.getsource(module)) for module in modules)
        return hashlib.sha256(f"{code}{transform.__qualname__}".encode()).hexdigest()

    @cached_property
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


@lru_cache(maxsize=64)
def _code(source: str) -> str:
    """Python without comments, layout and docstrings: what is left decides the values."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
