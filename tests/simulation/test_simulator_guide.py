"""docs/simulator.md: what it shows runs, in virtual time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from kruise.runtime.testing import run_virtual

TEXT: Final = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()
BLOCKS: Final = re.findall(r"^## ([^\n]*)\n(?:(?!^## ).)*?```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)


def test_the_guide_shows_a_controller_and_a_webhook() -> None:
    assert [title for title, _ in BLOCKS] == ["Test a controller of your own", "Test a webhook of your own"]


def test_tst1_the_webhook_of_the_guide_does_what_it_says() -> None:
    place: dict[str, Any] = {}
    exec(compile(dict(BLOCKS)["Test a webhook of your own"], "docs/simulator.md", "exec"), place)
    run_virtual(place["main"])


def test_tst1_the_controller_of_the_guide_is_python() -> None:
    place: dict[str, Any] = {}
    exec(compile(dict(BLOCKS)["Test a controller of your own"], "docs/simulator.md", "exec"), place)
    assert callable(place["main"])
