"""The typed client: reads from the cache, conditional writes to the server.

Purpose: the only way in which a controller writes. It is not possible to write without saying on which version of the
object the write was decided.

Guarantees:

* CLI1: ``get`` and ``list`` read the cache, ``client.live`` asks the server; see ``reader.py``. Writes always go to the
  server.
* CLI2: CREATE needs a name; PATCH always carries resourceVersion and uid; DELETE carries the uid, and the
  resourceVersion too when it disrupts. A write that met another version, or another object of the same name, raises
  Conflict, in whatever way the server said it: the plan is void, and the key is planned again.
* CLI3: a status is written by :meth:`Client.patch_status` alone: resourceVersion, observedGeneration, zero counts.
* CLI4: merge patches, strategic ones, JSON patches with ``test`` operations, and patches given as they are.
* RES6: a strategic patch of a custom resource or of a ControllerRevision is refused here.
* RES7: answers to writes are asked for, and read, as metadata only.
* CLI6: field manager, field validation and dry run are set once, for all writes. In a dry run every write is logged,
  and none is reported: no cache will ever show it.
* CLI7: :meth:`Client.mutate` is the only retry of a conflict; it reads live each time. Reconcilers requeue instead.
* CLI8: a read of what was not declared raises ResourceNotCached.
* CLI9: mutating calls pass the fence of the controller; each one that happened is reported to ``on_write``, and so is
  what :meth:`Client.observed` found.
* NOP1: what would change nothing is not sent, and is counted.
* FRA7: there is no PUT.

What this does not do: it does not repeat a write, and it hides no unknown outcome: UnknownOutcome goes to the caller,
who reads live before planning again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, cast, overload

import msgspec

from kruise.runtime.client.fence import Fence
from kruise.runtime.client.noop import PatchKind, would_change
from kruise.runtime.client.preconditions import check_patch, encode, guarded, raise_conflict
from kruise.runtime.client.reader import CacheReader, Codecs, Live, Reader
from kruise.runtime.client.rest import AS_METADATA, Rest
from kruise.runtime.client.status import status_patch
from kruise.runtime.clock import Clock
from kruise.runtime.errors import Conflict, DecodeError, Invalid, NotFound, UnknownOutcome
from kruise.runtime.log import get_logger
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, ObjectMeta, PartialObject, Resource

__all__ = ["CacheReader", "Client", "Live", "PatchKind", "Reader", "Write"]

log = get_logger("client")

T = TypeVar("T", bound=Object)

METADATA_ONLY: Final = f"{AS_METADATA},application/json"
"""What the answer of a write should be; the second choice is for servers that do not know the first."""
MUTATE_TRIES: Final = 5
MUTATE_PAUSE: Final = 0.01
"""Seconds between two tries of :meth:`Client.mutate`."""


@dataclass(frozen=True, slots=True)
class Write:
    """A write that happened."""

    verb: str
    """create, patch or delete."""
    resource: Resource[Any]
    key: Key
    uid: str
    version: str
    """The resourceVersion that the server gave; ``""`` for a deletion after which the object is gone."""


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What holds for all writes of a client (CLI6)."""

    field_manager: str
    field_validation: str
    dry_run: bool

    def query(self, *, manages_fields: bool) -> dict[str, str]:
        found: dict[str, str] = {}
        if manages_fields:
            found["fieldManager"] = self.field_manager
            if self.field_validation:
                found["fieldValidation"] = self.field_validation
        if self.dry_run:
            found["dryRun"] = "All"
        return found


class Client(Reader):
    """Reads the cache, writes to the server. A controller gets its own by :meth:`named`."""

    def __init__(
        self,
        rest: Rest,
        *,
        cache: CacheReader | None = None,
        metrics: Metrics,
        clock: Clock,
        controller: str = "",
        field_manager: str = "kruise-manager",
        field_validation: str = "",
        dry_run: bool = False,
        on_write: Callable[[Write], None] | None = None,
    ) -> None:
        super().__init__(cache)
        self._rest = rest
        self._metrics = metrics
        self._clock = clock
        self._controller = controller
        self._defaults = _Defaults(field_manager, field_validation, dry_run)
        self._on_write = on_write
        self._codecs = Codecs(metrics)
        self.live = Live(rest, self._codecs)
        """Reads that ask the server."""

    @property
    def dry_run(self) -> bool:
        """Whether the server is asked to change nothing."""
        return self._defaults.dry_run

    def named(
        self,
        controller: str,
        *,
        fence: Fence | None = None,
        on_write: Callable[[Write], None] | None = None,
        windowed: bool = True,
    ) -> Client:
        """Return this client for *controller*: its own user agent, its fence, its report of writes (CLI9).

        ``windowed=False`` is for writes outside the write window, which the caller bounds itself; see ``Rest.named``.
        """
        return Client(
            self._rest.named(controller, fence=fence, windowed=windowed),
            cache=self._cache,
            metrics=self._metrics,
            clock=self._clock,
            controller=controller,
            field_manager=self._defaults.field_manager,
            field_validation=self._defaults.field_validation,
            dry_run=self._defaults.dry_run,
            on_write=on_write,
        )

    # Writes. Each one waits, can be cancelled, and raises ApiError, UnknownOutcome or Fenced.

    @overload
    async def create(self, resource: Resource[T], body: Mapping[str, Any]) -> ObjectMeta: ...
    @overload
    async def create(self, resource: Resource[T], body: Mapping[str, Any], *, want: Literal["object"]) -> T: ...
    async def create(
        self, resource: Resource[T], body: Mapping[str, Any], *, want: Literal["metadata", "object"] = "metadata"
    ) -> ObjectMeta | T:
        """Create *body*, which has a name of its own; return the metadata, or with ``want="object"`` all of it.

        Raises AlreadyExists when the name is taken. ``body`` may hold ``msgspec.Raw`` parts, which are sent as they
        are. A name left to the server is refused (ValueError): after an unknown outcome nobody could find the object.
        """
        meta = dict(body.get("metadata") or {})
        name, namespace = str(meta.get("name") or ""), str(meta.get("namespace") or "")
        if not name or meta.get("generateName"):
            raise ValueError(f"a {resource.kind} needs metadata.name, and generateName is not allowed")
        if resource.namespaced and not namespace:
            raise ValueError(f"{resource.kind} {name} needs metadata.namespace")
        full = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        if self.dry_run:
            log.info("dry run: create", resource=str(resource), namespace=namespace, name=name)
        answer = await self._rest.call(
            "create",
            "POST",
            resource,
            namespace=namespace,
            query=self._defaults.query(manages_fields=True),
            body=encode(full),
            accept=METADATA_ONLY if want == "metadata" else None,
        )
        written = self._wrote("create", resource, Key(namespace, name), answer.body, want)
        return cast("ObjectMeta | T", written)

    @overload
    async def patch(
        self,
        resource: Resource[T],
        obj: Object,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        kind: PatchKind = PatchKind.MERGE,
        subresource: str = "",
        version: str = "",
        uid_alone: bool = False,
    ) -> ObjectMeta | None: ...
    @overload
    async def patch(
        self,
        resource: Resource[T],
        obj: Object,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        kind: PatchKind = PatchKind.MERGE,
        subresource: str = "",
        version: str = "",
        uid_alone: bool = False,
        want: Literal["object"],
    ) -> T | None: ...
    async def patch(
        self,
        resource: Resource[T],
        obj: Object,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        kind: PatchKind = PatchKind.MERGE,
        subresource: str = "",
        version: str = "",
        uid_alone: bool = False,
        want: Literal["metadata", "object"] = "metadata",
    ) -> ObjectMeta | T | None:
        """Patch *obj* if it still is what it was; return the new metadata, or None when nothing would change (NOP1).

        *patch* says what changes; resourceVersion and uid are added here. *version* is for the second write of a
        sequence: the resourceVersion that the first one returned, instead of the one in *obj*. With *uid_alone* a patch
        that adopts or releases an object of a built-in kind leaves the version out (OBJ5). Raises Conflict when the
        object has changed or is another one, ValueError for a patch that must not be sent.
        """
        check_patch(resource, obj, patch, kind, subresource, version, uid_alone)
        if not version and not would_change(obj, patch, kind):
            self._metrics.noop_skipped.labels(self._controller).inc()
            return None
        body = guarded(obj.uid, "" if uid_alone else version or obj.resource_version, patch)
        return cast("ObjectMeta | T | None", await self._patch(resource, obj, body, kind, subresource, want))

    async def patch_status(
        self, resource: Resource[T], obj: T, status: Mapping[str, Any], *, version: str = ""
    ) -> ObjectMeta | None:
        """Make *status* the whole status of *obj*; return the new metadata, or None when it is equal already (CLI3).

        Arrays are replaced, members that *status* lacks are removed. ``observedGeneration`` is that of *obj* unless
        given. Raises Conflict when the object has changed: recompute and send again.
        """
        patch = {"status": status_patch(obj, status)}
        check_patch(resource, obj, patch, PatchKind.MERGE, "status", version, uid_alone=False)
        if not version and not would_change(obj, patch):
            self._metrics.noop_skipped.labels(self._controller).inc()
            return None
        body = guarded(obj.uid, version or obj.resource_version, patch)
        meta: ObjectMeta = await self._patch(resource, obj, body, PatchKind.MERGE, "status", "metadata")
        return meta

    async def delete(
        self,
        resource: Resource[T],
        obj: Object,
        *,
        disrupts: bool = False,
        propagation: Literal["Foreground", "Background", "Orphan"] | None = None,
    ) -> bool:
        """Delete this very object; with *disrupts* only in this very version. Tell whether it was still there.

        *disrupts* is for whatever takes a working pod down, or was decided by more than the object's existence. An
        object that is gone already is no error. Raises Conflict when another one has its name, or when it has changed.
        """
        if not obj.uid or (disrupts and not obj.resource_version):
            raise ValueError(f"{resource.kind} {obj.key} has no uid or version; delete what was read from the server")
        preconditions = {"uid": obj.uid}
        if disrupts:
            preconditions["resourceVersion"] = obj.resource_version
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        if propagation is not None:
            options["propagationPolicy"] = propagation
        key = obj.key
        if self.dry_run:
            log.info("dry run: delete", resource=str(resource), namespace=key.namespace, name=key.name)
        version, there = "", True
        try:
            answer = await self._rest.call(
                "delete",
                "DELETE",
                resource,
                namespace=key.namespace,
                name=key.name,
                query=self._defaults.query(manages_fields=False),
                body=encode(options),
                accept=METADATA_ONLY,
            )
        except NotFound:
            there = False
            log.debug("already gone", resource=str(resource), namespace=key.namespace, name=key.name)
        else:
            version = self._lingering(obj, answer.body)
        self._report(Write("delete", resource, key, obj.uid, version))
        return there

    @staticmethod
    def _lingering(obj: Object, body: bytes) -> str:
        """Return the version of an object whose deletion has begun and not ended; ``""`` when it is gone.

        A pod has a grace period, and a finalizer may hold any object: to have seen that it is going is enough to plan
        on. Waiting for its end would hold its owner back for as long as it lingers.
        """
        try:
            found = msgspec.json.decode(body, type=PartialObject)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""  # a Status: it is gone
        lingers = found.uid == obj.uid and found.terminating
        return found.resource_version if lingers else ""

    async def mutate(
        self,
        resource: Resource[T],
        key: Key,
        fn: Callable[[T], Mapping[str, Any] | None],
        *,
        kind: PatchKind = PatchKind.MERGE,
        subresource: str = "",
    ) -> ObjectMeta:
        """Read *key* live, patch it with what *fn* makes of it, and start over on a conflict, five times (CLI7).

        Not for reconcilers: those plan again. *fn* may be called several times and returns None for "leave it".
        Raises the last Conflict, NotFound, and whatever *fn* raises.
        """
        for left in range(MUTATE_TRIES - 1, -1, -1):
            obj = await self.live.get(resource, key)
            patch = fn(obj)
            if patch is None:
                return obj.metadata
            try:
                return await self.patch(resource, obj, patch, kind=kind, subresource=subresource) or obj.metadata
            except Conflict:
                if not left:
                    raise
                await self._clock.sleep(MUTATE_PAUSE)
        raise AssertionError("the last try returns or raises")

    async def _patch(
        self,
        resource: Resource[T],
        obj: Object,
        patch: Any,
        kind: PatchKind,
        subresource: str,
        want: Literal["metadata", "object"],
    ) -> Any:
        key = obj.key
        if self.dry_run:
            log.info(
                "dry run: patch",
                resource=str(resource),
                subresource=subresource,
                namespace=key.namespace,
                name=key.name,
                fields=sorted(patch) if isinstance(patch, dict) else [op.get("path") for op in patch],
            )
        try:
            answer = await self._rest.call(
                "patch",
                "PATCH",
                resource,
                namespace=key.namespace,
                name=key.name,
                subresource=subresource,
                query=self._defaults.query(manages_fields=True),
                body=encode(patch),
                content_type=kind.value,
                accept=METADATA_ONLY if want == "metadata" else None,
            )
        except Invalid as error:
            raise_conflict(error, kind)
        return self._wrote("patch", resource, key, answer.body, want)

    def _wrote(
        self, verb: str, resource: Resource[T], key: Key, body: bytes, want: Literal["metadata", "object"]
    ) -> Any:
        """Read the answer of a write that happened, and report it."""
        try:
            obj: Object = self._codecs.of(resource.partial()).glance(body)
            if not obj.uid:
                raise DecodeError("the answer has no metadata.uid")
            full = obj if want == "metadata" else self._codecs.of(resource).decode(body)
        except DecodeError as error:
            raise UnknownOutcome(f"{verb} {resource} {key}: the answer cannot be read", error) from error
        self._report(Write(verb, resource, key, obj.uid, obj.resource_version))
        return obj.metadata if want == "metadata" else full

    def observed(self, resource: Resource[T], obj: Object) -> None:
        """Count *obj*, read live after a create of unknown outcome, as a write of ours: wait until the cache has it."""
        self._report(Write("create", resource, obj.key, obj.uid, obj.resource_version))

    def _report(self, write: Write) -> None:
        if self._on_write is not None and not self.dry_run:
            self._on_write(write)
