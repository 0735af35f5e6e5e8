"""Label and field selectors, as the query of a list or watch carries them.

Purpose: text in, predicate out; parsed once per text.

Guarantees:

* TST1: the whole grammar of label selectors (``a``, ``!a``, ``a=b``, ``a==b``, ``a!=b``, ``a in (b,c)``,
  ``a notin (b,c)``, ``a>1``, ``a<1``); ``!=`` and ``notin`` match objects without the label. Field selectors know
  ``=``, ``==``, ``!=`` and the fields that kube-apiserver knows for the resource; another field is 400.

What this does not do: it does not select; the rooms that list and watch do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from kruise.simulator.apiserver.failure import Failure, bad_request

Labels = Mapping[str, str]
LabelMatch = Callable[[Labels], bool]
Match = Callable[[Mapping[str, Any]], bool]

_REQUIREMENT: Final = re.compile(
    r"""\s*(?:
        !\s*(?P<absent>[^\s,=!()<>]+)
      | (?P<key>[^\s,=!()<>]+)\s*(?:
            (?P<op>==|=|!=|>|<)\s*(?P<value>[^\s,=!()<>]*)
          | (?P<set>in|notin)\s*\((?P<values>[^()]*)\)
        )?
    )\s*(?:,|$)""",
    re.VERBOSE,
)
_KEY: Final = re.compile(r"([a-z0-9A-Z.\-]+/)?[A-Za-z0-9]([A-Za-z0-9._\-]*[A-Za-z0-9])?\Z")
_VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._\-]*[A-Za-z0-9])?)?\Z")


@lru_cache(maxsize=1024)
def label_selector(text: str) -> LabelMatch | None:
    """Return the predicate over labels that *text* describes; ``None`` when it selects all. Raises Failure 400."""
    requirements: list[LabelMatch] = []
    position = 0
    while position < len(text):
        found = _REQUIREMENT.match(text, position)
        if found is None or found.end() == position:
            raise bad_request(f"unable to parse requirement: found {text[position:]!r} in label selector {text!r}")
        requirements.append(_requirement(found, text))
        position = found.end()
    if not requirements:
        return None
    if len(requirements) == 1:
        return requirements[0]
    return lambda labels: all(r(labels) for r in requirements)


def _requirement(found: re.Match[str], text: str) -> LabelMatch:
    absent = found["absent"]
    if absent is not None:
        _check_key(absent)
        return lambda labels: absent not in labels
    key = found["key"]
    _check_key(key)
    if found["set"]:
        values = frozenset(v.strip() for v in found["values"].split(","))
        for value in values:
            _check_value(value)
        if found["set"] == "in":
            return lambda labels: labels.get(key) in values and key in labels
        return lambda labels: labels.get(key) not in values or key not in labels
    op, wanted = found["op"], found["value"]
    if op is None:
        return lambda labels: key in labels
    _check_value(wanted)
    if op in ("=", "=="):
        return lambda labels: labels.get(key) == wanted
    if op == "!=":
        return lambda labels: labels.get(key) != wanted
    return _compare(key, op, wanted, text)


def _compare(key: str, op: str, wanted: str, text: str) -> LabelMatch:
    if not re.fullmatch(r"[+-]?\d+", wanted):
        raise bad_request(f"for 'Gt', 'Lt' operators, the value must be an integer in label selector {text!r}")
    bound = int(wanted)

    def compare(labels: Labels) -> bool:
        have = labels.get(key, "")
        if not re.fullmatch(r"[+-]?\d+", have):
            return False
        return int(have) > bound if op == ">" else int(have) < bound

    return compare


def _check_key(key: str) -> None:
    if not _KEY.match(key) or len(key.rpartition("/")[2]) > 63:
        raise bad_request(f"unable to parse requirement: key: Invalid value: {key!r}")


def _check_value(value: str) -> None:
    if not _VALUE.match(value) or len(value) > 63:
        raise bad_request(f"unable to parse requirement: values: Invalid value: {value!r}")


COMMON_FIELDS: Final = ("metadata.name", "metadata.namespace")


def field_selector(
    text: str, known: tuple[str, ...] = (), aliases: Mapping[str, str] | None = None, *, own: bool = True
) -> Match | None:
    """Return the predicate over whole objects that *text* describes; ``None`` when it selects all.

    *known* are the fields of the resource besides name and namespace; *aliases* maps their spelling to stored fields.
    Without *own* fields the refusal says which ones every kind has. Raises Failure 400 for any other field.
    """
    return _field_selector(text, known, tuple(sorted((aliases or {}).items())), own)


@lru_cache(maxsize=1024)
def _field_selector(text: str, known: tuple[str, ...], aliases: tuple[tuple[str, str], ...], own: bool) -> Match | None:
    renamed = dict(aliases)
    terms: list[tuple[tuple[tuple[str, ...], ...], bool, str]] = []
    for term in _split_terms(text):
        field, negated, value = _term(term, text)
        field = renamed.get(field, field)
        if field not in COMMON_FIELDS and field not in known:
            raise _unknown_field(field, own=own)
        terms.append((_PATHS.get(field, (tuple(field.split(".")),)), negated, value))
    if not terms:
        return None
    return lambda obj: all((_first(obj, paths) == value) is not negated for paths, negated, value in terms)


def _first(obj: Mapping[str, Any], paths: tuple[tuple[str, ...], ...]) -> str:
    """Return the first of several fields that is set; a path that begins with ``=`` is a fixed value."""
    for path in paths:
        value = path[0][1:] if path[0].startswith("=") else _read(obj, path)
        if value:
            return value
    return ""


_PATHS: Final = {
    "spec.hostNetwork": (("spec", "hostNetwork"), ("=false",)),
    "spec.unschedulable": (("spec", "unschedulable"), ("=false",)),
    "source": (("deprecatedSource", "component"), ("reportingController",)),
}
"""Fields that are not simply read where their name says."""


def _unknown_field(field: str, *, own: bool) -> Failure:
    if own:
        return bad_request(f"field label not supported: {field}")
    known = ", ".join(f'"{f}"' for f in COMMON_FIELDS)
    return bad_request(f'"{field}" is not a known field selector: only {known}')


def _split_terms(text: str) -> list[str]:
    terms = re.split(r"(?<!\\),", text)
    return [t for t in terms if t]


def _term(term: str, text: str) -> tuple[str, bool, str]:
    found = re.match(r"([^=!]+?)(!=|==|=)(.*)\Z", term, re.DOTALL)
    if found is None:
        raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
    value = re.sub(r"\\([\\,=])", r"\1", found[3])
    return found[1].strip(), found[2] == "!=", value


def _read(obj: Mapping[str, Any], path: tuple[str, ...]) -> str:
    value: Any = obj
    for part in path:
        if not isinstance(value, dict):
            return ""
        value = value.get(part)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def field_default(obj: Mapping[str, Any], path: str) -> str:
    """Return the field at dotted *path* as a selector sees it: ``""`` when it is absent."""
    return _read(obj, tuple(path.split(".")))
