"""The containers of one pod that depend on the pod: shared volumes and devices, copied variables, computed resources.

Purpose: build what no fragment can hold, from the pod as it came.

Guarantees (spec/sidecarset 5.4):

* Only the pod's own containers are looked at. Containers of the sets that are being injected never count, whether
  they stand in the pod already or not: so a second call sees what the first one saw (C2).
* The sidecar's own definitions win: a path, device or variable that it has is not taken from the pod.
* Nothing of the pod is changed here, and nothing of it is shared with the result (C1).

What this does not do: it decides nothing about sets; it only builds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from kruise.apis.sidecarset import INJECTED_ENV, TransferEnv
from kruise.controllers.sidecarset.resources import compute_for
from kruise.webhooks.inject_set import INJECTED_VARIABLE, CompiledSidecar, Piece

__all__ = ["PodParts", "is_injected"]

_EXPANSION: Final = re.compile(r"\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")
"""``$(NAME)`` in a sub-path."""
_SUBSCRIPT: Final = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]", re.DOTALL)


def is_injected(container: Mapping[str, Any]) -> bool:
    """Tell whether *container* came out of a SidecarSet."""
    return any(
        variable.get("name") == INJECTED_ENV and variable.get("value") == "true"
        for variable in container.get("env") or ()
    )


class PodParts:
    """The pod as sidecars see it; made once for a request, and only where a sidecar needs it."""

    __slots__ = ("_annotations", "_containers", "_labels", "_names", "_pod")

    def __init__(self, pod: Mapping[str, Any], annotations: Mapping[str, str], sidecar_names: Collection[str]) -> None:
        """Look at *pod*; *annotations* are those that it will have after ``patchPodMetadata``."""
        self._pod = pod
        self._annotations = annotations
        self._labels: Mapping[str, str] = (pod.get("metadata") or {}).get("labels") or {}
        self._names = sidecar_names
        self._containers: list[Mapping[str, Any]] = [
            container
            for container in (pod.get("spec") or {}).get("containers") or ()
            if container.get("name") not in sidecar_names
        ]

    def build(self, sidecar: CompiledSidecar) -> tuple[Piece, ...]:
        """Return the containers of *sidecar* in this pod. Raises ResourcesError."""
        body = dict(sidecar.core)
        if sidecar.resources_policy is not None:
            body["resources"] = compute_for(self._pod, sidecar.resources_policy, self._names)
        shared, expanded = self._shared_mounts() if sidecar.share_mounts else ([], [])
        mounts = list(body.get("volumeMounts") or ())
        devices = list(body.get("volumeDevices") or ())
        own = _paths(mounts, "mountPath") | _paths(devices, "devicePath")
        mounts += _unique(shared, "mountPath", own)
        if sidecar.share_devices:
            found = [device for c in self._sources() for device in c.get("volumeDevices") or ()]
            devices += _unique(found, "devicePath", own)
        if mounts:
            body["volumeMounts"] = mounts
        if devices:
            body["volumeDevices"] = devices
        body["env"] = self._variables(sidecar, expanded)
        return sidecar.assemble(body)

    def _sources(self) -> Iterable[Mapping[str, Any]]:
        return (container for container in self._containers if not is_injected(container))

    def _shared_mounts(self) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
        """Return the mounts of the pod's own containers, and the variables that their sub-paths name."""
        mounts: list[Mapping[str, Any]] = []
        variables: list[Mapping[str, Any]] = []
        for container in self._sources():
            for mount in container.get("volumeMounts") or ():
                mounts.append(mount)
                for name in _EXPANSION.findall(mount.get("subPathExpr") or ""):
                    variable = _variable(container, name)
                    if variable is not None:
                        variables.append(variable)
        return mounts, variables

    def _variables(self, sidecar: CompiledSidecar, expanded: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        result = [*(sidecar.core.get("env") or ()), INJECTED_VARIABLE]
        known = {variable.get("name") for variable in result}
        for variable in (*self._transferred(sidecar.transfer), *expanded):
            if variable.get("name") not in known:
                known.add(variable.get("name"))
                result.append(variable)
        return result

    def _transferred(self, entries: Iterable[TransferEnv]) -> Iterable[Mapping[str, Any]]:
        for entry in entries:
            source = self._source_name(entry)
            container = next((c for c in self._containers if c.get("name") == source), None) if source else None
            if container is None:
                continue
            for name in sorted({entry.env_name, *entry.env_names} - {""}):
                variable = _variable(container, name)
                if variable is not None:
                    yield variable

    def _source_name(self, entry: TransferEnv) -> str:
        """Return the container to copy from; ``""``: none."""
        origin = entry.source_container_name_from
        if origin is None or origin.field_ref is None:
            return entry.source_container_name
        found = _SUBSCRIPT.fullmatch(origin.field_ref.field_path)
        if found is None:
            return ""
        return (self._labels if found[1] == "labels" else self._annotations).get(found[2], "")


def _paths(items: Iterable[Mapping[str, Any]], field: str) -> set[Any]:
    return {item.get(field) for item in items}


def _unique(items: Iterable[Mapping[str, Any]], field: str, taken: Collection[Any]) -> list[Mapping[str, Any]]:
    """Return *items* without those whose path is taken, by others or by an earlier one."""
    found: dict[Any, Mapping[str, Any]] = {}
    for item in items:
        path = item.get(field)
        if path not in taken:
            found.setdefault(path, item)
    return list(found.values())


def _variable(container: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return next((v for v in container.get("env") or () if v.get("name") == name), None)
