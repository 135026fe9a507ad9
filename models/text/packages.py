"""Data files inside installed packages, found without importing any of their code."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from db.errors import SourceError


def packaged_file(name: str, path: str) -> Path:
    """Where a file of an installed distribution lies.

    Parameters
    ----------
    name : of the distribution, as pip knows it.
    path : of the file, from the folder that packages are installed into.

    Raises
    ------
    SourceError
        The package is not installed, or has no such file.
    """
    try:
        found = Path(str(distribution(name).locate_file(path)))
    except PackageNotFoundError:
        raise SourceError(f"package {name} is not installed: pip install {name}") from None
    if not found.is_file():
        raise SourceError(
            f"package {name} has no {path}: install the version that requirements.lock names"
        )
    return found


def is_installed(name: str) -> bool:
    """Whether a distribution is installed."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
