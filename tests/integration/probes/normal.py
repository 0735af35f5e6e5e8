"""From what a probe saw to what two servers can be compared by.

Purpose: uids, times, versions and the names that a run gives differ between two runs on the same server. They become
symbols, by the order in which they appear; versions by the order of their numbers, so that equal, older and newer stay
what they are.

What this does not do: it hides nothing else. A difference that is accepted stands in ``differences.py``.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

_UID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MICRO: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_KUBECTL_TIME: Final = re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}")
_GENERATED: Final = re.compile(r"(generated-)[bcdfghjklmnpqrstvwxz2456789]{5}(?![a-z0-9])")
_PORT: Final = re.compile(r"127\.0\.0\.1:\d{4,5}")
_REVISION: Final = re.compile(r"revision=\d+")
_DROPPED: Final = ("managedFields", "storageVersionHash", "selfLink")


def normal(seen: Any, namespace: str) -> Any:
    """Return *seen* as JSON values with symbols for what differs from run to run."""
    tidy = _without(json.loads(json.dumps(seen)))
    versions: set[int] = set()
    _versions(tidy, versions)
    ranks = {str(rv): f"<rv{i}>" for i, rv in enumerate(sorted(versions), 1)}
    text = json.dumps(_ranked(tidy, ranks), sort_keys=True)
    text = text.replace(namespace, "<ns>")
    text = _in_order(_UID, text, "uid")
    text = _PORT.sub("127.0.0.1:<port>", text)
    text = _REVISION.sub("revision=<n>", text)
    text = _GENERATED.sub(r"\1<random>", text)
    for pattern, symbol in ((_MICRO, "<micro>"), (_TIME, "<time>"), (_KUBECTL_TIME, "<time>")):
        text = pattern.sub(symbol, text)
    return json.loads(text)


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: _without(v) for k, v in value.items() if k not in _DROPPED}
        if kept.get("kind") == "Status" and isinstance(kept.get("details"), dict):
            _sort_causes(kept)
        if str(kept.get("kind", "")).endswith(("List", "Table")) and isinstance(kept.get("metadata"), dict):
            # The version of a list is the whole server's: it says how busy others were.
            kept["metadata"].pop("resourceVersion", None)
        return kept
    return [_without(v) for v in value] if isinstance(value, list) else value


def _sort_causes(status: dict[str, Any]) -> None:
    """Sort what is wrong with an object: a real server walks its maps in an order of its own each time."""
    causes = status["details"].get("causes") or []
    causes.sort(key=lambda c: (c.get("field", ""), c.get("message", "")))
    head, found, _ = status.get("message", "").partition(" is invalid: [")
    if found:
        texts = dict.fromkeys(f"{c['field']}: {c['message']}" if c.get("field") else c["message"] for c in causes)
        status["message"] = f"{head} is invalid: [{', '.join(texts)}]"


def _is_version(key: str, value: Any) -> bool:
    return key == "resourceVersion" and isinstance(value, str) and value.isdigit()


def _versions(value: Any, found: set[int]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if _is_version(key, inner):
                found.add(int(inner))
            _versions(inner, found)
    elif isinstance(value, list):
        for inner in value:
            _versions(inner, found)
    elif isinstance(value, str) and value.startswith("rv:"):
        found.add(int(value[3:]))


def _ranked(value: Any, ranks: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: ranks[v] if _is_version(k, v) else _ranked(v, ranks) for k, v in value.items()}
    if isinstance(value, list):
        return [_ranked(v, ranks) for v in value]
    if isinstance(value, str):
        if value.startswith("rv:"):
            return ranks[value[3:]]
        for rv, symbol in ranks.items():
            # Texts name versions, too; a short number in a text is more likely something else.
            if len(rv) > 2 and rv in value:
                value = re.sub(rf"(?<![\w.]){rv}(?![\w.])", symbol, value)
    return value


def _in_order(pattern: re.Pattern[str], text: str, name: str) -> str:
    symbols: dict[str, str] = {}
    return pattern.sub(lambda found: symbols.setdefault(found[0], f"<{name}{len(symbols) + 1}>"), text)
