"""Recipes: how each network is built and trained, and the catalog of models.

A model is what a signal needs: a target on a view. A recipe is one way to learn it; the
chapter's network and an improved one are two recipes of the same model, and their versions
and those of the baselines compete for the same championship. A new way is one more entry of
`RECIPES`; nothing else has to know about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any, Literal, Protocol, get_args

from db.errors import UsageError

Task = Literal["level", "changes", "path", "direction", "rank"]
Learns = Literal["value", "change", "growth", "up", "rank"]
Scaling = Literal["none", "minmax_series", "minmax", "standard"]
Schedule = Literal["constant", "cosine"]

# What each task may learn: values and their changes are turned back into the target's unit,
# what is learned of a return is a score.
LEARNABLE: Mapping[Task, tuple[Learns, ...]] = {
    "level": ("value", "change", "growth"),
    "changes": ("value", "change"),
    "path": ("value", "change"),
    "direction": ("up", "rank"),
    "rank": ("value", "rank"),
}


LISTS = ("features", "targets", "moves", "seasonal")
# What a baseline has in common with the recipe that it stands beside.
OF_INPUTS = (
    *("model", "view", "description", "features", "targets", "moves", "seasonal", "steps"),
    *("validation", "test", "train_from", "stand_ins", "seed"),
)


class Fitted(Protocol):
    """What a fit has to know of a recipe, of windows or of text; see `Recipe`."""

    @property
    def name(self) -> str: ...
    @property
    def view(self) -> str: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float | None: ...
    @property
    def clipnorm(self) -> float | None: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def loss(self) -> str: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def max_epochs(self) -> int: ...
    @property
    def patience(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def most_epochs(self) -> int: ...
    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths of the rows, where they are not all one: ascending."""

    @property
    def hidden(self) -> Mapping[str, tuple[float, int]]:
        """Inputs of which a share is hidden in training: the share, and what stands for it."""


@dataclass(frozen=True)
class Recipe:
    """What a network is and how it is trained.

    Attributes
    ----------
    model : name of the model, whose champion scores a signal.
    variant : name of this way of learning it.
    view : feature view that gives its windows.
    task : what is forecast: `level` (next value of one target), `changes` (next value of
        several), `path` (several, `steps` ahead), `direction` (sign of the next return of
        each entity), `rank` (order of the next returns within a date).
    description : the target in words, with its unit.
    architecture, layers : name of a builder in `models.architectures`, its arguments.
    features : of the view, that the network sees, in this order; empty for all.
    targets : features of the view that are forecast; empty for the view's target.
    moves : features of the view, one for each target, whose sum over 12 rows the target is;
        empty where it is no such sum. A change is then counted from what is left of the sum
        when the oldest moves drop out, and not from the last value.
    seasonal : of the moves, those that a year repeats: what is left of the sum is joined by
        what the same months of the window moved by on average, beyond the mean of a year.
    steps : how many steps of the view's horizon ahead, the last of them.
    symbols, months : whether the network is told the entity and the month of `as_of`.
    hidden_symbols : share of training windows whose entity is hidden, from which the row of
        unknown symbols is learned.
    learns : `value`, `change` (from what it will be if nothing
        moves), `growth` (over the last value, less 1), `up` (whether
        the return is positive) or `rank` (within its date, standardised).
    scaling : of features and values; fitted on the training span. With `minmax_series` the
        one target is the next value of feature 0 and shares its range.
    optimizer, learning_rate, weight_decay, clipnorm : Keras name, step size, decoupled decay
        and largest gradient norm, or None.
    schedule : `constant`, or `cosine`: a tenth of `max_epochs` up, then down to zero.
    loss : Keras name.
    batch_size, max_epochs : windows in a step; the most epochs.
    patience : epochs without a better validation loss after which training stops.
    validation, test : lengths of the two last spans, in distinct `as_of`.
    train_from : earliest `as_of` to learn from; None for all there is.
    stand_ins : views of profiles that have no such series, by profile.
    seed : of weights, shuffling and dropout.
    """

    model: str
    variant: str
    view: str
    task: Task
    description: str
    architecture: str
    layers: Mapping[str, Any] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    seasonal: tuple[str, ...] = ()
    steps: int = 1
    symbols: bool = False
    months: bool = False
    hidden_symbols: float = 0.01
    learns: Learns = "value"
    scaling: Scaling = "standard"
    optimizer: str = "rmsprop"
    learning_rate: float = 1e-3
    weight_decay: float | None = None
    clipnorm: float | None = None
    schedule: Schedule = "constant"
    loss: str = "mse"
    batch_size: int = 20
    max_epochs: int = 100
    patience: int = 25
    validation: int = 126
    test: int = 126
    train_from: date | None = None
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    seed: int = 42

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise self.wrong(f"{self.task!r} is no task; there are: {', '.join(get_args(Task))}")
        if self.learns not in LEARNABLE[self.task]:
            known = ", ".join(LEARNABLE[self.task])
            raise self.wrong(f"for task {self.task} a network learns {known}, not {self.learns!r}")
        if self.steps < 1 or (self.steps > 1) != (self.task == "path"):
            raise self.wrong(f"task {self.task} forecasts {self.steps} steps")
        if self.moves and len(self.moves) != len(self.targets):
            raise self.wrong("moves names one feature for each target")
        if not set(self.seasonal) <= set(self.moves):
            raise self.wrong("seasonal names some of the moves")

    def wrong(self, what: str) -> UsageError:
        """The error for a recipe that cannot be, named after it."""
        return UsageError(f"recipe {self.name}: {what}")

    @property
    def name(self) -> str:
        """Model and variant: `sp500_next_close/chapter`."""
        return f"{self.model}/{self.variant}"

    @property
    def most_epochs(self) -> int:
        """The most epochs that there can be."""
        return self.max_epochs

    @property
    def lengths(self) -> tuple[int, ...]:
        """Windows are all of one length."""
        return ()

    @property
    def hidden(self) -> Mapping[str, tuple[float, int]]:
        """Inputs of which a share is hidden in training; row 0 is of unknown symbols."""
        return {"symbol": (self.hidden_symbols, 0)}

    def for_profile(self, profile: str) -> Recipe:
        """The same recipe on the view that stands in for its own where a profile needs one."""
        return replace(self, view=self.stand_ins.get(profile, self.view))

    def with_changes(self, **changes: Any) -> Recipe:
        """The same recipe with some fields changed."""
        return replace(self, **changes)

    def baseline(self, name: str, task: Task | None = None) -> Recipe:
        """A baseline on the same inputs: what says how a network learns is left out.

        Parameters
        ----------
        name : of `models.baselines`.
        task : what it forecasts; that of the recipe if left out.
        """
        chosen = task or self.task
        kept = {field: getattr(self, field) for field in OF_INPUTS}
        return Recipe(
            **kept,
            variant=name,
            task=chosen,
            architecture="baseline",
            learns=LEARNABLE[chosen][0],
        )

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        start = self.train_from.isoformat() if self.train_from else None
        lists = {name: list(getattr(self, name)) for name in LISTS}
        return (
            asdict(self)
            | lists
            | {
                "layers": dict(self.layers),
                "stand_ins": dict(self.stand_ins),
                "train_from": start,
            }
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_json` wrote; tuples of layers come back as lists."""
        start = values["train_from"]
        names = {name: tuple(values[name]) for name in LISTS}
        return cls(
            **{**values, **names, "train_from": date.fromisoformat(start) if start else None}
        )
