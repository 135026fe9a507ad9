"""Signals: named streams of scores, one declaration each."""

from __future__ import annotations

from dataclasses import dataclass

from db.errors import UsageError
from db.settings import Settings


@dataclass(frozen=True)
class Signal:
    """A named stream of scores that a model's champion makes.

    Attributes
    ----------
    name : of the signal.
    model : whose champion scores it.
    unit : of `value`, in words.
    view, feature : where the model scores texts, and not windows: the view of what they said
        by day, and the feature that the signal is.
    """

    name: str
    model: str
    unit: str
    view: str | None = None
    feature: str | None = None

    @property
    def is_of_texts(self) -> bool:
        """Whether it is what texts say of symbols, and no forecast from windows."""
        return self.view is not None


SIGNALS = {
    signal.name: signal
    for signal in (
        Signal("sp500_next_close", model="sp500_next_close", unit="index points, next close"),
        Signal(
            "equity_week_direction",
            model="equity_week_direction",
            unit="score of next week's return, standard deviations from the mean of its date",
        ),
        Signal(
            "macro_outlook",
            model="macro_outlook",
            unit="change over 12 months, next month, unit of the series (or of its logarithm)",
        ),
        Signal(
            "macro_path",
            model="macro_path",
            unit="change over 12 months, 1 to 12 months ahead, as in macro_outlook",
        ),
        Signal(
            "sentiment_daily",
            model="text_sentiment_finance",
            unit="what texts say of a symbol, positive less negative, -1 to 1",
            view="sentiment_daily",
            feature="decayed",
        ),
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


def chosen_signals(settings: Settings) -> dict[str, Signal]:
    """The signals that nights make, by name.

    Raises
    ------
    UsageError
        The settings name one that is not declared.
    """
    return {name: signal(name) for name in settings.signals} or SIGNALS
