"""Pictures of tools that show them, saved as PNG instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt


@contextmanager
def saved(folder: Path, prefix: str) -> Iterator[list[Path]]:
    """Within it, each figure that is shown or left open is saved; gives the files."""
    files: list[Path] = []
    show = plt.show

    def save(*_: Any, **__: Any) -> None:
        for number in plt.get_fignums():
            figure = plt.figure(number)
            if figure.axes:
                file = folder / f"{prefix}_{len(files) + 1}.png"
                figure.savefig(file, dpi=80, bbox_inches="tight")
                files.append(file)
            plt.close(number)

    plt.show = save
    try:
        yield files
        save()
    finally:
        plt.show = show
        plt.close("all")
