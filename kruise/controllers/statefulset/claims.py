"""The claims of a StatefulSet: their names and bodies, who owns them, whether they fit their templates.

Purpose: everything that is decided about one claim, each answer a function of the set, the template and the claim.

Guarantees (spec/advanced-statefulset 2.4, 9, 17.4):

* S5: a claim is created with its final owner references, so a crash leaves none behind that lacks one (X42). A pod
  becomes an owner only under ``whenScaled: Delete`` and while its ordinal is condemned; the caller says which ordinals
  are, by the whole range and not by ``replicas`` (X11). References to anybody else are never touched, and a patch names
  only those that it adds or removes.
* A set without a retention policy, or with a word in it that nobody knows, keeps its claims (X12).
* The labels of a claim are those of its template, with the set's selector over them (X14).
* A claim never shrinks, and nothing here deletes one.

Templates are parsed once for each spec; what is built from one shares whatever is equal for all ordinals, so nobody
changes it. All patches of claims are strategic ones.

What this does not do: it reads no gates and sends nothing. With StatefulSetAutoDeletePVC off nobody asks about owners,
with StatefulSetAutoResizePVCGate off nobody asks for a resize.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from kruise.apis.core import Claim, StorageClass
from kruise.apis.core_fields import type_errors
from kruise.apis.ordinals import NO_MEMBER, parse_member
from kruise.apis.quantity import ZERO, Quantity
from kruise.apis.statefulset import (
    DELETE,
    OWNED_BY_ANNOTATION,
    RETAIN,
    STATEFULSETS,
    StatefulSet,
    VolumeClaimStatus,
)
from kruise.runtime.objects import Object, Unreadable

__all__ = [
    "NO_CLAIMS",
    "ClaimFit",
    "ClaimTemplate",
    "ClaimTemplateError",
    "PodClaims",
    "build_claim",
    "claim_fit",
    "claim_name",
    "claim_slot",
    "claim_status",
    "claim_templates",
    "expansion_problem",
    "owner_refs",
    "pod_claims",
    "resize_patch",
    "retention_patch",
    "stale_for_pod",
]

_PATH: Final = "spec.volumeClaimTemplates"
_STORAGE: Final = "storage"
_RESIZE_PENDING: Final = "FileSystemResizePending"
"""The volume has grown, and its file system grows when a pod mounts it."""
_SERVER_FIELDS: Final = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generateName",
        "generation",
        "managedFields",
        "name",
        "namespace",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)
"""Metadata of a template that a claim has of its own."""


class ClaimTemplateError(ValueError):
    """The claim templates cannot be read. The text names the field and says what it should have been."""


# ---- templates and bodies --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClaimTemplate:
    """One claim template of a set, parsed."""

    name: str
    body: Mapping[str, Any]
    """A claim but for its name, namespace and owners."""
    request: Quantity
    """How much storage it asks for; zero when it does not say."""
    storage_class: str | None
    access_modes: tuple[str, ...]


def claim_templates(sts: StatefulSet) -> tuple[ClaimTemplate, ...]:
    """Parse the claim templates of *sts*. Raises ClaimTemplateError."""
    parsed = orjson.loads(bytes(sts.spec.volume_claim_templates))
    wrong = type_errors(parsed, "[core.v1.PersistentVolumeClaim]", _PATH)
    if wrong:
        raise ClaimTemplateError(wrong[0].message)
    selector = sts.spec.selector
    forced = selector.match_labels if selector is not None else {}
    return tuple(_parse(template or {}, forced) for template in parsed or ())


def _parse(template: dict[str, Any], forced: Mapping[str, str]) -> ClaimTemplate:
    given: dict[str, Any] = template.get("metadata") or {}
    meta = {key: value for key, value in given.items() if key not in _SERVER_FIELDS and value is not None}
    meta["labels"] = {**(given.get("labels") or {}), **forced}
    spec: dict[str, Any] = template.get("spec") or {}
    return ClaimTemplate(
        name=given.get("name") or "",
        body={**template, "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta},
        request=_storage((spec.get("resources") or {}).get("requests")),
        storage_class=spec.get("storageClassName"),
        access_modes=tuple(spec.get("accessModes") or ()),
    )


def _storage(amounts: Mapping[str, Any] | None) -> Quantity:
    """Return the amount of storage among *amounts*; zero when nothing is said of it."""
    found = (amounts or {}).get(_STORAGE)
    return ZERO if found is None else Quantity.from_json(found)


def claim_name(template: ClaimTemplate, set_name: str, ordinal: int) -> str:
    """Return the name of the claim of *template* for one ordinal of the set."""
    return f"{template.name}-{set_name}-{ordinal}"


def claim_slot(templates: Sequence[ClaimTemplate], set_name: str, name: str) -> tuple[ClaimTemplate, int] | None:
    """Return the template and the ordinal of the claim called *name*; ``None`` when it is none of this set's."""
    for template in templates:
        ordinal = parse_member(name, f"{template.name}-{set_name}")
        if ordinal != NO_MEMBER:
            return template, ordinal
    return None


def build_claim(
    sts: StatefulSet,
    template: ClaimTemplate,
    ordinal: int,
    *,
    condemned: bool = False,
    pod: Object | None = None,
    auto_delete: bool = True,
) -> dict[str, Any]:
    """Return the body of a claim with its final owner references.

    *auto_delete* is the gate StatefulSetAutoDeletePVC: without it a claim has no owners but those of its template.
    """
    meta = {
        **template.body["metadata"],
        "name": claim_name(template, sts.metadata.name, ordinal),
        "namespace": sts.metadata.namespace,
    }
    owners = owner_refs(sts, pod, condemned=condemned) if auto_delete else ()
    if owners:
        meta["ownerReferences"] = [*(meta.get("ownerReferences") or ()), *owners]
    return {**template.body, "metadata": meta}


# ---- who owns a claim ------------------------------------------------------------------------------------------------


def _policy(sts: StatefulSet) -> tuple[bool, bool]:
    """Return whether claims go with the set, and whether they go with a pod that is scaled away."""
    policy = sts.spec.persistent_volume_claim_retention_policy
    if policy is None or not {policy.when_deleted, policy.when_scaled} <= {RETAIN, DELETE}:
        return False, False
    return policy.when_deleted == DELETE, policy.when_scaled == DELETE


def owner_refs(sts: StatefulSet, pod: Object | None, *, condemned: bool) -> tuple[dict[str, Any], ...]:
    """Return the references that the policy of *sts* wants on the claims of one ordinal, in wire form.

    Without *pod* there is nobody whom a condemned claim could follow, so it has no owner.
    """
    with_set, with_pod = _policy(sts)
    if condemned and with_pod:
        return (_reference("v1", "Pod", pod),) if pod is not None else ()
    return (_reference(STATEFULSETS.api_version, STATEFULSETS.kind, sts),) if with_set else ()


def _reference(api_version: str, kind: str, owner: Object) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "name": owner.metadata.name, "uid": owner.uid}


def retention_patch(
    sts: StatefulSet, pod: Object | None, claim: Object, condemned: bool, *, pod_name: str = ""
) -> dict[str, Any] | None:
    """Return the patch that gives *claim* the owners that the policy wants; ``None`` when it has them.

    Owners are told apart by uid. Without *pod*, the one called *pod_name* is about to be created: then every reference
    to a pod of that name goes, because whatever it meant is gone, and the garbage collector would take the claim from
    under the new pod. Under ``whenScaled: Delete`` such a claim is stale instead, see :func:`stale_for_pod`.
    """
    wanted = {ref["uid"]: ref for ref in owner_refs(sts, pod, condemned=condemned)}
    ours = {sts.uid}
    if pod is not None:
        ours.add(pod.uid)
    elif not _policy(sts)[1]:
        refs = claim.metadata.owner_references
        ours.update(r.uid for r in refs if r.kind == "Pod" and r.api_version == "v1" and r.name == pod_name)
    present = {ref.uid for ref in claim.metadata.owner_references}
    changes: list[dict[str, Any]] = [{"$patch": "delete", "uid": uid} for uid in sorted((ours & present) - set(wanted))]
    changes += [ref for uid, ref in wanted.items() if uid not in present]
    return {"metadata": {"ownerReferences": changes}} if changes else None


def stale_for_pod(sts: StatefulSet, claim: Object, pod_name: str, pod_uid: str = "") -> bool:
    """Tell whether *claim* waits to be collected with an earlier pod of this name, so that no new one may take it.

    Asked only where the policy lets a claim go with its pod: any owner called like the pod, with another uid, counts.
    """
    policy = sts.spec.persistent_volume_claim_retention_policy
    if policy is None or policy.when_scaled == RETAIN:
        return False
    return any(ref.name == pod_name and ref.uid != pod_uid for ref in claim.metadata.owner_references)


# ---- whether a claim fits its template -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClaimFit:
    """How a claim compares with its template (spec 9.2)."""

    comparable: bool
    """They differ in size at most."""
    compatible: bool
    """The claim asks for as much as the template, or more."""
    ready: bool
    """It got what it asks for."""
    completed: bool
    """Nothing is left to do but what the next mount of the volume does."""

    @property
    def needs_growth(self) -> bool:
        """Whether a larger request would make it compatible."""
        return self.comparable and not self.compatible


MISSING: Final = ClaimFit(comparable=True, compatible=True, ready=True, completed=True)
"""A claim that is missing or terminating stands in nobody's way."""
UNKNOWN: Final = ClaimFit(comparable=False, compatible=False, ready=False, completed=False)
"""A claim that cannot be read fits nothing."""


def claim_fit(template: ClaimTemplate, claim: Claim) -> ClaimFit:
    """Compare *claim* with its template."""
    same_class = None in (template.storage_class, claim.spec.storage_class_name) or (
        template.storage_class == claim.spec.storage_class_name
    )
    if not same_class or template.access_modes != claim.spec.access_modes:
        return UNKNOWN
    request = _storage(claim.spec.resources.requests)
    fits = request >= template.request
    has_it = _storage(claim.status.capacity) >= request
    pending = any(c.type == _RESIZE_PENDING and c.status == "True" for c in claim.status.conditions)
    return ClaimFit(comparable=True, compatible=fits, ready=has_it, completed=fits and (has_it or pending))


def resize_patch(sts: StatefulSet, template: ClaimTemplate, claim: Claim) -> dict[str, Any] | None:
    """Return the patch that makes *claim* ask for what its template does; ``None`` where that is not to be done.

    The resources become the template's, so an amount that the template does not name goes.
    """
    if not claim_fit(template, claim).needs_growth:
        return None
    given: dict[str, Any] = (template.body.get("spec") or {}).get("resources") or {}
    resources: dict[str, Any] = {}
    for name, have in (("limits", claim.spec.resources.limits), ("requests", claim.spec.resources.requests)):
        wanted: dict[str, Any] = given.get(name) or {}
        amounts: dict[str, Any] = {**dict.fromkeys(have.keys() - wanted.keys()), **wanted}
        if amounts:
            resources[name] = amounts
    return {
        "metadata": {"annotations": {OWNED_BY_ANNOTATION: sts.metadata.name}},
        "spec": {"resources": resources},
    }


def expansion_problem(template: ClaimTemplate, claim: Claim, classes: Mapping[str, StorageClass], pod_name: str) -> str:
    """Return what keeps *claim* from growing to the size of its template, ``""`` when nothing does.

    *classes* are the storage classes by name. A claim without a class is left to the API server to judge.
    """
    fit = claim_fit(template, claim)
    if fit.compatible:
        return ""
    if not fit.comparable:
        return (
            f"claim {claim.metadata.name} of {pod_name} differs from its template in more than its size; "
            f"delete the claim and the pod to have them created again"
        )
    name = claim.spec.storage_class_name or template.storage_class
    if not name:
        return ""
    found = classes.get(name)
    if found is None:
        return f"storage class {name} for {pod_name} does not exist"
    return (
        "" if found.allow_volume_expansion else f"storage class {name} for {pod_name} does not support volume expansion"
    )


# ---- all claims of one pod -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PodClaims:
    """The claims of one ordinal, in the order of the templates."""

    claims: tuple[Claim | Unreadable | None, ...]
    fits: tuple[ClaimFit, ...]

    @property
    def matched(self) -> bool:
        """Whether every claim asks for what its template does."""
        return all(fit.compatible for fit in self.fits)

    @property
    def ready(self) -> bool:
        """Whether every claim got what it asks for."""
        return all(fit.ready for fit in self.fits)

    @property
    def completed(self) -> bool:
        """Whether no claim has anything left to grow."""
        return all(fit.completed for fit in self.fits)

    @property
    def terminating(self) -> tuple[Object, ...]:
        """The claims that are being deleted: until they are gone no pod may be created (S5b, X41)."""
        return tuple(claim for claim in self.claims if claim is not None and claim.terminating)

    @property
    def counts(self) -> tuple[tuple[int, int], ...]:
        """What this ordinal adds to the status of each template: compatible claims, compatible and ready ones."""
        return tuple(
            (0, 0) if claim is None or claim.terminating else (int(fit.compatible), int(fit.compatible and fit.ready))
            for claim, fit in zip(self.claims, self.fits, strict=True)
        )


NO_CLAIMS: Final = PodClaims((), ())


def pod_claims(
    templates: Sequence[ClaimTemplate],
    set_name: str,
    ordinal: int,
    lookup: Callable[[str], Claim | Unreadable | None],
) -> PodClaims:
    """Look up and judge the claims of one ordinal. *lookup* returns the claim of a name, or ``None``."""
    if not templates:
        return NO_CLAIMS
    claims = tuple(lookup(claim_name(template, set_name, ordinal)) for template in templates)
    return PodClaims(claims, tuple(_judge(t, c) for t, c in zip(templates, claims, strict=True)))


def _judge(template: ClaimTemplate, claim: Claim | Unreadable | None) -> ClaimFit:
    if claim is None or claim.terminating:
        return MISSING
    return UNKNOWN if isinstance(claim, Unreadable) else claim_fit(template, claim)


def claim_status(
    templates: Sequence[ClaimTemplate], totals: Sequence[tuple[int, int]]
) -> tuple[VolumeClaimStatus, ...]:
    """Return ``status.volumeClaims`` for the sums of :attr:`PodClaims.counts`, in the order of the templates."""
    return tuple(
        VolumeClaimStatus(volume_claim_name=template.name, compatible_replicas=fits, compatible_ready_replicas=got)
        for template, (fits, got) in zip(templates, totals, strict=True)
    )
