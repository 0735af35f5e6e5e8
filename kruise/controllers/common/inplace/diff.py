"""How two revisions of a template differ, as far as an update in place asks.

Purpose: an update in place is possible when nothing differs but what a running pod can change
(spec/advanced-statefulset 7.1). This finds the differences, by path.

Guarantees:

* S6: revisions are compared by what they mean: a field left out equals its default, an absent ``resources`` an empty
  one, ``1000m`` one. So a revision that was stored without them (section 16, row 24) can be updated in place.
* An image pull policy that neither revision gives never differs, although its default goes with the tag.
* Whatever stands beside the template in the data, and is not metadata, forbids.

What this does not do: it judges no difference; ``spec`` does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kruise.apis.go_encoding import POD_TEMPLATE, canonical
from kruise.apis.podtemplate import default_pod_template
from kruise.apis.podtemplate.images import default_pull_policy
from kruise.apis.quantity import by_value
from kruise.apis.revisiondata import RevisionDataError, canonical_template, parse_data

__all__ = ["ADD", "REMOVE", "REPLACE", "Change", "Comparison", "compare", "shown"]

ADD: Final = "add"
REMOVE: Final = "remove"
REPLACE: Final = "replace"

_ABSENT: Final = object()

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference."""

    op: str
    path: Path


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two revisions side by side."""

    old: Mapping[str, Any]
    """The old template as Go's types write it."""
    new: Mapping[str, Any]
    metadata_differs: bool
    """Whether the metadata of the templates is not literally the same; ``creationTimestamp`` counts."""
    spec: tuple[Change, ...]
    """Differences of the pod spec: ``("containers", 0, "image")``."""
    beside: tuple[str, ...]
    """What differs outside of metadata and spec of the template."""


def compare(old: bytes, new: bytes) -> Comparison | None:
    """Return how the revision data *new* differs from *old*; ``None`` when one of them holds no template."""
    try:
        documents = parse_data(old), parse_data(new)
    except RevisionDataError:
        return None
    templates = []
    for document in documents:
        spec = document.get("spec")
        template = spec.get("template") if isinstance(spec, dict) else None
        if not isinstance(template, dict):
            return None
        templates.append(template)
    before, after = (canonical_template(template) for template in templates)
    return Comparison(
        before,
        after,
        metadata_differs=templates[0].get("metadata") != templates[1].get("metadata")
        or documents[0].get("metadata") != documents[1].get("metadata"),
        spec=tuple(_changes(*_completed(before, after), ())),
        beside=tuple(_beside(documents, (before, after))),
    )


def shown(path: Path) -> str:
    """Return *path* as people read it.

    >>> shown(("spec", "containers", 0, "env"))
    'spec.containers[0].env'
    """
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _beside(documents: tuple[dict[str, Any], ...], templates: tuple[dict[str, Any], ...]) -> Iterator[str]:
    outside = [{k: v for k, v in d.items() if k not in ("spec", "metadata")} for d in documents]
    spec = [{k: v for k, v in d["spec"].items() if k != "template"} for d in documents]
    inside = [{k: v for k, v in t.items() if k not in ("spec", "metadata")} for t in templates]
    for prefix, pair in (((), outside), (("spec",), spec), (("spec", "template"), inside)):
        for key in {**pair[0], **pair[1]}:
            if pair[0].get(key, _ABSENT) != pair[1].get(key, _ABSENT):
                yield shown((*prefix, key))


def _completed(old: dict[str, Any], new: dict[str, Any]) -> tuple[Any, Any]:
    """Return both pod specs with every default and one spelling of every quantity."""
    pair = copy.deepcopy(old), copy.deepcopy(new)
    for listed in ("containers", "initContainers"):
        befores, afters = (_containers(template, listed) for template in pair)
        for i in range(max(len(befores), len(afters))):
            both = [items[i] for items in (befores, afters) if i < len(items)]
            given = any(container.get("imagePullPolicy") for container in both)
            for container in both:
                if not container.get("imagePullPolicy"):
                    image = container.get("image")
                    policy = default_pull_policy(image if isinstance(image, str) else "") if given else "Always"
                    container["imagePullPolicy"] = policy
    before, after = (
        canonical(default_pod_template(template, host_network_ports=True), POD_TEMPLATE, quantity=by_value)
        for template in pair
    )
    return before.get("spec"), after.get("spec")


def _containers(template: dict[str, Any], listed: str) -> list[dict[str, Any]]:
    spec = template.get("spec")
    items = spec.get(listed) if isinstance(spec, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _changes(old: Any, new: Any, path: Path) -> Iterator[Change]:
    """Yield the differences: members by key, items by index; a null, like an empty list, is nothing."""
    if old in (None, []):
        if new not in (None, []):
            yield Change(ADD, path)
    elif new in (None, []):
        yield Change(REMOVE, path)
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _changes(old.get(key), new.get(key), (*path, key))
    elif isinstance(old, list) and isinstance(new, list):
        for i in range(max(len(old), len(new))):
            before = old[i] if i < len(old) else None
            after = new[i] if i < len(new) else None
            yield from _changes(before, after, (*path, i))
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield Change(REPLACE, path)
