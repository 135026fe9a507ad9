"""Recipes of text networks: what they are, what they learn from, and how they are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from db.errors import UsageError
from models.recipes import Schedule
from models.text.corpora import THREE_CLASSES, TWO_CLASSES
from models.text.tokens import HEADLINES, UNKNOWN, Pad, Rules
from models.text.vectors import GLOVE_LICENCE

TASK: Literal["sentiment"] = "sentiment"
# What text versions read, where others have a feature view.
DOCUMENTS = "documents"

Learns = Literal["classes", "ratings"]
Keep = Literal["first", "last", "ends"]
TUPLES = ("corpora", "start", "classes", "buckets", "baselines")
# Dictionaries that are in columns of words, and baselines by themselves: their terms.
LEXICONS = {
    "vader": "MIT",
    "loughran_mcdonald": "free for research; commercial use needs the authors' licence",
}
BASELINES = ("majority", "vader", "loughran_mcdonald", "logistic", "nb_svm")


@dataclass(frozen=True)
class TextRecipe:
    """What a text network is and how it is trained.

    Attributes
    ----------
    model : name of the model, whose champion scores texts.
    variant : name of this way of learning it.
    description : what is told of a text, in words.
    corpora : labelled texts that it learns from, all together (`models.text.catalog.read`).
    start : labelled texts that it learns from before, with the same layers and rate.
    classes : worst first.
    learns : `classes`, or `ratings`: stars, from which the classes are summed.
    rules, vocabulary, min_count : how texts are cut; the most rows of the embedding; how often
        a word of the training texts has to be there to have one (`models.text.tokens`).
    length, keep, pad : tokens of a text at most, which of a longer one (`ends`: its first
        quarter and the rest from its end), where a shorter one is padded.
    buckets : lengths to which texts are padded, each to the shortest that it fits into; `length`
        alone if left out. A score does not depend on it.
    bigrams : pairs of words, the most frequent so many of the training texts, whose vectors are
        added to the words'; 0: none.
    vectors : name of pre-trained word vectors (`models.text.vectors`); None: none.
    vector_sd : standard deviation that the numbers of the vectors are brought to; None: as they
        are.
    vector_words : of the words that have vectors the first ones that have a row although no
        training text has them.
    lexicons : whether words also come with what the lexicons say of them
        (`models.text.training.lexicon_columns`).
    layers : options of `models.text.networks.TextLayers`.
    hidden_words : share of training words that are hidden, from which the row of unknown words
        is learned.
    optimizer, learning_rate, weight_decay, clipnorm, schedule, batch_size, max_epochs,
    patience : as `models.recipes.Recipe` has them.
    start_epochs, start_batch_size : of learning from `start`.
    smoothing : share of a label that is spread over all classes.
    balanced : whether a rare class counts as much as a frequent one.
    members : networks that differ in their seed alone, whose mean is the forecast.
    blend : a baseline of text whose log probabilities are mixed with the network's, by weights
        that the validation texts choose; None: none.
    validation : share of the training texts on which training stops; 0: the test texts, as the
        chapter has it.
    validation_block : neighbouring texts that are on one side of it together: reviews of one
        film are neighbours, and a random part would be told by the others. 0: none are.
    baselines : that stand beside it.
    seed : of weights, shuffling and dropout.
    """

    model: str
    variant: str
    description: str
    corpora: tuple[str, ...]
    start: tuple[str, ...] = ()
    classes: tuple[str, ...] = THREE_CLASSES
    learns: Learns = "classes"
    rules: Rules = HEADLINES
    vocabulary: int = 20_000
    min_count: int = 2
    length: int = 48
    keep: Keep = "first"
    pad: Pad = "post"
    buckets: tuple[int, ...] = ()
    bigrams: int = 0
    vectors: str | None = None
    vector_sd: float | None = None
    vector_words: int = 0
    lexicons: bool = False
    layers: Mapping[str, Any] = field(default_factory=dict)
    hidden_words: float = 0.0
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float | None = None
    clipnorm: float | None = None
    schedule: Schedule = "constant"
    batch_size: int = 64
    max_epochs: int = 20
    patience: int = 5
    start_epochs: int = 0
    start_batch_size: int = 128
    smoothing: float = 0.0
    balanced: bool = False
    members: int = 1
    blend: str | None = None
    validation: float = 0.1
    validation_block: int = 0
    baselines: tuple[str, ...] = BASELINES
    seed: int = 42
    task: Literal["sentiment"] = TASK

    def __post_init__(self) -> None:
        if not self.corpora:
            raise self.wrong("there is no corpus to learn from")
        if self.classes not in {TWO_CLASSES, THREE_CLASSES}:
            raise self.wrong(f"classes are {TWO_CLASSES} or {THREE_CLASSES}, not {self.classes}")
        if self.learns not in get_args(Learns):
            raise self.wrong(f"a text network learns classes or ratings, not {self.learns!r}")
        if self.learns == "ratings" and self.classes != TWO_CLASSES:
            raise self.wrong("ratings are of two classes")
        if self.buckets and (self.pad != "post" or self.layers.get("masked") is False):
            raise self.wrong("buckets need masked layers and padding at the end (post)")
        if self.buckets and (
            sorted(set(self.buckets)) != list(self.buckets) or self.buckets[-1] != self.length
        ):
            raise self.wrong(f"buckets ascend to the length {self.length}")
        patch = self.layers.get("patch", 1)
        if any(length % patch for length in self.lengths):
            raise self.wrong(f"patch {patch} divides the length and the buckets")
        if bool(self.start) != bool(self.start_epochs):
            raise self.wrong("start needs start_epochs, and start_epochs a start")
        if self.vector_words and self.vectors is None:
            raise self.wrong("vector_words need vectors")
        if self.blend is not None and self.blend not in BASELINES:
            raise self.wrong(f"blend is one of {', '.join(BASELINES)}, not {self.blend!r}")
        if self.blend is not None and not self.validation:
            raise self.wrong("blend needs validation texts, which choose its weights")
        if not 0 <= self.validation < 1 or self.members < 1:
            raise self.wrong("validation is a share, and there is at least one member")

    def wrong(self, what: str) -> UsageError:
        """The error for a recipe that cannot be, named after it."""
        return UsageError(f"recipe {self.name}: {what}")

    @property
    def name(self) -> str:
        """Model and variant: `text_sentiment_learned/chapter`."""
        return f"{self.model}/{self.variant}"

    @property
    def view(self) -> str:
        """What it reads."""
        return DOCUMENTS

    @property
    def borrowed(self) -> tuple[tuple[str, str], ...]:
        """What else is in a version beside its corpora: name and licence of each."""
        vectors = ((self.vectors, GLOVE_LICENCE),) if self.vectors else ()
        named = [name for name in LEXICONS if self.lexicons or self.variant == name]
        return (*vectors, *((name, LEXICONS[name]) for name in named))

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths to which texts are padded when they are scored, ascending."""
        return self.buckets or (self.length,)

    @property
    def loss(self) -> str:
        """Keras name: of one probability, or of one for each class."""
        one = len(self.classes) == 2 and self.learns == "classes"
        return "binary_crossentropy" if one else "categorical_crossentropy"

    @property
    def most_epochs(self) -> int:
        """The most epochs that there can be, of all members."""
        return self.members * (self.start_epochs + self.max_epochs)

    @property
    def beginning(self) -> TextRecipe:
        """How it learns from `start`."""
        return replace(
            self,
            max_epochs=self.start_epochs,
            patience=self.start_epochs,
            batch_size=self.start_batch_size,
        )

    @property
    def hidden(self) -> Mapping[str, tuple[float, int]]:
        """Inputs of which a share is hidden in training."""
        return {"tokens": (self.hidden_words, UNKNOWN)}

    def with_changes(self, **changes: Any) -> TextRecipe:
        """The same recipe with some fields changed."""
        return replace(self, **changes)

    def baseline(self, name: str) -> TextRecipe:
        """A baseline on the same texts: what says how a network learns is left out."""
        kept = ("model", "description", "corpora", "classes", "validation", "seed")
        return TextRecipe(
            **{each: getattr(self, each) for each in kept}, variant=name, baselines=()
        )

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        tuples = {name: list(getattr(self, name)) for name in TUPLES}
        return asdict(self) | tuples | {"layers": dict(self.layers)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TextRecipe:
        """The recipe that `to_json` wrote; lists of layers stay lists.

        Raises
        ------
        UsageError
            It did not write this.
        """
        if values.keys() != {each.name for each in fields(cls)}:
            raise UsageError("a text recipe lacks fields or has unknown ones; train it again")
        tuples = {name: tuple(values[name]) for name in TUPLES}
        return cls(**{**values, **tuples, "rules": Rules(**values["rules"])})
