"""What people see in a terminal: errors in one line, progress, tables. Owns form; refuses to know where figures come
from. Colours and bars only where there is a terminal; a pipe gets plain text."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stream.errors import ConfigError, TidegateError

if TYPE_CHECKING:
    from stream.runtime.replay import OnProgress, Progress


LINE_EVERY_S = 20.0
"""Seconds between two lines of progress where there is no terminal."""


def say_error(error: TidegateError | str) -> None:
    """One line a fault on stderr: what, where, what to do."""
    if isinstance(error, ConfigError):
        for fault in error.faults:
            print(f"tidegate: {error.source}: {fault}", file=sys.stderr)
        if len(error.faults) > 1:
            print(f"tidegate: {len(error.faults)} faults in {error.source}, nothing started", file=sys.stderr)
    else:
        print(f"tidegate: {error}", file=sys.stderr)


@contextmanager
def progress(title: str) -> Iterator[OnProgress]:
    """How far a replay has come, on stderr: share of the file read, events a second, event time, alerts so far. A bar
    in a terminal; elsewhere a line now and then."""
    if not sys.stderr.isatty():
        yield _Lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=1.0, note="")

        def show(at: Progress) -> None:
            bar.update(task, completed=at.done, note=_note(at))

        yield show


class _Lines:
    """Progress where there is no terminal: nothing of a short run, a line every few seconds of a long one."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._next_s = LINE_EVERY_S

    def __call__(self, at: Progress) -> None:
        if at.elapsed_s >= self._next_s and at.done < 1.0:
            self._next_s = at.elapsed_s + LINE_EVERY_S
            print(f"{self._title}: {at.done:.0%}, {_note(at)}", file=sys.stderr)


def _note(at: Progress) -> str:
    day = datetime.fromtimestamp(at.event_time, UTC).date()
    speed = at.events / at.elapsed_s if at.elapsed_s else 0.0
    return f"{speed:,.0f} events/s · {day} · {count(at.alerts)} alert events"


def table(rows: Iterable[tuple[str, str]], indent: str = "") -> str:
    """Names and what is to be said of them, in two columns.

    >>> print(table([("a", "1"), ("name", "2")]))
    a     1
    name  2
    """
    pairs = list(rows)
    width = max((len(name) for name, _ in pairs), default=0)
    return "\n".join(f"{indent}{name:<{width}}  {text}" for name, text in pairs)


def count(n: float) -> str:
    """336776 as 336,776."""
    return f"{n:,.0f}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 12 min, 2 h 41 min, 3 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 600 and round(seconds) % 60:
        return f"{round(seconds) // 60} min {round(seconds) % 60} s"
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
