"""Compares what probes saw on two servers.

Purpose: ``answers.json`` holds what a real API server answered, so that the embedded one can be held to it where no
real one is at hand.

What this does not do: it asks nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.integration.probes.differences import ACCEPTED

ANSWERS: Final = Path(__file__).with_name("answers.json")


def recorded() -> tuple[str, dict[str, Any]]:
    """Return the version of the real server that was recorded, and what each probe saw there."""
    read = json.loads(ANSWERS.read_text("utf-8"))
    return read["server"], read["answers"]


def record(server: str, answers: dict[str, Any]) -> None:
    """Write down what the probes saw on a real server, one probe per line."""
    rows = [f"{json.dumps(name)}:{json.dumps(answer, sort_keys=True)}" for name, answer in sorted(answers.items())]
    ANSWERS.write_text(f'{{"server":{json.dumps(server)},\n"answers":{{\n' + ",\n".join(rows) + "\n}}\n", "utf-8")


def wanted_of_embedded(name: str, real: Any) -> Any:
    """Return what the embedded server must answer where a real one answers *real*."""
    return ACCEPTED[name].embedded if name in ACCEPTED else real


def broken(answer: Any) -> bool:
    """Tell whether a probe could not be asked at all."""
    return isinstance(answer, dict) and set(answer) == {"error"}


def differences(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Yield each place where *found* is not *wanted*."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted({*wanted, *found}):
            here = f"{path}.{key}"
            if key not in found:
                yield f"{here}: missing, wanted {_short(wanted[key])}"
            elif key not in wanted:
                yield f"{here}: not wanted, found {_short(found[key])}"
            else:
                yield from differences(wanted[key], found[key], here)
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for i, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from differences(one, other, f"{path}[{i}]")
    elif wanted != found:
        yield f"{path or '.'}: wanted {_short(wanted)}, found {_short(found)}"


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 300 else f"{text[:300]}..."
