"""From the bytes of one object to a frozen, projected view of it.

Purpose: one decoder per resource, straight from bytes; what a projection does not name is never built.

Guarantees:

* FRA3: unknown fields, ``managedFields`` above all, are skipped by the decoder itself.
* FRA4: ``apiVersion`` and ``kind`` must be those of the resource; a ``Table`` is refused. Items of a list carry
  neither, and then get them, so that an object is the same whether it came by a list or by a watch.
* FRA5: :meth:`Codec.read` never raises. An object that does not fit becomes an :class:`Unreadable`: its metadata as far
  as it can be read, what is wrong and where. Bad UTF-8, a broken value and endless nesting are such objects too.
* FRA9: every ``msgspec.Raw`` of a decoded object is a copy.
* FRA10: a null that a type refuses reads as absent.

What this does not do: it sets no defaults of an API beyond those of the Struct, and it validates nothing.
"""

from __future__ import annotations

import re
from typing import Any, Final, Generic, TypeVar

import msgspec

from kruise.runtime.client.intern import Interner
from kruise.runtime.client.nulls import Clean, cleaner
from kruise.runtime.client.scan import elements, members
from kruise.runtime.errors import DecodeError
from kruise.runtime.log import get_logger
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, ObjectMeta, OwnerReference, Resource, Unreadable

log = get_logger("codec")

T = TypeVar("T", bound=Object)

BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for a text that it refuses."""

_AT: Final = re.compile(r"^(.*?)(?: - at `(.*)`)?$", re.DOTALL)
_QUOTED: Final = re.compile(r"'[^']*'")
_MAX_LOGGED: Final = 1024
_PARTIAL_KIND: Final = "PartialObjectMetadata"
_PARTIAL_GROUP: Final = "meta.k8s.io/"


class Codec(Generic[T]):
    """Decodes the objects of one resource. Not to be shared between threads; share one per informer."""

    def __init__(self, resource: Resource[T], *, metrics: Metrics | None = None) -> None:
        self.resource = resource
        self.metrics = metrics
        """Where undecodable objects are counted. An :class:`EventReader` puts its own here when there is none."""
        self._decoder = msgspec.json.Decoder(resource.struct)
        self._interner = Interner(resource.struct)
        self._clean: Clean | None = None
        self._kind = resource.kind
        self._api_version = resource.api_version
        self._logged: dict[tuple[Key, str], None] = {}

    def decode(self, raw: bytes | msgspec.Raw) -> T:
        """Return the object in *raw*. Raises DecodeError, which names the field and, if it can be read, the key."""
        try:
            obj = self._decoder.decode(raw)
        except BROKEN as error:
            obj = self._without_nulls(raw, error)
        return self.take(obj)

    def glance(self, raw: bytes | msgspec.Raw) -> T:
        """Return the object in *raw* for a look: as :meth:`decode`, but its strings are not shared with those kept."""
        try:
            obj = self._decoder.decode(raw)
        except BROKEN as error:
            obj = self._without_nulls(raw, error)
        self._name(obj)
        return obj

    def read(self, raw: bytes | msgspec.Raw) -> T | Unreadable:
        """Return the object in *raw*, or what can be said of it when it does not fit. Never raises (FRA5).

        An ``Unreadable`` without a name comes from a text that names no object at all.
        """
        try:
            return self.decode(raw)
        except DecodeError as error:
            found = unreadable(raw, self.resource, problem=str(error), path=error.path)
            self._count(found)
            return found

    def take(self, obj: T) -> T:
        """Finish a freshly decoded *obj*: check its type, share its strings. Raises DecodeError for another type."""
        self._name(obj)
        return self._interner.share(obj)

    def _name(self, obj: T) -> None:
        if obj.kind != self._kind or obj.api_version != self._api_version:
            self._check(obj)
        force = msgspec.structs.force_setattr
        force(obj, "kind", self._kind)
        force(obj, "api_version", self._api_version)

    def fits(self, api_version: str, kind: str) -> bool:
        """Tell whether an object of this type may be one of the resource (FRA4)."""
        if self.resource.metadata_only and kind == _PARTIAL_KIND and api_version.startswith(_PARTIAL_GROUP):
            return True
        return kind == self._kind and api_version == self._api_version

    def reset(self) -> None:
        """Forget shared strings. Called at a relist."""
        self._interner.reset()
        self._logged.clear()

    def _check(self, obj: T) -> None:
        if (obj.kind or obj.api_version) and not self.fits(obj.api_version, obj.kind):
            what = f"{obj.api_version} {obj.kind}".strip()
            raise DecodeError(
                f"expected {self._api_version} {self._kind}, got {what}",
                path="$.kind",
                key=obj.key if obj.uid else None,
            )

    def _without_nulls(self, raw: bytes | msgspec.Raw, error: Exception) -> T:
        """Try again without the nulls that the type refuses (FRA10); what fails then is the object's own fault."""
        if isinstance(error, msgspec.ValidationError):
            if self._clean is None:
                self._clean = cleaner(self.resource.struct)
            try:
                return self._decoder.decode(self._clean(raw))
            except msgspec.ValidationError as second:
                error = second
            except BROKEN:
                pass  # the first error says more
        problem, path = _explain(error, bytes(raw))
        raise DecodeError(problem, path=path, key=None) from None

    def _count(self, found: Unreadable) -> None:
        r = self.resource
        if self.metrics is not None:
            self.metrics.undecodable.labels(r.group, r.version, r.plural).inc()
        mark = (found.key, found.path)
        if mark not in self._logged:
            if len(self._logged) >= _MAX_LOGGED:
                self._logged.clear()
            self._logged[mark] = None
            log.warning(
                "object does not fit its type, kept as metadata only",
                resource=str(r),
                namespace=found.metadata.namespace,
                name=found.metadata.name,
                field=found.path,
                problem=found.problem,
            )


def unreadable(raw: bytes | msgspec.Raw, resource: Resource[Any], *, problem: str, path: str) -> Unreadable:
    """Return what can be read of the metadata in *raw*, with *problem* and *path*. Never raises."""
    return Unreadable(
        api_version=resource.api_version,
        kind=resource.kind,
        metadata=_metadata(_members(bytes(raw)).get("metadata", b"{}")),
        problem=problem,
        path=path,
    )


def _members(text: bytes) -> dict[str, bytes]:
    try:
        return members(text)
    except ValueError:
        return {}


def _elements(text: bytes) -> list[bytes]:
    try:
        return elements(text)
    except ValueError:
        return []


_META_TYPES: Final[dict[str, tuple[str, Any]]] = {
    f.encode_name: (f.name, msgspec.json.Decoder(f.type)) for f in msgspec.structs.fields(ObjectMeta)
}
_STRING: Final = msgspec.json.Decoder(str)
_OWNER: Final = msgspec.json.Decoder(OwnerReference)
_CLEAN_OWNER: Final = cleaner(OwnerReference)


def _metadata(text: bytes) -> ObjectMeta:
    """Read each field of the metadata alone, so that one bad label does not cost the uid."""
    values: dict[str, Any] = {}
    for wire, value in _members(_repaired(text)).items():
        if wire not in _META_TYPES or value == b"null":
            continue
        name, decoder = _META_TYPES[wire]
        try:
            values[name] = decoder.decode(value)
        except BROKEN:
            if name in ("labels", "annotations"):
                values[name] = {k: v for k, t in _members(value).items() if (v := _one(_STRING, t)) is not None}
            elif name == "owner_references":
                values[name] = tuple(ref for t in _elements(value) if (ref := _owner(t)) is not None)
            elif name == "finalizers":
                values[name] = tuple(v for t in _elements(value) if (v := _one(_STRING, t)) is not None)
    return ObjectMeta(**values)


def _one(decoder: msgspec.json.Decoder[Any], text: bytes) -> Any:
    try:
        return decoder.decode(text)
    except BROKEN:
        return None


def _owner(text: bytes) -> OwnerReference | None:
    try:
        return _OWNER.decode(_CLEAN_OWNER(text))
    except BROKEN:
        return None


def _repaired(text: bytes) -> bytes:
    return text.decode("utf-8", "replace").encode()


def _explain(error: Exception, text: bytes) -> tuple[str, str]:
    """Return what is wrong and where, without a value of the object (G13)."""
    if isinstance(error, UnicodeDecodeError):
        return "invalid UTF-8", _bad_text(text)
    if isinstance(error, RecursionError):
        return "nested too deeply", "$"
    found = _AT.match(str(error))
    problem, path = found.groups() if found else (str(error), None)
    return _QUOTED.sub("'…'", problem), path or "$"


def _bad_text(text: bytes) -> str:
    """Return the path of the first value in *text* that is no UTF-8."""
    path = "$"
    while True:
        parts: list[tuple[str, bytes]] = [(f".{name}", value) for name, value in _members(text).items()]
        parts = parts or [(f"[{i}]", value) for i, value in enumerate(_elements(text))]
        for name, value in parts:
            if _repaired(value) != value:
                path, text = path + name, value
                break
        else:
            return path
