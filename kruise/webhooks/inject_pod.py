"""The pod of a request, as far as injection reads it.

Purpose: names and maps straight from the bytes; the whole pod is only decoded where a sidecar depends on it.

Guarantees: ``null`` reads as absent everywhere; a list that is absent or null is ``None``, so that a patch knows
whether there is something to add to. A pod of another shape raises ``msgspec.ValidationError``.

What this does not do: it changes nothing and validates nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from kruise.webhooks.inject_security import PodContext

__all__ = ["PodView", "UnreadablePod"]


class UnreadablePod(ValueError):
    """Something that is no pod. The message says where."""


class _Named(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None


class _Metadata(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str | None] | None = None
    annotations: dict[str, str | None] | None = None


class _Seccomp(msgspec.Struct, frozen=True, gc=False):
    type: str | None = None


class _SecurityContext(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    run_as_non_root: bool | None = None
    seccomp_profile: _Seccomp | None = None


class _System(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None


class _Spec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    containers: list[_Named] | None = None
    init_containers: list[_Named] | None = None
    volumes: list[_Named] | None = None
    image_pull_secrets: list[_Named] | None = None
    security_context: _SecurityContext | None = None
    os: _System | None = None


class _Status(msgspec.Struct, frozen=True, gc=False):
    phase: str | None = None


class _Pod(msgspec.Struct, frozen=True, gc=False):
    spec: _Spec
    metadata: _Metadata | None = None
    status: _Status | None = None


_DECODER = msgspec.json.Decoder(_Pod)
_NO_METADATA = _Metadata()
_NO_CONTEXT = _SecurityContext()


def _texts(values: dict[str, str | None] | None) -> dict[str, str] | None:
    if values is None:
        return None
    if None not in values.values():
        return cast("dict[str, str]", values)
    return {key: value or "" for key, value in values.items()}


def _places(items: list[_Named] | None) -> dict[str, int] | None:
    """Return where each name stands first."""
    if items is None:
        return None
    # Backwards, so that of two with one name the first is found.
    return {items[index].name or "": index for index in range(len(items) - 1, -1, -1)}


class PodView:
    """A pod on its way in."""

    __slots__ = (
        "_full",
        "_source",
        "_spec",
        "annotations",
        "containers",
        "deletion_timestamp",
        "has_metadata",
        "init_containers",
        "labels",
        "name",
        "namespace",
        "phase",
        "pull_secrets",
        "volumes",
    )

    def __init__(self, pod: _Pod, source: bytes | Mapping[str, Any]) -> None:
        metadata = pod.metadata or _NO_METADATA
        self._source = source
        self._full: Mapping[str, Any] | None = None
        self.has_metadata = pod.metadata is not None
        self.name = metadata.name or metadata.generate_name or ""
        self.namespace = metadata.namespace or ""
        self.deletion_timestamp = metadata.deletion_timestamp
        self.labels = _texts(metadata.labels) or {}
        self.annotations = _texts(metadata.annotations)
        self.phase = (pod.status.phase if pod.status else None) or ""
        self.containers = _places(pod.spec.containers)
        self.init_containers = _places(pod.spec.init_containers)
        self.volumes = _places(pod.spec.volumes)
        self.pull_secrets = _places(pod.spec.image_pull_secrets)
        self._spec = pod.spec

    @classmethod
    def of(cls, source: bytes | Mapping[str, Any]) -> PodView:
        """Read *source*: the bytes of a pod, or plain JSON. Raises UnreadablePod."""
        try:
            pod = _DECODER.decode(source) if isinstance(source, bytes) else msgspec.convert(source, _Pod)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UnreadablePod(str(error)) from None
        return cls(pod, source)

    @property
    def context(self) -> PodContext:
        """What containers inherit; asked for only where a namespace enforces a level."""
        context = self._spec.security_context or _NO_CONTEXT
        return PodContext(
            run_as_non_root=bool(context.run_as_non_root),
            seccomp=(context.seccomp_profile.type if context.seccomp_profile else None) or "",
            windows=self._spec.os is not None and self._spec.os.name == "windows",
        )

    def full(self) -> Mapping[str, Any]:
        """Return the whole pod; decoded once, and only when somebody asks. Raises UnreadablePod."""
        if self._full is None:
            try:
                full = msgspec.json.decode(self._source) if isinstance(self._source, bytes) else self._source
                msgspec.convert(full, _Whole)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise UnreadablePod(str(error)) from None
            self._full = full
        return self._full


class _Variable(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None
    value: str | None = None


class _Mount(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    name: str | None = None
    mount_path: str | None = None
    device_path: str | None = None
    sub_path_expr: str | None = None


class _Resources(msgspec.Struct, frozen=True, gc=False):
    limits: dict[str, Any] | None = None
    requests: dict[str, Any] | None = None


class _Container(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    name: str | None = None
    env: list[_Variable] | None = None
    volume_mounts: list[_Mount] | None = None
    volume_devices: list[_Mount] | None = None
    resources: _Resources | None = None


class _WholeSpec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None


class _Whole(msgspec.Struct, frozen=True, gc=False):
    """The shape that those who look into containers rely on."""

    spec: _WholeSpec
