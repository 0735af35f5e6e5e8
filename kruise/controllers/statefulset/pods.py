"""The pods of a StatefulSet: how one is made, and whether a living one is who it should be.

Purpose: a pod is its ordinal. Everything that ties the two together is built here, and compared here.

Guarantees (spec/advanced-statefulset 2.3, 2.6):

* S1: the name of a pod is a function of the set's name and the ordinal, so two managers, a crash or a stale cache can
  only try to create the *same* object, and the API server refuses the second one.
* A pod is made from the whole template of its revision, whatever is in it. What is equal for all pods of a revision is
  shared with the template, so building one costs the same for ten pods and for ten thousand; nobody changes a body or a
  template.
* Claims win over volumes of the template that have their names.
* The readiness gate KruisePodReady is there exactly when something may take the pod out of service by it.
* Identity is the name and the label that repeats it. The label with the ordinal, the host name and the subdomain are
  set at creation and never repaired, as upstream.

What this does not do: it does not choose the revision, and it adds no InPlaceUpdateReady: that gate is the user's word
that pods may be updated in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from kruise.apis.core import Pod
from kruise.apis.ordinals import NO_MEMBER, pod_name
from kruise.apis.statefulset import (
    LABEL_POD_INDEX,
    LABEL_POD_NAME,
    LABEL_REVISION,
    STATEFULSETS,
    Lifecycle,
    StatefulSet,
)
from kruise.controllers.common.inplace.writes import MAIN, PodWrite
from kruise.controllers.common.lifecycle import first_state, state_fields
from kruise.controllers.common.readiness import POD_READY_GATE
from kruise.controllers.common.revisions import Revision
from kruise.controllers.statefulset.claiming import member_ordinal
from kruise.controllers.statefulset.claims import ClaimTemplate, claim_name
from kruise.runtime.objects import Object, ObjectMeta, owner_reference

__all__ = [
    "DEFAULT_POD_GATES",
    "PodGates",
    "build_pod",
    "identity_matches",
    "repair_patch",
    "storage_matches",
    "storage_patch",
]


@dataclass(frozen=True, slots=True)
class PodGates:
    """The feature gates that decide what a new pod looks like, with their defaults."""

    index_label: bool = True
    """PodIndexLabel: the ordinal as a label."""
    ready_gate: bool = False
    """KruisePodReadinessGate: every pod has the readiness gate KruisePodReady."""
    lifecycle_with_hooks_only: bool = False
    """LifecycleLabelOnlyWithHooks: a set without hooks writes no lifecycle label."""


DEFAULT_POD_GATES: Final = PodGates()


# ---- a new pod -------------------------------------------------------------------------------------------------------


def build_pod(
    sts: StatefulSet,
    revision: Revision,
    ordinal: int,
    *,
    claims: Sequence[ClaimTemplate],
    now: float,
    gates: PodGates = DEFAULT_POD_GATES,
) -> dict[str, Any]:
    """Return the body of the pod of *sts* with *ordinal*, made at wall time *now* from the template of *revision*.

    *claims* are the parsed claim templates of the set; they are no part of a revision.
    """
    template = revision.template
    name = pod_name(sts.metadata.name, ordinal)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(sts, template.get("metadata") or {}, revision.name, name, ordinal, now, gates),
        "spec": _spec(sts, template.get("spec") or {}, name, ordinal, claims, gates),
    }


def _metadata(
    sts: StatefulSet, given: dict[str, Any], revision: str, name: str, ordinal: int, now: float, gates: PodGates
) -> dict[str, Any]:
    labels: dict[str, str] = {**(given.get("labels") or {}), LABEL_POD_NAME: name, LABEL_REVISION: revision}
    if gates.index_label:
        labels[LABEL_POD_INDEX] = str(ordinal)
    annotations: dict[str, str] = {**(given.get("annotations") or {})}
    finalizers: list[str] = given.get("finalizers") or []
    lifecycle = sts.spec.lifecycle
    if _has_hooks(lifecycle) or not gates.lifecycle_with_hooks_only:
        state = first_state(lifecycle, ObjectMeta(name=name, labels=labels, finalizers=tuple(finalizers)))
        fields = state_fields(state, now)
        labels |= fields["labels"]
        annotations |= fields["annotations"]
    # No generateName, unlike upstream: beside a name it means nothing, and no child of ours ever has one (rule 1).
    meta: dict[str, Any] = {
        "name": name,
        "namespace": sts.metadata.namespace,
        "labels": labels,
        "annotations": annotations,
        "ownerReferences": [owner_reference(STATEFULSETS, sts)],
    }
    if finalizers:
        meta["finalizers"] = finalizers
    return meta


def _has_hooks(lifecycle: Lifecycle | None) -> bool:
    return lifecycle is not None and any((lifecycle.pre_delete, lifecycle.in_place_update, lifecycle.pre_normal))


def _marks_not_ready(lifecycle: Lifecycle | None) -> bool:
    if lifecycle is None:
        return False
    hooks = (lifecycle.pre_delete, lifecycle.in_place_update, lifecycle.pre_normal)
    return any(hook is not None and hook.mark_pod_not_ready for hook in hooks)


def _spec(
    sts: StatefulSet,
    given: dict[str, Any],
    name: str,
    ordinal: int,
    claims: Sequence[ClaimTemplate],
    gates: PodGates,
) -> dict[str, Any]:
    spec = {**given, "hostname": name}
    spec.pop("subdomain", None)
    if sts.spec.service_name:
        spec["subdomain"] = sts.spec.service_name
    if claims:
        names = {template.name for template in claims}
        volumes = [_volume(sts, template, ordinal) for template in claims]
        volumes += [volume for volume in given.get("volumes") or () if volume.get("name") not in names]
        spec["volumes"] = volumes
    if gates.ready_gate or _marks_not_ready(sts.spec.lifecycle):
        known: list[dict[str, Any]] = given.get("readinessGates") or []
        if not any(gate.get("conditionType") == POD_READY_GATE for gate in known):
            spec["readinessGates"] = [*known, {"conditionType": POD_READY_GATE}]
    return spec


def _volume(sts: StatefulSet, template: ClaimTemplate, ordinal: int) -> dict[str, Any]:
    claim = claim_name(template, sts.metadata.name, ordinal)
    return {"name": template.name, "persistentVolumeClaim": {"claimName": claim}}


# ---- a living pod ----------------------------------------------------------------------------------------------------


def identity_matches(sts: StatefulSet, pod: Object) -> bool:
    """Tell whether *pod* is a member of *sts* and says so by its label."""
    if member_ordinal(sts, pod) == NO_MEMBER:
        return False
    return pod.metadata.labels.get(LABEL_POD_NAME) == pod.metadata.name


def storage_matches(sts: StatefulSet, pod: Pod, claims: Sequence[ClaimTemplate]) -> bool:
    """Tell whether *pod* has, for every claim template, a volume of its name with the claim of its ordinal."""
    return not _wrong_volumes(sts, pod, claims)


def _wrong_volumes(sts: StatefulSet, pod: Pod, claims: Sequence[ClaimTemplate]) -> list[dict[str, Any]]:
    """Return the claim volumes that *pod* lacks, or that mean another claim."""
    ordinal = member_ordinal(sts, pod)
    if not claims or ordinal == NO_MEMBER:
        return []
    held = {v.name: v.persistent_volume_claim.claim_name for v in pod.spec.volumes if v.persistent_volume_claim}
    wanted = (_volume(sts, template, ordinal) for template in claims)
    return [volume for volume in wanted if held.get(volume["name"]) != volume["persistentVolumeClaim"]["claimName"]]


def repair_patch(sts: StatefulSet, pod: Object, *, gates: PodGates = DEFAULT_POD_GATES) -> PodWrite | None:
    """Return the write that gives a member of *sts* back the labels of its identity; ``None`` when it has them."""
    ordinal = member_ordinal(sts, pod)
    if ordinal == NO_MEMBER or identity_matches(sts, pod):
        return None
    labels = {LABEL_POD_NAME: pod.metadata.name}
    if gates.index_label:
        labels[LABEL_POD_INDEX] = str(ordinal)
    return PodWrite(MAIN, {"metadata": {"labels": labels}}, "repair the identity")


def storage_patch(sts: StatefulSet, pod: Pod, claims: Sequence[ClaimTemplate]) -> PodWrite | None:
    """Return the write that would give *pod* the claims of its ordinal; ``None`` when it has them.

    API servers refuse to change the volumes of a pod that exists, so this is a write of its own: it must not take the
    repair of the labels down with it, and once refused it is not worth sending again for the same pod and templates.
    """
    wrong = _wrong_volumes(sts, pod, claims)
    if not wrong:
        return None
    volumes = [{**volume, "$retainKeys": ["name", "persistentVolumeClaim"]} for volume in wrong]
    return PodWrite(MAIN, {"spec": {"volumes": volumes}}, "repair the volumes")
