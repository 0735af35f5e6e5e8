"""Which annotations sets may put on pods: the white list of the administrator (spec/sidecarset 4.3).

Guarantees: a key is allowed when an expression of a rule for this set is found in it, anywhere. Without a list, or
without a rule for the set, only the feature gate allows anything. A list that cannot be read allows nothing.

What this does not do: it reads no ConfigMap; whoever calls brings its data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kruise.apis import selectors
from kruise.apis.goregex import Regex, RegexError, compile_regex
from kruise.apis.sidecarset import WHITE_LIST_KEY

__all__ = ["white_list_problem"]

_MISSING: Final = "SidecarSet patch metadata whitelist not found"
_NO_RULE: Final = "sidecarSet patch metadata annotation is not allowed"
_REFUSED: Final = "sidecarSet patch metadata annotation({}) is not allowed"
_MALFORMED: Final = "SidecarSet patch metadata whitelist is not a JSON object with rules"


def white_list_problem(
    labels: Mapping[str, str], keys: Sequence[str], data: Mapping[str, str] | None, *, allowed_by_default: bool
) -> str:
    """Return why a set with *labels* may not patch annotations with *keys*; ``""``: it may.

    *data* is that of the ConfigMap, ``None`` when there is none; *allowed_by_default* is the gate
    SidecarSetPatchPodMetadataDefaultsAllowed.
    """
    listed = (data or {}).get(WHITE_LIST_KEY)
    if listed is None:
        return "" if allowed_by_default else _MISSING
    try:
        expressions = _expressions(json.loads(listed), labels)
    except (RegexError, selectors.SelectorError) as error:
        return str(error)
    except (ValueError, RecursionError):
        return _MALFORMED
    if not expressions:
        return "" if allowed_by_default else _NO_RULE
    for key in sorted(keys):
        if not any(expression.search(key) for expression in expressions):
            return _REFUSED.format(key)
    return ""


def _expressions(listed: Any, labels: Mapping[str, str]) -> list[Regex]:
    """Return the expressions of every rule for a set with *labels*."""
    found: list[Regex] = []
    for rule in _objects(listed, "rules"):
        selector = rule.get("selector")
        if selector is not None and not isinstance(selector, dict):
            raise ValueError(_MALFORMED)
        # No selector is a rule for all sets, and so is an empty one.
        if selector is None or selectors.convert(selector).matches(labels):
            patterns = rule.get("allowedAnnotationKeyExprs") or []
            if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
                raise ValueError(_MALFORMED)
            found += map(compile_regex, patterns)
    return found


def _objects(value: Any, key: str) -> list[dict[str, Any]]:
    listed = (value or {}).get(key) if value is None or isinstance(value, dict) else 0
    if listed is None:
        return []
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise ValueError(_MALFORMED)
    return listed
