"""Which stored objects break the rules of a CustomResourceDefinition that is about to be installed.

Purpose: the definitions of OpenKruise bound nothing. Before ours replace them, every stored object is held against
them, so that nobody finds out at the next change that an object can no longer be written.

Guarantees: pure. A problem that the API server would refuse is a breach; what only the controller complains of, as it
did before, is none.

What this does not do: it evaluates no CEL. The same rules stand in ``kruise/apis/*_rules.py``, and a test on a real API
server holds both against the same objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped]

from kruise.apis.broadcastjob import NO_LIMIT
from kruise.apis.broadcastjob_rules import validate_broadcastjob
from kruise.apis.broadcastjob_schema import BROADCASTJOB
from kruise.apis.fielderrors import FieldError
from kruise.apis.schema import Doc, KindDoc
from kruise.apis.sidecarset_rules import default_sidecarset
from kruise.apis.sidecarset_schema import SIDECARSET
from kruise.apis.sidecarset_validation import validate_sidecarset
from kruise.apis.statefulset_rules import default_statefulset
from kruise.apis.statefulset_schema import STATEFULSET
from kruise.apis.statefulset_validation import validate_statefulset
from kruise.runtime.clock import parse_time

_INTEGERS: Final = {"int32": 1 << 31, "int64": 1 << 63}
_END: Final = r"\Z"
_NAMES: Final = ("metadata.name", "metadata.generateName")
"""Fields of which every error of the validation is one of a rule as well; the words differ."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A stored object and the rule that it breaks."""

    resource: str
    namespace: str
    name: str
    field: str
    problem: str

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.resource} {place}: {self.field}: {self.problem}"


def breaches(resource: str, schema: Mapping[str, Any], stored: Mapping[str, Any]) -> list[Breach]:
    """Return what the new *schema* of *resource* (``broadcastjobs.apps.kruise.io``) refuses of a *stored* object."""
    meta = stored.get("metadata") or {}
    found = list(_schema_problems(schema, stored))
    if of_the_kind := _KINDS.get(resource):
        found += of_the_kind(stored)
    return [
        Breach(resource, meta.get("namespace", ""), meta.get("name", ""), field, problem)
        for field, problem in dict.fromkeys(found)
    ]


# The schema.


def _schema_problems(schema: Mapping[str, Any], stored: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    checker = jsonschema.FormatChecker(formats=())
    for name, limit in _INTEGERS.items():
        checker.checks(name)(lambda value, limit=limit: not isinstance(value, int) or -limit <= value < limit)
    checker.checks("date-time")(lambda value: not isinstance(value, str) or parse_time(value) is not None)
    validator = jsonschema.Draft202012Validator(_exact(schema), format_checker=checker)
    cleaned = _without_nulls(stored, schema)
    for error in sorted(validator.iter_errors(cleaned), key=lambda e: list(map(str, e.absolute_path))):
        yield _path(error.absolute_path), _said(error)
    yield from _duplicates(schema, cleaned, "")


def _said(error: Any) -> str:
    key, wanted = error.validator, error.validator_value
    if key == "required":
        return str(error.message)
    # Never the value: a pod template holds what nobody wants in a terminal's history.
    if isinstance(wanted, list | dict):
        return f"breaks {key}"
    return f"breaks {key}: {wanted.removesuffix(_END) + '$' if key == 'pattern' else wanted}"


def _path(parts: Iterable[Any]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.lstrip(".") or "<root>"


def _exact(schema: Any) -> Any:
    """Return *schema* for a reader in Python: ``$`` of Go ends the text, that of Python also before a line break."""
    if isinstance(schema, Mapping):
        return {
            key: re.sub(r"\$\Z", lambda _: _END, value)
            if key == "pattern" and isinstance(value, str)
            else _exact(value)
            for key, value in schema.items()
        }
    return [_exact(one) for one in schema] if isinstance(schema, list) else schema


def _without_nulls(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return *value* as the API server sees it: a null of a known field that is not nullable counts as absent."""
    if isinstance(value, Mapping):
        known, free = schema.get("properties", {}), schema.get("additionalProperties", {})
        return {
            key: _without_nulls(one, known.get(key, free))
            for key, one in value.items()
            if one is not None or key not in known
        }
    if isinstance(value, list):
        return [_without_nulls(one, schema.get("items", {})) for one in value]
    return value


def _duplicates(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _duplicates(schema.get("properties", {}).get(key, {}), one, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and schema.get("x-kubernetes-list-type") == "map":
        keys = schema["x-kubernetes-list-map-keys"]
        seen = set()
        for index, one in enumerate(value):
            ident = tuple(str(one.get(key)) for key in keys) if isinstance(one, Mapping) else ()
            if ident in seen:
                yield f"{path}[{index}]", f"a second item with {', '.join(keys)} {', '.join(ident)}"
            seen.add(ident)


# The rules of the kinds.


def _messages(doc: KindDoc) -> frozenset[str]:
    found: set[str] = set()

    def walk(one: Doc) -> None:
        found.update(rule.message for rule in one.rules)
        for inner in one.properties.values():
            walk(inner)
        if one.values:
            walk(one.values)

    for known in doc.types.values():
        found.update(rule.message for rule in known.rules)
        for one in known.fields.values():
            walk(one)
    return frozenset(found)


_BROADCASTJOB_RULES: Final = _messages(BROADCASTJOB)
_STATEFULSET_RULES: Final = _messages(STATEFULSET)
_SIDECARSET_RULES: Final = _messages(SIDECARSET)
_TWICE: Final = ("duplicated key=", "patch annotation[")
"""How validation begins to say that a key stands twice; a rule cannot name it."""
_NAMED: Final = re.compile(r"spec\.(initContainers|containers)\[\d+\]\.(name|image)")
"""Containers without an image, and two of one name: errors without a word."""


def _errors(validate: Callable[[Mapping[str, Any]], list[FieldError]], stored: Mapping[str, Any]) -> list[FieldError]:
    try:
        return validate(stored)
    except (TypeError, AttributeError, ValueError):
        return []  # a value of a wrong type: the schema has said so


def _broadcastjob_problems(stored: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [
        (error.field, error.detail or error.type.value)
        for error in _errors(validate_broadcastjob, stored)
        if error.detail in _BROADCASTJOB_RULES or error.field in (*_NAMES, "spec.template.spec.containers")
    ]
    parallelism = _at(stored, "spec.parallelism")
    if isinstance(parallelism, int) and not 0 <= parallelism <= NO_LIMIT:
        found.append(("spec.parallelism", f"a number must be from 0 to {NO_LIMIT}"))
    return found


def _statefulset_errors(stored: Mapping[str, Any]) -> list[FieldError]:
    # The API server judges a stored set with its defaults.
    return validate_statefulset(
        default_statefulset(dict(stored), template_defaults=False, auto_delete_pvc=False, reset_status=False)
    )


def _statefulset_problems(stored: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [
        # Bad ordinals are errors of the whole spec there, as they always were.
        ("spec.reserveOrdinals" if error.field == "spec" else error.field, error.detail or error.type.value)
        for error in _errors(_statefulset_errors, stored)
        if error.detail in _STATEFULSET_RULES or error.field in (*_NAMES, "spec")
    ]
    for path in ("spec.updateStrategy.rollingUpdate.maxUnavailable", "spec.scaleStrategy.maxUnavailable"):
        value = _at(stored, path)
        if isinstance(value, int) and value > NO_LIMIT:
            found.append((path, f"a number must be from 1 to {NO_LIMIT}"))
    listed = _at(stored, "spec.reserveOrdinals")
    if any(isinstance(one, int) and one > NO_LIMIT for one in (listed if isinstance(listed, list) else ())):
        found.append(("spec.reserveOrdinals", f"an ordinal must be from 0 to {NO_LIMIT}"))
    return found


def _sidecarset_errors(stored: Mapping[str, Any]) -> list[FieldError]:
    # Other sets, revisions and the white list are not at hand: what is said of them is no rule of the definition.
    return validate_sidecarset(default_sidecarset(stored))


def _sidecarset_problems(stored: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [
        (error.field, error.detail or error.type.value)
        for error in _errors(_sidecarset_errors, stored)
        if error.detail in _SIDECARSET_RULES
        or error.field in _NAMES
        or error.detail.startswith(_TWICE)
        or (not error.detail and _NAMED.fullmatch(error.field))
    ]
    for path in ("spec.updateStrategy.partition", "spec.updateStrategy.maxUnavailable"):
        value = _at(stored, path)
        if isinstance(value, int) and not 0 <= value <= NO_LIMIT:
            found.append((path, f"a number must be from 0 to {NO_LIMIT}"))
    return found


def _at(stored: Any, path: str) -> Any:
    for step in path.split("."):
        stored = stored.get(step) if isinstance(stored, Mapping) else None
    return stored


_KINDS: Final[Mapping[str, Callable[[Mapping[str, Any]], list[tuple[str, str]]]]] = {
    "broadcastjobs.apps.kruise.io": _broadcastjob_problems,
    "statefulsets.apps.kruise.io": _statefulset_problems,
    "sidecarsets.apps.kruise.io": _sidecarset_problems,
}
"""What the rules of a kind refuse, as its validation says it."""
