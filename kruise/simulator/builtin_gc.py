"""The garbage collector of the embedded cluster.

Purpose: what hangs on an owner goes with it, as the owner's deletion asked. On a real control plane Kubernetes' own
runs.

Guarantees:

* TST1: what has no owner left is deleted in the background; a foreground deletion deletes the dependents first and
  waits for those that block; an orphaning one releases them. An owner with a stale uid counts as gone. An object that
  still has another owner loses the reference to the one that is gone.

What this does not do: an owner of a kind that the server does not know is taken for alive.
"""

from __future__ import annotations

from typing import Any

from kruise.runtime.objects import Key
from kruise.simulator.apiserver.deletion import FOREGROUND, ORPHAN
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.builtin_actor import Actor

Body = dict[str, Any]


class GarbageCollector(Actor):
    """Deletes what has no owner left."""

    name = "generic-garbage-collector"

    def __init__(self, server: ApiServer, *, delay: float = 0.0) -> None:
        super().__init__(server, delay=delay)
        self._owned: dict[str, dict[tuple[str, Key], None]] = {}
        """Owner uid -> (resource, key) of what names it as an owner."""
        self._foreground: dict[str, tuple[str, Key]] = {}
        """Uid -> (resource, key) of what waits for its dependents to go."""
        self._dirty: dict[tuple[str, Key], None] = {}

    def prime(self) -> None:
        for resource in self.server.storage.resources():
            for key, record in list(self.server.storage.snapshot(resource).records.items()):
                self._note(resource, key, record.obj)
                self._dirty[resource, key] = None

    def interested(self, commit: Commit) -> bool:
        where = (commit.resource, commit.key)
        if commit.type == "DELETED":
            for dependent in self._owned.pop(commit.new.uid, {}):
                self._dirty[dependent] = None
            for ref in commit.new.obj["metadata"].get("ownerReferences") or ():
                waiting = self._foreground.get(ref["uid"])
                if waiting is not None:
                    self._dirty[waiting] = None
            self._foreground.pop(commit.new.uid, None)
            return bool(self._dirty)
        self._note(commit.resource, commit.key, commit.new.obj)
        meta = commit.new.obj["metadata"]
        if meta.get("ownerReferences") or (meta.get("deletionTimestamp") and meta.get("finalizers")):
            self._dirty[where] = None
        return bool(self._dirty)

    def _note(self, resource: str, key: Key, obj: Body) -> None:
        meta = obj["metadata"]
        for ref in meta.get("ownerReferences") or ():
            self._owned.setdefault(ref["uid"], {})[resource, key] = None
        if meta.get("deletionTimestamp") and FOREGROUND in (meta.get("finalizers") or ()):
            self._foreground[meta["uid"]] = (resource, key)

    def step(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for resource, key in dirty:
            record = self.server.storage.get(resource, key)
            if record is not None:
                self._look(resource, key, record.obj)

    def _look(self, resource: str, key: Key, obj: Body) -> None:
        meta = obj["metadata"]
        finalizers = meta.get("finalizers") or ()
        if meta.get("deletionTimestamp") and ORPHAN in finalizers:
            self._release(meta["uid"])
            self._unhold(resource, key, obj, ORPHAN)
            return
        if meta.get("deletionTimestamp") and FOREGROUND in finalizers:
            if not self._delete_dependents(meta["uid"]):
                self._unhold(resource, key, obj, FOREGROUND)
            return
        refs = meta.get("ownerReferences") or []
        if not refs or meta.get("deletionTimestamp"):
            return
        alive = [ref for ref in refs if self._exists(ref, key.namespace)]
        if not alive:
            self._delete(resource, key, obj)
        elif len(alive) < len(refs):
            self._patch(resource, key, {"metadata": {"ownerReferences": alive, "uid": meta["uid"]}})

    def _exists(self, ref: Body, namespace: str) -> bool:
        info = self.server.registry.of_kind(ref["apiVersion"], ref["kind"])
        if info is None:
            return True  # an unknown kind: the real collector waits for it to appear
        record = self.server.storage.get(info.table, Key(namespace if info.namespaced else "", ref["name"]))
        return record is not None and record.uid == ref["uid"]

    def _dependents(self, uid: str) -> list[tuple[str, Key, Body]]:
        found = []
        for resource, key in self._owned.get(uid, {}):
            record = self.server.storage.get(resource, key)
            refs = record.obj["metadata"].get("ownerReferences") or () if record is not None else ()
            if record is not None and any(ref["uid"] == uid for ref in refs):
                found.append((resource, key, record.obj))
        return found

    def _delete_dependents(self, uid: str) -> bool:
        """Delete the dependents of a foreground deletion; tell whether one is left that blocks it."""
        left = False
        for resource, key, obj in self._dependents(uid):
            if not obj["metadata"].get("deletionTimestamp"):
                self._delete(resource, key, obj)
            blocks = any(r["uid"] == uid and r.get("blockOwnerDeletion") for r in obj["metadata"]["ownerReferences"])
            left = left or (blocks and self.server.storage.get(resource, key) is not None)
        return left

    def _delete(self, resource: str, key: Key, obj: Body) -> None:
        meta = obj["metadata"]
        held = meta.get("finalizers") or ()
        policy = "Orphan" if ORPHAN in held else "Foreground" if FOREGROUND in held else "Background"
        wanted = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        self.attempt(
            lambda: self.server.delete(
                resource,
                key.name,
                key.namespace,
                actor=self.name,
                preconditions=wanted,
                propagationPolicy=policy,
            )
        )

    def _release(self, uid: str) -> None:
        for resource, key, obj in self._dependents(uid):
            refs = [r for r in obj["metadata"]["ownerReferences"] if r["uid"] != uid]
            patch = {"metadata": {"ownerReferences": refs, "uid": obj["metadata"]["uid"]}}
            self._patch(resource, key, patch)

    def _unhold(self, resource: str, key: Key, obj: Body, finalizer: str) -> None:
        left = [f for f in obj["metadata"]["finalizers"] if f != finalizer]
        version = obj["metadata"]["resourceVersion"]
        self._patch(resource, key, {"metadata": {"finalizers": left or None, "resourceVersion": version}})

    def _patch(self, resource: str, key: Key, patch: Body) -> None:
        self.attempt(lambda: self.server.patch(resource, key.name, patch, key.namespace, actor=self.name))
