"""Small versions of what a cluster does around the controllers: scheduling, garbage collection, namespaces.

Purpose: on a real control plane Kubernetes' own run; the embedded server needs these. Each is woken by commits.

Guarantees:

* TST1: the scheduler binds a pod to a node that its affinity, selector and tolerations allow, and leaves it Pending
  with a PodScheduled condition while there is none. The garbage collector deletes what has no owner left, in the
  background, in the foreground, or lets it be orphaned; an owner with a stale uid counts as gone. A terminating
  namespace is emptied and goes.

What this does not do: no resources, no spreading, no priorities: the first node by name that fits is taken. The
kubelet is in ``kubelet.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from kruise.runtime.clock import format_time
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.deletion import FOREGROUND, ORPHAN
from kruise.simulator.apiserver.failure import Failure
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.apiserver.storage import Commit

Body = dict[str, Any]
_EFFECTS: Final = ("NoSchedule", "NoExecute")


class Actor:
    """Something that reacts to commits. Run it in a TaskGroup."""

    name = "actor"

    def __init__(self, server: ApiServer, *, delay: float = 0.0) -> None:
        self.server = server
        self.delay = delay
        """Seconds between a commit and the reaction."""
        self._wake = asyncio.Event()

    def prime(self) -> None:
        """Look at what is there before the first commit is seen."""

    def interested(self, commit: Commit) -> bool:
        """Tell whether *commit* may give this actor something to do."""
        raise NotImplementedError

    def step(self) -> None:
        """Do everything that is to do now."""
        raise NotImplementedError

    async def run(self) -> None:
        """React until cancelled."""
        self.server.storage.listeners.append(self._on_commit)
        try:
            self.prime()
            self._wake.set()
            while True:
                await self._wake.wait()
                await self.server.clock.sleep(self.delay)
                self._wake.clear()
                self.step()
        finally:
            self.server.storage.listeners.remove(self._on_commit)

    def _on_commit(self, commit: Commit) -> None:
        if self.interested(commit):
            self._wake.set()

    def attempt(self, write: Callable[[], object]) -> bool:
        """Do a write; False when the server refuses it, because something changed meanwhile."""
        try:
            write()
        except Failure as failure:
            if failure.code in (404, 409, 422):
                return False
            raise
        return True


class Scheduler(Actor):
    """Binds pods to nodes."""

    name = "kube-scheduler"

    def __init__(self, server: ApiServer, *, delay: float = 0.0) -> None:
        super().__init__(server, delay=delay)
        self._pending: dict[Key, None] = {}

    def prime(self) -> None:
        for pod in self.server.list("pods"):
            self._note(pod)

    def interested(self, commit: Commit) -> bool:
        if commit.resource == "pods":
            return self._note(commit.new.obj) if commit.type != "DELETED" else self._forget(commit.key)
        return commit.resource == "nodes" and bool(self._pending)

    def _note(self, pod: Body) -> bool:
        key = Key(pod["metadata"]["namespace"], pod["metadata"]["name"])
        waits = not pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp")
        if not waits or pod["spec"].get("schedulerName") != "default-scheduler" or pod["spec"].get("schedulingGates"):
            return self._forget(key)
        known = key in self._pending
        self._pending[key] = None
        return not known

    def _forget(self, key: Key) -> bool:
        self._pending.pop(key, None)
        return False

    def step(self) -> None:
        nodes = {node["metadata"]["name"]: node for node in self.server.list("nodes")}
        for key in list(self._pending):
            pod = self.server.get("pods", key.name, key.namespace)
            if pod is None or pod["spec"].get("nodeName"):
                self._pending.pop(key, None)
                continue
            named = affinity_names(pod)
            candidates = nodes.values() if named is None else [nodes[n] for n in named if n in nodes]
            chosen = next((node for node in candidates if fits(pod, node)), None)
            if chosen is None:
                self._unschedulable(key, pod)
            else:
                self._bind(key, pod, chosen["metadata"]["name"])

    def _bind(self, key: Key, pod: Body, node: str) -> None:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": pod["metadata"]["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        path = f"/api/v1/namespaces/{key.namespace}/pods/{key.name}/binding"
        self.attempt(lambda: self.server.do("POST", path, binding, actor=self.name))
        self._pending.pop(key, None)

    def _unschedulable(self, key: Key, pod: Body) -> None:
        conditions = (pod.get("status") or {}).get("conditions") or []
        if any(c["type"] == "PodScheduled" for c in conditions):
            return
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "no node fits the pod",
            "lastProbeTime": None,
            "lastTransitionTime": format_time(self.server.clock.now()),
        }
        patch = {"status": {"conditions": [*conditions, condition]}}
        self.attempt(
            lambda: self.server.patch("pods", key.name, patch, key.namespace, subresource="status", actor=self.name)
        )


def affinity_names(pod: Body) -> list[str] | None:
    """Return the nodes that the required affinity of *pod* names; ``None`` when it names none."""
    names: list[str] = []
    terms = _required(pod)
    for term in terms:
        found = [
            f for f in term.get("matchFields") or () if f.get("key") == "metadata.name" and f.get("operator") == "In"
        ]
        if not found:
            return None
        names += [str(v) for f in found for v in f.get("values") or ()]
    return names if terms else None


def _required(pod: Body) -> list[Body]:
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    return list(required.get("nodeSelectorTerms") or ())


def fits(pod: Body, node: Body) -> bool:
    """Tell whether *pod* may be bound to *node*: selector, required affinity, taints."""
    labels = node["metadata"].get("labels") or {}
    selector = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(k) != v for k, v in selector.items()):
        return False
    terms = _required(pod)
    if terms and not any(_term_matches(term, node) for term in terms):
        return False
    taints = list((node.get("spec") or {}).get("taints") or ())
    if (node.get("spec") or {}).get("unschedulable"):
        taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    tolerations = pod["spec"].get("tolerations") or ()
    return all(t.get("effect") not in _EFFECTS or any(_tolerates(x, t) for x in tolerations) for t in taints)


def _tolerates(toleration: Body, taint: Body) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return toleration.get("key") == taint["key"] and (toleration.get("value") or "") == (taint.get("value") or "")


def _term_matches(term: Body, node: Body) -> bool:
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    expressions = [(e, labels) for e in term.get("matchExpressions") or ()]
    expressions += [(e, fields) for e in term.get("matchFields") or ()]
    return bool(expressions) and all(_expression_matches(e, values) for e, values in expressions)


def _expression_matches(expression: Body, values: dict[str, str]) -> bool:
    key, operator, wanted = expression["key"], expression["operator"], expression.get("values") or []
    have = values.get(key)
    if operator == "Exists":
        return have is not None
    if operator == "DoesNotExist":
        return have is None
    if operator == "In":
        return have in wanted
    if operator == "NotIn":
        return have not in wanted
    try:
        return have is not None and (int(have) > int(wanted[0]) if operator == "Gt" else int(have) < int(wanted[0]))
    except (ValueError, IndexError):
        return False


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
        if refs and not meta.get("deletionTimestamp") and not any(self._exists(ref, key.namespace) for ref in refs):
            self._delete(resource, key, obj)

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
        wanted = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        self.attempt(
            lambda: self.server.delete(
                resource,
                key.name,
                key.namespace,
                actor=self.name,
                preconditions=wanted,
                propagationPolicy="Background",
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


class NamespaceController(Actor):
    """Empties namespaces that are being deleted, and lets them go."""

    name = "namespace-controller"

    def interested(self, commit: Commit) -> bool:
        if commit.resource == "namespaces":
            return bool(commit.new.obj["metadata"].get("deletionTimestamp"))
        if commit.type != "DELETED":
            return False
        namespace = self.server.get("namespaces", commit.key.namespace)
        return namespace is not None and bool(namespace["metadata"].get("deletionTimestamp"))

    def step(self) -> None:
        for namespace in self.server.list("namespaces"):
            if namespace["metadata"].get("deletionTimestamp"):
                self._empty(namespace["metadata"]["name"])

    def _empty(self, namespace: str) -> None:
        left = 0
        for resource in self.server.storage.resources():
            info = self.server.registry.named(resource)
            if info is None or not info.namespaced:
                continue
            for obj in self.server.list(resource, namespace):
                name = obj["metadata"]["name"]
                if not obj["metadata"].get("deletionTimestamp"):
                    self.attempt(lambda r=resource, n=name: self.server.delete(r, n, namespace, actor=self.name))  # type: ignore[misc]
                left += self.server.get(resource, name, namespace) is not None
        if left:
            return

        def finalize(body: Body) -> None:
            body["spec"] = {"finalizers": [f for f in body["spec"]["finalizers"] if f != "kubernetes"]}

        self.attempt(
            lambda: self.server.edit("namespaces", namespace, finalize, subresource="finalize", actor=self.name)
        )
