"""Sections of the page of results: one for each system, which stays until that system is run again.

A comment that no reader sees stands before each section and says of which system it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from db.errors import UsageError

SMALL_PARTS = ", small parts"
MARKER = re.compile(rf"^<!-- system: (\w+)({SMALL_PARTS})? -->\n+", re.MULTILINE)


@dataclass(frozen=True)
class Kept:
    """The section of one system.

    Attributes
    ----------
    system : its name.
    text : Markdown, without the marker.
    is_small : whether it was made of small parts of the data (`--quick`).
    """

    system: str
    text: str
    is_small: bool = False

    @property
    def marked(self) -> str:
        """With its marker before it."""
        return f"<!-- system: {self.system}{SMALL_PARTS * self.is_small} -->\n{self.text}"


def parse(page: str) -> tuple[Kept, ...]:
    """The sections of a page, in its order; what stands before the first one is its head.

    Raises
    ------
    UsageError
        It has headings but no markers: another page, whose results would be lost.
    """
    # head, then name, small parts or not, and text of each section
    head, *rest = MARKER.split(page)
    if re.search(r"^## ", head, re.MULTILINE):
        raise UsageError(
            "it holds results that are not marked by system and would be lost; move it away"
        )
    return tuple(
        Kept(name, text.strip("\n"), small is not None)
        for name, small, text in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
    )


def require_alike(kept: Sequence[Kept], *, is_small: bool) -> None:
    """Refuse to put figures of small parts and of whole data into one page.

    Raises
    ------
    UsageError
        They would meet.
    """
    other = next((each.system for each in kept if each.is_small != is_small), None)
    if other is not None:
        held, would = ("whole data", "small parts") if is_small else ("small parts", "whole data")
        raise UsageError(
            f"it holds results of {held} ({other}), and those of {would} do not go between them; "
            "give another folder (--output)"
        )


def merged(kept: Sequence[Kept], new: Kept, order: Sequence[str]) -> tuple[Kept, ...]:
    """The sections with a new one, which takes the place of the one of its system.

    Parameters
    ----------
    kept, new : sections.
    order : of the systems; those that it does not name come last, as they are.
    """
    others = [each for each in kept if each.system != new.system]
    place = {name: at for at, name in enumerate(order)}
    return tuple(sorted([*others, new], key=lambda each: place.get(each.system, len(place))))


def joined(head: str, kept: Sequence[Kept]) -> str:
    """The page: its head and all sections."""
    return "\n\n".join([head, *(each.marked for each in kept)]) + "\n"
