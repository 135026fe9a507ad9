"""What the page of results says of systems of text, made from what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.artefacts import Manifest
from models.reproduction.figures import Forecaster
from models.reproduction.page import (
    Aim,
    Column,
    aims_text,
    forecasters_table,
    pictures_text,
    table,
)
from models.text.reproduction.neutral import NeutralBand
from models.text.reproduction.systems import TextSystem

Metrics = dict[str, Any]
Forecasters = Mapping[str, Forecaster]

AUC = (Column("AUC", "auc", 4), Column("its 90 % interval", ("auc_low", "auc_high"), 4))
ACCURACY = (
    Column("accuracy", "accuracy", 4),
    Column("its 90 % interval", ("accuracy_low", "accuracy_high"), 4),
)
MACRO_F1 = (
    Column("macro F1", "macro_f1", 4),
    Column("its 90 % interval", ("macro_f1_low", "macro_f1_high"), 4),
)
SURENESS = (
    Column("log-loss", "log_loss", 4),
    Column("calibration error", "calibration_error"),
)
EPOCH = Column("epoch kept", "best_epoch", 1)
RATINGS = (
    Column("mean absolute error, stars", "ratings.mae"),
    Column("of always saying the median", "ratings.mae_of_median"),
    Column("quadratic weighted kappa", "ratings.kappa"),
)
# Of several folds: the bootstrap of one says less than what differs between them.
OVER_FOLDS = (ACCURACY[0], MACRO_F1[0], AUC[0], *SURENESS)

# The aims of the improved networks.
REVIEWS_AUC, REVIEWS_ACCURACY = 0.97, 0.92
FINANCE_ACCURACY, FINANCE_MACRO_F1 = 0.80, 0.77


@dataclass(frozen=True)
class TextSection:
    """One system of text on the page.

    Attributes
    ----------
    system : what it is.
    setup : what it was made with, one sentence.
    pictures : caption -> file name beside the page.
    """

    system: TextSystem
    setup: str
    pictures: Mapping[str, str]

    def text(self, parts: Iterator[str]) -> str:
        """The section: what the system is, the parts, pictures."""
        system = self.system
        head = [
            f"## {system.title}",
            f"`{system.name}`. {system.held_against}",
            self.setup,
            f"**What that number measures.** {system.measures}",
        ]
        return "\n\n".join([*head, *parts, *pictures_text(self.pictures)])


# ----------------------------------------------------------------------- the book's protocol


def book_parts(
    system: TextSystem, measured: Forecasters, chapter: Manifest, honest_in: str
) -> Iterator[str]:
    """The book's protocol: the chapter's network, and what it does not beat.

    Parameters
    ----------
    system : TextSystem
    measured : by label, of the test texts that were watched.
    chapter : manifest of the network's first seed.
    honest_in : name of the system whose section has the honest protocol.
    """
    yield f"### The book's protocol\n\n{_spans(chapter)} {system.note}{_vectors(chapter)}"
    yield forecasters_table(measured.values(), (*AUC, *ACCURACY[:1], *SURENESS, EPOCH))
    network = next(each for each in measured.values() if not each.is_baseline)
    yield aims_text(
        "### Aim of the book's protocol",
        [Aim(f"mean AUC at least {system.aim}", network.mean("auc"), system.aim, True)],
    )
    yield f"The same network under the honest protocol: `{honest_in}`."
    yield _sources([chapter])


def _vectors(manifest: Manifest) -> str:
    """Which word vectors a network has."""
    name = manifest.recipe["vectors"]
    if name is None:
        return ""
    return f" Word vectors: {name}, {manifest.shape['vectors']} dimensions" + (
        "." if manifest.shape["vectors"] >= BOOK_DIMENSIONS else ", the widest that were there."
    )


BOOK_DIMENSIONS = 100


# --------------------------------------------------------------------------- film reviews


def reviews_parts(
    system: TextSystem,
    measured: Forecasters,
    improved: str,
    of_two: Sequence[tuple[int, Metrics]],
    manifests: Sequence[Manifest],
) -> Iterator[str]:
    """The honest protocol of film reviews: all networks and baselines in one table.

    Parameters
    ----------
    system : TextSystem
    measured : by label.
    improved : label of the improved network.
    of_two : seed, and the improved network against NB-SVM (`models.text.evaluation.compare_two`).
    manifests : of each network's first seed.
    """
    yield f"### Honest\n\n{_spans(manifests[0])} {system.note}"
    yield forecasters_table(measured.values(), (*AUC, *ACCURACY, *SURENESS))
    mixed = _mixture(manifests[0])
    if mixed:
        yield f"**{improved}** is {mixed}; *alone* it is the network without it."
    starred = [each for each in measured.values() if each.mean("ratings.mae") is not None]
    if starred:
        yield (
            "A finer scale, expected stars from 1 to 10:\n\n" + forecasters_table(starred, RATINGS)
        )
    yield _of_two(improved, of_two)
    yield aims_text("### Aims of the improved network", reviews_aims(measured, improved))
    yield _sources(manifests)


def reviews_aims(measured: Forecasters, improved: str) -> list[Aim]:
    """What the improved network was meant to reach on film reviews."""
    auc, accuracy = (measured[improved].mean(key) for key in ("auc", "accuracy"))
    found = [
        Aim(f"AUC at least {REVIEWS_AUC}", auc, REVIEWS_AUC, True),
        Aim(f"accuracy at least {REVIEWS_ACCURACY}", accuracy, REVIEWS_ACCURACY, True),
    ]
    for each in (measured["nb_svm"], measured["logistic"]):
        found += [
            Aim(f"AUC above {each.label}'s", auc, each.mean("auc"), True),
            Aim(f"accuracy above {each.label}'s", accuracy, each.mean("accuracy"), True),
        ]
    return found


def _of_two(improved: str, of_two: Sequence[tuple[int, Metrics]]) -> str:
    rows = [
        [
            str(seed),
            f"{found['only_first']:,}",
            f"{found['only_second']:,}",
            f"{found['accuracy_difference']:.4f}",
            f"{found['mcnemar_p']:.3g}",
            f"{found['auc_difference']:.4f} ({found['auc_difference_low']:.4f} to "
            f"{found['auc_difference_high']:.4f})",
        ]
        for seed, found in of_two
    ]
    heads = (
        *("seed", "only it is right", "only NB-SVM is right", "accuracy, difference"),
        *("McNemar's exact p", "AUC, difference and 90 % interval"),
    )
    return f"**{improved}** against NB-SVM on the same texts:\n\n{table(heads, rows)}"


def _mixture(manifest: Manifest) -> str:
    blend = (manifest.encoding or {}).get("blend")
    if not blend:
        return ""
    name, members = blend["name"], manifest.recipe["members"]
    several = f", the mean of {members} that differ in their seed," if members > 1 else ""
    return (
        f"the network{several} mixed with {name}, by weights that the validation texts choose "
        f"(network {blend['network_weight']:.3g}, {name} {blend['baseline_weight']:.3g} with seed "
        f"{manifest.seed})"
    )


# ------------------------------------------------------------------------------- finance


@dataclass(frozen=True)
class Bands:
    """Between which probabilities a model of two classes says neutral: name of what -> bands."""

    label: str
    of: Mapping[str, Sequence[NeutralBand]]


def finance_parts(
    system: TextSystem,
    fixed: Forecasters,
    folds: Forecasters,
    tweets: Forecasters,
    bands: Bands,
    manifests: tuple[Manifest, Manifest],
) -> Iterator[str]:
    """Financial PhraseBank by a fixed split and by folds, and Twitter Financial News.

    Parameters
    ----------
    system : TextSystem
    fixed, folds, tweets : what was measured, by label.
    bands : of the network that has learned from films.
    manifests : of the network on the fixed split, and on the tweets.
    """
    columns = (*ACCURACY, *MACRO_F1, *SURENESS)
    of_sentences, of_tweets = manifests
    yield (
        "### Financial PhraseBank, a fixed split 80/20\n\n"
        f"{_spans(of_sentences)} {_before(of_sentences)}{system.note}"
    )
    yield forecasters_table(fixed.values(), columns)
    mixed = _mixture(of_sentences)
    if mixed:
        yield f"The one of finance is {mixed}; *alone* it is the network without it."
    count = max(len(each.metrics) for each in folds.values())
    yield (
        f"### Financial PhraseBank, {count} folds\n\nThe test part of the fixed split is the first "
        "fold; each sentence is measured on once. Mean ± standard deviation over the folds, of "
        "baselines too."
    )
    yield forecasters_table(folds.values(), OVER_FOLDS, "fold")
    yield (
        "### Twitter Financial News, a fixed split 80/20\n\n"
        f"{_spans(of_tweets)} The same network learned from tweets alone."
    )
    yield forecasters_table(tweets.values(), columns)
    said = "; ".join(
        f"{name} " + ", ".join(f"{band.low:.3f} to {band.high:.3f}" for band in several)
        for name, several in bands.of.items()
    )
    yield f"**{bands.label}** says neutral between these probabilities of positive: {said}."
    yield aims_text("### Aims of the improved network", finance_aims(fixed, folds))
    yield _sources(manifests)


def finance_aims(fixed: Forecasters, folds: Forecasters) -> list[Aim]:
    """What the network of financial texts was meant to reach on Financial PhraseBank."""
    found = []
    for name, measured in (("the fixed split", fixed), ("the folds, mean", folds)):
        network = next(each for each in measured.values() if not each.is_baseline)
        for words, key, target in (
            ("accuracy", "accuracy", FINANCE_ACCURACY),
            ("macro F1", "macro_f1", FINANCE_MACRO_F1),
        ):
            text = f"{words} at least {target:.2f} on {name}"
            found.append(Aim(text, network.mean(key), target, True))
    return found


def _before(manifest: Manifest) -> str:
    start = manifest.spans.get("start")
    if start is None:
        return ""
    names = " and ".join(manifest.recipe["start"])
    return f"Before, the network learned from {start['texts']:,} texts of {names}. "


# ----------------------------------------------------------------------------- all of them


def _spans(manifest: Manifest) -> str:
    train, validation, test = (
        manifest.spans[name]["texts"] for name in ("train", "validation", "test")
    )
    if not manifest.recipe["validation"]:
        return f"Learned from {train:,} texts; stopped and measured on {test:,}."
    return f"Learned from {train:,} texts, stopped on {validation:,}; test {test:,} texts."


def _sources(manifests: Sequence[Manifest]) -> str:
    """A line for each corpus: where it comes from, what may be done with it."""
    corpora = {each["name"]: each for manifest in manifests for each in manifest.spans["corpora"]}
    lines = [f"- {each['source']}: {each['licence']}." for each in corpora.values()]
    return "Texts, of which neither they nor weights are shipped:\n\n" + "\n".join(lines)
