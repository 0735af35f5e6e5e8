"""Unknown fields: refused, warned of, or dropped.

Purpose: the query parameter ``fieldValidation`` and what it does to a request.

Guarantees:

* TST1: ``Strict`` refuses unknown and repeated fields with 400 (422 in a patch) and the server's sentence; ``Warn``,
  which is the default, sends a warning for each; ``Ignore`` is silent. In each case they are dropped. Wrong types are
  400, or 422 in a patch.

What this does not do: the schema of custom kinds is in ``schema.py``; what it drops is told here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from kruise.simulator.apiserver import typed
from kruise.simulator.apiserver.call import Call
from kruise.simulator.apiserver.failure import Cause, Failure, bad_request, invalid, invalid_value, unsupported_value
from kruise.simulator.apiserver.resources import Reading, ResourceType

Body = dict[str, Any]

_LEVELS: Final = ("", "Ignore", "Strict", "Warn")


@dataclass(frozen=True, slots=True)
class Level:
    """How one request is validated."""

    name: str

    @classmethod
    def read_from(cls, call: Call, options: str) -> Level:
        """Return the level of a request, whose options are called *options*. Raises Failure 422."""
        causes: list[Cause] = []
        dry = call.query.get("dryRun")
        if dry not in (None, "", "All"):
            text = f'Unsupported value: ["{dry}"]: supported values: "All"'
            causes.append(Cause("FieldValueNotSupported", text, "dryRun"))
        name = call.query.get("fieldValidation", "")
        if name not in _LEVELS:
            causes.append(unsupported_value("fieldValidation", name, _LEVELS))
        if causes:
            raise invalid(options, "meta.k8s.io", "", *causes)
        call.validation = name or "Warn"
        return cls(call.validation)

    def read(self, obj: Body, info: ResourceType, call: Call) -> Body:
        """Return *obj* as its kind, a custom object in its metadata only. Raises Failure."""
        unknown: list[str] = []
        try:
            read = typed.read_metadata(obj, unknown) if info.custom else typed.read(obj, info, unknown)
        except typed.TypeProblem as problem:
            raise cannot_read(obj, info.kind, call, str(problem)) from None
        found = [f'unknown field "{path}"' for path in unknown]
        if call.verb != "patch" and (call.http or self.name == "Strict"):
            # A second parse of each body; in process nobody writes a field twice.
            found += [f'duplicate field "{path}"' for path in _repeated(call)]
        tell(found, obj, info.kind, call)
        return read


def tell(found: list[str], obj: Body, kind: str, call: Reading) -> None:
    """Refuse or warn of what was *found*, as the request asks. Raises Failure."""
    if not found or call.validation == "Ignore":
        return
    if call.validation == "Strict":
        raise cannot_read(obj, kind, call, f"strict decoding error: {', '.join(found)}")
    call.warnings.extend(found)


def cannot_read(obj: Body, kind: str, call: Reading, problem: str) -> Failure:
    """400, or 422 in a patch: the object is none of its kind."""
    if call.verb == "patch":
        return unreadable_patch(obj, problem)
    version = str(obj.get("apiVersion", "")).rpartition("/")[2]
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {problem}')


def _repeated(call: Call) -> list[str]:
    """Return the paths of fields that the body has more than once."""
    if call.content_type not in ("application/json", "") or not call.body:
        return []
    try:
        marked = json.loads(call.body, object_pairs_hook=_Pairs)
    except ValueError:
        return []
    found: list[str] = []
    _look(marked, "", found)
    return found


class _Pairs(list[tuple[str, Any]]):
    """An object as its pairs."""


def _look(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, inner in value:
            here = f"{path}.{key}" if path else key
            if key in seen:
                found.append(here)
            seen.add(key)
            _look(inner, here, found)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            _look(inner, f"{path}[{i}]", found)


def unreadable_patch(obj: Any, problem: str) -> Failure:
    """422: what a patch makes of the object cannot be read as its kind."""
    text = json.dumps(obj, separators=(",", ":"))
    return invalid("", "", "", invalid_value("patch", text, problem))
