"""The suites: what must hold of bars, observations and documents, and what follows if not.

Row rules are declared in the order in which a person would name them: a quarantined
row carries the name of the first rule that it fails and the reasons of all.
"""

from __future__ import annotations

from dataclasses import dataclass

from db.errors import UsageError
from db.quality.rules import LARGEST, Between, Is, NotAbove, NotNull, Rule, Unique
from db.sources.source import Frequency, Kind

PRICE_COLUMNS = ("open", "high", "low", "close", "adj_close")


@dataclass(frozen=True)
class Limits:
    """How far an increment may stray before it is stopped or reported.

    Attributes
    ----------
    gap_sessions : sessions in a row without any row of the source.
    count_least, count_most : rows of the newest session, as a share of the median of the
        `count_sessions` sessions before; judged from `count_history` earlier sessions
        and more than `count_handful` entities on.
    stale_sessions : sessions that the newest row may lag behind what was due.
    overdue_days : days that a monthly value may be late after its publication was due.
    tolerance : relative, between low, open, close and high; vendors round each by itself.
    document_bytes : of the text of a document, in UTF-8.
    """

    gap_sessions: int = 10
    count_least: float = 0.5
    count_most: float = 2.0
    count_sessions: int = 20
    count_history: int = 5
    count_handful: int = 5
    stale_sessions: int = 3
    overdue_days: int = 10
    tolerance: float = 1e-4
    document_bytes: int = 1_000_000


def row_rules(kind: Kind, frequency: Frequency, limits: Limits | None = None) -> tuple[Rule, ...]:
    """The rules that every row of this kind must pass, in the order of their names' weight.

    Raises
    ------
    UsageError
        There is no suite for the kind.
    """
    if kind == "bars":
        return (*_key_rules("entity", "session"), *_date_rules("session", frequency), *_BAR_VALUES)
    if kind == "observations":
        return (
            *_key_rules("series", "period"),
            *_date_rules("period", frequency),
            *_OBSERVATION_VALUES,
        )
    if kind == "documents":
        return (*READING_RULES, *_document_rules(limits or Limits()))
    raise UsageError(f"the quality gate has no suite for {kind}; declare one in db/quality/suites")


def increment_rules(kind: Kind, frequency: Frequency, limits: Limits) -> tuple[Rule, ...]:
    """The rules that an increment must pass as a whole; each judges one measure of it.

    Documents come when there are any: an inbox without new ones is neither empty nor stale.
    """
    if kind == "documents":
        return COLUMN_RULES[:1]
    rules = [
        *COLUMN_RULES,
        Rule(
            "not_empty", Between("rows", minimum=1), "no rows were delivered and none are stored",
            "stop",
        ),
    ]  # fmt: skip
    if frequency == "session":
        rules += [
            Rule(
                "gap",
                Between("missing_sessions", maximum=limits.gap_sessions),
                f"more than {limits.gap_sessions} sessions in a row have no rows",
                "stop",
            ),
            Rule(
                "stale",
                Between("sessions_behind", maximum=limits.stale_sessions),
                f"the newest row is more than {limits.stale_sessions} sessions behind",
                "report",
            ),
        ]
    else:
        rules += [
            Rule("gap", Between("missing_months", maximum=0), "a month is missing", "stop"),
            Rule(
                "stale",
                Between("days_overdue", maximum=limits.overdue_days),
                f"the next month is more than {limits.overdue_days} days overdue",
                "report",
            ),
        ]
    if kind == "bars":
        rules.append(
            Rule(
                "row_count",
                Between("newest_share", minimum=limits.count_least, maximum=limits.count_most),
                "the newest session has far fewer or far more rows than those before",
                "stop",
            )
        )
    return tuple(rules)


COLUMN_RULES = (
    Rule("columns", Between("missing_columns", maximum=0), "columns are missing", "stop"),
    Rule(
        "types",
        Between("unreadable_columns", maximum=0),
        "columns hold no value of their type",
        "stop",
    ),
)


# What a source of files or feeds says of what it could not read; the others judge what it could.
READING_RULES = (
    Rule("file_readable", Is("file_readable", True), "the file cannot be read"),
    Rule("file_size", Is("file_size", True), "the file is too large"),
    Rule("file_encoding", Is("file_encoding", True), "the file is in another encoding"),
    Rule("file_empty", Is("file_empty", True), "the file is empty"),
    Rule("row_readable", Is("row_readable", True), "the row cannot be read"),
)


def _document_rules(limits: Limits) -> tuple[Rule, ...]:
    return (
        Rule("text_given", Is("text_given", True), "text is missing or blank"),
        Rule(
            "text_length",
            Between("text_bytes", maximum=limits.document_bytes),
            f"text is longer than {limits.document_bytes / 1000:g} kB "
            "(LOOKBACK_DOCUMENT_MAX_KILOBYTES)",
        ),
        Rule(
            "time_readable",
            NotNull("instant"),
            "published_at is missing or cannot be read as an instant",
        ),
        Rule(
            "known_at_readable",
            Is("known_at_readable", True),
            "known_at is given and cannot be read as an instant",
        ),
        Rule(
            "not_future",
            Between("seconds_ahead", maximum=0),
            "published_at or known_at lies after the time at which it was read",
        ),
        Rule(
            "conflict",
            Unique("key"),
            "another row has the same document_id but another text or time",
        ),
    )


def _key_rules(entity: str, day: str) -> tuple[Rule, ...]:
    return (
        Rule("entity_given", Is("entity_given", True), f"{entity} is missing or is no text"),
        Rule("date_given", NotNull(day), f"{day} is missing or cannot be read as a date"),
        Rule("date_only", Is("date_only", True), f"{day} has a time of day"),
        Rule("duplicate", Is("repeats", False), "repeats an earlier row in every column"),
        Rule(
            "conflict",
            Unique("key"),
            f"another row has the same {entity} and {day} but other values",
        ),
    )


def _date_rules(day: str, frequency: Frequency) -> tuple[Rule, ...]:
    if frequency == "month":
        return (Rule("not_future", Between("days_ahead", maximum=0), f"{day} lies in the future"),)
    return (
        Rule(
            "in_calendar",
            Between("calendar_position", minimum=0),
            f"{day} is no trading day of the exchange",
        ),
        Rule(
            "not_future",
            Between("days_ahead", maximum=0),
            f"{day} had not closed when the rows were fetched",
        ),
    )


def _readable(column: str) -> Rule:
    return Rule(
        f"{column}_readable",
        Is(f"{column}_readable", True),
        f"{column} cannot be read as a number",
    )


def _positive(column: str) -> Rule:
    return Rule(
        f"{column}_positive",
        Between(column, minimum=0, maximum=LARGEST, above=True),
        f"{column} is not a finite price above 0",
    )


_SPIKE = Rule("spike", Is("spike", False), "leaves its level by more than volatility justifies")

_BAR_VALUES = (
    *(_readable(column) for column in (*PRICE_COLUMNS, "volume")),
    Rule("price_given", Is("price_given", True), "neither close nor adj_close is given"),
    *(_positive(column) for column in PRICE_COLUMNS),
    Rule(
        "volume_not_negative",
        Between("volume", minimum=0, maximum=LARGEST),
        "volume is not a finite number of 0 or more",
    ),
    Rule("low_to_high", NotAbove("low_tolerant", "high_tolerant"), "low lies above high"),
    Rule("low_to_open", NotAbove("low_tolerant", "open"), "open lies below low"),
    Rule("low_to_close", NotAbove("low_tolerant", "close"), "close lies below low"),
    Rule("open_to_high", NotAbove("open", "high_tolerant"), "open lies above high"),
    Rule("close_to_high", NotAbove("close", "high_tolerant"), "close lies above high"),
    _SPIKE,
)

_OBSERVATION_VALUES = (
    _readable("value"),
    Rule("value_given", NotNull("value"), "value is missing"),
    Rule(
        "value_finite",
        Between("value", minimum=-LARGEST, maximum=LARGEST),
        "value is not finite",
    ),
    _SPIKE,
)
