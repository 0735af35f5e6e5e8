"""The scheduler of the embedded cluster.

Purpose: bind pods to nodes, so that whoever waits for that gets on. On a real control plane Kubernetes' own runs.

Guarantees:

* TST1: a pod is bound to a node that its affinity, selector and tolerations allow; while there is none it stays Pending
  with a PodScheduled condition. Pods with scheduling gates or of another scheduler are left alone.
* With *volumes*, a pod waits for its claims: one that is missing, is being deleted, or should be bound at once and is
  not, keeps it Pending. A claim that waits for its first consumer gets the node that was chosen for the pod.

What this does not do: no resources, no priorities: the first node by name that fits is taken, or with *spread* the one
with the fewest pods.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from kruise.runtime.clock import format_micro_time, format_time
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.builtin_actor import Actor

Body = dict[str, Any]
CLAIMS: Final = "persistentvolumeclaims"
SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
_EFFECTS: Final = ("NoSchedule", "NoExecute")


class Scheduler(Actor):
    """Binds pods to nodes."""

    name = "kube-scheduler"

    def __init__(
        self,
        server: ApiServer,
        *,
        delay: float = 0.0,
        events: bool = False,
        volumes: bool = False,
        spread: bool = False,
    ) -> None:
        """*events*: record each binding as an Event, as Kubernetes' own scheduler does."""
        super().__init__(server, delay=delay)
        self._pending: dict[Key, None] = {}
        self._events = events
        self._volumes = volumes
        self._spread = spread

    def prime(self) -> None:
        for pod in self.server.list("pods"):
            self._note(pod)

    def interested(self, commit: Commit) -> bool:
        if commit.resource == "pods":
            return self._note(commit.new.obj) if commit.type != "DELETED" else self._forget(commit.key)
        wakes = ("nodes", CLAIMS) if self._volumes else ("nodes",)
        return commit.resource in wakes and bool(self._pending)

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
            claims, problem = self._claims(pod) if self._volumes else ([], "")
            if problem:
                self._unschedulable(key, pod, problem)
                continue
            named = affinity_names(pod)
            candidates = list(nodes.values()) if named is None else [nodes[n] for n in named if n in nodes]
            chosen = self._choose([node for node in candidates if fits(pod, node)])
            if chosen is None:
                self._unschedulable(key, pod, "no node fits the pod")
            elif not self._select(claims, chosen):
                self._bind(key, pod, chosen)

    def _choose(self, nodes: list[Body]) -> str | None:
        if not nodes or not self._spread:
            return nodes[0]["metadata"]["name"] if nodes else None
        held = Counter(pod["spec"].get("nodeName") for pod in self.server.list("pods"))
        return min((str(node["metadata"]["name"]) for node in nodes), key=lambda name: held[name])

    # Volumes.

    def _claims(self, pod: Body) -> tuple[list[Body], str]:
        """Return the claims of a pod that wait for a consumer, and why the pod cannot be placed, or ``""``."""
        waiting: list[Body] = []
        for volume in pod["spec"].get("volumes") or ():
            name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if not name:
                continue
            claim = self.server.get(CLAIMS, name, pod["metadata"]["namespace"])
            if claim is None:
                return [], f'persistentvolumeclaim "{name}" not found'
            if claim["metadata"].get("deletionTimestamp"):
                return [], f'persistentvolumeclaim "{name}" is being deleted'
            if (claim.get("status") or {}).get("phase") != "Bound":
                if not self._waits_for_consumer(claim):
                    return [], "pod has unbound immediate PersistentVolumeClaims"
                waiting.append(claim)
        return waiting, ""

    def _waits_for_consumer(self, claim: Body) -> bool:
        storage = self.server.get("storageclasses.storage.k8s.io", claim["spec"].get("storageClassName") or "", "")
        return (storage or {}).get("volumeBindingMode") == "WaitForFirstConsumer"

    def _select(self, claims: list[Body], node: str) -> bool:
        """Tell the provisioner where the volumes of *claims* are needed; True when the pod waits for that."""
        for claim in claims:
            meta = claim["metadata"]
            if (meta.get("annotations") or {}).get(SELECTED_NODE) is None:
                patch = {"metadata": {"annotations": {SELECTED_NODE: node}, "uid": meta["uid"]}}
                where = (CLAIMS, meta["name"], patch, meta["namespace"])
                self.attempt(lambda w=where: self.server.patch(*w, actor=self.name))  # type: ignore[misc]
        return bool(claims)

    def _bind(self, key: Key, pod: Body, node: str) -> None:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": pod["metadata"]["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        path = f"/api/v1/namespaces/{key.namespace}/pods/{key.name}/binding"
        if self.attempt(lambda: self.server.do("POST", path, binding, actor=self.name)) and self._events:
            self._record(key, pod, node)
        self._pending.pop(key, None)

    def _record(self, key: Key, pod: Body, node: str) -> None:
        suffix = "".join(self.server.rng.choice("0123456789abcdef") for _ in range(16))
        event = {
            "metadata": {"name": f"{key.name}.{suffix}", "namespace": key.namespace},
            "eventTime": format_micro_time(self.server.clock.now()),
            "reportingController": "default-scheduler",
            "reportingInstance": "default-scheduler-embedded",
            "action": "Binding",
            "reason": "Scheduled",
            "regarding": {
                "kind": "Pod",
                "apiVersion": "v1",
                "namespace": key.namespace,
                "name": key.name,
                "uid": pod["metadata"]["uid"],
                "resourceVersion": pod["metadata"]["resourceVersion"],
            },
            "note": f"Successfully assigned {key} to {node}",
            "type": "Normal",
        }
        self.attempt(lambda: self.server.create("events.events.k8s.io", event, actor=self.name))

    def _unschedulable(self, key: Key, pod: Body, why: str) -> None:
        conditions = (pod.get("status") or {}).get("conditions") or []
        if any(c["type"] == "PodScheduled" and c.get("message") == why for c in conditions):
            return
        conditions = [c for c in conditions if c["type"] != "PodScheduled"]
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": why,
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
    return all(t.get("effect") not in _EFFECTS or any(tolerates(x, t) for x in tolerations) for t in taints)


def tolerates(toleration: Body, taint: Body) -> bool:
    """Tell whether *toleration* covers *taint*."""
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
