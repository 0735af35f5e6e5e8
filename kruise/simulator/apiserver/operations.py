"""The verbs that write: create, update, patch, delete, and what the subresources do.

Purpose: put the rooms together for one request. Everything here runs without waiting, except for webhooks. What was
read before one was asked is read again before the commit.

Guarantees:

* TST1: one commit per write that changes something and none for one that does not; status and main resource are
  isolated from each other; preconditions are checked before anything else; a dry run does everything but the commit.

What this does not do: authentication and authorization (every identity may do everything), server-side apply.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

import orjson

from kruise.apis.quantity import Quantity
from kruise.runtime.clock import Clock, Random, format_time
from kruise.runtime.objects import Key
from kruise.simulator.apiserver import (
    budgets,
    claims,
    deletion,
    fieldvalidation,
    kinds,
    metadata,
    pods,
    quota,
    revisions,
    typed,
)
from kruise.simulator.apiserver.bodies import STRATEGIC, apply, check_media, check_patched, check_type, document
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.failure import (
    Cause,
    Failure,
    already_exists,
    bad_request,
    bare,
    conflict,
    forbidden,
    immutable,
    invalid,
    method_not_allowed,
    not_found,
)
from kruise.simulator.apiserver.listing import Filter
from kruise.simulator.apiserver.operations_read import Reads
from kruise.simulator.apiserver.representation import encode, encode_list, negotiate
from kruise.simulator.apiserver.resources import Registry, ResourceType
from kruise.simulator.apiserver.storage import Record, Storage
from kruise.simulator.apiserver.webhooks_convert import read_back, shown, undecodable
from kruise.simulator.apiserver.webhooks_gate import BINDING, EVICTION, Gate

Body = dict[str, Any]
Change = Callable[[Body], Body]
Admit = Callable[[Call, str, Body, Body | None], Body]
"""An admission hook: the call, CREATE, UPDATE or DELETE, the object and the old one; returns the object to go on with,
or raises Failure. The object is the hook's to change."""

MAX_STORED: Final = 1_572_864


class Operations(Reads):
    """The verbs over one store."""

    def __init__(self, storage: Storage, registry: Registry, clock: Clock, rng: Random, gate: Gate) -> None:
        super().__init__(storage, clock, rng)
        self.registry = registry
        self.gate = gate
        self.admission: list[Admit] = []
        self.revisions = revisions.Revisions()
        self.committed: Callable[[ResourceType, Record | None, Record | None], None] = lambda _info, _old, _new: None
        """Called after each commit with the old and the new version; the server keeps its own books here."""

    # Writes

    async def create(self, call: Call) -> Answer:
        """POST to a collection."""
        info = call.known
        validation = fieldvalidation.Level.read_from(call, "CreateOptions")
        given = document(call)
        check_type(given, info, call.version)
        given.setdefault("metadata", {})
        given = validation.read(given, info, call)
        meta = given["metadata"]
        if info.namespaced:
            if meta.get("namespace", call.namespace) not in ("", call.namespace):
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
            if not call.namespace:
                raise bad_request("an empty namespace may not be set during creation")
        if meta.get("resourceVersion"):
            raise bare(500, "resourceVersion should not be set on objects to be created")
        self._readable(given, info, status=400)
        obj = self._admit(call, "CREATE", given, None)
        if info.namespaced:
            obj["metadata"]["namespace"] = call.namespace
        call.name = str(obj["metadata"].get("name") or "")
        self._check_namespace(call, info)
        if info.table == "pods":
            self._prioritize(call, obj)
        obj = await self.gate.mutate(call, info, "CREATE", obj, None)
        meta = obj["metadata"]
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = self._free_name(info, call.namespace, meta["generateName"])
        call.name = str(meta.get("name") or "")
        metadata.fill_new(obj, info, call.namespace, now=self.clock.now(), rng=self.rng)
        if info.table == "pods":
            self._prioritize(call, obj)
        found: list[Cause] = []
        if info.prepare is not None:
            found = info.prepare(obj, call, None)
        given_version = given["apiVersion"]
        if not info.custom:
            obj = info.to_storage(obj)
        causes = metadata.check(obj, info) + found + kinds.create(obj, info, given_version, self.clock.now())
        if causes:
            raise invalid(info.kind, info.group, call.name, *causes)
        await self.gate.validate(call, info, "CREATE", obj, None)
        obj = await info.stored(obj)
        if call.pruned and info.prune is not None:
            info.prune(obj)
        self._check_quota(call, info, obj)
        if self.storage.get(info.table, call.key) is not None:
            raise already_exists(info.plural, info.group, call.name)
        record = self._put(call, info, None, obj)
        return await self._answer(call, info, record, 201)

    def _free_name(self, info: ResourceType, namespace: str, base: str) -> str:
        for _ in range(8):
            name = metadata.generated_name(base, self.rng)
            if self.storage.get(info.table, Key(namespace, name)) is None:
                break
        return name

    def _check_namespace(self, call: Call, info: ResourceType) -> None:
        if not info.namespaced:
            return
        record = self.storage.get("namespaces", Key("", call.namespace))
        if record is None:
            raise not_found("namespaces", "", call.namespace)
        if record.obj["metadata"].get("deletionTimestamp"):
            text = f"unable to create new content in namespace {call.namespace} because it is being terminated"
            cause = Cause(
                "NamespaceTerminating", f"namespace {call.namespace} is being terminated", "metadata.namespace"
            )
            raise forbidden(info.plural, info.group, call.name, text, cause)

    def _prioritize(self, call: Call, pod: Body) -> None:
        spec = pod.get("spec")
        name = spec.get("priorityClassName") if isinstance(spec, dict) else ""
        if not name or name in pods.CRITICAL:
            return
        found = self.storage.get("priorityclasses.scheduling.k8s.io", Key("", name))
        if found is None:
            raise forbidden("pods", "", call.name, f"no PriorityClass with name {name} was found")
        pod["spec"] = {**pod["spec"], "priority": found.obj.get("value") or 0}

    def _check_quota(self, call: Call, info: ResourceType, obj: Body) -> None:
        if not info.namespaced or not self.storage.table("resourcequotas").keys:
            return
        snapshot = self.storage.snapshot("resourcequotas")
        low, high = snapshot.span(call.namespace)
        limits = [snapshot.records[key].obj for key in snapshot.keys[low:high]]
        if limits:
            quota.check(obj, info, limits, self.used(call.namespace))

    def used(self, namespace: str) -> dict[str, Quantity]:
        """Return what *namespace* uses, by the names that a ResourceQuota may limit."""
        total: dict[str, Quantity] = {}
        for table in self.storage.resources():
            info = self.registry.stored(table)
            if info is None or not info.namespaced:
                continue
            snapshot = self.storage.snapshot(table)
            low, high = snapshot.span(namespace)
            for key in snapshot.keys[low:high]:
                quota.add(total, quota.usage(snapshot.records[key].obj, info))
        return total

    async def update(self, call: Call) -> Answer:
        """PUT of one object or its status."""
        info = call.known
        validation = fieldvalidation.Level.read_from(call, "UpdateOptions")
        given = document(call)
        check_type(given, info, call.version)
        given.setdefault("metadata", {})
        given = validation.read(given, info, call)
        meta = given["metadata"]
        if meta.get("name", call.name) != call.name:
            raise metadata.name_conflict(info, call.name, str(meta.get("name")))
        meta.setdefault("name", call.name)
        if info.namespaced:
            meta.setdefault("namespace", call.namespace)
        self._readable(given, info, status=400)
        if info.made_by_put and not call.subresource and self.storage.get(info.table, call.key) is None:
            call.verb = "create"
            return await self.create(call)
        old = self.existing(call, info)
        uid = meta.get("uid")
        if uid and uid != old.uid:
            raise self._other_uid(call, info, uid, old)
        record = await self.change(call, info, old, lambda _old: given)
        return await self._answer(call, info, record, 200)

    @staticmethod
    def _other_uid(call: Call, info: ResourceType, uid: str, old: Record) -> Failure:
        why = (
            f"StorageError: invalid object, Code: 4, Key: /registry/{info.plural}/{call.key}, ResourceVersion: 0, "
            f"AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {old.uid}"
        )
        return conflict(info.plural, info.group, call.name, why)

    async def patch(self, call: Call) -> Answer:
        """PATCH of one object or its status."""
        info = call.known
        check_media(call, info)
        validation = fieldvalidation.Level.read_from(call, "PatchOptions")
        old = self.existing(call, info)
        patch = document(call)
        type_name = typed.type_of(info.group, info.kind)

        def change(current: Body) -> Body:
            if info.table == revisions.TABLE and not self.revisions.survives(old.uid, call.content_type == STRATEGIC):
                raise invalid(info.kind, info.group, call.name, immutable("data", current.get("data")))
            changed = apply(call.content_type, current, patch, type_name)
            if not isinstance(changed, dict) or not isinstance(changed.get("metadata"), dict):
                raise bad_request("the patched object has no metadata")
            check_patched(changed, info, call)
            changed = validation.read(changed, info, call)
            self._readable(changed, info, status=422)
            return changed

        record = await self.change(call, info, old, change)
        return await self._answer(call, info, record, 200)

    def patched(self, call: Call, info: ResourceType, current: Body) -> Body:
        """Return what a PUT or PATCH of the virtual object *current*, such as a Scale, asks for."""
        if call.verb == "update":
            return dict(document(call))
        check_media(call, info)
        asked: Body = apply(call.content_type, current, document(call), "autoscaling.v1.Scale")
        return asked

    async def change(
        self, call: Call, info: ResourceType, old: Record, change: Change, *, ask: bool = True
    ) -> Record | None:
        """Apply *change* to *old* under all rules and commit; ``None`` when that finished a deletion.

        When somebody else has written while webhooks were asked, everything is done once more on what is there now.
        Without *ask* they are not asked.
        """
        while True:
            new = await self._changed(call, info, old, change, ask=ask)
            now = self.storage.get(info.table, call.key)
            if now is old:
                break
            if now is None:
                raise not_found(info.plural, info.group, call.name)
            old = now
            call.before = str(old.rv)
        if call.pruned and info.prune is not None:
            info.prune(new)
        if new["metadata"].get("deletionTimestamp") and deletion.done(new, info):
            self._remove(call, info, old, last=new)
            return Record(new, old.rv)  # the answer shows the last state, under the version before the deletion
        if new == old.obj:
            call.before = call.after = str(old.rv)
            call.changed = False
            return old
        return self._put(call, info, old, new)

    async def _changed(self, call: Call, info: ResourceType, old: Record, change: Change, *, ask: bool) -> Body:
        """Return what is to be stored instead of *old*. Raises Failure."""
        try:
            current = await info.read_in(old.obj, call.version)
        except Failure as failure:
            raise undecodable(failure, old) from None
        given = change(current)
        given_version = given["apiVersion"]
        given = {**given, "metadata": dict(given["metadata"])}
        given = self._admit(call, "UPDATE", given, old.obj)
        if ask:
            given = await self.gate.mutate(call, info, "UPDATE", given, current)
        metadata.check_version(info, old, call.name, given)
        if info.table == claims.TABLE and not call.subresource:
            claims.check_growth(given, old.obj, self._storage_class)
        found: list[Cause] = []
        if info.prepare is not None:
            given = copy.deepcopy(given)
            found = info.prepare(given, call, current if info.converter is not None else old.obj)
        new = self._isolated(call, info, await info.stored(given), old.obj)
        causes = metadata.carry_over(new, old.obj, info) or found
        if not causes or not info.custom:
            causes += metadata.check(new, info)
            causes += kinds.update(new, old.obj, info, given_version, call.subresource)
        if causes:
            raise invalid(info.kind, info.group, call.name, *causes)
        if ask:
            await self.gate.validate(call, info, "UPDATE", new, current)
        return new

    def _isolated(self, call: Call, info: ResourceType, new: Body, old: Body) -> Body:
        """Return *new* with everything that this path cannot change taken from *old*."""
        if call.subresource == "status":
            if info.custom:
                meta = {**old["metadata"], "resourceVersion": new["metadata"].get("resourceVersion")}
            else:
                meta = dict(new["metadata"])
                for name in info.status_keeps:
                    meta.pop(name, None)
                    if name in old["metadata"]:
                        meta[name] = old["metadata"][name]
            isolated = {**old, "metadata": meta}
            if new.get("status") is None:
                isolated.pop("status", None)
            else:
                isolated["status"] = new["status"]
            return isolated
        if call.subresource == "resize":
            return pods.resize(new, old)
        if call.subresource == "finalize":
            return {**old, "metadata": new["metadata"], "spec": new.get("spec") or {}}
        if "status" in info.subresources:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        return new

    async def delete(self, call: Call) -> Answer:
        """DELETE of one object."""
        info = call.known
        call.document = document(call) if call.body else {}
        options = deletion.DeleteOptions.read(call.document, call.query)
        call.dry_run = call.dry_run or options.dry_run
        old = self.existing(call, info)
        await read_back(old, info, call.version)
        metadata.check_preconditions(info, old, call.name, options.preconditions())
        self._admit(call, "DELETE", old.obj, old.obj)
        old = await self._may_go(call, info, old, options)
        record, removed = self._delete(call, info, old, options)
        # 202 says that dependents go first; only the deprecated way of asking for that gets it.
        waits = not removed and call.document.get("orphanDependents") is False
        if removed and not info.returns_deleted:
            details = {"name": call.name, "group": info.group, "kind": info.plural, "uid": old.uid}
            body = {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": {k: v for k, v in details.items() if v},
            }
            return Answer(200, orjson.dumps(body))
        return await self._answer(call, info, record, 202 if waits else 200)

    async def _may_go(
        self, call: Call, info: ResourceType, old: Record, options: deletion.DeleteOptions, *, named: bool = True
    ) -> Record:
        """Ask the webhooks whether *old* may be deleted; return it as it is then. Raises Failure."""
        while True:
            await self.gate.delete(call, info, old.obj, named=named)
            now = self.storage.get(info.table, call.key)
            if now is old:
                return old
            if now is None:
                raise not_found(info.plural, info.group, call.name)
            old = now
            metadata.check_preconditions(info, old, call.name, options.preconditions())

    def _delete(
        self, call: Call, info: ResourceType, old: Record, options: deletion.DeleteOptions
    ) -> tuple[Record, bool]:
        verdict = deletion.decide(old.obj, info, options, self.clock.now())
        call.before = call.after = str(old.rv)
        call.changed = False
        record = old
        if verdict.marked is not None:
            record = self._put(call, info, old, verdict.marked)
        if verdict.remove:
            removed = self._remove(call, info, record, last=None)
            record = removed if removed is not None else record
        call.before = str(old.rv)
        return record, verdict.remove

    async def delete_collection(self, call: Call) -> Answer:
        """DELETE of a collection."""
        info = call.known
        if info.table == "namespaces":
            raise method_not_allowed(call.method)
        call.document = document(call) if call.body else {}
        options = deletion.DeleteOptions.read(call.document, call.query)
        chosen = Filter.read(info, call.namespace, call.query)
        snapshot = self.storage.snapshot(info.table)
        low, high = snapshot.span(chosen.namespace)
        done: list[Record] = []
        namespace = call.namespace
        for key in list(snapshot.keys[low:high]):
            record = self.storage.get(info.table, key)
            if record is not None and chosen.matches(record.obj):
                call.namespace, call.name = key
                try:
                    record = await self._may_go(call, info, record, options, named=False)
                except Failure as failure:
                    if failure.code == 404:
                        continue  # it went while webhooks were asked
                    raise
                done.append(self._delete(call, info, record, options)[0])
        call.namespace, call.name, call.changed = namespace, "", bool(done)
        meta = {"resourceVersion": str(self.storage.rv)}
        done = await shown(done, info, call.version)
        return Answer(200, encode_list(done, info, call.version, "full", meta))

    async def bind(self, call: Call) -> Answer:
        """POST to ``pods/binding``."""
        info = call.known
        given = await self._admitted(call, info, document(call), BINDING)
        node = (given.get("target") or {}).get("name")
        if not node:
            raise bare(500, "target.name: Required value")
        old = self.existing(call, info)
        uid = (given.get("metadata") or {}).get("uid")
        if uid and uid != old.uid:
            raise self._other_uid(call, info, uid, old)
        new = pods.bind(old.obj, node, self.clock.now())
        for name in ("annotations", "labels"):
            carried = (given.get("metadata") or {}).get(name)
            if carried:
                new["metadata"][name] = {**(new["metadata"].get(name) or {}), **carried}
        self._put(call, info, old, new)
        return _success(201)

    async def evict(self, call: Call) -> Answer:
        """POST to ``pods/eviction``: deletes, when the disruption budget allows it."""
        info = call.known
        given = await self._admitted(call, info, document(call), EVICTION)
        options = deletion.DeleteOptions.read(given.get("deleteOptions") or {}, call.query)
        old = self.existing(call, info)
        metadata.check_preconditions(info, old, call.name, options.preconditions())
        if budgets.asked(old.obj):
            self._use_budget(call, old.obj)
        if not call.dry_run:
            old = self._put(call, info, old, pods.disrupted(old.obj, self.clock.now()))
        self._delete(call, info, old, options)
        return _success(201)

    async def _admitted(self, call: Call, info: ResourceType, given: Body, own: Body) -> Body:
        """Return the object of a subresource with a kind of its own as the webhooks leave it. Raises Failure."""
        given.setdefault("metadata", {})["namespace"] = call.namespace
        given = await self.gate.mutate(call, info, "CREATE", given, None, own=own)
        await self.gate.validate(call, info, "CREATE", given, None, own=own)
        return given

    def _use_budget(self, call: Call, pod: Body) -> None:
        snapshot = self.storage.snapshot(budgets.BUDGETS)
        low, high = snapshot.span(call.namespace)
        found = [snapshot.records[key] for key in snapshot.keys[low:high]]
        labels = pod["metadata"].get("labels") or {}
        fitting = [r for r in found if budgets.selects((r.obj.get("spec") or {}).get("selector"), labels)]
        status = budgets.take([r.obj for r in fitting])
        if status is not None and not call.dry_run:
            budget = fitting[0].obj
            now = format_time(self.clock.now())
            status["disruptedPods"] = {**(status.get("disruptedPods") or {}), pod["metadata"]["name"]: now}
            changed = {**budget, "metadata": dict(budget["metadata"]), "status": status}
            key = Key(call.namespace, budget["metadata"]["name"])
            self.storage.put(budgets.BUDGETS, key, changed, actor=call.actor, now=self.clock.now())

    # What the writes share

    def existing(self, call: Call, info: ResourceType) -> Record:
        """Return the object that *call* names. Raises Failure 404."""
        record = self.storage.get(info.table, call.key)
        if record is None:
            raise not_found(info.plural, info.group, call.name)
        call.before = str(record.rv)
        return record

    def _admit(self, call: Call, operation: str, obj: Body, old: Body | None) -> Body:
        if self.admission:
            obj = copy.deepcopy(obj)
        for hook in self.admission:
            obj = hook(call, operation, obj, old)
        return obj

    def _storage_class(self, name: str) -> Body | None:
        record = self.storage.get(claims.CLASSES, Key("", name)) if name else None
        return None if record is None else record.obj

    def _readable(self, obj: Body, info: ResourceType, *, status: int) -> None:
        problem = kinds.unreadable(obj, info)
        if not problem:
            return
        if status == 422:
            raise fieldvalidation.unreadable_patch(obj, problem)
        version = obj.get("apiVersion", "")
        raise bad_request(f'{info.kind} in version "{version}" cannot be handled as a {info.kind}: {problem}')

    def _put(self, call: Call, info: ResourceType, old: Record | None, new: Body) -> Record:
        if len(orjson.dumps(new)) > MAX_STORED:
            raise bare(500, "etcdserver: request is too large")
        call.before = str(old.rv) if old is not None else ""
        call.changed = True
        if call.dry_run:
            call.after = call.before
            return Record(new, old.rv if old is not None else 0)
        record = self.storage.put(
            info.table, call.key, new, actor=call.actor, request=call.ordinal, now=self.clock.now()
        )
        call.after = str(record.rv)
        if old is None and info.table == revisions.TABLE:
            self.revisions.note(record.uid, call.body)
        self.committed(info, old, record)
        return record

    def _remove(self, call: Call, info: ResourceType, old: Record, last: Body | None) -> Record | None:
        call.before, call.after, call.changed = str(old.rv), "", True
        if call.dry_run:
            return old
        record = self.storage.remove(
            info.table, call.key, actor=call.actor, request=call.ordinal, now=self.clock.now(), last=last
        )
        self.committed(info, old, None)
        return record

    async def _answer(self, call: Call, info: ResourceType, record: Record | None, status: int) -> Answer:
        assert record is not None, "every write answers with an object"
        form = negotiate(call.headers.get("accept", ""))
        record = await read_back(record, info, call.version)
        return Answer(status, encode(record, info, call.version, form, now=self.clock.now()))


def _success(code: int) -> Answer:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}
    return Answer(code, orjson.dumps(body))
