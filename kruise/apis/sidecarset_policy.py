"""What a SidecarSet asks for that raises privileges: found as a pure function, warned of or refused (reliability 8.4).

Purpose: whoever may write a SidecarSet can run code in other people's pods, with their volumes and their identity. The
cluster's administrator decides how much of that is taken.

Guarantees:

* ``compat`` refuses nothing that OpenKruise accepts: each finding is a warning. ``strict`` refuses each finding whose
  item is not allowed. :data:`ITEMS` are the names with which items are allowed.
* ``--allow-privileged=false`` refuses privileged containers under both policies, as OpenKruise does.
* What is warned of at admission, images aside, is said again by :meth:`SidecarPolicy.concerns`, for a condition of the
  set: a warning is seen by its author alone.
* A finding has the path of the field; it never quotes a value but that of an image.

What this does not do: what shareVolumePolicy and transferEnv would copy is known only when a pod comes, so asking for
them is what counts. Whether pull secrets exist is not looked up: the manager may not read Secrets. The level of Pod
Security of a namespace is asked at injection (``webhooks/inject_security.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kruise.apis.fielderrors import FieldError, forbidden
from kruise.apis.podtemplate.fields import Node, child, flag, items, text
from kruise.apis.podtemplate.images import parse_image
from kruise.apis.sidecarset import SHARE_ENABLED

__all__ = ["COMPAT", "ITEMS", "STRICT", "SidecarPolicy", "Verdict", "findings"]

COMPAT: Final = "compat"
STRICT: Final = "strict"

PRIVILEGED: Final = "privileged"
CAPABILITIES: Final = "capabilities"
PROC_MOUNT: Final = "procMount"
ROOT: Final = "runAsUser"
HOST_PATH: Final = "hostPath"
PROJECTED: Final = "projected"
SHARED: Final = "shareVolumePolicy"
ENVIRONMENT: Final = "transferEnv"
IMAGE: Final = "image"
ITEMS: Final = (PRIVILEGED, CAPABILITIES, PROC_MOUNT, ROOT, HOST_PATH, PROJECTED, SHARED, ENVIRONMENT, IMAGE)
"""What can be allowed under ``strict``, one by one."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that raises privileges."""

    item: str
    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the findings."""

    errors: tuple[FieldError, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarPolicy:
    """How findings are judged."""

    mode: str = COMPAT
    allowed: frozenset[str] = frozenset()
    """Items that ``strict`` accepts, and ``compat`` does not mention."""
    images: tuple[str, ...] = ()
    """Beginnings of images that need no digest."""
    allow_privileged: bool = True

    def judge(self, obj: Mapping[str, Any]) -> Verdict:
        """Judge a SidecarSet, plain JSON of either version."""
        errors: list[FieldError] = []
        warnings: list[str] = []
        for one in findings(obj, images=self.images):
            if one.item == PRIVILEGED and not self.allow_privileged:
                errors.append(forbidden(one.field, "disallowed by cluster policy"))
            elif one.item in self.allowed:
                continue
            elif self.mode == STRICT:
                detail = f"{one.text}; the policy for sidecars refuses it unless {one.item} is allowed"
                errors.append(forbidden(one.field, detail))
            else:
                warnings.append(f"{one.field}: {one.text}")
        return Verdict(tuple(errors), tuple(warnings))

    def concerns(self, obj: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what a stored SidecarSet, plain JSON, asks for and nobody has allowed; images are not among it."""
        silent = self.allowed | {IMAGE}
        return tuple(f"{one.field}: {one.text}" for one in findings(obj) if one.item not in silent)


def findings(obj: Mapping[str, Any], *, images: Iterable[str] = ()) -> Iterator[Found]:
    """Yield what raises privileges in a SidecarSet; images that begin with one of *images* need no digest."""
    spec = child(dict(obj), "spec") or {}
    known = tuple(images)
    for key in ("initContainers", "containers"):
        for place, container in enumerate(items(spec, key)):
            path = f"spec.{key}[{place}]"
            yield from _context(child(container, "securityContext"), f"{path}.securityContext")
            yield from _sharing(container, path)
            yield from _image(text(container, "image"), f"{path}.image", known)
            empty = text(child(container, "upgradeStrategy"), "hotUpgradeEmptyImage")
            if empty:
                yield from _image(empty, f"{path}.upgradeStrategy.hotUpgradeEmptyImage", known)
    for place, volume in enumerate(items(spec, "volumes")):
        path = f"spec.volumes[{place}]"
        if child(volume, "hostPath") is not None:
            yield Found(HOST_PATH, f"{path}.hostPath", "it reaches the files of the node")
        if child(volume, "projected") is not None:
            yield Found(PROJECTED, f"{path}.projected", "it may hold a token of the pod's service account")


def _context(context: Node | None, path: str) -> Iterator[Found]:
    if context is None:
        return
    if flag(context, "privileged"):
        yield Found(PRIVILEGED, f"{path}.privileged", "a privileged container is root on the node")
    if (child(context, "capabilities") or {}).get("add"):
        yield Found(CAPABILITIES, f"{path}.capabilities.add", "it adds capabilities")
    if text(context, "procMount") not in ("", "Default"):
        yield Found(PROC_MOUNT, f"{path}.procMount", "it sees more of /proc than others")
    user = context.get("runAsUser")
    if user == 0 and not isinstance(user, bool):
        yield Found(ROOT, f"{path}.runAsUser", "it runs as root")


def _sharing(container: Node, path: str) -> Iterator[Found]:
    for key in ("shareVolumePolicy", "shareVolumeDevicePolicy"):
        if text(child(container, key), "type") == SHARE_ENABLED:
            what = "it gets every volume of the pod's containers, their secrets and tokens as well"
            yield Found(SHARED, f"{path}.{key}", what)
    if items(container, "transferEnv"):
        what = "it gets environment variables of the pod's containers, which may come from a Secret"
        yield Found(ENVIRONMENT, f"{path}.transferEnv", what)


def _image(image: str, path: str, known: tuple[str, ...]) -> Iterator[Found]:
    if not image:
        return
    parsed = parse_image(image)
    if parsed is None:
        yield Found(IMAGE, path, "the image is no reference")
    elif not parsed.digest and not image.startswith(known):
        yield Found(IMAGE, path, "the image has no digest, so what runs can change without a change of the set")
