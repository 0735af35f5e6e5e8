"""The gate between an operation and the webhooks: a request in the terms of admission.

Purpose: the operations know requests and stored objects, the dispatcher (``webhooks_admission.py``) knows questions and
webhooks. This room translates, and does nothing at all where no webhook is concerned.

Guarantees:

* TST1: a webhook sees a new object with its defaults and without uid and creation time; at a deletion only the old
  object; on the subresources scale, binding and eviction an object of their own kind.

What this does not do: in process nobody is authenticated: the user of a request is its actor, in the group
``system:masters``; ``users`` says otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from kruise.runtime.clock import Clock
from kruise.runtime.objects import Key
from kruise.simulator.apiserver import kinds, typed, workloads
from kruise.simulator.apiserver.call import Call
from kruise.simulator.apiserver.failure import internal, not_found
from kruise.simulator.apiserver.resources import Registry, ResourceType
from kruise.simulator.apiserver.storage import Storage
from kruise.simulator.apiserver.webhooks_admission import Admission, Room
from kruise.simulator.apiserver.webhooks_config import MUTATING, VALIDATING
from kruise.simulator.apiserver.webhooks_match import Hook, Place, Question

Body = dict[str, Any]

SCALE: Final[Body] = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
BINDING: Final[Body] = {"group": "", "version": "v1", "kind": "Binding"}
EVICTION: Final[Body] = {"group": "policy", "version": "v1", "kind": "Eviction"}
GROUPS: Final = ("system:masters", "system:authenticated")
_OPTIONS: Final = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}
_DEFAULTED: Final = frozenset({"pods", "secrets", "persistentvolumeclaims", *workloads.TABLES})


def as_administrator(call: Call) -> Body:
    """Return the user of *call* as webhooks see him."""
    return {"username": call.user or call.actor, "groups": list(GROUPS)}


class Gate:
    """Asks the webhooks of one server."""

    def __init__(self, admission: Admission, registry: Registry, storage: Storage, clock: Clock) -> None:
        self.admission = admission
        self.users: Callable[[Call], Body] = as_administrator
        """Says who makes a request: ``userInfo`` of a review."""
        self._registry = registry
        self._storage = storage
        self._clock = clock

    async def mutate(
        self, call: Call, info: ResourceType, operation: str, obj: Body, old: Body | None, *, own: Body | None = None
    ) -> Body:
        """Return *obj*, in the version of the request, as the mutating webhooks leave it. Raises Failure.

        *old* is in any version; *own* is the kind of a subresource that has one.
        """
        hooks = self._concerned(MUTATING, call, info, operation)
        if not hooks:
            return obj
        seen = obj if own is not None else self._before(call, info, operation, obj)
        before = old if own is not None else await self._here(call, info, old)
        question = self._question(call, info, operation, own)
        room = self._room(info, operation, own)
        changed = await self.admission.mutate(call, hooks, question, seen, before, room)
        assert changed is not None, "there was an object"
        return changed

    async def validate(
        self,
        call: Call,
        info: ResourceType,
        operation: str,
        obj: Body | None,
        old: Body | None,
        *,
        own: Body | None = None,
    ) -> None:
        """Ask the validating webhooks; both objects are in any version. Raises Failure."""
        hooks = self._concerned(VALIDATING, call, info, operation)
        if not hooks:
            return
        question = self._question(call, info, operation, own)
        if own is None:
            obj, old = await self._here(call, info, obj), await self._here(call, info, old)
        await self.admission.validate(call, hooks, question, obj, old, self._room(info, operation, own))

    async def delete(self, call: Call, info: ResourceType, old: Body, *, named: bool = True) -> None:
        """Ask all webhooks whether *old* may be deleted; without *named* it is one of a collection. Raises Failure."""
        hooks = self._concerned(MUTATING, call, info, "DELETE")
        if hooks:
            question = self._question(call, info, "DELETE", None, named=named)
            before = await self._here(call, info, old)
            await self.admission.mutate(call, hooks, question, None, before, self._room(info, "DELETE", None))
        hooks = self._concerned(VALIDATING, call, info, "DELETE")
        if hooks:
            question = self._question(call, info, "DELETE", None, named=named)
            before = await self._here(call, info, old)
            await self.admission.validate(call, hooks, question, None, before, self._room(info, "DELETE", None))

    def _concerned(self, table: str, call: Call, info: ResourceType, operation: str) -> tuple[Hook, ...]:
        if not self._storage.table(table).keys:
            return ()
        return self.admission.concerned(table, operation, info.group, info.plural, call.subresource)

    @staticmethod
    async def _here(call: Call, info: ResourceType, obj: Body | None) -> Body | None:
        return None if obj is None else await info.read_in(obj, call.version)

    def _before(self, call: Call, info: ResourceType, operation: str, obj: Body) -> Body:
        """Return *obj* as the server has read it before anybody is asked: pruned, and with its defaults."""
        if info.prepare is None:
            return self._defaulted(obj, info) if operation == "CREATE" and not call.subresource else obj
        seen = copy.deepcopy(obj)
        call.pruned = False
        info.prepare(seen, call, None)
        call.pruned = True  # whoever asks has been told what is unknown
        return seen

    def _defaulted(self, obj: Body, info: ResourceType) -> Body:
        if info.table not in _DEFAULTED:
            return obj
        seen = copy.deepcopy(obj)
        kinds.create(seen, info, seen["apiVersion"], self._clock.now())
        seen.pop("status", None)
        if "status" in obj:
            seen["status"] = obj["status"]
        return seen

    def _question(
        self, call: Call, info: ResourceType, operation: str, own: Body | None, *, named: bool = True
    ) -> Question:
        place = Place(info.group, call.version, info.kind, info.plural)
        namespace = call.namespace or (call.name if info.table == "namespaces" else "")
        return Question(
            operation,
            place,
            call.subresource,
            namespace if info.namespaced or info.table == "namespaces" else "",
            call.name if named else "",
            _options(call, operation),
            self.users(call),
            call.dry_run,
            own,
        )

    def _room(self, info: ResourceType, operation: str, own: Body | None) -> Room:
        served = self._registry.sharing(info)
        infos = {(one.group, version): one for one in served for version in one.versions}

        async def convert(obj: Body, place: Place) -> Body:
            other = infos[place.group, place.version]
            if own is not None:
                return obj
            if other is info:
                return await info.read_in(obj, place.version)
            return other.in_version(other.to_storage(obj), place.version)

        def finish(obj: Any, place: Place) -> Body:
            other = infos[place.group, place.version]
            if not isinstance(obj, dict) or (other.custom and not obj.get("kind")):
                raise internal(f"Object 'Kind' is missing in '{orjson.dumps(obj).decode()}'")
            if own is not None:
                return obj
            try:
                obj = {"kind": other.kind, "apiVersion": other.api_version(place.version), **obj}
                read = typed.read_metadata(obj, []) if other.custom else typed.read(obj, other, [])
            except typed.TypeProblem as problem:
                raise internal(str(problem)) from None
            if other.defaults is not None:
                other.defaults(read, place.version)
            return self._defaulted(read, other) if operation == "CREATE" else read

        places = [Place(one.group, version, one.kind, one.plural) for one in served for version in one.versions]
        return Room(places, convert, finish, self._labels_of)

    def _labels_of(self, namespace: str) -> Mapping[str, str]:
        record = self._storage.get("namespaces", Key("", namespace))
        if record is None:
            raise not_found("namespaces", "", namespace)
        return record.obj["metadata"].get("labels") or {}


def _options(call: Call, operation: str) -> Body:
    """Return the options of the request as an object of their kind."""
    options: Body = {"kind": _OPTIONS[operation], "apiVersion": "meta.k8s.io/v1"}
    if operation == "DELETE":
        given = call.document if isinstance(call.document, dict) else {}
        return options | {k: v for k, v in given.items() if k not in ("kind", "apiVersion")}
    if call.query.get("dryRun"):
        options["dryRun"] = [call.query["dryRun"]]
    for name in ("fieldManager", "fieldValidation"):
        if call.query.get(name):
            options[name] = call.query[name]
    return options
