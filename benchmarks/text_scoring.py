"""Documents a second that a text version scores, beside `model.predict` and a plain loop.

    python -m benchmarks.text_scoring [--rounds 3]

The network that scores financial text (first recipe of `text_sentiment_finance`), written and
loaded as an artefact, on two cores; its words are those of the headlines, its weights random,
which changes no speed. Real texts: the headlines of Twitter Financial News, over and over, and
StockNet's tweets. Ours begins with the text and ends with probabilities; `predict` and the loop
are given the tokens, all padded to the length that the network was trained with, as it would be
used without anything else. Each round takes every side in turn; the best round of each counts, and
ratios are to `predict` at its default batch of 32. The floor is what the matrix products alone
would take at the speed of a large one, every token counted and no padding.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.reference import reference_folder
from benchmarks.scoring import CORES, predictor, sgemm_flops
from flows.display import print_table
from models import artefacts, backend, onnx_graph
from models import training as runs
from models.text import baselines, catalog, corpora, training, versions
from models.text.corpora import Corpus
from models.text.encoding import TextEncoding
from models.text.networks import build, mean_of
from models.text.recipes import TextRecipe
from models.text.spans import TextSpans, split
from models.text.vectors import packaged

if TYPE_CHECKING:
    import keras

MODEL = "text_sentiment_finance"
DOCUMENTS, PREDICTED, LOOPED = 100_000, 2_048, 8
DEFAULT = "predict, batch 32"


@dataclass
class Side:
    """One way to score, and what its rounds took.

    Attributes
    ----------
    score : from the documents of a round to their probabilities (n, k).
    documents : in a round.
    seconds, processor : of each round; a second of processor time is of all threads together,
        and says more than one of the clock where other processes take the cores.
    """

    name: str
    score: Callable[[], Any]
    documents: int
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    outputs: Any = None

    def run(self) -> None:
        """One round."""
        began, used = time.perf_counter(), time.process_time()
        self.outputs = self.score()
        self.seconds.append(time.perf_counter() - began)
        self.processor.append(time.process_time() - used)

    @property
    def rates(self) -> list[float]:
        """Documents a second of each round."""
        return [self.documents / seconds for seconds in self.seconds]

    @property
    def rate_of_processor(self) -> float:
        """Documents a second of processor time, the best round."""
        return self.documents / min(self.processor)


def write_version(folder: Path, recipe: TextRecipe, spans: TextSpans) -> keras.Model:
    """A version as a training would have left it, with random weights; its network."""
    vectors = packaged() if recipe.vectors is not None else None
    tokens = training.fit_tokens(recipe, spans, vectors)
    encoding = TextEncoding.fit(recipe, tokens, spans.train.texts)
    given = training.given_vectors(recipe, tokens, vectors)
    shape = training.shape_of(recipe, encoding, given, len(recipe.classes))
    network = mean_of([build(shape, recipe.layers, given) for _ in range(recipe.members)])
    network.save(folder / artefacts.NETWORK)
    onnx_graph.export(network, folder / artefacts.GRAPH)
    runs.write_json(folder / versions.ENCODING, encoding.to_json())
    described: dict[str, Any] = {"outputs": len(recipe.classes), "levels": [], "blend": None}
    files = [artefacts.NETWORK, artefacts.GRAPH, versions.ENCODING]
    if recipe.blend is not None:
        files += baselines.save(baselines.fit(recipe.blend, spans.train), folder)
        weights = {"network_weight": 0.5, "baseline_weight": 0.5}
        described["blend"] = {"name": recipe.blend, **weights}
    manifest = artefacts.Manifest(
        kind="network",
        **training.lineage(recipe, spans, encoding.tokens.version),
        shape=asdict(shape),
        trained_labels_known_at=spans.labels_known_at.isoformat(),
        backend=backend.described(),
        parameters=network.count_params(),
        epochs=0,
        best_epoch=0,
        layers=[],
        metrics={},
        baselines={},
        quantiles=None,
        gives_probability=True,
        encoding=described,
        versions=backend.versions(),
        weights_sha256="",
        files=runs.hashes(folder, files),
    )
    artefacts.write_manifest(folder, manifest)
    return network


def with_default_layers(network: keras.Model) -> keras.Model:
    """The same network of layers as Keras makes them if nobody asks for anything else.

    Ours decline the fused GPU kernel, so that XLA compiles them (`models.backend`).
    """
    config = json.dumps(network.get_config()).replace('"use_cudnn": false', '"use_cudnn": "auto"')
    copy = type(network).from_config(json.loads(config))
    copy.set_weights(network.get_weights())
    return copy


def one_by_one(network: keras.Model, inputs: dict[str, Any]) -> Any:
    """A plain loop: the network is called with one document at a time."""
    import keras

    given = []
    for row in range(LOOPED):
        document = {name: array[row : row + 1] for name, array in inputs.items()}
        given.append(keras.ops.convert_to_numpy(network(document, training=False)))
    return np.concatenate(given)


def flops(network: keras.Model, tokens: float) -> float:
    """Multiplications and additions of the matrix products of a text of so many tokens."""
    import keras

    work = 0.0
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            work += flops(layer, tokens)
        elif layer.name.startswith(("recurrent", "dense", "output")):
            products = sum(weights.size for weights in layer.get_weights() if weights.ndim == 2)
            work += 2 * products * (tokens if layer.name.startswith("recurrent") else 1)
    return work


def sides_of(
    version: versions.TextVersion, network: keras.Model, texts: Sequence[str]
) -> list[Side]:
    """All ways to score the same texts."""
    assert isinstance(version.scorer, versions.TextNetwork)
    encoding, alone = version.scorer.encoding, replace(version.scorer, blend=None)
    assert version.scorer.blend is not None
    baseline = version.scorer.blend.baseline
    inputs = encoding.inputs(texts[:PREDICTED])
    default = with_default_layers(network)
    return [
        Side("ours, text to probabilities", lambda: version.probabilities(texts), len(texts)),
        Side("ours, the network alone", lambda: alone.probabilities(texts), len(texts)),
        Side("ours, the baseline alone", lambda: baseline.probabilities(texts), len(texts)),
        Side("ours, tokens only", lambda: encoding.tokens.ragged(texts), len(texts)),
        Side(DEFAULT, lambda: predictor(default, 32)(inputs), PREDICTED),
        Side("predict, batch 1,024", lambda: predictor(default, 1_024)(inputs), PREDICTED),
        Side("one document a call", lambda: one_by_one(default, inputs), LOOPED),
    ]


def headlines(folder: Path) -> Corpus:
    """The headlines of the reference data."""
    return corpora.twitter_news(folder / "twitter_financial_news.csv")


def tweets(folder: Path) -> list[str]:
    """StockNet's tweets."""
    import pyarrow.parquet as pq

    texts = pq.read_table(folder / "stock_tweets_2014_2015.parquet", columns=["text"])
    return [str(text) for text in texts.column(0).to_pylist()]


def _figure(rate: float) -> float:
    return round(rate) if rate >= 100 else round(rate, 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    folder = reference_folder()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    load = os.getloadavg()[0]
    backend.configure(CORES)
    corpus = headlines(folder)
    repeated = list(corpus.texts) * (-(-DOCUMENTS // len(corpus)))
    of_texts = {"headlines": repeated, "tweets": tweets(folder)}
    recipe = catalog.recipe(MODEL)
    spans = split(
        recipe.with_changes(corpora=(corpus.name,), start=(), start_epochs=0),
        [corpora.split_off(corpus)],
    )
    with tempfile.TemporaryDirectory(prefix="lookback-") as scratch:
        network = write_version(Path(scratch), recipe, spans)
        version = versions.load_folder(Path(scratch))
    speed = sgemm_flops()
    for name, texts in of_texts.items():
        sides = sides_of(version, network, texts)
        for side in sides:  # graphs are traced and threads started
            side.score()
        for _ in range(rounds):
            for side in sides:
                side.run()
        default = next(side for side in sides if side.name == DEFAULT)
        print_table(
            [
                "scored by",
                "documents",
                "a second, best",
                "median",
                "least",
                "a processor second",
                "times, best",
                "times, processor",
            ],
            [
                (
                    side.name,
                    side.documents,
                    _figure(max(side.rates)),
                    _figure(median(side.rates)),
                    _figure(min(side.rates)),
                    _figure(side.rate_of_processor),
                    max(side.rates) / max(default.rates),
                    side.rate_of_processor / default.rate_of_processor,
                )
                for side in sides
            ],
            f"{name}: {network.count_params():,} parameters, {CORES} cores, {rounds} rounds, "
            f"{backend.described()}",
        )
        difference = np.abs(sides[1].outputs[:PREDICTED] - default.outputs).max()
        print(f"largest difference of a probability from Keras': {difference:.1e}")
        assert isinstance(version.scorer, versions.TextNetwork)
        cut = version.scorer.encoding.tokens.ragged(texts)
        length = float(np.minimum(cut.lengths, recipe.length).mean())
        work = flops(network, length)
        print(
            f"floor: {length:.1f} tokens and {work / 1e6:,.2f} MFLOP a document, sgemm "
            f"{speed / 1e9:,.0f} GFLOP/s: at most {speed / work:,.0f} documents/s, of which the "
            f"network does {100 * max(sides[1].rates) * work / speed:.0f} %"
        )
    print(f"other processes' load on the machine at the start: {load:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
