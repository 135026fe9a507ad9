"""Fitted baselines as files: JSON, and the trees of boosting as skops. No pickle."""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from dataclasses import fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from db.errors import RegistryError
from models.baselines.baseline import Baseline
from models.baselines.boosting import Boosting, estimator_of
from models.baselines.catalog import KINDS, NAMES

FORMAT = "lookback-baseline-1"
DOCUMENT = "baseline.json"
ESTIMATOR = "boosting.skops"
# What a file of trees holds beside what skops trusts of scikit-learn itself.
TRUSTED = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
NOT_LEARNED = {"name", "task", "estimator"}


def save(baseline: Baseline, folder: Path) -> tuple[str, ...]:
    """Write a baseline into a folder that exists; names of the files written."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "name": baseline.name,
        "task": baseline.task,
        "learned": _learned(baseline),
    }
    files: tuple[str, ...] = (DOCUMENT,)
    if isinstance(baseline, Boosting):
        import sklearn
        import skops.io

        document["scikit-learn"] = sklearn.__version__
        skops.io.dump(baseline.estimator, folder / ESTIMATOR)
        files = (DOCUMENT, ESTIMATOR)
    text = json.dumps(document, indent=1, allow_nan=False)
    (folder / DOCUMENT).write_text(text + "\n", encoding="utf-8")
    return files


def load(folder: Path) -> Baseline:
    """Read a baseline back, without running code from its files.

    Parameters
    ----------
    folder : Path
        As `save` left it; other files in it are not looked at.

    Raises
    ------
    RegistryError
        A file is missing, or is not one that `save` writes.
    """
    path = folder / DOCUMENT
    document = read_document(path, FORMAT)
    name, task = str(document.get("name")), str(document.get("task"))
    if (task, name) not in {(task, name) for task, names in NAMES.items() for name in names}:
        raise refused(path, f"is of an unknown baseline {name!r} for task {task!r}")
    kind = KINDS[name]
    try:
        given = {"name": name, "task": task, **_checked(kind, document.get("learned"))}
        if kind is Boosting:
            given["estimator"] = _estimator(folder / ESTIMATOR, document)
        baseline: Baseline = kind(**given)
    except ValueError as error:
        raise refused(path, f"does not hold what {name} learns ({error})") from None
    return baseline


def read_document(path: Path, form: str) -> dict[str, Any]:
    """What a baseline's JSON file says.

    Parameters
    ----------
    path : of the file.
    form : name of the format that it must have.

    Raises
    ------
    RegistryError
        The file is missing, or of another format.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise refused(path, "is missing") from None
    except (ValueError, OSError, RecursionError) as error:
        raise refused(path, f"cannot be read ({type(error).__name__})") from None
    if not isinstance(document, dict) or document.get("format") != form:
        raise refused(path, f"is no baseline of format {form}")
    return document


def weights_sha256(baseline: Baseline) -> str:
    """Hash of what was learned: equal for equal fits, which the files' hashes need not be."""
    digest = hashlib.sha256(json.dumps(_learned(baseline), sort_keys=True).encode())
    if isinstance(baseline, Boosting):
        for nodes in baseline.nodes:
            for field in nodes.dtype.names:
                digest.update(nodes[field].tobytes())
    return digest.hexdigest()


def _learned(baseline: Baseline) -> dict[str, Any]:
    names = [field.name for field in fields(baseline)]  # type: ignore[arg-type]
    return {name: getattr(baseline, name) for name in names if name not in NOT_LEARNED}


def _checked(kind: type[Any], learned: object) -> dict[str, Any]:
    """The fields of a baseline, of the types that it declares.

    Raises
    ------
    ValueError
        Other fields, or other types.
    """
    declared = {field.name: field.type for field in fields(kind) if field.name not in NOT_LEARNED}
    if not isinstance(learned, dict) or learned.keys() != declared.keys():
        raise ValueError("it lacks fields or has unknown ones")
    return {name: _typed(learned[name], str(type_)) for name, type_ in declared.items()}


def _typed(value: Any, declared: str) -> Any:
    """A value of JSON as `int`, `float`, `bool`, or a tuple of these."""
    if declared.startswith("tuple["):
        if not isinstance(value, list):
            raise ValueError("a list is missing")
        inner = declared.removeprefix("tuple[").removesuffix(", ...]")
        return tuple(_typed(each, inner) for each in value)
    if type(value).__name__ != declared or (declared == "float" and not math.isfinite(value)):
        raise ValueError(f"{reprlib.repr(value)} is no {declared}")
    return value


def _estimator(path: Path, document: dict[str, Any]) -> Any:
    """The trees of boosting, of this version of scikit-learn and of nothing but trusted types."""
    import sklearn
    import skops.io

    written = document.get("scikit-learn")
    if _minor(written) != _minor(sklearn.__version__):
        raise refused(path, f"is of scikit-learn {written}, this is {sklearn.__version__}")
    try:
        estimator = skops.io.load(path, trusted=list(TRUSTED))
    except FileNotFoundError:
        raise refused(path, "is missing") from None
    # of a foreign file anything may be wrong; types that are not trusted are a TypeError
    except (
        BadZipFile,
        OSError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ImportError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise refused(path, f"cannot be read safely ({reason})") from None
    columns = document["learned"]["columns"]
    if type(estimator) is not estimator_of(document["task"]) or estimator.n_features_in_ != columns:
        raise refused(path, f"does not hold the trees of {DOCUMENT}")
    return estimator


def _minor(version: object) -> list[str]:
    return str(version).split(".")[:2]


def refused(path: Path, reason: str) -> RegistryError:
    """The error for a file that is not what it should be."""
    return RegistryError(f"{path} {reason}; roll back to another version or train it again")
