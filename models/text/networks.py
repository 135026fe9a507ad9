"""Text networks: recurrent networks over tokens, of Keras layers, the same on every backend.

What is recurrent in them is that of `models.architectures`; here words become vectors before it,
and what it makes of each word is pooled after it. Steps without a token do not count anywhere:
a text has the same score however far it is padded on the right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic
from pydantic import NonNegativeInt

from db.errors import UsageError
from models import architectures
from models.architectures import Layers, Shape, Share, Tensor
from models.text.tokens import UNKNOWN

if TYPE_CHECKING:
    import keras

Pool = Literal["last", "mean", "max"]
# Inputs of a network.
TOKENS, BIGRAMS = "tokens", "bigrams"


@dataclass(frozen=True)
class TextShape:
    """What a text network takes and gives.

    Attributes
    ----------
    vocabulary : rows of the embedding: words, and 0 and 1 of padding and unknown words.
    outputs : classes, or 1 of two classes.
    length : tokens T of a text; None where each text may have a length of its own.
    vectors : width of the vectors that the words come with; 0: they come with none.
    bigrams : rows of the embedding of pairs of words; 0: it is not told them.
    learned : words, the first ones, for which vectors are learned; 0: all of them.
    """

    vocabulary: int
    outputs: int
    length: int | None = None
    vectors: int = 0
    bigrams: int = 0
    learned: int = 0


@pydantic.dataclasses.dataclass(frozen=True, config={"extra": "forbid"})
class TextLayers(Layers):
    """The choices of a text network: those of `models.architectures.Layers`, and these.

    Attributes
    ----------
    embedding : width of the vectors that are learned for words; 0: none.
    frozen : whether the vectors that the words come with stay what they are.
    added : whether what is learned for a word is added to the vector that it comes with, and
        begins at zero, rather than put beside it.
    masked : whether steps without a token are left out, rather than read as a word of their own;
        the chapter's networks read them.
    spatial_dropout : share of the columns of all word vectors of a text that are dropped in
        training, and of what is made of patches of them.
    patch_dense : width of what is made of a patch, by a dense layer with a rectifier; 0: its
        words stay side by side.
    pooling : what is made of all states: `last`, the final one of each direction, `mean` and
        `max`, over the steps; beside each other if there are several.
    pooled_dropout : share dropped of what was pooled.
    """

    embedding: NonNegativeInt = 100
    frozen: bool = True
    added: bool = False
    masked: bool = True
    spatial_dropout: Share = 0.0
    patch_dense: NonNegativeInt = 0
    pooling: Annotated[tuple[Pool, ...], pydantic.Field(min_length=1)] = ("last",)
    pooled_dropout: Share = 0.0

    def not_of_text(self, shape: TextShape) -> str | None:
        """What a text network cannot have, in words; None if it can have all."""
        wrong = {
            "embedding 0 needs vectors": not self.embedding and not shape.vectors,
            "patch_dense needs patches": self.patch_dense > 0 and self.patch == 1,
            f"added vectors are as wide as those that words come with, {shape.vectors}": self.added
            and bool(shape.vectors)
            and self.embedding != shape.vectors,
            "mask_value, residual, decoder and teacher_forcing are of windows": (
                self.mask_value is not None
                or self.residual is not None
                or self.decoder
                or self.teacher_forcing > 0
            ),
            "cell Leaky has no masked steps": self.cell == "Leaky" and self.masked,
            f"patch must divide the {shape.length} tokens of a text": bool(
                shape.length and shape.length % self.patch
            ),
        }
        return next((reason for reason, is_wrong in wrong.items() if is_wrong), None)


def build(
    shape: TextShape,
    layers: Mapping[str, Any],
    vectors: npt.NDArray[np.float32] | None = None,
) -> keras.Model:
    """The untrained network of a recipe.

    Parameters
    ----------
    shape : TextShape
    layers : mapping
        Options (`TextLayers`), as they come from JSON.
    vectors : float32 (vocabulary, d), optional
        Those that the words come with; zeros if left out (they are read from a file then).

    Returns
    -------
    keras.Model
        Takes `tokens` int32 (batch, T), and `bigrams` int32 (batch, T) where it is told them.
        Gives probabilities, float32 (batch, k).

    Raises
    ------
    UsageError
        An option that there is not, or that contradicts another.
    """
    options = _options(shape, layers)
    import keras

    inputs = {TOKENS: keras.Input((shape.length,), dtype="int32", name=TOKENS)}
    if shape.bigrams:
        inputs[BIGRAMS] = keras.Input((shape.length,), dtype="int32", name=BIGRAMS)
    words = _words(inputs, shape, options, vectors)
    mask = _mask(inputs[TOKENS], options) if options.masked else None
    outputs = _pooled(_patched(words, options), mask, options)
    for layer in architectures.head(shape.outputs, options):
        outputs = layer(outputs)
    return keras.Model(inputs, outputs, name="text")


def _options(shape: TextShape, layers: Mapping[str, Any]) -> TextLayers:
    declared = {"output_activation": "sigmoid" if shape.outputs == 1 else "softmax", **layers}
    # what a window says of its length is said of a text by itself
    any_window = Shape(window=int(declared.get("patch", 1)), n_features=1, outputs=shape.outputs)
    try:
        options = architectures.options_of(TextLayers, declared, any_window)
        reason = options.not_of_text(shape)
        if reason is not None:
            raise ValueError(f"layer option {reason}")
    except ValueError as error:
        raise UsageError(f"text network: {error}") from error
    return options


def _words(
    inputs: Mapping[str, Tensor],
    shape: TextShape,
    options: TextLayers,
    vectors: npt.NDArray[np.float32] | None,
) -> Tensor:
    """Word vectors: (batch, T, E), the given ones before those that are learned."""
    import keras

    from models.layers import KnownTokens

    parts = []
    if shape.vectors:
        given = np.zeros((shape.vocabulary, shape.vectors), "float32")
        rows = keras.layers.Embedding(*given.shape, trainable=not options.frozen, name="vectors")
        parts.append(rows(inputs[TOKENS]))
        rows.set_weights([given if vectors is None else vectors])
    added = options.added and bool(parts)
    if options.embedding:
        tokens, count = inputs[TOKENS], shape.learned or shape.vocabulary
        if count < shape.vocabulary:
            tokens = KnownTokens(count, UNKNOWN, name="learned_tokens")(tokens)
        rows = keras.layers.Embedding(
            count,
            options.embedding,
            embeddings_initializer="zeros" if added else "uniform",
            name="embedding",
        )
        parts.append(rows(tokens))
    join = keras.layers.Add if added else keras.layers.Concatenate
    words = join(name="words")(parts) if len(parts) > 1 else parts[0]
    if shape.bigrams:
        rows = keras.layers.Embedding(
            shape.bigrams,
            words.shape[-1],
            embeddings_initializer="zeros",
            name="bigram_embedding",
        )
        words = keras.layers.Add(name="with_bigrams")([words, rows(inputs[BIGRAMS])])
    if options.spatial_dropout:
        words = keras.layers.SpatialDropout1D(options.spatial_dropout, name="word_dropout")(words)
    return words


def _mask(tokens: Tensor, options: TextLayers) -> Tensor:
    """The steps that are there: bool (batch, T / p)."""
    import keras

    from models.layers import TokenMask

    if options.patch > 1:
        tokens = keras.layers.Reshape((-1, options.patch), name="token_patches")(tokens)
    return TokenMask(name="mask")(tokens)


def _patched(words: Tensor, options: TextLayers) -> Tensor:
    """Words side by side: (batch, T / p, p * E)."""
    import keras

    if options.patch == 1:
        return words
    width = options.patch * words.shape[-1]
    patches = keras.layers.Reshape((-1, width), name="patches")(words)
    if not options.patch_dense:
        return patches
    patches = keras.layers.Dense(options.patch_dense, "relu", name="patch_dense")(patches)
    if options.spatial_dropout:
        dropout = keras.layers.SpatialDropout1D(options.spatial_dropout, name="patch_dropout")
        patches = dropout(patches)
    return patches


def _pooled(words: Tensor, mask: Tensor, options: TextLayers) -> Tensor:
    """What the recurrent layers make of a text: (batch, U)."""
    import keras

    from models.layers import Pooling, StateAttention

    of_each_step = set(options.pooling) & {"mean", "max"}
    encoded = architectures.encode(words, options, mask=mask, every_step=bool(of_each_step))
    pooled = []
    for kind in options.pooling:
        if kind == "last":
            pooled.append(encoded.summary)
        else:
            pooled.append(Pooling(kind, name=kind)(encoded.sequence, mask=mask))
    if options.attention is not None:
        attention = StateAttention(options.attention, name="attention")
        pooled.append(attention(encoded.summary, encoded.sequence, states_mask=mask))
    outputs = keras.layers.Concatenate(name="known")(pooled) if len(pooled) > 1 else pooled[0]
    if options.pooled_dropout:
        outputs = keras.layers.Dropout(options.pooled_dropout, name="pooled_dropout")(outputs)
    return outputs


def mean_of(networks: Sequence[keras.Model]) -> keras.Model:
    """One network that gives the mean of what several of one shape give; one stays itself."""
    import keras

    if len(networks) == 1:
        return networks[0]
    inputs = {
        tensor.name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)
        for tensor in networks[0].inputs
    }
    members = []
    for number, network in enumerate(networks, start=1):
        network.name = f"member_{number}"
        members.append(network(inputs))
    return keras.Model(inputs, keras.layers.Average(name="mean")(members), name="text")
