"""The data of a ControllerRevision: its bytes, and when two of them mean the same.

Purpose: a template has one revision, whoever wrote it and however it is spelled (spec/advanced-statefulset 2.7).

Guarantees:

* S6: data written here has Go's bytes, so names and hashes equal OpenKruise's. Two revisions are equal when the API
  server would make the same pod of both: fields left out equal their defaults, quantities compare by value, null and
  empty lists equal absent ones (X38, X39). The equality is an equivalence, and does not depend on who wrote the bytes.
* A field that nobody here knows is part of the data and of the equality (design 2). What a newer core-fields table
  knows about it changes neither.
* A ``$patch`` that an undo left in a template (ecosystem 7) is neither data nor part of a pod.

What this does not do: it names no revision and chooses none (``controllers/common/revisions``).
"""

from __future__ import annotations

import json
from typing import Any, Final

from kruise.apis import gojson
from kruise.apis.go_encoding import POD_TEMPLATE, canonical
from kruise.apis.podtemplate import default_pod_template
from kruise.apis.podtemplate.images import default_pull_policy
from kruise.apis.quantity import by_value

__all__ = [
    "RevisionDataError",
    "applied_template",
    "canonical_template",
    "data_key",
    "parse_data",
    "revision_data",
    "semantically_equal",
    "template_key",
    "template_of",
]

_DIRECTIVE: Final = "$patch"


class RevisionDataError(ValueError):
    """Data that is no template. The message says what is wrong with it."""


def canonical_template(template: dict[str, Any]) -> dict[str, Any]:
    """Return a pod template as Go's types write it, without a stray ``$patch``. *template* is not changed."""
    written = canonical(template, POD_TEMPLATE)
    return written if isinstance(written, dict) else {}


def revision_data(template_json: dict[str, Any]) -> bytes:
    """Return the data of the revision of a pod template.

    >>> revision_data({"spec": {}})[:62]
    b'{"spec":{"template":{"$patch":"replace","metadata":{"creationT'
    """
    template = {_DIRECTIVE: "replace", **canonical_template(template_json)}
    return gojson.encode_sorted({"spec": {"template": template}})


def parse_data(data: bytes) -> dict[str, Any]:
    """Return the document that *data* is. Raises RevisionDataError when it is no JSON object."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RevisionDataError(f"invalid JSON document: {type(error).__name__}") from None
    if not isinstance(document, dict):
        raise RevisionDataError("invalid JSON document: no object")
    return document


def template_of(data: bytes) -> dict[str, Any]:
    """Return the pod template in *data*, without ``$patch``. Raises RevisionDataError when there is none."""
    spec = parse_data(data).get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    if not isinstance(template, dict):
        raise RevisionDataError("no spec.template in it")
    template.pop(_DIRECTIVE, None)
    return template


def applied_template(data: bytes, template: dict[str, Any]) -> dict[str, Any]:
    """Return what *template* becomes when the revision *data* is applied to its set.

    The whole template is replaced, and nothing else; data without a template leaves it. Raises RevisionDataError when
    *data* is no JSON.
    """
    spec = parse_data(data).get("spec")
    if isinstance(spec, dict) and "template" in spec:
        found = spec["template"] if isinstance(spec["template"], dict) else {}
        return canonical_template(found)
    return canonical_template(template)


# ---- equality --------------------------------------------------------------------------------------------------------


def semantically_equal(data_a: bytes, data_b: bytes) -> bool:
    """Tell whether two revisions mean the same. Data that cannot be read equals nothing but the same bytes."""
    if data_a == data_b:
        return True
    key = data_key(data_a)
    return key is not None and key == data_key(data_b)


def data_key(data: bytes) -> bytes | None:
    """Return what two equal revisions have in common, or ``None`` for data that cannot be read."""
    try:
        return template_key(template_of(data))
    except RevisionDataError:
        return None


def template_key(template: dict[str, Any], *, upstream_only: bool = False) -> bytes:
    """Return what two equal templates have in common: the form in which everything is said once and in full.

    *upstream_only* leaves out what OpenKruise's Go types do not have: what it would have stored.
    """
    template = canonical(template, POD_TEMPLATE, upstream_only=upstream_only)
    spec = template.get("spec")
    containers = spec.get("containers") if isinstance(spec, dict) else None
    for container in containers if isinstance(containers, list) else ():
        # Without a policy the API server goes by the tag. That is what runs, and not the Always of our own admission.
        if isinstance(container, dict) and not container.get("imagePullPolicy"):
            image = container.get("image")
            container["imagePullPolicy"] = default_pull_policy(image if isinstance(image, str) else "")
    completed = default_pod_template(template, host_network_ports=True)
    return gojson.encode_sorted(_without_nothing(canonical(completed, POD_TEMPLATE, quantity=by_value)))


def _without_nothing(value: Any) -> Any:
    """Drop nulls and empty lists: what Go cannot leave out, and what it can."""
    if isinstance(value, dict):
        return {k: _without_nothing(v) for k, v in value.items() if v is not None and v != []}
    if isinstance(value, list):
        return [_without_nothing(item) for item in value]
    return value
