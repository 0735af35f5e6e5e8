"""The two views of the demo, and which of them is taken."""

from __future__ import annotations

import io
import sys

import pytest

from kruise.cli.demo_picture import Picture, PodSeen, sheet
from kruise.cli.demo_view import PlainView, Sheet, TableView, make_view


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


XTERM = {"TERM": "xterm-256color"}


def picture(nodes: int = 3) -> Sheet:
    found = Picture("sweep", nodes={f"node-{n}": True for n in range(nodes)})
    found.pods["1"] = PodSeen("sweep-a", "node-0", "Failed", 3)
    found.pods["2"] = PodSeen("sweep-b", "node-1", "Running")
    if nodes > 3:
        found.pods["3"] = PodSeen("sweep-c", f"node-{nodes - 1}", "Running")
    found.status = {"phase": "running", "desired": nodes, "active": 1, "failed": 1}
    return sheet(found)


def test_a_stream_that_is_no_terminal_gets_plain_lines() -> None:
    assert isinstance(make_view(io.StringIO(), env=XTERM), PlainView)


def test_a_terminal_gets_the_table_unless_it_cannot_or_must_not(monkeypatch: pytest.MonkeyPatch) -> None:
    view = make_view(Terminal(), env=XTERM)
    view.close()
    assert isinstance(view, TableView)
    assert isinstance(make_view(Terminal(), plain=True, env=XTERM), PlainView)
    assert isinstance(make_view(Terminal(), env={"TERM": "dumb"}), PlainView)
    assert isinstance(make_view(Terminal(), env={}), PlainView)


def test_without_rich_a_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.live", None)
    assert isinstance(make_view(Terminal(), env=XTERM), PlainView)


def test_plain_lines_are_what_was_said_and_nothing_else() -> None:
    out = io.StringIO()
    view = PlainView(out)
    view.say("one [bold]word[/bold]")
    view.title("Scene")
    view.draw(picture())
    view.draw(None)
    view.close()
    assert out.getvalue() == "one [bold]word[/bold]\n\n== Scene\n"


def test_the_table_has_every_node_with_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Terminal()
    view = make_view(out, env=XTERM)
    view.say("   1.0 s  node-0: pod failed, exit code 3")
    view.draw(picture())
    text = out.getvalue()
    view.close()
    for word in ("BroadcastJob sweep: running", "failed, exit code 3", "sweep-b", "runs", "waits", "desired 3"):
        assert word in text


def test_of_many_nodes_the_interesting_ones_are_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Terminal()
    view = make_view(out, env=XTERM)
    view.draw(picture(40))
    text = out.getvalue()
    view.close()
    assert "node-39" in text
    assert "node-38" not in text
    assert "40 nodes" in text


def test_no_color_takes_the_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    colour = "\x1b[31m"
    seen = []
    for value in (None, "1"):
        if value is not None:
            monkeypatch.setenv("NO_COLOR", value)
        out = Terminal()
        view = make_view(out, env=XTERM)
        view.say("   1.0 s  node-0: pod failed, exit code 3")
        view.close()
        seen.append(colour in out.getvalue())
    assert seen == [True, False]


def test_a_table_can_be_taken_away_and_another_one_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Terminal()
    view = make_view(out, env=XTERM)
    view.draw(picture())
    view.draw(None)
    view.say("between")
    view.draw(Sheet("StatefulSet web: Updating", ("ORDINAL", "STATE"), (("0", "Available"),)))
    text = out.getvalue()
    view.close()
    assert text.index("BroadcastJob") < text.index("between") < text.index("StatefulSet web: Updating")
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h"), "the cursor is given back"
