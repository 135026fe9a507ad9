"""`lookback reproduce` for the systems of text: their trials, figures, pictures and sections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from db.clock import night
from db.sessions import sessions
from db.settings import Settings, load_settings
from flows.progress import step
from flows.reference import SESSION, reference_folder
from models.reproduction import pictures as curves
from models.reproduction.figures import Forecaster
from models.reproduction.trials import ProtocolName
from models.text import catalog, versions
from models.text.corpora import Corpus, folds
from models.text.evaluation import compare_two
from models.text.recipes import BASELINES, TextRecipe
from models.text.reproduction import page, pictures, systems
from models.text.reproduction.figures import beside_networks, measure, of_two_classes
from models.text.reproduction.neutral import NeutralBand
from models.text.reproduction.systems import TextSystem
from models.text.reproduction.trials import TextOutcome, TextTrial, run
from models.text.spans import Part, TextSpans, joined, split
from models.text.vectors import Vectors
from models.training import Epoch

# What stands beside the chapter's networks under the book's protocol.
OF_THE_BOOK = ("nb_svm", "logistic")
SENTENCES, TWEETS = "financial_phrasebank", "twitter_financial_news"
FIXED_FOLD = 0


@dataclass
class TextRun:
    """The systems of text, one after the other; corpora are read once.

    Attributes
    ----------
    settings : of a store of its own, whose corpora are the reference data.
    vectors_in : whose folder of corpora is looked into for word vectors first.
    root : folder of all trials.
    pictures_in : folder of the pictures.
    setup : what it is made with, one sentence.
    """

    settings: Settings
    vectors_in: Settings
    root: Path
    pictures_in: Path
    setup: str
    parts: dict[tuple[str, int | None], Part] = field(default_factory=dict)
    vectors: dict[str, tuple[str, Vectors | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, home: Path, output: Path, setup: str) -> TextRun:
        """With the reference data as corpora.

        Parameters
        ----------
        settings : of whoever asks.
        home : folder of trials and of what is read once.
        output : folder of the pictures.
        setup : for the sections.
        """
        own = load_settings(home=home / "texts", profile="files", corpora=reference_folder())
        return cls(own, settings, home / "trials", output, setup)

    @property
    def cutoff(self) -> datetime:
        """Up to when things are known."""
        return night(self.settings, sessions(self.settings.calendar), SESSION).cutoff

    def section(self, system: TextSystem) -> str:
        """Run a system and say what came of it."""
        made = {systems.REVIEWS: self._reviews, systems.FINANCE: self._finance}
        return made.get(system.name, self._book)(system)

    # ------------------------------------------------------------------- the book's protocol

    def _book(self, system: TextSystem) -> str:
        recipe = system.networks[0]
        spans = self._spans(recipe, system.most_texts)
        outcomes = [
            *self._baselines("book", recipe, spans, OF_THE_BOOK),
            *self._seeds("book", recipe, system),
        ]
        outcomes.sort(key=lambda outcome: outcome.trial.is_baseline)
        measured = self._measured(system, "book", outcomes, [spans.test] * len(outcomes))
        files = {"loss by epoch, the book's protocol": f"{system.name}_loss.png"}
        with step(f"{system.name}: pictures"):
            self._draw_losses(outcomes, next(iter(files.values())))
        parts = page.book_parts(system, measured, outcomes[0].manifest, systems.REVIEWS)
        return self._text(system, files, parts)

    # ------------------------------------------------------------------------- film reviews

    def _reviews(self, system: TextSystem) -> str:
        improved, *_ = system.networks
        spans = self._spans(improved, system.most_texts)
        networks = [self._seeds("honest", recipe, system) for recipe in system.networks]
        baselines = self._baselines("honest", improved, spans, BASELINES)
        outcomes = [*(each for seeds in networks for each in seeds), *baselines]
        tests = [spans.test] * len(outcomes)
        measured = self._measured(system, "honest", outcomes, tests)
        nb_svm = next(each for each in baselines if each.trial.recipe.variant == "nb_svm")
        test = spans.test
        with step(f"{system.name}: against NB-SVM"):
            theirs = nb_svm.probabilities
            of_two = [
                (
                    each.manifest.seed,
                    compare_two(each.probabilities, theirs, test.labels, test.classes),
                )
                for each in networks[0]
            ]
        files = {
            "loss by epoch, honest": f"{system.name}_loss.png",
            "what is said and what is so": f"{system.name}_reliability.png",
        }
        with step(f"{system.name}: pictures"):
            loss, reliability = files.values()
            self._draw_losses(outcomes, loss)
            shown = {each.trial.label: each.probabilities for each in reversed(outcomes)}
            shown = {label: shown[label] for label in measured if label in shown}
            pictures.reliability_and_roc(shown, test, self.pictures_in / reliability)
        label = networks[0][0].trial.label
        manifests = [seeds[0].manifest for seeds in networks]
        parts = page.reviews_parts(system, measured, label, of_two, manifests)
        return self._text(system, files, parts)

    # ------------------------------------------------------------------------------ finance

    def _finance(self, system: TextSystem) -> str:
        recipe = system.networks[0]
        of_films = self._films(system)
        whole = self._whole(SENTENCES, system.most_texts)
        splits = folds(whole)[: system.folds]
        several = [
            self._with_baselines(recipe, self._of_fold(recipe, fold, system), f"fold{number}")
            for number, fold in enumerate(splits, 1)
        ]
        alone = recipe.with_changes(corpora=(TWEETS,), start=(), start_epochs=0)
        spans = self._spans(alone, system.most_texts)
        of_tweets = self._with_baselines(alone, spans, "tweets")

        tests = [away for _, away in splits]
        fixed = measure(several[FIXED_FOLD], [tests[FIXED_FOLD]] * len(several[FIXED_FOLD]))
        every = [each for outcomes in several for each in outcomes]
        by_fold = measure(every, [t for t, own in zip(tests, several, strict=True) for _ in own])
        tweets = measure(of_tweets, [spans.test] * len(of_tweets))

        with step(f"{system.name}: the network of films"):
            label = f"{of_films.trial.label}, of films"
            bands: dict[str, Sequence[NeutralBand]] = {}
            beside = []
            for name, measured, pairs in (
                ("on the fixed split", fixed, splits[:1]),
                ("in the folds", by_fold, splits),
                ("on the tweets", tweets, [(spans.for_baseline().train, spans.test)]),
            ):
                scored, bands[name] = self._scored_by(of_films, label, pairs)
                beside.append(beside_networks(measured, scored))
            fixed, by_fold, tweets = beside
        files = {
            "loss by epoch, on the folds": f"{system.name}_loss.png",
            "the fixed split: what is taken for what": f"{system.name}_confusion.png",
        }
        with step(f"{system.name}: pictures"):
            loss, confusion = files.values()
            self._draw_losses(every, loss)
            shown = [several[FIXED_FOLD][0].trial.label, label, "logistic", "vader"]
            matrices = {each: np.array(fixed[each].metrics[0]["confusion"]) for each in shown}
            pictures.confusions(matrices, recipe.classes, self.pictures_in / confusion)
        parts = page.finance_parts(
            system,
            fixed,
            by_fold,
            tweets,
            page.Bands(label, bands),
            (several[FIXED_FOLD][0].manifest, of_tweets[0].manifest),
        )
        return self._text(system, files, parts)

    def _films(self, system: TextSystem) -> TextOutcome:
        """The improved network of film reviews, its first seed."""
        films = systems.TEXT_SYSTEMS[systems.REVIEWS]
        if system.most_texts is not None:
            films = systems.quick(films)
        return next(iter(self._seeds("honest", films.networks[0], films, seeds=1)))

    def _of_fold(self, recipe: TextRecipe, fold: Part, system: TextSystem) -> TextSpans:
        """Spans of a recipe whose only test texts are those of a fold."""
        parts = []
        for name in recipe.corpora:
            kept, away = fold if name == SENTENCES else self._parts(name, system.most_texts)
            parts.append((kept, away if name == SENTENCES else away.take(slice(0, 0))))
        start = [self._parts(name, system.most_texts) for name in recipe.start]
        return split(recipe, parts, start)

    def _with_baselines(self, recipe: TextRecipe, spans: TextSpans, part: str) -> list[TextOutcome]:
        return [
            self._trial(TextTrial("honest", recipe, part), spans),
            *self._baselines("honest", recipe, spans, BASELINES, part),
        ]

    def _scored_by(
        self, films: TextOutcome, label: str, pairs: Sequence[Part]
    ) -> tuple[Forecaster, Sequence[NeutralBand]]:
        """The network of films on financial texts, its neutral band chosen on those to learn from.

        Parameters
        ----------
        films : the network.
        label : what it is called here.
        pairs : to learn from and to be measured on.
        """
        version = versions.load_folder(films.folder)

        def positive(corpus: Corpus) -> npt.NDArray[np.float32]:
            return version.probabilities(corpus.texts)[:, -1]

        scored = [(positive(kept), kept, positive(away), away) for kept, away in pairs]
        return of_two_classes(label, films.manifest.parameters, scored)

    # -------------------------------------------------------------------------- all of them

    def _seeds(
        self,
        protocol: ProtocolName,
        recipe: TextRecipe,
        system: TextSystem,
        seeds: int | None = None,
    ) -> list[TextOutcome]:
        found = []
        for number in range(seeds or system.seeds):
            one = recipe.with_changes(seed=recipe.seed + number)
            found.append(self._trial(TextTrial(protocol, one), self._spans(one, system.most_texts)))
        return found

    def _baselines(
        self,
        protocol: ProtocolName,
        recipe: TextRecipe,
        spans: TextSpans,
        names: Iterable[str],
        part: str = "",
    ) -> list[TextOutcome]:
        return [
            self._trial(TextTrial(protocol, recipe.baseline(name), part), spans) for name in names
        ]

    def _trial(self, trial: TextTrial, spans: TextSpans) -> TextOutcome:
        recipe, vectors = self._vectors(trial.recipe)
        trial = TextTrial(trial.protocol, recipe, trial.part)
        with step(f"{recipe.model}, {trial.protocol}: {trial.name}") as shown:

            def on_epoch(epoch: Epoch) -> None:
                losses = f"loss {epoch.loss:.4g}, validation {epoch.val_loss:.4g}"
                shown.move(epoch.epoch, epoch.max_epochs, f"epoch {epoch.epoch}: {losses}")

            outcome = run(trial, spans, self.root, vectors, on_epoch)
            found = outcome.manifest.metrics
            if found.get("auc") is not None:
                shown.detail = f"AUC {found['auc']:.4f}, accuracy {found['accuracy']:.4f}"
            return outcome

    def _vectors(self, recipe: TextRecipe) -> tuple[TextRecipe, Vectors | None]:
        """A recipe with the word vectors that there are for it."""
        if recipe.vectors is None:
            return recipe, None
        if recipe.vectors not in self.vectors:
            file = self.vectors_in.corpora_folder / f"{recipe.vectors}.txt"
            settings = self.vectors_in if file.exists() else self.settings
            with step(f"word vectors {recipe.vectors}"):
                own, found = catalog.with_vectors(settings, recipe, self.cutoff)
                assert own.vectors is not None
                self.vectors[recipe.vectors] = own.vectors, found
        name, vectors = self.vectors[recipe.vectors]
        return recipe.with_changes(vectors=name), vectors

    def _spans(self, recipe: TextRecipe, most: int | None) -> TextSpans:
        return split(
            recipe,
            [self._parts(name, most) for name in recipe.corpora],
            [self._parts(name, most) for name in recipe.start],
        )

    def _parts(self, name: str, most: int | None) -> Part:
        """A corpus, what is learned from and what is measured on, so many texts of each."""
        if (name, most) not in self.parts:
            with step(f"texts of {name}"):
                kept, away = catalog.read_parts(self.settings, name)
                self.parts[name, most] = _some(kept, most), _some(away, most)
        return self.parts[name, most]

    def _whole(self, name: str, most: int | None) -> Corpus:
        """Both parts of a corpus together."""
        parts = self._parts(name, most)
        return joined(parts, parts[0].classes).called(name)

    def _measured(
        self,
        system: TextSystem,
        protocol: ProtocolName,
        outcomes: Sequence[TextOutcome],
        tests: Sequence[Corpus],
    ) -> dict[str, Forecaster]:
        with step(f"{system.name}, {protocol}: figures"):
            return measure(outcomes, tests)

    def _draw_losses(self, outcomes: Sequence[TextOutcome], file: str) -> None:
        networks: dict[str, list[Path]] = {}
        for outcome in outcomes:
            if not outcome.trial.is_baseline:
                networks.setdefault(outcome.trial.label, []).append(outcome.folder)
        curves.loss_curves(networks, self.pictures_in / file)

    def _text(self, system: TextSystem, files: dict[str, str], parts: Iterator[str]) -> str:
        shown = {caption: f"{self.pictures_in.name}/{file}" for caption, file in files.items()}
        return page.TextSection(system, self.setup, shown).text(parts)


def _some(corpus: Corpus, most: int | None) -> Corpus:
    """So many texts of a corpus, evenly chosen; all if `most` is None."""
    if most is None or len(corpus) <= most:
        return corpus
    return corpus.take(np.linspace(0, len(corpus) - 1, most).astype("intp"))
