"""Injection the plain way: copy the pod, change the copy. Slow, obvious, and the measure of the fast one.

It reads sets as plain JSON and shares no code with ``kruise.webhooks`` but the leaves that have golden cases of their
own: selectors, resources, annotations of ``patchPodMetadata``.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from kruise.apis.sidecarset import PatchPodMetadata
from kruise.apis.sidecarset_metadata import patch_pod_metadata
from kruise.controllers.sidecarset.match import Matcher
from kruise.controllers.sidecarset.resources import compute_for

Json = dict[str, Any]

OWN = (
    "podInjectPolicy",
    "upgradeStrategy",
    "shareVolumePolicy",
    "shareVolumeDevicePolicy",
    "transferEnv",
    "resourcesPolicy",
)
HASH, NO_IMAGE = "kruise.io/sidecarset-hash", "kruise.io/sidecarset-hash-without-image"
LISTED, WORKING = "kruise.io/sidecarset-injected-list", "kruise.io/sidecarset-working-hotupgrade-container"


def naive(pod: Json, sets: Iterable[Json], now: str) -> Json:
    """Return *pod* after *sets*, which have no containers in common and no revisions to choose from."""
    out = copy.deepcopy(pod)
    metadata = out.setdefault("metadata", {})
    chosen = [s for s in sets if Matcher.of(s["spec"]).matches(metadata.get("labels"), {})]
    sidecar_names = {name for s in chosen for c in sidecars(s) for name in (c["name"], *twins(c, s))}
    notes = dict(metadata.get("annotations") or {})
    for item in chosen:
        patches = msgspec.convert(item["spec"].get("patchPodMetadata") or [], tuple[PatchPodMetadata, ...])
        notes, _ = patch_pod_metadata(notes, patches)
    own = [c for c in out["spec"].get("containers") or [] if c["name"] not in sidecar_names]
    if any(sidecars(s) for s in chosen):
        new: dict[str, list[tuple[Json, bool]]] = {"initContainers": [], "containers": []}
        volumes: list[Json] = []
        for item in chosen:
            for field in ("initContainers", "containers"):
                for sidecar in item["spec"].get(field) or []:
                    before = sidecar["podInjectPolicy"] == "BeforeAppContainer"
                    for container in build(sidecar, item, pod, own, notes, sidecar_names):
                        new[field].append((container, before))
                    volumes += used(sidecar, item["spec"].get("volumes") or [])
        annotate(notes, chosen, now)
        new["initContainers"].sort(key=lambda pair: pair[0]["name"].encode())
        for field, pairs in new.items():
            merge(out["spec"], field, pairs)
        append(out["spec"], "volumes", volumes)
        append(out["spec"], "imagePullSecrets", [s for i in chosen for s in i["spec"].get("imagePullSecrets") or []])
    if notes:
        metadata["annotations"] = notes
    return out


def sidecars(item: Json) -> list[Json]:
    return [*(item["spec"].get("initContainers") or []), *(item["spec"].get("containers") or [])]


def twins(sidecar: Json, item: Json) -> list[str]:
    hot = (sidecar.get("upgradeStrategy") or {}).get("upgradeType") == "HotUpgrade"
    ordinary = sidecar in (item["spec"].get("initContainers") or []) and sidecar.get("restartPolicy") != "Always"
    return [f"{sidecar['name']}-1", f"{sidecar['name']}-2"] if hot and not ordinary else []


def build(sidecar: Json, item: Json, pod: Json, own: list[Json], notes: Json, names: set[str]) -> list[Json]:
    container = {key: copy.deepcopy(value) for key, value in sidecar.items() if key not in OWN}
    if sidecar.get("resourcesPolicy"):
        container["resources"] = compute_for(pod, sidecar["resourcesPolicy"], names)
    mine = [c for c in own if {"name": "IS_INJECTED", "value": "true"} not in (c.get("env") or [])]
    env = [*(container.get("env") or []), {"name": "IS_INJECTED", "value": "true"}]
    candidates = list(transferred(sidecar, pod, own, notes))
    mounts, devices = container.get("volumeMounts") or [], container.get("volumeDevices") or []
    taken = {m["mountPath"] for m in mounts} | {d["devicePath"] for d in devices}
    if sidecar["shareVolumePolicy"]["type"] == "enabled":
        candidates += [v for c in mine for m in c.get("volumeMounts") or [] for v in expanded(m, c)]
        mounts = mounts + fresh([m for c in mine for m in c.get("volumeMounts") or []], "mountPath", taken)
    if (sidecar.get("shareVolumeDevicePolicy") or {}).get("type") == "enabled":
        devices = devices + fresh([d for c in mine for d in c.get("volumeDevices") or []], "devicePath", taken)
    for variable in candidates:
        if variable["name"] not in [v["name"] for v in env]:
            env.append(variable)
    container["env"] = env
    if mounts:
        container["volumeMounts"] = mounts
    if devices:
        container["volumeDevices"] = devices
    pair = twins(sidecar, item)
    if not pair:
        return [container]
    result = []
    for name, image in zip(pair, (sidecar["image"], sidecar["upgradeStrategy"]["hotUpgradeEmptyImage"]), strict=True):
        versions = [
            {
                "name": v,
                "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{p}.sidecarset.kruise.io/{name}']"}},
            }
            for v, p in (("SIDECARSET_VERSION", "version"), ("SIDECARSET_VERSION_ALT", "versionalt"))
        ]
        result.append({**copy.deepcopy(container), "name": name, "image": image, "env": [*env, *versions]})
    return result


def expanded(mount: Json, container: Json) -> list[Json]:
    wanted = re.findall(r"\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)", mount.get("subPathExpr") or "")
    return [v for name in wanted for v in [v for v in container.get("env") or [] if v["name"] == name][:1]]


def transferred(sidecar: Json, pod: Json, own: list[Json], notes: Json) -> Iterable[Json]:
    for entry in sidecar.get("transferEnv") or []:
        source = entry.get("sourceContainerName")
        if "sourceContainerNameFrom" in entry:
            path = entry["sourceContainerNameFrom"]["fieldRef"]["fieldPath"]
            kind, key = path.removeprefix("metadata.").removesuffix("']").split("['")
            texts = pod["metadata"].get("labels") if kind == "labels" else notes
            source = (texts or {}).get(key)
        for container in [c for c in own if c["name"] == source][:1]:
            for name in sorted({entry.get("envName"), *(entry.get("envNames") or [])} - {None}):
                yield from [v for v in container.get("env") or [] if v["name"] == name][:1]


def fresh(items: list[Json], field: str, taken: set[str]) -> list[Json]:
    found: list[Json] = []
    for item in items:
        if item[field] not in taken and item[field] not in [f[field] for f in found]:
            found.append(copy.deepcopy(item))
    return found


def used(sidecar: Json, volumes: list[Json]) -> list[Json]:
    mounted = [m["name"] for m in [*(sidecar.get("volumeMounts") or []), *(sidecar.get("volumeDevices") or [])]]
    return [v for name in mounted for v in [v for v in volumes if v["name"] == name][-1:]]


def merge(spec: Json, field: str, pairs: list[tuple[Json, bool]]) -> None:
    if not pairs:
        return
    present = spec.get(field) or []
    names = [c["name"] for c in present]
    first, last = [], []
    for container, before in pairs:
        if container["name"] in names:
            present[names.index(container["name"])] = container
        else:
            (first if before else last).append(container)
    spec[field] = first + present + last


def append(spec: Json, field: str, items: list[Json]) -> None:
    present = list(spec.get(field) or [])
    for item in items:
        if item["name"] not in [p["name"] for p in present]:
            present.append(copy.deepcopy(item))
    if present != (spec.get(field) or []):
        spec[field] = present


def annotate(notes: Json, chosen: list[Json], now: str) -> None:
    for key in (HASH, NO_IMAGE):
        entries = json.loads(notes.get(key) or "{}")
        for item in chosen:
            name = item["metadata"]["name"]
            listed = sorted(
                c["name"]
                for c in sidecars(item)
                if c in (item["spec"].get("containers") or []) or c.get("restartPolicy") == "Always"
            )
            entry = {
                "updateTimestamp": now,
                "hash": item["metadata"]["annotations"][key],
                "sidecarSetName": name,
                "sidecarList": listed,
            }
            revision = item.get("status", {}).get("latestRevision")
            if key == HASH and revision:
                entry["controllerRevision"] = revision
            entries[name] = entry
        notes[key] = json.dumps({k: entries[k] for k in sorted(entries)}, separators=(",", ":"))
    listed = {name for name in notes.get(LISTED, "").split(",") if name} | {s["metadata"]["name"] for s in chosen}
    notes[LISTED] = ",".join(sorted(listed))
    working = {c["name"]: f"{c['name']}-1" for s in chosen for c in sidecars(s) if twins(c, s)}
    for name in working:
        for twin, values in ((f"{name}-1", "10"), (f"{name}-2", "01")):
            notes[f"version.sidecarset.kruise.io/{twin}"] = values[0]
            notes[f"versionalt.sidecarset.kruise.io/{twin}"] = values[1]
    if working:
        both = {**json.loads(notes.get(WORKING) or "{}"), **working}
        notes[WORKING] = json.dumps({k: both[k] for k in sorted(both)}, separators=(",", ":"))
