"""A set with its pods, claims and revisions as a recorded pass sees them, and what a plan makes of them.

The number and form of requests are ours; what must agree are the decisions and the objects that they leave behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import orjson

from kruise.apis.core import Claim, ControllerRevision, StorageClass
from kruise.apis.statefulset import STATEFULSETS, StatefulSet
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.revisions import BumpRevision, Chosen, CreateRevision, choose, relevant, truncate
from kruise.controllers.statefulset.actions import (
    Chain,
    CreateClaim,
    CreatePod,
    DeletePod,
    Failure,
    PatchClaim,
    PatchPod,
    Results,
    Step,
)
from kruise.controllers.statefulset.claiming import selector_of
from kruise.controllers.statefulset.plan import Plan, Settled, plan, settle
from kruise.controllers.statefulset.pods import PodGates
from kruise.controllers.statefulset.reports import step_events
from kruise.controllers.statefulset.settings import Settings
from kruise.controllers.statefulset.view import View
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.clock import parse_time
from kruise.simulator.apiserver.strategic import strategic_merge
from tests.golden.loader import Case
from tests.golden.pod_flow import JSON, after_theirs, after_write, comparable, typed

NOW = parse_time("2026-03-01T12:00:00Z") or 0.0


class RefusedError(Exception):
    """What the server says in a case with failures."""


def settings_of(case: Case) -> Settings:
    """The gates of *case*; those of OpenKruise's binary where it names none."""
    on = case.gates
    return Settings(
        inplace=Gates(
            env_from_metadata=on.get("InPlaceUpdateEnvFromMetadata", True),
            vertical_scaling=on.get("InPlaceWorkloadVerticalScaling", False),
            daemon=on.get("KruiseDaemon", True),
            server_version=case.input.get("serverVersion") or "v1.30.0",
        ),
        pods=PodGates(index_label=on.get("PodIndexLabel", True)),
        auto_delete_claims=on.get("StatefulSetAutoDeletePVC", True),
        auto_resize_claims=on.get("StatefulSetAutoResizePVCGate", False),
        start_ordinal=on.get("StatefulSetStartOrdinal", False),
        preparing_as_updated=on.get("PreparingUpdateAsUpdate", False),
    )


def set_of(body: JSON) -> StatefulSet:
    """A set as the manager sees it."""
    return decode_as(StatefulSet, orjson.dumps(body))


def revision_of(body: JSON) -> ControllerRevision:
    """A revision whose data is given as text."""
    return decode_as(ControllerRevision, orjson.dumps({**body, "data": orjson.Fragment(body["data"])}))


@dataclass
class Pass:
    """One pass of ours over the world of a case."""

    case: Case
    sts: StatefulSet
    chosen: Chosen
    view: View
    planned: Plan
    results: Results
    settled: Settled
    pods: dict[str, JSON]
    """After the pass; a deleted one is gone."""
    claims: dict[str, JSON]
    created: dict[str, str] = field(default_factory=dict)
    """Pods that were to be created, with their revisions, whether the server took them or not."""

    def deleted(self) -> list[str]:
        """The pods deleted, in the order of the plan."""
        steps = ((chain, step) for chain in self.planned.chains for step in chain.steps)
        return [chain.name for chain, step in steps if isinstance(step, DeletePod)]

    def revision_writes(self) -> list[str]:
        """What is done to revisions, but for those that are cut off."""
        found = []
        for write in self.chosen.writes:
            if isinstance(write, CreateRevision):
                found.append(f"create {write.body['metadata']['name']} {write.body['revision']}")
            elif isinstance(write, BumpRevision):
                found.append(f"bump {write.obj.metadata.name} {write.number}")
        return found

    def cut_off(self) -> list[str]:
        """The revisions that are deleted."""
        live = self.view.live_revisions() | {one["metadata"]["labels"].get(_LABEL, "") for one in _pods(self.case)}
        listed = [revision_of(body) for body in self.case.input.get("revisions") or []]
        limit = self.sts.spec.revision_history_limit
        return [r.metadata.name for r in truncate(listed, live, 10 if limit is None else limit)]

    def events(self) -> list[JSON]:
        """Every event of the pass, not yet combined."""
        name = self.sts.metadata.name
        found = [e for chain, step in self.results.done for e in step_events(name, chain, step, None)]
        for one in self.results.failures:
            found += step_events(name, one.chain, one.step, one.error)
        found += self.planned.events
        return [{"type": e.type, "reason": e.reason, "message": e.note} for e in found]

    @property
    def trouble(self) -> bool:
        """Whether anything went wrong, or keeps something from happening until somebody acts."""
        done = self.planned
        return bool(done.error or done.troubles or done.obstacles or self.results.failures)


_LABEL = "controller-revision-hash"


def _pods(case: Case) -> list[JSON]:
    return case.input.get("pods") or []


def run(case: Case) -> Pass:
    """Do one pass over the world of *case*."""
    sts = set_of(case.input["set"])
    listed = relevant(sts, [revision_of(body) for body in case.input.get("revisions") or []], selector_of(sts))
    template = orjson.loads(bytes(sts.spec.template))
    status = sts.status
    chosen = choose(STATEFULSETS, sts, listed, template, status.current_revision, status.collision_count)
    classes = [decode_as(StorageClass, orjson.dumps(one)) for one in case.input.get("storageClasses") or []]
    claims = {one["metadata"]["name"]: one for one in case.input.get("claims") or []}
    view = View.of(
        sts,
        chosen,
        [typed(pod) for pod in _pods(case)],
        [decode_as(Claim, orjson.dumps(one)) for one in claims.values()],
        {one.metadata.name: one for one in classes},
        settings=settings_of(case),
    )
    planned = plan(view, NOW)
    pods = {pod["metadata"]["name"]: deepcopy(pod) for pod in _pods(case)}
    created: dict[str, str] = {}
    done: list[tuple[Chain, Step]] = []
    failures: list[Failure] = []
    refuse = case.input.get("failures") or {}
    for chain, step in _steps(planned, failures):
        error = refuse.get(f"{_verb(step)}:{_object(chain, step)}")
        if isinstance(step, CreatePod):
            created[step.name] = step.revision
        if error is not None:
            failures.append(Failure(chain, step, RefusedError(error)))
            continue
        done.append((chain, step))
        _apply(chain, step, pods, claims)
    results = Results(tuple(done), tuple(failures))
    settled = settle(view, planned, results, NOW)
    return Pass(case, sts, chosen, view, planned, results, settled, pods, dict(claims), created)


def _steps(planned: Plan, failures: list[Failure]) -> Iterator[tuple[Chain, Step]]:
    """Yield steps as they are begun: none of a chain after one that failed, no creation after one that failed."""
    for group in (planned.continuations + planned.disruptions, planned.creates):
        for chain in group:
            if group is planned.creates and any(f.chain in planned.creates for f in failures):
                return
            for step in chain.steps:
                yield chain, step
                if failures and failures[-1].chain is chain:
                    break


def _verb(step: Step) -> str:
    match step:
        case CreatePod():
            return "createPod"
        case CreateClaim():
            return "createClaim"
        case PatchClaim():
            return "updateClaim"
        case DeletePod():
            return "deletePod"
        case PatchPod() if step.writes[0].subresource == "" and step.why == "refresh":
            return "patchPod"
        case PatchPod() if step.writes[0].subresource == "status":
            return "updatePodStatus"
    return "updatePod"


def _object(chain: Chain, step: Step) -> str:
    match step:
        case CreateClaim():
            return step.name
        case PatchClaim():
            return step.claim.metadata.name
    return chain.name


def _apply(chain: Chain, step: Step, pods: dict[str, JSON], claims: dict[str, JSON]) -> None:
    match step:
        case CreatePod():
            pods[step.name] = step.build()
        case CreateClaim():
            claims[step.name] = step.build()
        case PatchClaim():
            name = step.claim.metadata.name
            claims[name] = strategic_merge(deepcopy(claims[name]), deepcopy(step.patch))
        case DeletePod():
            del pods[chain.name]
        case PatchPod():
            for write in step.writes:
                pods[chain.name] = after_write(pods[chain.name], write)


def their_pods(case: Case) -> dict[str, JSON]:
    """The pods after the recorded pass."""
    pods = {pod["metadata"]["name"]: deepcopy(pod) for pod in _pods(case)}
    for write in case.output["writes"]:
        name = write.get("name")
        if write["do"] == "createPod":
            if not write.get("error"):
                pods[name] = write["pod"]
        elif write["do"] in ("updatePod", "updatePodStatus", "patchPod", "patchPod/resize", "deletePod"):
            after = None if write.get("error") else after_theirs(pods[name], [write])
            if write.get("error"):
                continue
            if after is None:
                del pods[name]
            else:
                pods[name] = after
    return pods


def their_claims(case: Case) -> dict[str, JSON]:
    """The claims after the recorded pass."""
    claims = {one["metadata"]["name"]: one for one in case.input.get("claims") or []}
    for write in case.output["writes"]:
        if write["do"] in ("createClaim", "updateClaim") and not write.get("error"):
            claims[write["name"]] = write["claim"]
    return claims


def comparable_pods(pods: dict[str, JSON]) -> JSON:
    """*pods* as they are compared: claim volumes by name, types and server fields aside."""
    found = {}
    for name, pod in pods.items():
        one = comparable({k: v for k, v in pod.items() if k not in ("kind", "apiVersion")})
        one.get("metadata", {}).pop("generateName", None)
        volumes = one.get("spec", {}).get("volumes")
        if volumes:
            one["spec"]["volumes"] = sorted(volumes, key=lambda v: ("persistentVolumeClaim" not in v, v["name"]))
        found[name] = one
    return found


def without_types(claims: dict[str, JSON]) -> dict[str, Any]:
    """*claims* without kind and apiVersion."""
    return {name: {k: v for k, v in one.items() if k not in ("kind", "apiVersion")} for name, one in claims.items()}
