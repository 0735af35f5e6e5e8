"""A SidecarSet made ready for injection: everything that no pod changes, serialised once.

Purpose: turn one revision of a set into fragments of JSON that a patch only has to join.

Guarantees:

* The same containers, volumes and secrets are compiled once (spec revisions share the result); a status write of the
  set compiles nothing anew.
* A field that nobody here knows stays in the fragment: only the fields that SidecarSets add to a container go.
* A sidecar whose form depends on the pod (shared volumes, copied variables, computed resources) has no fragment;
  ``inject_containers`` builds it from the same parts.
* A set that cannot be used raises :class:`UnusableSet` here, once, and not at every pod.

What this does not do: it looks at no pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import msgspec

from kruise.apis import gojson, selectors
from kruise.apis.selectors import Selector, SelectorError
from kruise.apis.sidecarset import (
    BEFORE_APP_CONTAINER,
    INJECTED_ENV,
    SHARE_ENABLED,
    VERSION_ALT_ANNOTATION_PREFIX,
    VERSION_ALT_ENV,
    VERSION_ANNOTATION_PREFIX,
    VERSION_ENV,
    InjectionRevision,
    PatchPodMetadata,
    Sidecar,
    SidecarSet,
    TransferEnv,
    sidecars,
)
from kruise.controllers.sidecarset.match import Matcher, canary_base, index_keys

__all__ = ["INJECTED_VARIABLE", "CompiledSet", "CompiledSidecar", "Parts", "Piece", "UnusableSet", "compile_set"]

_OWN_FIELDS: Final = frozenset(
    {
        "podInjectPolicy",
        "upgradeStrategy",
        "shareVolumePolicy",
        "shareVolumeDevicePolicy",
        "transferEnv",
        "resourcesPolicy",
    }
)
"""What a sidecar has beside the fields of a container."""
INJECTED_VARIABLE: Final[Mapping[str, Any]] = {"name": INJECTED_ENV, "value": "true"}


class UnusableSet(ValueError):
    """A set that nothing can be injected from. The message says why."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One container as it stands in a pod."""

    name: str
    body: Mapping[str, Any]
    data: bytes

    @classmethod
    def of(cls, name: str, body: Mapping[str, Any]) -> Piece:
        """Serialise *body*."""
        return cls(name, body, msgspec.json.encode(body))


@dataclass(frozen=True, slots=True)
class CompiledSidecar:
    """One sidecar of a set."""

    name: str
    init: bool
    before: bool
    """Whether it goes before the pod's own containers."""
    twins: bool
    """Whether two containers, ``-1`` and ``-2``, take its place."""
    empty_image: str
    core: Mapping[str, Any]
    """The container without the fields of SidecarSets."""
    volume_names: tuple[str, ...]
    """The volumes that it mounts, in order."""
    share_mounts: bool
    share_devices: bool
    transfer: tuple[TransferEnv, ...]
    resources_policy: Mapping[str, Any] | None
    pieces: tuple[Piece, ...] | None
    """The containers, where they are the same for every pod."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the containers in a pod."""
        return (f"{self.name}-1", f"{self.name}-2") if self.twins else (self.name,)

    def assemble(self, body: Mapping[str, Any]) -> tuple[Piece, ...]:
        """Return the containers for *body*, the container with all its variables but those of twins."""
        if not self.twins:
            return (Piece.of(self.name, body),)
        worker, idle = self.names
        return (
            Piece.of(worker, _twin(body, worker, body.get("image"))),
            Piece.of(idle, _twin(body, idle, self.empty_image)),
        )


def _twin(body: Mapping[str, Any], name: str, image: Any) -> dict[str, Any]:
    versions = ((VERSION_ENV, VERSION_ANNOTATION_PREFIX), (VERSION_ALT_ENV, VERSION_ALT_ANNOTATION_PREFIX))
    variables = [
        {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{prefix}{name}']"}}}
        for variable, prefix in versions
    ]
    twin = {**body, "name": name, "env": [*body["env"], *variables]}
    if image:
        twin["image"] = image
    else:
        twin.pop("image", None)
    return twin


@dataclass(frozen=True, slots=True)
class Parts:
    """The sidecars and volumes of a spec."""

    init: tuple[CompiledSidecar, ...]
    containers: tuple[CompiledSidecar, ...]
    volumes: Mapping[str, Piece]
    used_volumes: Mapping[str, Piece]
    """The volumes that sidecars mount, in the order of the mounts; one that the set does not declare is left out."""
    placed: Mapping[str, bool]
    """The names of the containers in a pod, each with whether it is an init container."""
    names: frozenset[str]
    """Every name of a container in a pod, and of the sidecars themselves."""
    sidecar_list: tuple[str, ...]
    """The sidecars that count for upgrades, sorted (spec 2)."""
    hot_annotations: tuple[tuple[str, str], ...]
    hot_working: Mapping[str, str]

    @property
    def sidecars(self) -> tuple[CompiledSidecar, ...]:
        """All sidecars in the order in which they are built."""
        return self.init + self.containers


@dataclass(frozen=True, slots=True)
class CompiledSet:
    """One revision of a set."""

    name: str
    parts: Parts
    hash: str
    hash_without_image: str
    revision: str
    """The ControllerRevision that pods are told; ``""`` where nobody knows it yet."""
    matcher: Matcher
    keys: tuple[str, ...]
    canary_of: str
    paused: bool
    secrets: tuple[str, ...]
    patches: tuple[PatchPodMetadata, ...]
    injection: InjectionRevision | None
    """The revision that new pods get; ``None``: the current one."""
    update_paused: bool
    update_selector: Selector | SelectorError | None
    partition: int | str
    hash_entry: tuple[str, str] = ("", "")
    hash_without_image_entry: tuple[str, str] = ("", "")
    """The entry of the set in the annotation, as the text before its time and the text after it."""


def compile_set(item: SidecarSet) -> CompiledSet:
    """Return *item* ready for injection. Raises UnusableSet."""
    spec = item.spec
    try:
        parts = _parts(bytes(spec.init_containers), bytes(spec.containers), bytes(spec.volumes))
        plain = msgspec.to_builtins({"selector": spec.selector, "namespaceSelector": spec.namespace_selector})
        matcher = Matcher.of(plain)
    except (msgspec.ValidationError, msgspec.DecodeError, SelectorError) as error:
        raise UnusableSet(str(error)) from None
    name = item.metadata.name
    revision = item.status.latest_revision
    chosen = spec.injection_strategy.revision
    if chosen is not None and not (chosen.revision_name or chosen.custom_version):
        chosen = None
    return CompiledSet(
        name=name,
        parts=parts,
        hash=item.hash,
        hash_without_image=item.hash_without_image,
        revision=revision,
        matcher=matcher,
        keys=index_keys(plain["namespaceSelector"]),
        canary_of=canary_base(item.metadata.annotations),
        paused=spec.injection_strategy.paused,
        secrets=tuple(secret.name for secret in spec.image_pull_secrets or ()),
        patches=spec.patch_pod_metadata or (),
        injection=chosen,
        update_paused=spec.update_strategy.paused,
        update_selector=_selector(spec.update_strategy.selector),
        partition=spec.update_strategy.partition,
        hash_entry=_entry(name, item.hash, parts.sidecar_list, revision),
        hash_without_image_entry=_entry(name, item.hash_without_image, parts.sidecar_list, ""),
    )


def _selector(chosen: Any) -> Selector | SelectorError | None:
    if chosen is None:
        return None
    try:
        return selectors.convert_fast(msgspec.to_builtins(chosen))
    except SelectorError as error:
        return error


def _entry(name: str, value: str, names: tuple[str, ...], revision: str) -> tuple[str, str]:
    rest: dict[str, Any] = {"hash": value, "sidecarSetName": name, "sidecarList": list(names)}
    if revision:
        rest["controllerRevision"] = revision
    return (
        f'{gojson.encode(name).decode()}:{{"updateTimestamp":"',
        f'",{gojson.encode(rest).decode()[1:]}',
    )


@lru_cache(maxsize=1024)
def _parts(init: bytes, containers: bytes, volumes: bytes) -> Parts:
    first = _sidecars(init, in_init=True)
    second = _sidecars(containers, in_init=False)
    named: dict[str, Piece] = {}
    for volume in msgspec.json.decode(volumes, type=list[dict[str, Any]] | None) or ():
        name = str(volume.get("name") or "")
        named[name] = Piece.of(name, volume)
    everything = first + second
    twins = [sidecar.names for sidecar in everything if sidecar.twins]
    # "1": works, "0": idles; each twin is also told what the other one does.
    marks = [
        (prefix + name, value)
        for worker, idle in twins
        for name, values in ((worker, "10"), (idle, "01"))
        for prefix, value in zip((VERSION_ANNOTATION_PREFIX, VERSION_ALT_ANNOTATION_PREFIX), values, strict=True)
    ]
    return Parts(
        init=first,
        containers=second,
        volumes=named,
        used_volumes={name: named[name] for sidecar in everything for name in sidecar.volume_names if name in named},
        placed={name: sidecar.init for sidecar in everything for name in sidecar.names},
        names=frozenset(name for sidecar in everything for name in (sidecar.name, *sidecar.names)),
        sidecar_list=tuple(sorted(c.name for c in everything if not c.init or c.core.get("restartPolicy") == "Always")),
        hot_annotations=tuple(marks),
        hot_working={sidecar.name: sidecar.names[0] for sidecar in everything if sidecar.twins},
    )


def _sidecars(data: bytes, *, in_init: bool) -> tuple[CompiledSidecar, ...]:
    heads = sidecars(msgspec.Raw(data))
    bodies = msgspec.json.decode(data, type=list[dict[str, Any]] | None) or ()
    return tuple(_sidecar(head, body, in_init=in_init) for head, body in zip(heads, bodies, strict=True))


class _Mount(msgspec.Struct, frozen=True, rename="camel"):
    name: str | None = None


class _Shape(msgspec.Struct, frozen=True, rename="camel"):
    """What the building of a container relies on: objects in lists."""

    env: list[dict[str, Any]] | None = None
    ports: list[dict[str, Any]] | None = None
    volume_mounts: list[_Mount] | None = None
    volume_devices: list[_Mount] | None = None


def _sidecar(head: Sidecar, body: Mapping[str, Any], *, in_init: bool) -> CompiledSidecar:
    shape = msgspec.convert(body, _Shape)
    core = {key: value for key, value in body.items() if key not in _OWN_FIELDS}
    mounts = [mount.name or "" for mount in (*(shape.volume_mounts or ()), *(shape.volume_devices or ()))]
    devices = head.share_volume_device_policy
    after = in_init if not head.pod_inject_policy else head.pod_inject_policy != BEFORE_APP_CONTAINER
    sidecar = CompiledSidecar(
        name=head.name,
        init=in_init,
        before=not after,
        twins=head.hot and (head.native or not in_init),
        empty_image=head.upgrade_strategy.hot_upgrade_empty_image,
        core=core,
        volume_names=tuple(dict.fromkeys(mounts)),
        share_mounts=head.share_volume_policy.type == SHARE_ENABLED,
        share_devices=devices is not None and devices.type == SHARE_ENABLED,
        transfer=head.transfer_env,
        resources_policy=body.get("resourcesPolicy"),
        pieces=None,
    )
    if sidecar.share_mounts or sidecar.share_devices or sidecar.transfer or sidecar.resources_policy is not None:
        return sidecar
    pieces = sidecar.assemble({**core, "env": [*(core.get("env") or ()), INJECTED_VARIABLE]})
    return replace(sidecar, pieces=pieces)
