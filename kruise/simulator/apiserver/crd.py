"""CustomResourceDefinitions: from the object to a resource of the server.

Purpose: creating a CRD makes its kind served at once, with its versions, subresources, columns and schema.

Guarantees:

* TST1: every served version has a path; objects are stored in the storage version; unknown fields are pruned, defaults
  are filled in and the schema is checked (422), on create and on update.

What this does not do: CEL rules are not evaluated. Between versions only ``apiVersion`` changes, unless the server is
given a conversion (:func:`with_conversion`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from kruise.runtime.clock import format_time
from kruise.simulator.apiserver.failure import invalid
from kruise.simulator.apiserver.resources import ResourceType
from kruise.simulator.apiserver.schema import Schema

Body = dict[str, Any]

DEFINITIONS: Final = "customresourcedefinitions.apiextensions.k8s.io"


def definition_type(crd: Body) -> ResourceType:
    """Return the resource that *crd* defines."""
    spec = crd["spec"]
    names = spec["names"]
    served = [v for v in spec["versions"] if v.get("served", True)]
    stored = next((v for v in served if v.get("storage")), served[0])
    versions = (stored["name"], *(v["name"] for v in served if v is not stored))
    subresources = stored.get("subresources") or {}
    scale = subresources.get("scale") or {}
    schemas = {v["name"]: Schema((v.get("schema") or {}).get("openAPIV3Schema") or {}) for v in served}
    kind, group = names["kind"], spec["group"]

    def prepare(obj: Body, version: str) -> None:
        schema = schemas[version]
        schema.prune(obj)
        schema.default(obj)
        causes = schema.check(obj)
        if causes:
            raise invalid(kind, group, obj["metadata"].get("name", ""), *causes)

    return ResourceType(
        group,
        versions,
        kind,
        names["plural"],
        spec.get("scope") == "Namespaced",
        frozenset(subresources),
        custom=True,
        generation=True,
        unconditional=False,
        short=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        fields=tuple(f["jsonPath"].lstrip(".") for f in stored.get("selectableFields") or ()),
        scale={
            "spec": scale.get("specReplicasPath", "").lstrip("."),
            "status": scale.get("statusReplicasPath", "").lstrip("."),
            "selector": scale.get("labelSelectorPath", "").lstrip("."),
        },
        columns=_columns(stored),
        prepare=prepare,
    )


def _columns(version: Body) -> tuple[tuple[str, str, str], ...]:
    columns = version.get("additionalPrinterColumns") or ()
    return tuple((c["name"], c["type"], c["jsonPath"].lstrip(".")) for c in columns)


def with_conversion(info: ResourceType, convert: Callable[[Body, str], Body]) -> ResourceType:
    """Return *info* with a conversion between its versions; *convert* takes an object and an ``apiVersion``."""
    return replace(info, convert=convert)


def established(crd: Body, now: float) -> Body:
    """Return the status of a definition that is served."""
    had = crd.get("status") or {}
    if any(c["type"] == "Established" for c in had.get("conditions") or ()):
        return had
    stamp = format_time(now)
    conditions = [
        {
            "type": "NamesAccepted",
            "status": "True",
            "reason": "NoConflicts",
            "message": "no conflicts found",
            "lastTransitionTime": stamp,
        },
        {
            "type": "Established",
            "status": "True",
            "reason": "InitialNamesAccepted",
            "message": "the initial names have been accepted",
            "lastTransitionTime": stamp,
        },
    ]
    stored = [v["name"] for v in crd["spec"]["versions"] if v.get("storage")]
    return {"conditions": conditions, "acceptedNames": crd["spec"]["names"], "storedVersions": stored}
