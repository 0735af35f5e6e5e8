"""Object metadata: the checks that all kinds share."""

from __future__ import annotations

from typing import Any

from kruise.apis import labels
from kruise.apis.meta import validate_object_meta


def errors_of(meta: dict[str, Any], *, namespaced: bool = True) -> list[tuple[str, str]]:
    found = validate_object_meta(
        meta, namespaced=namespaced, name_check=lambda name, _prefix: labels.dns1123_subdomain(name), path="metadata"
    )
    return [(error.field, error.detail) for error in found]


def test_names_and_namespaces() -> None:
    assert errors_of({"name": "a", "namespace": "b"}) == []
    assert errors_of({}) == [("metadata.name", "name or generateName is required"), ("metadata.namespace", "")]
    assert errors_of({"name": "a", "namespace": "b"}, namespaced=False) == [
        ("metadata.namespace", "not allowed on this type")
    ]
    assert [field for field, _ in errors_of({"name": "A", "generateName": "B", "namespace": "c.d"})] == [
        "metadata.generateName",
        "metadata.name",
        "metadata.namespace",
    ]


def test_owners_finalizers_and_managed_fields() -> None:
    owner = {"apiVersion": "a/v1", "kind": "K", "name": "n", "uid": "u", "controller": True}
    found = errors_of(
        {
            "name": "a",
            "namespace": "b",
            "generation": -1,
            "ownerReferences": [owner, {**owner, "name": "m"}, {"apiVersion": "v1", "kind": "Event"}],
            "finalizers": ["orphan", "foregroundDeletion", "a b"],
            "managedFields": [{"operation": "Guess", "fieldsType": "X", "manager": "m\x07" + "x" * 128}],
        }
    )
    assert [field.removeprefix("metadata.") for field, _ in found] == [
        "generation",
        "ownerReferences",
        "ownerReferences.name",
        "ownerReferences.uid",
        "ownerReferences",
        "finalizers",
        "finalizers",
        "managedFields[0].operation",
        "managedFields[0].fieldsType",
        "managedFields[0].manager",
        "managedFields[0].manager",
    ]
    assert found[-1][1] == "invalid character U+0007 (at position 1)"
