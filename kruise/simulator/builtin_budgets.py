"""The controllers of budgets and claims: disruption budgets, resource quotas, protection of claims.

Purpose: they fill in the status by which evictions and creations are refused. On a real control plane Kubernetes' own
run.

Guarantees:

* TST1: the status of a PodDisruptionBudget follows its pods; the status of a ResourceQuota follows what its namespace
  uses. Without these actors a budget allows nothing and a quota limits nothing.

* A claim is held by a finalizer as long as a pod uses it.

What this does not do: no scopes of quotas; owners' scale is not asked for percentages, only the pods that are there.
"""

from __future__ import annotations

from typing import Any, Final

from kruise.apis.quantity import ZERO, Quantity
from kruise.runtime.clock import format_time
from kruise.simulator.apiserver import budgets
from kruise.simulator.apiserver.call import Call
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.builtin_actor import Actor

Body = dict[str, Any]
PROTECTION: Final = "kubernetes.io/pvc-protection"


class DisruptionController(Actor):
    """Counts healthy pods for each PodDisruptionBudget."""

    name = "disruption-controller"

    def interested(self, commit: Commit) -> bool:
        return commit.resource in ("pods", budgets.BUDGETS)

    def step(self) -> None:
        found = self.server.list(budgets.BUDGETS)
        if not found:
            return
        now = format_time(self.server.clock.now())
        for budget in found:
            meta = budget["metadata"]
            selector = (budget.get("spec") or {}).get("selector")
            pods = [
                p
                for p in self.server.list("pods", meta["namespace"])
                if budgets.selects(selector, p["metadata"].get("labels") or {})
                and (p.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            ]
            status = budgets.status_of(budget, pods, now)
            if status != budget.get("status"):
                patch = [{"op": "add", "path": "/status", "value": status}]
                where = (budgets.BUDGETS, meta["name"], patch, meta["namespace"])
                self.attempt(
                    lambda w=where: self.server.patch(  # type: ignore[misc]
                        *w, subresource="status", actor=self.name, content_type="application/json-patch+json"
                    )
                )


class QuotaController(Actor):
    """Adds up what each namespace uses of its ResourceQuotas."""

    name = "resourcequota-controller"

    def interested(self, commit: Commit) -> bool:
        if commit.resource == "resourcequotas":
            return True
        if commit.type == "MODIFIED" and commit.resource != "pods":
            return False
        table = self.server.storage.table("resourcequotas")
        return any(key.namespace == commit.key.namespace for key in table.keys)

    def step(self) -> None:
        for found in self.server.list("resourcequotas"):
            meta = found["metadata"]
            hard = (found.get("spec") or {}).get("hard") or {}
            total = self.server.operations.used(meta["namespace"])
            used = {name: str(total.get(name, ZERO)) for name in hard}
            status = {"hard": {n: str(Quantity.from_json(v)) for n, v in hard.items()}, "used": used}
            if status != found.get("status"):
                patch = [{"op": "add", "path": "/status", "value": status}]
                where = ("resourcequotas", meta["name"], patch, meta["namespace"])
                self.attempt(
                    lambda w=where: self.server.patch(  # type: ignore[misc]
                        *w, subresource="status", actor=self.name, content_type="application/json-patch+json"
                    )
                )


class ClaimProtection(Actor):
    """Holds a claim that is deleted until no pod uses it any more."""

    name = "pvc-protection-controller"

    async def run(self) -> None:
        self.server.operations.admission.append(_hold_new)
        try:
            await super().run()
        finally:
            self.server.operations.admission.remove(_hold_new)

    def interested(self, commit: Commit) -> bool:
        if commit.resource == "persistentvolumeclaims":
            return commit.type != "DELETED" and bool(commit.new.obj["metadata"].get("deletionTimestamp"))
        return commit.resource == "pods" and bool(_claims_of(commit.new.obj))

    def step(self) -> None:
        for claim in self.server.list("persistentvolumeclaims"):
            meta = claim["metadata"]
            finalizers = meta.get("finalizers") or []
            if not meta.get("deletionTimestamp") or PROTECTION not in finalizers:
                continue
            pods = self.server.list("pods", meta["namespace"])
            if any(meta["name"] in _claims_of(p) and not _ended(p) for p in pods):
                continue
            left = [f for f in finalizers if f != PROTECTION]
            patch = {"metadata": {"finalizers": left or None, "uid": meta["uid"]}}
            where = ("persistentvolumeclaims", meta["name"], patch, meta["namespace"])
            self.attempt(lambda w=where: self.server.patch(*w, actor=self.name))  # type: ignore[misc]


def _hold_new(call: Call, operation: str, obj: Body, _old: Body | None) -> Body:
    if operation == "CREATE" and call.resource == "persistentvolumeclaims":
        held = obj["metadata"].get("finalizers") or []
        if PROTECTION not in held:
            obj["metadata"]["finalizers"] = [*held, PROTECTION]
    return obj


def _claims_of(pod: Body) -> set[str]:
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    return {v["persistentVolumeClaim"]["claimName"] for v in volumes if v.get("persistentVolumeClaim")}


def _ended(pod: Body) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
