"""Discovery: what the server serves.

Purpose: ``/api``, ``/apis``, ``/apis/GROUP``, the resource lists, ``/version``, and the health paths.

Guarantees:

* TST1: the unaggregated and the aggregated form; registered custom kinds appear at once.

What this does not do: OpenAPI is in ``openapi.py``.
"""

from __future__ import annotations

from typing import Any, Final

from kruise.simulator.apiserver.resources import Registry, ResourceType

Body = dict[str, Any]

VERSION: Final[Body] = {
    "major": "1",
    "minor": "37",
    "emulationMajor": "1",
    "emulationMinor": "37",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "36",
    "gitVersion": "v1.37.2+embedded",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
_VERBS: Final = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_CUSTOM_VERBS: Final = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]
_SUB_VERBS: Final = {
    "status": ["get", "patch", "update"],
    "scale": ["get", "patch", "update"],
    "resize": ["get", "patch", "update"],
    "finalize": ["update"],
    "binding": ["create"],
    "eviction": ["create"],
}
_SUB_KINDS: Final = {
    "scale": ("autoscaling", "v1", "Scale"),
    "binding": ("", "v1", "Binding"),
    "eviction": ("policy", "v1", "Eviction"),
}
AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def discover(parts: list[str], registry: Registry, accept: str) -> tuple[Body, str] | None:
    """Return the document at a path, given as its parts, and its content type; ``None`` when there is none."""
    aggregated = "APIGroupDiscoveryList" in accept and "v=v2;" in accept.replace(" ", "") + ";"
    if parts == ["version"]:
        return VERSION, "application/json"
    if parts == ["api"]:
        if aggregated:
            return _aggregated(registry, core=True), AGGREGATED
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}, "application/json"
    if parts == ["apis"]:
        if aggregated:
            return _aggregated(registry, core=False), AGGREGATED
        groups = [_group(name, versions) for name, versions in registry.groups().items() if name]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}, "application/json"
    if parts[0] == "api" and len(parts) == 2:
        return _resources(registry, "", parts[1])
    if parts[0] == "apis" and len(parts) == 2:
        versions = registry.groups().get(parts[1])
        if versions:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1], versions)}, "application/json"
    if parts[0] == "apis" and len(parts) == 3:
        return _resources(registry, parts[1], parts[2])
    return None


def _group(name: str, versions: list[str]) -> Body:
    named = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {"name": name, "versions": named, "preferredVersion": named[0]}


def _resources(registry: Registry, group: str, version: str) -> tuple[Body, str] | None:
    found = registry.in_version(group, version)
    if not found:
        return None
    resources: list[Body] = []
    for info in found:
        resources.append(_resource(info))
        resources += [_subresource(info, sub) for sub in _own_subresources(info, version)]
    body = {
        "kind": "APIResourceList",
        **({"apiVersion": "v1"} if group else {}),
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": resources,
    }
    return body, "application/json"


def _resource(info: ResourceType) -> Body:
    review = "review" in info.categories
    body: Body = {
        "name": info.plural,
        "singularName": info.singular,
        "namespaced": info.namespaced,
        "kind": info.kind,
        "verbs": ["create"] if review else _verbs(info),
    }
    if info.short:
        body["shortNames"] = list(info.short)
    if info.categories and not review:
        body["categories"] = list(info.categories)
    return body


def _verbs(info: ResourceType) -> list[str]:
    if info.custom:
        return _CUSTOM_VERBS
    return [v for v in _VERBS if v != "deletecollection"] if info.table == "namespaces" else _VERBS


def _own_subresources(info: ResourceType, version: str) -> list[str]:
    """Return the subresources of a version; a custom kind may have others in each."""
    known = [sub for sub in sorted(info.subresources) if sub in _SUB_VERBS]
    if info.definition is None:
        return known
    found: Body = next((v for v in info.definition["versions"] if v["name"] == version), {})
    return [sub for sub in ("status", "scale") if sub in (found.get("subresources") or ())]


def _subresource(info: ResourceType, sub: str) -> Body:
    body: Body = {
        "name": f"{info.plural}/{sub}",
        "singularName": "",
        "namespaced": info.namespaced,
        "kind": info.kind,
        "verbs": _SUB_VERBS[sub],
    }
    if sub in _SUB_KINDS:
        group, version, body["kind"] = _SUB_KINDS[sub]
        if group:
            body["group"], body["version"] = group, version
    return body


def _aggregated(registry: Registry, *, core: bool) -> Body:
    items = []
    for group, versions in registry.groups().items():
        if (group == "") != core:
            continue
        entries = [
            {
                "version": version,
                "freshness": "Current",
                "resources": [
                    _aggregated_resource(info, group, version) for info in registry.in_version(group, version)
                ],
            }
            for version in versions
        ]
        items.append({"metadata": {"name": group} if group else {}, "versions": entries})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated_resource(info: ResourceType, group: str, version: str) -> Body:
    flat = _resource(info)
    body: Body = {
        "resource": info.plural,
        "responseKind": {**_told(info, group, version), "kind": info.kind},
        "scope": "Namespaced" if info.namespaced else "Cluster",
        "singularResource": info.singular,
        "verbs": flat["verbs"],
    }
    for name in ("shortNames", "categories"):
        if name in flat:
            body[name] = flat[name]
    subs = [_subresource(info, sub) for sub in _own_subresources(info, version)]
    if subs:
        body["subresources"] = [
            {
                "subresource": sub["name"].partition("/")[2],
                "responseKind": {
                    **_told(info, group, version),
                    **{name: sub[name] for name in ("group", "version") if name in sub},
                    "kind": sub["kind"],
                },
                "verbs": sub["verbs"],
            }
            for sub in subs
        ]
    return body


def _told(info: ResourceType, group: str, version: str) -> Body:
    """Return group and version as the aggregated form tells them: empty where they are those of a built-in group."""
    return {"group": group, "version": version} if info.custom else {"group": "", "version": ""}
