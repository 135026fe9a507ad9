"""The systems of text: the chapter's two, what is better at films, and what users need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from models.text import catalog
from models.text.corpora import FOLDS
from models.text.recipes import TextRecipe

LEARNED, GLOVE = "text_sentiment_learned", "text_sentiment_glove"
REVIEWS, FINANCE = "text_sentiment_reviews", "text_sentiment_finance"

# Of a quick reproduction: texts of each part of a corpus, epochs, folds.
QUICK_TEXTS, QUICK_EPOCHS, QUICK_FOLDS = 300, 1, 2
# Tokens of a text, and words that have a row for their vectors' sake then.
QUICK_LENGTH, QUICK_WORDS = 64, 1_000


@dataclass(frozen=True)
class TextSystem:
    """One system of text.

    Attributes
    ----------
    name : of its model.
    title : for people.
    held_against : the book's figure, and others that were published.
    measures : one sentence: what that number really measures.
    note : what else a reader has to know.
    networks : trained under the protocol of the section, the improved one first.
    seeds : of each network.
    aim : least AUC of the book's protocol; 0 of the others.
    folds : of the cross-validation.
    most_texts : of each part of a corpus; all if left out.
    """

    name: str
    title: str
    held_against: str
    measures: str
    note: str
    networks: tuple[TextRecipe, ...]
    seeds: int
    aim: float = 0.0
    folds: int = FOLDS
    most_texts: int | None = None


# As the book trains: on all training texts, stopped on the test texts.
LEARNED_BOOK = catalog.recipe(LEARNED).with_changes(validation=0.0)
GLOVE_BOOK = catalog.recipe(GLOVE).with_changes(validation=0.0)
BOOK_RATE = 1e-3  # RMSprop's own

TEXT_SYSTEMS: Mapping[str, TextSystem] = {
    system.name: system
    for system in (
        TextSystem(
            LEARNED,
            "Film reviews, word vectors that are learned",
            "The book: test AUC 0.9346; 0.9417 in the second edition.",
            "The best of several epochs on the texts that are reported, of one seed; a linear "
            "classifier of word pairs that is stopped on nothing is better.",
            f"What is not as in the book: RMSprop has a rate of {LEARNED_BOOK.learning_rate:g}; "
            f"with {BOOK_RATE:g} this network stays below the book's figure under Keras 3, perhaps "
            "because its RMSprop averages the squared gradients of all rows of an embedding at "
            "every step, and that of TensorFlow 2 only of words that were read. The words are "
            "numbered from the texts themselves, as Keras numbers them, instead of coming "
            "numbered. The epoch that is kept has the least loss on the test texts. As in the "
            "book, 123 reviews are in both parts.",
            (LEARNED_BOOK,),
            seeds=3,
            aim=0.9346,
        ),
        TextSystem(
            GLOVE,
            "Film reviews, GloVe vectors that stay",
            "The book: test AUC 0.9106 with vectors of 100 dimensions; 0.9150 in the second "
            "edition.",
            "What word vectors of other texts tell of a review, learned from its last 100 words "
            "and stopped on the texts that are reported.",
            "What is not as in the book, beside the vectors: RMSprop has a rate of "
            f"{GLOVE_BOOK.learning_rate:g} instead of {BOOK_RATE:g}, which takes fewer epochs. The "
            "epoch that is kept has the least loss on the test texts.",
            (GLOVE_BOOK,),
            seeds=3,
            aim=0.9106,
        ),
        TextSystem(
            REVIEWS,
            "Film reviews, honestly: all networks and baselines",
            "The book: test AUC 0.9346 and 0.9106 by its own protocol. Published accuracies: "
            "NB-SVM 0.912 to 0.925, fastText with word pairs 0.906, LSTM that was a language model "
            "before 0.926 to 0.934, ULMFiT likewise 0.954.",
            "How well 25,000 reviews of other films foretell whether a review is of 7 to 10 stars "
            "or of 1 to 4; there is none between.",
            "Networks learn from the training reviews but for the part that they stop on; "
            "baselines stop on nothing and learn from all. The 123 reviews that are also in the "
            "test part are left out of the training part. The chapter's networks stop on reviews "
            "that are drawn at random, the improved one on blocks of neighbouring ones, whose "
            "films it has hardly seen. How it learns was chosen on such blocks; test figures of "
            "settings like it had been seen by then: of one network alone, before it was made the "
            "mean of several.",
            (
                *catalog.recipes(REVIEWS),
                catalog.recipe(LEARNED),
                catalog.recipe(GLOVE),
            ),
            seeds=1,
        ),
        TextSystem(
            FINANCE,
            "Financial sentences and tweets, three classes",
            "The book has no such system. FinBERT, a transformer of 110 million parameters that "
            "was a language model of financial news before: accuracy 0.86 and macro F1 0.84 on "
            "Financial PhraseBank.",
            "Whether a sentence is bad, neutral or good news for who holds the stock, as at least "
            "half of the annotators saw it.",
            "Networks learn from the training part but for the tenth or so that they stop on; "
            "baselines learn from all of it. A text stands on one side only, however often it is "
            "there. The network that has learned from films knows two classes: neutral is what "
            "lies between two probabilities, which are chosen for the best macro F1 on the "
            "training part. How the network of finance learns was chosen in folds of another "
            "training part, whose sentences are in all of the folds here, and test figures of "
            "that split had been seen: its own figures are kind by so much. What is mixed in, and "
            "that nothing pooled is dropped, was chosen in folds of the training part of the fixed "
            "split here, so that the other folds are measured on sentences that had a say in it.",
            catalog.recipes(FINANCE),
            seeds=1,
        ),
    )
}


def quick(system: TextSystem) -> TextSystem:
    """The same system on few texts, for tests: one seed, one epoch, one member."""
    networks = tuple(
        recipe.with_changes(
            max_epochs=QUICK_EPOCHS,
            start_epochs=min(recipe.start_epochs, QUICK_EPOCHS),
            members=1,
            validation_block=0,
            length=min(recipe.length, QUICK_LENGTH),
            buckets=(),
            vector_words=min(recipe.vector_words, QUICK_WORDS),
        )
        for recipe in system.networks
    )
    return replace(system, networks=networks, seeds=1, folds=QUICK_FOLDS, most_texts=QUICK_TEXTS)
