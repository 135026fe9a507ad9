"""Fitted baselines of text as files: JSON and plain arrays. No pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from db.errors import RegistryError
from models.baselines.storage import read_document, refused
from models.text.baselines.baseline import TextBaseline
from models.text.baselines.catalog import KINDS

FORMAT = "lookback-text-baseline-1"
DOCUMENT = "text_baseline.json"
ARRAYS = "text_baseline.npz"


def save(baseline: TextBaseline, folder: Path) -> tuple[str, ...]:
    """Write a baseline into a folder that exists; names of the files written."""
    learned, arrays = baseline.to_parts()
    document = {
        "format": FORMAT,
        "name": baseline.name,
        "classes": list(baseline.classes),
        "learned": learned,
        "arrays": sorted(arrays),
    }
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    (folder / DOCUMENT).write_text(text + "\n", encoding="utf-8")
    if not arrays:
        return (DOCUMENT,)
    np.savez_compressed(folder / ARRAYS, allow_pickle=False, **arrays)
    return (DOCUMENT, ARRAYS)


def load(folder: Path) -> TextBaseline:
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
    name, classes = document.get("name"), document.get("classes")
    if name not in KINDS:
        raise refused(path, f"is of an unknown baseline {name!r}")
    if not isinstance(classes, list) or not all(isinstance(each, str) for each in classes):
        raise refused(path, "has no list of classes")
    arrays = _arrays(folder / ARRAYS, document.get("arrays"))
    try:
        return KINDS[name].from_parts(name, tuple(classes), document["learned"], arrays)
    except (ValueError, KeyError, TypeError, AttributeError, RegistryError) as error:
        raise refused(path, f"does not hold what {name} learns ({error!s:.80})") from None


def weights_sha256(baseline: TextBaseline) -> str:
    """Hash of what was learned: equal for equal fits, which the files' hashes need not be."""
    learned, arrays = baseline.to_parts()
    content = [list(baseline.classes), learned]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _arrays(path: Path, names: object) -> Mapping[str, npt.NDArray[Any]]:
    """The arrays that the document names, and no others."""
    if not isinstance(names, list) or not names:
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            return {str(name): file[str(name)] for name in names}
    except FileNotFoundError:
        raise refused(path, "is missing") from None
    # of a foreign file anything may be wrong
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise refused(path, f"cannot be read safely ({reason})") from None
