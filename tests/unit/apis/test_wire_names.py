"""Every field name of every Struct against the API server's own list of names (TST9)."""

from __future__ import annotations

import importlib
import pkgutil
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes
import msgspec
import pytest

import kruise.apis
from hack.kustomize_yaml import load
from kruise.apis import core_fields, sidecarset_rules
from kruise.apis.sidecarset import Sidecar, SidecarSetSpec
from kruise.apis.statefulset_rules import ONLY_IN_V1BETA1
from kruise.runtime import objects
from kruise.runtime.objects import Object, Resource

REPOSITORY = Path(__file__).parents[3]

PROJECTIONS = {
    "ObjectMeta": "meta.v1.ObjectMeta",
    "OwnerReference": "meta.v1.OwnerReference",
    "Object": "core.v1.ConfigMap",
    "PartialObject": "core.v1.ConfigMap",
    "PodTemplate": "core.v1.PodTemplateSpec",
}
"""Structs that are no field of a resource's projection, and the type they show."""
INSIDE: dict[tuple[type[msgspec.Struct], str], type[msgspec.Struct]] = {
    (SidecarSetSpec, "containers"): Sidecar,
    (SidecarSetSpec, "init_containers"): Sidecar,
}
"""Fields that are kept as bytes, and the struct that reads a part of them."""
OWN_FIELDS = {"Unreadable": {"problem", "path"}}
"""Fields that never cross the wire."""


def modules() -> list[types.ModuleType]:
    names = [info.name for info in pkgutil.walk_packages(kruise.apis.__path__, "kruise.apis.")]
    return [objects, *(importlib.import_module(name) for name in sorted(names))]


def all_structs() -> dict[str, type[msgspec.Struct]]:
    found: dict[str, type[msgspec.Struct]] = {}
    for module in modules():
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.__name__:
                found[f"{module.__name__}.{value.__name__}"] = value
    return found


def resources() -> list[Resource[Any]]:
    found: dict[str, Resource[Any]] = {}
    for module in modules():
        for value in vars(module).values():
            if isinstance(value, Resource):
                found[f"{value.group}/{value.version}/{value.plural}"] = value
    return list(found.values())


def type_name(resource: Resource[Any]) -> str:
    group = resource.group.removesuffix(".k8s.io").replace("rbac.authorization", "rbac") or "core"
    return f"{group}.{resource.version}.{resource.kind}"


def structs_in(annotation: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for part in typing.get_args(annotation):
        yield from structs_in(part)


def fits(annotation: Any, wire: str) -> bool:
    """Whether a Python annotation can hold what the wire type says."""
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    origins = {typing.get_origin(option) or option for option in options}
    if msgspec.Raw in origins or Any in origins:
        return True
    if wire.startswith("["):
        return bool(origins & {tuple, list, frozenset})
    if wire.startswith("{"):
        return dict in origins
    if wire in ("int32", "int64"):
        return int in origins
    if wire == "bool":
        return bool in origins
    if wire in ("string", "time", "quantity", "bytes", "intOrString"):
        return str in origins
    if wire in ("raw", "number", "double"):
        return True
    return any(isinstance(option, type) and issubclass(option, msgspec.Struct) for option in options)


def complaints(struct: type[msgspec.Struct], wire: str, seen: dict[str, type[msgspec.Struct]]) -> Iterator[str]:
    if struct.__name__ in seen and seen[struct.__name__] is struct:
        return
    seen[struct.__name__] = struct
    known = core_fields.fields(wire)
    for item in msgspec.structs.fields(struct):
        if item.name in OWN_FIELDS.get(struct.__name__, ()):
            continue
        if item.encode_name not in known:
            yield f"{struct.__name__}.{item.name}: {wire} has no field {item.encode_name!r}"
            continue
        field = known[item.encode_name]
        if not fits(item.type, field.type):
            yield f"{struct.__name__}.{item.name}: {item.type} cannot hold {field.type}"
        for inner in structs_in(item.type):
            if field.inner in core_fields.known_types():
                yield from complaints(inner, field.inner, seen)


def core_resources() -> list[Resource[Any]]:
    return [item for item in resources() if not item.custom]


def custom_resources() -> list[Resource[Any]]:
    return [item for item in resources() if item.custom]


@pytest.mark.parametrize("resource", core_resources(), ids=str)
def test_tst9_wire_names_of_core_projections(resource: Resource[Any]) -> None:
    assert list(complaints(resource.struct, type_name(resource), {})) == []


def crd_schemas() -> dict[tuple[str, str], dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted((REPOSITORY / "config" / "crd").rglob("*.yaml")):
        for document in load(path):
            if document.get("kind") == "CustomResourceDefinition":
                spec = document["spec"]
                for version in spec["versions"]:
                    schema = version["schema"]["openAPIV3Schema"]
                    found[spec["names"]["kind"], version["name"]] = schema
    return found


Lacking = Mapping[type[msgspec.Struct], frozenset[str]]
LACKING: dict[tuple[str, str], Lacking] = {
    ("StatefulSet", "v1alpha1"): ONLY_IN_V1BETA1,
    ("SidecarSet", "v1alpha1"): sidecarset_rules.ONLY_IN_V1BETA1,
}
"""Fields that one version of a kind does not have; its struct is that of the other."""


def inside(struct: type[msgspec.Struct], name: str) -> list[type[msgspec.Struct]]:
    return [INSIDE[struct, name]] if (struct, name) in INSIDE else []


def crd_complaints(struct: type[msgspec.Struct], schema: dict[str, Any], lacking: Lacking) -> Iterator[str]:
    known = schema.get("properties", {})
    for item in msgspec.structs.fields(struct):
        if item.encode_name == "metadata":
            continue
        if item.encode_name in lacking.get(struct, ()):
            if item.encode_name in known:
                yield f"{struct.__name__}.{item.name}: the CRD has the field that its version lacks"
            continue
        if item.encode_name not in known:
            yield f"{struct.__name__}.{item.name}: the CRD has no field {item.encode_name!r}"
            continue
        inner_schema = known[item.encode_name]
        for inner in (*structs_in(item.type), *inside(struct, item.name)):
            yield from crd_complaints(inner, inner_schema.get("items", inner_schema), lacking)


@pytest.mark.parametrize("resource", custom_resources(), ids=str)
def test_tst9_wire_names_of_our_kinds(resource: Resource[Any]) -> None:
    schema = crd_schemas().get((resource.kind, resource.version))
    if schema is None:
        pytest.skip(f"config/crd holds no {resource.kind} {resource.version} yet")
    lacking = LACKING.get((resource.kind, resource.version), {})
    assert list(crd_complaints(resource.struct, schema, lacking)) == []


def test_tst9_each_version_of_a_kind_is_compared() -> None:
    compared = {(item.kind, item.version) for item in custom_resources()}
    assert set(crd_schemas()) <= compared
    assert set(LACKING) <= compared


def test_tst9_every_struct_is_compared() -> None:
    compared: set[type[msgspec.Struct]] = set()
    waiting = [item.struct for item in resources()]
    structs = all_structs()
    waiting += [struct for name, struct in structs.items() if struct.__name__ in PROJECTIONS]
    while waiting:
        struct = waiting.pop()
        if struct not in compared:
            compared.add(struct)
            for item in msgspec.structs.fields(struct):
                waiting += [*structs_in(item.type), *inside(struct, item.name)]
    left = {name for name, struct in structs.items() if struct not in compared and struct.__name__ not in OWN_FIELDS}
    assert left == set(), "name the type that these show in PROJECTIONS, or make them part of a resource's projection"


@pytest.mark.parametrize("name", sorted(PROJECTIONS))
def test_obj9_wire_names_of_shared_structs(name: str) -> None:
    found = [struct for struct in all_structs().values() if struct.__name__ == name]
    if not found:
        pytest.skip(f"no {name} is declared")
    assert list(complaints(found[0], PROJECTIONS[name], {})) == []


def test_tst9_the_comparison_sees_a_camel_case_acronym() -> None:
    class Wrong(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
        pod_ip: str = ""

    assert any("podIp" in line for line in complaints(Wrong, "core.v1.PodStatus", {}))


# ---- a second opinion: the official client's models ------------------------------------------------------------------

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p",
        "namespace": "n",
        "uid": "u",
        "resourceVersion": "7",
        "generateName": "p-",
        "labels": {"a": "b"},
        "ownerReferences": [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "name": "o",
                "uid": "x",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    },
    "spec": {
        "nodeName": "node",
        "restartPolicy": "Never",
        "containers": [
            {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}, "ports": [{"containerPort": 1}]}
        ],
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
    },
    "status": {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "hostIP": "10.0.0.2",
        "containerStatuses": [
            {
                "name": "c",
                "image": "i",
                "imageID": "sha256:1",
                "containerID": "c://1",
                "ready": True,
                "restartCount": 3,
                "state": {"terminated": {"exitCode": 1, "reason": "Error"}},
            }
        ],
    },
}


def test_tst9_round_trip_through_the_official_models() -> None:
    pods = [item for item in resources() if item.kind == "Pod"]
    if not pods:
        pytest.skip("no projection of pods is declared")
    client = kubernetes.client.ApiClient()
    raw = msgspec.json.encode(POD)
    model = client.deserialize(raw.decode(), "V1Pod", "application/json")
    again = msgspec.json.encode(client.sanitize_for_serialization(model))
    decoded = msgspec.json.decode(raw, type=pods[0].struct)
    assert msgspec.json.decode(again, type=pods[0].struct) == decoded
    status = decoded.status.container_statuses[0]
    assert status.restart_count == 3
    client.close()


def models() -> list[tuple[str, dict[str, str]]]:
    found = []
    for name in core_fields.known_types():
        _, version, kind = name.rsplit(".", 2)
        model = getattr(kubernetes.client, f"{version.capitalize()}{kind}", None)
        if model is not None and name.startswith(("core.", "meta.", "apps.", "coordination.")):
            found.append((name, model.attribute_map))
    return found


def test_tst9_the_table_agrees_with_the_official_models() -> None:
    """Names that the client has and the server has not are those of another version: few, and none of an acronym."""
    assert len(models()) > 150
    strangers = {
        f"{name}.{wire}"
        for name, attributes in models()
        for wire in attributes.values()
        if wire not in core_fields.fields(name)
    }
    assert len(strangers) < 20, sorted(strangers)
    assert not any(wire.endswith(("IP", "ID", "IPs")) for wire in strangers)
