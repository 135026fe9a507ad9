"""Which baselines of text there are."""

from __future__ import annotations

from models.text.baselines.lexicons import LoughranMcDonald, Majority, Vader
from models.text.baselines.logistic import Logistic
from models.text.baselines.nb_svm import NBSVM

KINDS: dict[str, type[Majority | Vader | LoughranMcDonald | Logistic | NBSVM]] = {
    "majority": Majority,
    "vader": Vader,
    "loughran_mcdonald": LoughranMcDonald,
    "logistic": Logistic,
    "nb_svm": NBSVM,
}
NAMES = tuple(KINDS)
