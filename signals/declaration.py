"""Signals: named streams of scores, one declaration each."""

from __future__ import annotations

from dataclasses import dataclass

from db.errors import UsageError


@dataclass(frozen=True)
class Signal:
    """A named stream of scores that a model's champion makes.

    Attributes
    ----------
    name : of the signal.
    model : whose champion scores it.
    unit : of `value`, in words.
    """

    name: str
    model: str
    unit: str


SIGNALS = {
    signal.name: signal
    for signal in (
        Signal("sp500_next_close", model="sp500_next_close", unit="index points, next close"),
    )
}


def signal(name: str) -> Signal:
    """The signal of that name.

    Raises
    ------
    UsageError
        There is none; the message lists what there is.
    """
    if name not in SIGNALS:
        raise UsageError(f"no signal {name!r}; there are: {', '.join(sorted(SIGNALS))}")
    return SIGNALS[name]
