"""Generate the core-fields table from the OpenAPI documents of a real API server.

Usage::

    python -m hack.gen_core_fields --kubeconfig FILE      # asks the server with kubectl
    python -m hack.gen_core_fields --from DIR             # reads api_v1.json, apis_apps_v1.json, ... in DIR
    python -m hack.gen_core_fields ... --check            # exit 1 when the committed table differs

Purpose: one table of names, types, required and nullable fields, list-map keys and patch merge keys, for the kinds that
are read and for pod templates and claims. Nobody types a second list of fields.

Guarantees: the output depends on the documents alone: sorted, compact, one type per line, so that a diff of two server
versions can be read.

What this does not do: descriptions, defaults and enums are left out; they are the server's business.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

TARGET: Final = Path(__file__).resolve().parent.parent / "kruise" / "apis" / "core_fields.json"
PREFIXES: Final = ("io.k8s.api.", "io.k8s.apimachinery.pkg.apis.")
DOCUMENTS: Final = (
    "api/v1",
    "apis/apps/v1",
    "apis/batch/v1",
    "apis/coordination.k8s.io/v1",
    "apis/events.k8s.io/v1",
    "apis/apiextensions.k8s.io/v1",
    "apis/policy/v1",
    "apis/storage.k8s.io/v1",
    "apis/scheduling.k8s.io/v1",
    "apis/rbac.authorization.k8s.io/v1",
    "apis/autoscaling/v1",
)
ROOTS: Final = (
    "core.v1.Pod",
    "core.v1.PodTemplateSpec",
    "core.v1.PersistentVolumeClaim",
    "core.v1.PersistentVolume",
    "core.v1.Node",
    "core.v1.Namespace",
    "core.v1.ConfigMap",
    "core.v1.Secret",
    "core.v1.Service",
    "core.v1.ServiceAccount",
    "core.v1.Event",
    "apps.v1.ControllerRevision",
    "apps.v1.StatefulSet",
    "apps.v1.DaemonSet",
    "apps.v1.Deployment",
    "apps.v1.ReplicaSet",
    "batch.v1.Job",
    "coordination.v1.Lease",
    "events.v1.Event",
    "meta.v1.Status",
    "meta.v1.DeleteOptions",
    "core.v1.Binding",
    "core.v1.ResourceQuota",
    "core.v1.LimitRange",
    "core.v1.PodTemplate",
    "core.v1.ReplicationController",
    "policy.v1.PodDisruptionBudget",
    "policy.v1.Eviction",
    "storage.v1.StorageClass",
    "scheduling.v1.PriorityClass",
    "rbac.v1.Role",
    "rbac.v1.RoleBinding",
    "rbac.v1.ClusterRole",
    "rbac.v1.ClusterRoleBinding",
    "autoscaling.v1.Scale",
)
"""The kinds that somebody reads or writes; everything that they contain comes with them."""
SCALARS: Final = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "intOrString",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "raw",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "raw",
}


def short(name: str) -> str:
    """Return ``core.v1.Pod`` for ``io.k8s.api.core.v1.Pod``."""
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def reference(schema: dict[str, Any]) -> str:
    """Return the full name of the type that *schema* refers to, or ``""``."""
    inner = schema.get("allOf") or [schema]
    target = inner[0].get("$ref", "") if len(inner) == 1 else ""
    return str(target).rpartition("/")[2]


def type_of(schema: dict[str, Any]) -> str:
    """Return the type in the table's own notation: ``string``, ``int32``, ``[core.v1.Container]``, ``{string}`` ..."""
    name = reference(schema)
    if name:
        return SCALARS.get(name) or short(name)
    kind = schema.get("type")
    if kind == "array":
        return f"[{type_of(schema['items'])}]"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"{{{type_of(values)}}}" if isinstance(values, dict) else "raw"
    if kind == "integer":
        return str(schema.get("format", "int64"))
    if kind == "string":
        return "bytes" if schema.get("format") == "byte" else "string"
    return {"boolean": "bool", "number": "number"}.get(str(kind), "raw")


def field_of(schema: dict[str, Any], required: bool) -> list[Any]:
    """Return one row: the type, then the attributes that are not the usual ones."""
    extra: dict[str, Any] = {}
    if required:
        extra["required"] = True
    # A reference says nothing about null, but Go writes a zero time and an unset list of a required field as null.
    if schema.get("nullable") or type_of(schema) == "time" or (required and schema.get("type") == "array"):
        extra["nullable"] = True
    for key, attribute in (
        ("x-kubernetes-list-type", "list"),
        ("x-kubernetes-list-map-keys", "keys"),
        ("x-kubernetes-patch-merge-key", "mergeKey"),
        ("x-kubernetes-patch-strategy", "strategy"),
        ("x-kubernetes-map-type", "map"),
    ):
        if key in schema:
            extra[attribute] = schema[key]
    return [type_of(schema), extra] if extra else [type_of(schema)]


def collect(schemas: dict[str, dict[str, Any]], roots: Iterable[str]) -> dict[str, dict[str, list[Any]]]:
    """Return all types that *roots* reach."""
    by_short = {short(name): schema for name, schema in schemas.items()}
    found: dict[str, dict[str, list[Any]]] = {}
    waiting = [root for root in roots if root in by_short]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        schema = by_short[name]
        required = set(schema.get("required", ()))
        properties = schema.get("properties", {})
        found[name] = {key: field_of(value, key in required) for key, value in sorted(properties.items())}
        for row in found[name].values():
            inner = row[0].strip("[]{}")
            if inner in by_short:
                waiting.append(inner)
    return found


def render(types: dict[str, dict[str, list[Any]]], version: str) -> str:
    """Return the committed form: one type per line."""
    lines = [f'"server":{json.dumps(version)}', '"types":{']
    rows = [f"{json.dumps(name)}:{json.dumps(fields, separators=(',', ':'))}" for name, fields in sorted(types.items())]
    return "{" + ",\n".join(lines) + "\n" + ",\n".join(rows) + "\n}}\n"


def read_documents(arguments: argparse.Namespace) -> tuple[dict[str, dict[str, Any]], str]:
    """Return all schemas, and the version of the server."""
    schemas: dict[str, dict[str, Any]] = {}
    version = ""
    for document in DOCUMENTS:
        if arguments.source:
            path = Path(arguments.source) / f"{document.replace('/', '_')}.json"
            if not path.exists():
                raise SystemExit(f"gen_core_fields: {path} is missing; name a folder with all of {DOCUMENTS}")
            text = path.read_text("utf-8")
        else:
            kubectl = arguments.kubectl or shutil.which("kubectl")
            if not kubectl:
                raise SystemExit("gen_core_fields: no kubectl; pass --kubectl FILE or --from DIR")
            command = [kubectl, "get", "--raw", f"/openapi/v3/{document}"]
            if arguments.kubeconfig:
                command.append(f"--kubeconfig={arguments.kubeconfig}")
            text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        parsed = json.loads(text)
        version = version or parsed["info"]["version"]
        schemas.update(parsed["components"]["schemas"])
    return schemas, version


def main(argv: list[str] | None = None) -> int:
    """Write or check the table."""
    parser = argparse.ArgumentParser(description="generate kruise/apis/core_fields.json")
    parser.add_argument("--kubeconfig", default="", help="a kubeconfig of the API server to ask")
    parser.add_argument("--kubectl", default="", help="the kubectl binary")
    parser.add_argument("--from", dest="source", default="", help="a folder with the documents instead of a server")
    parser.add_argument("--check", action="store_true", help="compare with the committed table instead of writing it")
    arguments = parser.parse_args(argv)
    schemas, version = read_documents(arguments)
    text = render(collect(schemas, ROOTS), version)
    if not arguments.check:
        TARGET.write_text(text, "utf-8")
        print(f"{TARGET.name}: {text.count(chr(10)) - 3} types of Kubernetes {version}")
        return 0
    committed = json.loads(TARGET.read_text("utf-8")) if TARGET.exists() else {}
    if committed.get("server") != version:
        print(f"{TARGET.name} is of Kubernetes {committed.get('server')}, this server is {version}: not compared")
        return 0
    if TARGET.read_text("utf-8") == text:
        return 0
    print(f"{TARGET.name} is stale: run make generate", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
