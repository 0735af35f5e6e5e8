"""Frozen views of API objects: metadata, keys, resources, resource versions, owners.

Purpose: the few types that every room of the runtime shares.

Guarantees:

* OBJ1: a :class:`Key` is ``(namespace, name)``; a cluster-scoped object has the namespace ``""``.
* OBJ2: cached objects are frozen; :func:`thaw` gives an editable copy for building a patch.
* OBJ4: resource versions are compared as KEP-5504 says: positive decimals without leading zeros, of any length, for
  one resource only; anything else compares by equality alone.
* OBJ5: :func:`own` sets the controller reference and refuses a second controller.
* OBJ6: an owner is matched by group, kind and uid; the version does not count.
* OBJ9: the wire names of acronym fields are written out (``podIP``), because a camel-case rename would read them as
  absent, silently.

What this does not do: it holds no spec of any kind; a :class:`Object` knows its metadata only, and a projection of a
kind adds just the fields that somebody reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, NoReturn, TypeVar

import msgspec

__all__ = [
    "EMPTY_MAP",
    "EmptyMap",
    "Key",
    "Object",
    "ObjectMeta",
    "OwnerReference",
    "PartialObject",
    "Resource",
    "Unreadable",
    "compare_versions",
    "controller_of",
    "group_of",
    "own",
    "owned_by",
    "owner_reference",
    "thaw",
    "version_at_least",
]


class EmptyMap(dict[str, Any]):
    """A map that stays empty, so that thousands of objects can share one. Writing to it raises TypeError."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a cached object is shared and frozen; build a patch from thaw(obj) instead")

    __setitem__ = __ior__ = _refuse
    setdefault = update = _refuse


EMPTY_MAP: Final[dict[str, Any]] = EmptyMap()
"""The shared default of label, annotation and quantity maps (OBJ2)."""


class Key(NamedTuple):
    """Names one object of a resource. ``namespace`` is ``""`` for a cluster-scoped one (OBJ1)."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class OwnerReference(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """``metav1.OwnerReference``."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What is read of ``metav1.ObjectMeta``. ``managedFields`` is dropped while decoding."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = msgspec.field(default_factory=lambda: EMPTY_MAP)
    annotations: dict[str, str] = msgspec.field(default_factory=lambda: EMPTY_MAP)
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()


class Object(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The base of every projection: type and metadata."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()

    @property
    def key(self) -> Key:
        """The key of this object."""
        return Key(self.metadata.namespace, self.metadata.name)

    @property
    def uid(self) -> str:
        """``metadata.uid``."""
        return self.metadata.uid

    @property
    def resource_version(self) -> str:
        """``metadata.resourceVersion``."""
        return self.metadata.resource_version

    @property
    def terminating(self) -> bool:
        """Whether a deletion has begun."""
        return self.metadata.deletion_timestamp is not None


class PartialObject(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An object of which the metadata alone is known (``meta.k8s.io/v1 PartialObjectMetadata``)."""


class Unreadable(PartialObject, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An object that does not fit its projection, kept as metadata only (FRA5): it exists, and nobody acts on it."""

    problem: str = ""
    """What is wrong, without values: ``Expected `int`, got `str```."""
    path: str = ""
    """The field that is wrong: ``$.spec.parallelism``."""


T = TypeVar("T", bound=Object)
T_co = TypeVar("T_co", bound=Object, covariant=True)


@dataclass(frozen=True, slots=True)
class Resource(Generic[T]):
    """One resource of the API server, and the type into which its objects are decoded.

    Two resources are equal when group, version and plural are; the projection does not count, because one process
    holds one projection of a resource (INF8).
    """

    group: str
    version: str
    kind: str
    plural: str
    struct: type[T] = field(compare=False)
    namespaced: bool = True
    custom: bool = field(default=False, compare=False)
    """Defined by a CustomResourceDefinition: no strategic merge patch, and no uid precondition on its status."""

    @property
    def api_version(self) -> str:
        """``group/version``, or the version alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def base(self) -> str:
        """The path of the group and version, without a trailing slash."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection, of one object, or of its subresource.

        >>> pods = Resource("", "v1", "Pod", "pods", PartialObject)
        >>> pods.path("default", "web-0", "status")
        '/api/v1/namespaces/default/pods/web-0/status'
        """
        parts = [self.base]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def partial(self) -> Resource[PartialObject]:
        """Return this resource as metadata only (REF19)."""
        return Resource(
            self.group, self.version, self.kind, self.plural, PartialObject, self.namespaced, custom=self.custom
        )

    @property
    def metadata_only(self) -> bool:
        """Whether objects are read as metadata only."""
        return self.struct is PartialObject

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


def _valid_version(text: str) -> bool:
    return text.isascii() and text.isdigit() and text[0] != "0"


def compare_versions(a: str, b: str) -> int | None:
    """Compare two resource versions of one resource: negative, 0 or positive; ``None`` where there is no order (OBJ4).

    >>> compare_versions("9", "10")
    -1
    >>> compare_versions("abc", "10") is None
    True
    """
    if a == b:
        return 0
    if not (a and b and _valid_version(a) and _valid_version(b)):
        return None
    if len(a) != len(b):
        return -1 if len(a) < len(b) else 1
    return -1 if a < b else 1


def version_at_least(have: str, want: str) -> bool:
    """Tell whether *have* covers *want*. Without an order, equality alone counts (OBJ4)."""
    order = compare_versions(have, want)
    return order is not None and order >= 0


def group_of(api_version: str) -> str:
    """Return the group of an ``apiVersion``: ``""`` for the core group."""
    return api_version.rpartition("/")[0]


def controller_of(meta: ObjectMeta) -> OwnerReference | None:
    """Return the controlling owner, or ``None``."""
    for ref in meta.owner_references:
        if ref.controller:
            return ref
    return None


def owned_by(meta: ObjectMeta, resource: Resource[Any], uid: str) -> bool:
    """Tell whether the controller of *meta* is this very object, by group, kind and uid (OBJ6)."""
    ref = controller_of(meta)
    return (
        ref is not None and ref.uid == uid and ref.kind == resource.kind and group_of(ref.api_version) == resource.group
    )


def owner_reference(resource: Resource[Any], owner: Object) -> dict[str, Any]:
    """Return the controller reference to *owner* as it stands on the wire."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def own(child: dict[str, Any], resource: Resource[Any], owner: Object) -> dict[str, Any]:
    """Make *owner* the controller of *child*, a body that is about to be created; return *child* (OBJ5).

    Raises ValueError when *child* already has another controller.
    """
    refs: list[dict[str, Any]] = child.setdefault("metadata", {}).setdefault("ownerReferences", [])
    for ref in refs:
        if ref.get("controller") and ref.get("uid") != owner.metadata.uid:
            raise ValueError(
                f"{child.get('kind', 'object')} {child['metadata'].get('name', '')} already has the controller "
                f"{ref.get('kind')}/{ref.get('name')}; an object has one controller at most"
            )
    child["metadata"]["ownerReferences"] = [r for r in refs if r.get("uid") != owner.metadata.uid]
    child["metadata"]["ownerReferences"].append(owner_reference(resource, owner))
    return child


def thaw(obj: msgspec.Struct) -> dict[str, Any]:
    """Return an editable copy of a frozen object, in wire names (OBJ2)."""
    built: dict[str, Any] = msgspec.to_builtins(obj)
    return built
