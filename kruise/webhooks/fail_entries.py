"""Who waits for an answer: one webhook with ``failurePolicy: Fail`` for each SidecarSet, and for its pods alone.

Purpose: the pure side of ``components/webhook-fail``. From the webhook that asks about all pods, and the sets as the
handler has them, to the webhooks of the configuration that makes pods wait.

Guarantees:

* C11: an entry selects a pod if and only if the handler's own :class:`~kruise.controllers.sidecarset.match.Matcher`
  does, and nothing that no set may touch (C3). A set whose injection is paused, or that can select nothing, has none.
* A pod that has been answered for is not asked about again: its annotation names the set, or a canary in its place.
* One set cannot spoil the configuration: what the API server would refuse in a selector is written as what it means.
* An entry is a copy of the general one: who changes its selectors, conditions or timeout changes all of them.
* Bounded: at most :data:`MAX_ENTRIES` entries and :data:`MAX_BYTES` bytes. Who has an entry keeps it.
* :func:`merged` leaves fields that nobody here knows as they are.

What this does not do: it reads and writes nothing; ``fail_keeper.py`` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from kruise.apis import labels as rules
from kruise.apis.selectors import Operator, Requirement, Selector
from kruise.apis.sidecarset import INJECTED_LIST_ANNOTATION, NAMESPACE_NAME_LABEL
from kruise.controllers.sidecarset.match import EXEMPT_NAMESPACES, INJECTION_DISABLED, INJECTION_LABEL, Matcher
from kruise.webhooks.inject_snapshot import Snapshot

__all__ = [
    "GENERAL",
    "MAX_BYTES",
    "MAX_ENTRIES",
    "Entries",
    "Waiting",
    "entries",
    "entry",
    "entry_name",
    "merged",
    "waiting",
]

GENERAL: Final = "mpod.kb.io"
"""The webhook that asks about all pods; the name of an entry ends with it."""
MAX_ENTRIES: Final = 500
MAX_BYTES: Final = 900_000
"""Of one configuration, as JSON: the API server stores no object of more than 1.5 MiB, its own notes included."""
CONDITION: Final = "not-answered-yet"
_MAX_NAME: Final = 253
_EQUAL: Final = frozenset({Operator.EQUALS, Operator.DOUBLE_EQUALS, Operator.IN})

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What an entry is made of: a set whose pods must not start without it."""

    name: str
    matcher: Matcher
    canaries: tuple[str, ...] = ()
    """The sets of which one may take its place in a pod."""


@dataclass(frozen=True, slots=True)
class Entries:
    """The webhooks of the configuration, in their order."""

    webhooks: tuple[JSON, ...] = ()
    left_out: tuple[str, ...] = ()
    """The sets for which there is no room. Their pods start without an answer."""


def waiting(snapshot: Snapshot) -> tuple[Waiting, ...]:
    """Return the sets that give something to new pods, in the order of their names."""
    active = [one.current for one in snapshot.sets if not one.current.paused]
    canaries: dict[str, list[str]] = {}
    for one in active:
        if one.canary_of:
            canaries.setdefault(one.canary_of, []).append(one.name)
    found = (Waiting(one.name, one.matcher, tuple(sorted(canaries.get(one.name, ())))) for one in active)
    return tuple(sorted(found, key=lambda one: one.name))


def entry_name(set_name: str) -> str:
    """Return the name of the entry of a set: a domain name, as the API server wants it.

    >>> entry_name("mesh")
    'mesh.mpod.kb.io'
    """
    room = _MAX_NAME - len(GENERAL) - 1
    if len(set_name) > room:
        digest = hashlib.sha256(set_name.encode()).hexdigest()[:16]
        set_name = f"{set_name[: room - len(digest) - 1].rstrip('-.')}-{digest}"
    return f"{set_name}.{GENERAL}"


def entries(
    general: Mapping[str, Any], sets: Iterable[Waiting], own_namespace: str, *, present: Collection[str] = ()
) -> Entries:
    """Return the entries of *sets*, of which *general* is the pattern.

    *present* are the names of the entries that are there already: where there is no room for all, they come first.
    """
    made: list[tuple[str, JSON]] = []
    for one in sets:
        found = entry(general, one, own_namespace)
        if found is not None:
            made.append((one.name, found))
    made.sort(key=lambda pair: (pair[1]["name"] not in present, pair[0]))
    size = 0
    kept: list[JSON] = []
    left_out: list[str] = []
    for name, found in made:
        more = len(orjson.dumps(found))
        if len(kept) < MAX_ENTRIES and size + more <= MAX_BYTES:
            size += more
            kept.append(found)
        else:
            left_out.append(name)
    kept.sort(key=lambda found: str(found["name"]))
    return Entries(tuple(kept), tuple(sorted(left_out)))


def entry(general: Mapping[str, Any], one: Waiting, own_namespace: str) -> JSON | None:
    """Return the entry of a set; ``None`` when it can select no pod."""
    pods = None if one.matcher.pods is None else _expressions(one.matcher.pods)
    namespaces = [] if one.matcher.namespaces is None else _expressions(one.matcher.namespaces)
    if pods is None or namespaces is None:
        return None
    exempt = (own_namespace, *sorted(EXEMPT_NAMESPACES - {own_namespace}))
    conditions = [item for item in general.get("matchConditions") or () if item.get("name") != CONDITION]
    return {
        **general,
        "name": entry_name(one.name),
        "failurePolicy": "Fail",
        "namespaceSelector": _both(general.get("namespaceSelector"), NAMESPACE_NAME_LABEL, exempt, namespaces),
        "objectSelector": _both(general.get("objectSelector"), INJECTION_LABEL, (INJECTION_DISABLED,), pods),
        "matchConditions": [*conditions, {"name": CONDITION, "expression": _unanswered((one.name, *one.canaries))}],
    }


def _unanswered(names: Sequence[str]) -> str:
    """Return the expression that is true until the list of injected sets has one of *names*."""
    notes = "object.metadata.annotations"
    one_of = "|".join(name.replace(".", "[.]") for name in names)
    return (
        f"!has({notes}) || !('{INJECTED_LIST_ANNOTATION}' in {notes}) || "
        f"!{notes}['{INJECTED_LIST_ANNOTATION}'].matches('(^|,)({one_of})(,|$)')"
    )


def _both(chosen: Any, key: str, never: Sequence[str], more: Sequence[JSON]) -> JSON:
    """Return *chosen* with *more*, and without the objects whose label *key* is one of *never*."""
    chosen = chosen if isinstance(chosen, Mapping) else {}
    expressions = list(chosen.get("matchExpressions") or ())
    if not any(
        one.get("key") == key and one.get("operator") == "NotIn" and set(never) <= set(one.get("values") or ())
        for one in expressions
    ):
        expressions.append({"key": key, "operator": "NotIn", "values": list(never)})
    return {**chosen, "matchExpressions": [*expressions, *(one for one in more if one not in expressions)]}


def _expressions(selector: Selector) -> list[JSON] | None:
    """Return *selector* as the API server takes it; ``None`` when no object can have such labels.

    A stored selector may name keys and values that no label can have. It is taken at its word: nobody has them.
    """
    if selector.nothing:
        return None
    found: list[JSON] = []
    for one in selector.requirements:
        meant = _expression(one)
        if meant is None:
            return None
        if meant:
            found.append(meant)
    return found


def _expression(one: Requirement) -> JSON | None:
    """Return one condition; ``{}``: everybody fulfils it, ``None``: nobody does."""
    possible = not rules.qualified_name(one.key)
    values = [value for value in dict.fromkeys(one.values) if possible and not rules.label_value(value)]
    if one.operator in _EQUAL:
        return {"key": one.key, "operator": "In", "values": values} if values else None
    if one.operator in (Operator.NOT_IN, Operator.NOT_EQUALS):
        return {"key": one.key, "operator": "NotIn", "values": values} if values else {}
    if one.operator is Operator.EXISTS:
        return {"key": one.key, "operator": "Exists"} if possible else None
    return {"key": one.key, "operator": "DoesNotExist"} if possible else {}


def merged(live: Sequence[Mapping[str, Any]], wanted: Sequence[JSON]) -> list[JSON]:
    """Return *wanted* with the fields of *live* that it does not know; what *live* has besides goes."""
    known = {str(one.get("name")): one for one in live}
    return [{**known.get(one["name"], {}), **one} for one in wanted]
