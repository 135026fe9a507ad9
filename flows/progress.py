"""Progress of long work, shown while it goes on.

Steps announce themselves; the command line listens. Without a listener (a worker, a test)
announcements go nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


class Listener(Protocol):
    """Who wants to know how far the work has come."""

    def began(self, step: str) -> None: ...
    def moved(self, step: str, done: float, of: float, detail: str) -> None: ...
    def ended(self, step: str, detail: str, seconds: float, *, failed: bool) -> None: ...


_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell `listener` of all steps inside."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@dataclass
class Step:
    """One step that is under way; `detail` is said when it ends."""

    name: str
    detail: str = ""

    def move(self, done: float, of: float, detail: str = "") -> None:
        """Say how far the step has come."""
        for listener in _listeners:
            listener.moved(self.name, done, of, detail)


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Announce a step from its beginning to its end."""
    current = Step(name)
    began = time.perf_counter()
    for listener in _listeners:
        listener.began(name)
    failed = True
    try:
        yield current
        failed = False
    finally:
        for listener in _listeners:
            listener.ended(name, current.detail, time.perf_counter() - began, failed=failed)


class ConsoleProgress:
    """Steps on a terminal: a moving line while they run, one that stays when they end."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show steps while inside."""
        with self._bars, listening(self):
            yield

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show that something goes on that announces nothing itself."""
        task = self._bars.add_task(what, total=None, detail="")
        try:
            yield
        finally:
            self._bars.remove_task(task)

    def began(self, step: str) -> None:
        self._tasks[step] = self._bars.add_task(step, total=None, detail="")

    def moved(self, step: str, done: float, of: float, detail: str) -> None:
        if step in self._tasks:
            self._bars.update(self._tasks[step], completed=done, total=of, detail=detail)

    def ended(self, step: str, detail: str, seconds: float, *, failed: bool) -> None:
        if step in self._tasks:
            self._bars.remove_task(self._tasks.pop(step))
        mark = "[red]✗[/]" if failed else "[green]✓[/]"
        self._bars.console.print(
            f"{mark} {escape(step):<38}{seconds:7.1f} s  [dim]{escape(detail)}[/]", highlight=False
        )
