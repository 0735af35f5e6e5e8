"""How the demo looks: lines of text, and on a terminal a table of the nodes below them.

Purpose: two views with one interface. The lines are the same in both.

Guarantees: the plain view writes whole lines, in order, flushed, without colours or control characters. The table is
used when the stream is a terminal that can move its cursor and rich can be imported; NO_COLOR takes its colours.

What this does not do: it decides nothing about what is said.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, Protocol, TextIO

from kruise.cli.demo_picture import Picture, PodSeen

__all__ = ["PlainView", "View", "make_view"]

_ROWS: Final = 16
"""Nodes in the table; of more the interesting ones are shown."""


class View(Protocol):
    """Where the demo shows itself."""

    def say(self, line: str = "") -> None:
        """Write one line."""
        ...

    def title(self, text: str) -> None:
        """Begin a scene."""
        ...

    def draw(self, picture: Picture | None) -> None:
        """Show the nodes as they are now; nothing more of them with ``None``."""
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

    def draw(self, picture: Picture | None) -> None:
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
        self._live: Live | None = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def say(self, line: str = "") -> None:
        self._console.print(line, markup=False, style=_style(line), soft_wrap=True)

    def title(self, text: str) -> None:
        self.say()
        self._console.print(f"== {text}", markup=False, style="bold cyan")

    def draw(self, picture: Picture | None) -> None:
        if self._live is None:
            return
        if picture is None:
            self.close()
        else:
            self._live.update(_table(picture), refresh=True)

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
    if "pod succeeded" in line or "is completed" in line:
        return "green"
    if "pod failed" in line or "WRONG" in line or line.startswith("NOT SEEN"):
        return "red"
    return ""


def _table(picture: Picture) -> Any:
    from rich.table import Table

    desired, active, succeeded, failed = picture.totals()
    phase = picture.status.get("phase") or "not created yet"
    table = Table(
        title=f"BroadcastJob {picture.job}: {phase}",
        caption=f"desired {desired}   active {active}   succeeded {succeeded}   failed {failed}",
        title_style="bold",
        caption_style="",
        min_width=60,
    )
    for name in ("NODE", "READY", "POD", "STATE"):
        table.add_column(name)
    latest: dict[str, PodSeen] = {pod.node: pod for pod in picture.pods.values()}
    shown = sorted(picture.nodes, key=lambda n: (_rank(latest.get(n)), n))[:_ROWS]
    for node in [n for n in picture.nodes if n in set(shown)]:
        pod = latest.get(node)
        table.add_row(node, "yes" if picture.nodes[node] else "no", pod.name if pod else "", _state(pod))
    if len(picture.nodes) > _ROWS:
        table.add_row("...", "", "", f"{len(picture.nodes)} nodes")
    return table


def _rank(pod: PodSeen | None) -> int:
    """Order nodes by what there is to see on them."""
    if pod is None:
        return 2
    return {"Failed": 0, "Running": 1, "Pending": 1}.get(pod.phase, 3)


def _state(pod: PodSeen | None) -> Any:
    from rich.text import Text

    if pod is None:
        return Text("waits", style="dim")
    if pod.phase == "Failed":
        return Text(f"failed, exit code {pod.exit_code}", style="red")
    return {"Running": Text("runs", style="yellow"), "Succeeded": Text("succeeded", style="green")}.get(
        pod.phase, Text("starts", style="yellow")
    )
