"""How the demo looks: lines of text, and on a terminal a table below them.

Purpose: two views with one interface. The lines are the same in both.

Guarantees: the plain view writes whole lines, in order, flushed, without colours or control characters. The table is
used when the stream is a terminal that can move its cursor and rich can be imported; NO_COLOR takes its colours.

What this does not do: it decides nothing about what is said, and knows no workload.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TextIO

__all__ = ["Cell", "PlainView", "Sheet", "TableView", "View", "make_view"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A word of the table, with a style: ``good``, ``busy``, ``bad``, ``dim`` or none."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table, as it is now."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    caption: str = ""


_COLOURS: Final = {"good": "green", "busy": "yellow", "bad": "red", "dim": "dim"}
_BAD: Final = ("pod failed", "WRONG", "cannot pull")
_GOOD: Final = ("pod succeeded", "is completed", "back in service", "is updated")


class View(Protocol):
    """Where the demo shows itself."""

    def say(self, line: str = "") -> None:
        """Write one line."""
        ...

    def title(self, text: str) -> None:
        """Begin a scene."""
        ...

    def draw(self, sheet: Sheet | None) -> None:
        """Show the table as it is now; none any more, until the next one, with ``None``."""
        ...

    def close(self) -> None:
        """Give the terminal back."""
        ...


class PlainView:
    """Lines of text."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def say(self, line: str = "") -> None:
        print(line, file=self._out, flush=True)

    def title(self, text: str) -> None:
        self.say()
        self.say(f"== {text}")

    def draw(self, sheet: Sheet | None) -> None:
        """Do nothing: the lines say it all."""

    def close(self) -> None:
        """Do nothing."""


class TableView:
    """The same lines, and below them a table that changes in place."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=out, highlight=False)
        # Drawn by the demo's own loop: no thread of its own, and no line of the log lost in between.
        self._make: Callable[[], Live] = partial(Live, console=self._console, auto_refresh=False, transient=True)
        self._live: Live | None = None

    def say(self, line: str = "") -> None:
        self._console.print(line, markup=False, style=_style(line), soft_wrap=True)

    def title(self, text: str) -> None:
        self.say()
        self._console.print(f"== {text}", markup=False, style="bold cyan")

    def draw(self, sheet: Sheet | None) -> None:
        if sheet is None:
            self.close()
            return
        if self._live is None:
            self._live = self._make()
            self._live.start()
        self._live.update(_table(sheet), refresh=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def make_view(out: TextIO, *, plain: bool = False, env: Mapping[str, str] = os.environ) -> View:
    """Return the best view for *out*."""
    if plain or not out.isatty() or env.get("TERM", "dumb") == "dumb":
        return PlainView(out)
    try:
        return TableView(out)
    except ImportError:
        return PlainView(out)


def _style(line: str) -> str:
    if line.startswith("NOT SEEN") or any(word in line for word in _BAD):
        return "red"
    return "green" if any(word in line for word in _GOOD) else ""


def _table(sheet: Sheet) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=sheet.title, caption=sheet.caption, title_style="bold", caption_style="", min_width=60)
    for name in sheet.header:
        table.add_column(name)
    for row in sheet.rows:
        table.add_row(*(Text(c.text, style=_COLOURS.get(c.style, "")) if isinstance(c, Cell) else Text(c) for c in row))
    return table
