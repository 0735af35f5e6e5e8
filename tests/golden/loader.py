"""Golden cases: where they are, which ones run, what is compared.

Purpose: one way to run the recorded answers of the Go manager. A case is ``{"id", "what", "input", "output",
"gates"?}``; a test module asks for the cases of a file and compares.

Guarantees:

* ``GOLDEN_DIR`` points the same tests at another folder of the same format; ids are never known to a test.
* A case that is left out is left out by a rule with a reason (:data:`SKIPPED`), and a deliberate difference stands in
  ``deviations.yaml`` as a rule; a test can see both.
* :func:`normalise` removes what only Go's encoder adds, so that objects are compared by what they mean.

What this does not do: it knows no kind; each test module maps inputs to the functions under test.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

HERE: Final = Path(__file__).parent

SKIPPED: Final[tuple[tuple[str, Mapping[str, Any], str], ...]] = (
    ("hashes", {"do": "computeHash"}, "optional: no kind uses the library's pod template hash"),
    ("hashes", {"do": "container"}, "written by node daemons beside kubelets up to 1.30, of containers kept in full"),
)
"""File, the input fields that mark the case, and why it does not run."""


@dataclass(frozen=True)
class Case:
    """One recorded question and its answer."""

    file: str
    id: str
    what: str
    input: dict[str, Any]
    output: Any
    gates: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Deviation:
    """One deliberate difference from the recorded answers.

    ``file`` is a glob over file names without ``.json``; ``field`` is a dotted path into the output (``*`` matches one
    step, ``**`` any number); ``when`` are conditions on the case: dotted paths (from ``input.``, ``output.`` or
    ``gates.``) with the value, a list of values, ``present`` or ``absent`` that they must have.
    """

    file: str
    field: str
    reason: str
    when: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    action: str = "ignore"

    def applies(self, case: Case) -> bool:
        """Tell whether this rule speaks about *case*."""
        if self.id:
            return self.id == case.id
        return _glob(self.file, ".").fullmatch(case.file) is not None and all(
            _holds(case, path, wanted) for path, wanted in self.when.items()
        )


def folder() -> Path:
    """The folder with the case files: ``GOLDEN_DIR`` or the committed one."""
    return Path(os.environ.get("GOLDEN_DIR") or HERE / "data")


@cache
def _load(directory: Path, file: str) -> tuple[Case, ...]:
    path = directory / f"{file}.json"
    if not path.exists():
        return ()
    return tuple(
        Case(file, str(raw["id"]), raw.get("what", ""), raw["input"], raw["output"], raw.get("gates") or {})
        for raw in json.loads(path.read_text("utf-8"))
    )


def skip_reason(case: Case) -> str:
    """Why *case* does not run, or ``""``."""
    for file, marks, reason in SKIPPED:
        if file == case.file and all(case.input.get(key) == value for key, value in marks.items()):
            return reason
    return ""


def cases(file: str, **marks: Any) -> list[Case]:
    """Return the cases of *file* (without ``.json``) whose input has the given fields, without the skipped ones."""
    return [
        case
        for case in _load(folder(), file)
        if not skip_reason(case) and all(case.input.get(key) == value for key, value in marks.items())
    ]


def parametrize(file: str, **marks: Any) -> pytest.MarkDecorator:
    """Run a test once per case, as the argument ``case``. A folder without cases of this sort skips the test."""
    found = cases(file, **marks)
    if not found:
        reason = f"no such case in {folder()}"
        return pytest.mark.parametrize("case", [pytest.param(None, marks=pytest.mark.skip(reason=reason))])
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in found])


# ---- deviations ------------------------------------------------------------------------------------------------------


@cache
def deviations() -> tuple[Deviation, ...]:
    """All rules of ``deviations.yaml``."""
    raw = yaml.safe_load((HERE / "deviations.yaml").read_text("utf-8")) or []
    return tuple(Deviation(**item) for item in raw)


def deviations_for(case: Case, action: str = "ignore") -> list[Deviation]:
    """The rules that speak about *case*. Tests with own actions (``replace``, ``skip`` ...) ask for them by name."""
    return [rule for rule in deviations() if rule.action == action and rule.applies(case)]


def ignored(case: Case) -> Callable[[str], bool]:
    """Return a test of dotted output paths: whether a rule takes that path out of the comparison."""
    patterns = [_glob(rule.field, ".") for rule in deviations_for(case)]
    return lambda path: any(pattern.fullmatch(path) for pattern in patterns)


def prune_ignored(case: Case, value: Any) -> Any:
    """Return *value* (an output) without the paths that a deviation takes out."""
    is_ignored = ignored(case)

    def walk(node: Any, path: str) -> Any:
        if isinstance(node, dict):
            return {key: walk(item, _join(path, key)) for key, item in node.items() if not is_ignored(_join(path, key))}
        if isinstance(node, list):
            return [walk(item, _join(path, i)) for i, item in enumerate(node) if not is_ignored(_join(path, i))]
        return node

    return walk(value, "")


def _join(path: str, step: object) -> str:
    return f"{path}.{step}" if path else str(step)


@cache
def _glob(pattern: str, separator: str) -> re.Pattern[str]:
    escaped = re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", f"[^{re.escape(separator)}]*")
    return re.compile(escaped)


def _holds(case: Case, path: str, wanted: Any) -> bool:
    head, _, rest = path.partition(".")
    value: Any = getattr(case, head)
    for step in filter(None, rest.split(".")):
        if isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            value = None
            break
    if wanted == "present":
        return value is not None
    if wanted == "absent":
        return value is None
    return value in wanted if isinstance(wanted, list) else value == wanted


# ---- comparison ------------------------------------------------------------------------------------------------------


def normalise(value: Any) -> Any:
    """Return *value* without what Go's encoder adds or drops.

    ``creationTimestamp: null`` and every other null go; so do empty maps and lists, false, zero and empty text, which
    an omit-empty field cannot tell from absent. Numbers compare by value.
    """
    if isinstance(value, dict):
        pruned = {key: normalise(item) for key, item in value.items()}
        return {key: item for key, item in pruned.items() if not _is_zero(item)}
    if isinstance(value, list):
        return [normalise(item) for item in value]
    return value


def _is_zero(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {} or (value == 0 and not isinstance(value, str))


def strip_encoder(value: Any) -> Any:
    """Return *value* without three artefacts alone: null creation timestamps, empty ``resources``, empty ``status``.

    Stricter than :func:`normalise`: false, zero and empty lists still count.
    """
    if isinstance(value, dict):
        return {
            key: strip_encoder(item)
            for key, item in value.items()
            if not (key == "creationTimestamp" and item is None)
            and not (key in ("resources", "status", "strategy", "updateStrategy") and item == {})
        }
    if isinstance(value, list):
        return [strip_encoder(item) for item in value]
    return value


def printed_errors(errors: Any) -> list[dict[str, str]]:
    """Return field errors as the cases write them: type, field, detail and message."""
    return [{"type": str(e.type), "field": e.field, "detail": e.detail, "message": e.message} for e in errors]


_UNPRINTABLE: Final = re.compile(r"\w+\.\w+\{|map\[|0x[0-9a-f]{6,}")


def compare_errors(got: Any, wanted: list[dict[str, str]]) -> None:
    """Assert that *got* are the *wanted* errors: type, field, detail and order; the message where Go prints a value."""
    found = printed_errors(got)
    assert [(e["type"], e["field"], e["detail"]) for e in found] == [
        (e["type"], e["field"], e["detail"]) for e in wanted
    ]
    for have, want in zip(found, wanted, strict=True):
        if "message" in want and not _UNPRINTABLE.search(want["message"].replace(want["detail"], "")):
            assert have["message"] == want["message"]
