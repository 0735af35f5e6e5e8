"""What the oracles of Advanced StatefulSet read out of sets, pods and claims, as plain JSON.

Purpose: the rules of the API in their shortest form, written anew: an oracle that shared its arithmetic with the
controller could not catch it at a wrong sum.

Guarantees: every function is pure, and takes an object as the server stores it, defaults or none.

What this does not do: no rule of ``reliability.md``; those are in the modules beside this one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from kruise.runtime.clock import parse_time
from kruise.simulator.invariants.model import Body, controller_ref

SETS: Final = "statefulsets.apps.kruise.io"
PODS: Final = "pods"
CLAIMS: Final = "persistentvolumeclaims"
REVISIONS: Final = "controllerrevisions.apps"

REVISION: Final = "controller-revision-hash"
STATE: Final = "lifecycle.apps.kruise.io/state"
SPECIFIED_DELETE: Final = "apps.kruise.io/specified-delete"
IN_PLACE_STATE: Final = "apps.kruise.io/inplace-update-state"
IN_PLACE_GRACE: Final = "apps.kruise.io/inplace-update-grace"
GATE: Final = "InPlaceUpdateReady"
KRUISE_GATE: Final = "KruisePodReady"
NEVER: Final = math.inf
ENDED: Final = ("Succeeded", "Failed")
_MEMBER: Final = re.compile(r"(.+)-(0|[1-9][0-9]*)\Z")


# Sets.


def spec_of(owner: Body) -> Body:
    """Return the spec of a set."""
    found: Body = owner.get("spec") or {}
    return found


def replicas(owner: Body) -> int:
    """Return how many pods are wanted."""
    found = spec_of(owner).get("replicas")
    return 1 if found is None else int(found)


def reserved(owner: Body) -> frozenset[int]:
    """Return the ordinals that are to be skipped; a word that cannot be read voids the list, as at run time."""
    found: set[int] = set()
    for entry in spec_of(owner).get("reserveOrdinals") or ():
        if isinstance(entry, int):
            found.add(entry)
            continue
        low, dash, high = str(entry).partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            return frozenset()
        found.update(range(int(low), int(high or low) + 1))
    return frozenset(found)


def wanted(owner: Body, *, start_ordinal: bool = False) -> list[int]:
    """Return the ordinals that the set shall have, ascending (spec 2.2)."""
    skipped, found = reserved(owner), list[int]()
    ordinal = int((spec_of(owner).get("ordinals") or {}).get("start") or 0) if start_ordinal else 0
    while len(found) < replicas(owner):
        if ordinal not in skipped:
            found.append(ordinal)
        ordinal += 1
    return found


def strategy(owner: Body) -> str:
    """Return ``RollingUpdate`` or ``OnDelete``."""
    return (spec_of(owner).get("updateStrategy") or {}).get("type") or "RollingUpdate"


def rolling(owner: Body) -> Body:
    """Return ``updateStrategy.rollingUpdate``, empty when there is none."""
    return (spec_of(owner).get("updateStrategy") or {}).get("rollingUpdate") or {}


def policy(owner: Body) -> str:
    """Return ``podUpdatePolicy``."""
    return rolling(owner).get("podUpdatePolicy") or "ReCreate"


def ordered(owner: Body) -> bool:
    """Tell whether the set is managed in order."""
    return (spec_of(owner).get("podManagementPolicy") or "OrderedReady") == "OrderedReady"


def partition(owner: Body) -> int:
    """Return how many pods stay on the old revision."""
    return int(rolling(owner).get("partition") or 0)


def unordered(owner: Body) -> bool:
    """Tell whether an update follows priorities instead of ordinals."""
    return rolling(owner).get("unorderedUpdate") is not None


def rank(owner: Body, pod: Body) -> tuple[int, int]:
    """Return the place of a pod in an update by priorities, smaller first (spec 6.3); equal ones go by ordinal."""
    chosen = (rolling(owner).get("unorderedUpdate") or {}).get("priorityStrategy") or {}
    labels = pod["metadata"].get("labels") or {}
    heavy = [
        int(term["weight"])
        for term in chosen.get("weightPriority") or ()
        if ((term.get("matchSelector") or {}).get("matchLabels") or {}).items() <= labels.items()
    ]
    for level, term in enumerate(chosen.get("orderPriority") or ()):
        if term["orderedKey"] in labels:
            value = str(labels[term["orderedKey"]])
            digits = value[len(value.rstrip("0123456789")) :]
            return level, -int(digits or 0)
    return (-1 if chosen.get("orderPriority") else 0), -sum(heavy)


def paused(owner: Body) -> bool:
    """Tell whether updates are held."""
    return bool(rolling(owner).get("paused"))


def budget(owner: Body) -> int:
    """Return how many pods an update may make unavailable: a percentage is rounded down, one is the least."""
    return _resolved(rolling(owner).get("maxUnavailable"), replicas(owner)) or 1


def throttle(owner: Body) -> int | None:
    """Return how many pods may be unavailable while a Parallel set is scaled; ``None`` when nobody said."""
    return _resolved((spec_of(owner).get("scaleStrategy") or {}).get("maxUnavailable"), replicas(owner))


def _resolved(value: Any, total: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        return max(1, int(value.rstrip("%")) * total // 100)
    return max(1, int(value))


def min_ready(owner: Body) -> int:
    """Return ``minReadySeconds``."""
    return int(rolling(owner).get("minReadySeconds") or 0)


def retention(owner: Body) -> tuple[bool, bool]:
    """Return whether claims go when the set is deleted, and when it is scaled down."""
    found = spec_of(owner).get("persistentVolumeClaimRetentionPolicy") or {}
    return found.get("whenDeleted") == "Delete", found.get("whenScaled") == "Delete"


def claim_templates(owner: Body) -> list[str]:
    """Return the names of the claim templates."""
    return [str(one["metadata"]["name"]) for one in spec_of(owner).get("volumeClaimTemplates") or ()]


def claim_names(owner: Body, ordinal: int) -> list[str]:
    """Return the names of the claims of one ordinal."""
    return [f"{name}-{owner['metadata']['name']}-{ordinal}" for name in claim_templates(owner)]


def selects(owner: Body, obj: Body) -> bool:
    """Tell whether the set's selector matches, as far as ``matchLabels`` goes."""
    labels = obj["metadata"].get("labels") or {}
    return all(labels.get(k) == v for k, v in ((spec_of(owner).get("selector") or {}).get("matchLabels") or {}).items())


# Pods.


def ordinal_of(name: str, parent: str) -> int:
    """Return the ordinal of a pod's name, -1 when it is no member of the set *parent*."""
    found = _MEMBER.match(name)
    return int(found[2]) if found is not None and found[1] == parent else -1


def owner_uid(obj: Body) -> str:
    """Return the uid of the controller if that is an Advanced StatefulSet."""
    ref = controller_ref(obj)
    ours = ref is not None and ref.get("kind") == "StatefulSet" and str(ref.get("apiVersion", "")).startswith("apps.kr")
    return str(ref["uid"]) if ref is not None and ours else ""


def label(obj: Body, key: str) -> str:
    """Return a label, empty when it is not there."""
    return str((obj["metadata"].get("labels") or {}).get(key) or "")


def annotation(obj: Body, key: str) -> str:
    """Return an annotation, empty when it is not there."""
    return str((obj["metadata"].get("annotations") or {}).get(key) or "")


def terminating(obj: Body) -> bool:
    """Tell whether a deletion has begun."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def phase(pod: Body) -> str:
    """Return ``status.phase``."""
    return str((pod.get("status") or {}).get("phase") or "")


def condition(pod: Body, kind: str) -> Body:
    """Return a condition of a pod, empty when it is not there."""
    for one in (pod.get("status") or {}).get("conditions") or ():
        if one.get("type") == kind:
            found: Body = one
            return found
    return {}


def gated(pod: Body, kind: str = GATE) -> bool:
    """Tell whether a pod has a readiness gate."""
    return any(one.get("conditionType") == kind for one in (pod.get("spec") or {}).get("readinessGates") or ())


def ready(pod: Body) -> bool:
    """Tell whether a pod is running and ready, and every gate of ours is open."""
    if phase(pod) != "Running" or condition(pod, "Ready").get("status") != "True":
        return False
    return all(condition(pod, kind).get("status") == "True" for kind in (GATE, KRUISE_GATE) if gated(pod, kind))


def up_since(pod: Body, seconds: int) -> float:
    """Return from when on a pod counts as available, :data:`NEVER` as it is now (spec 4)."""
    if terminating(pod) or label(pod, STATE) not in ("", "Normal") or not ready(pod):
        return NEVER
    if not seconds:
        return 0.0
    changed = parse_time(condition(pod, "Ready").get("lastTransitionTime"))
    return NEVER if changed is None else changed + seconds


def containers(pod: Body) -> dict[str, Body]:
    """Return the containers of the spec by name."""
    return {str(one["name"]): one for one in (pod.get("spec") or {}).get("containers") or ()}


def statuses(pod: Body) -> dict[str, Body]:
    """Return the container statuses by name."""
    return {str(one["name"]): one for one in (pod.get("status") or {}).get("containerStatuses") or ()}


def mounted(pod: Body) -> list[str]:
    """Return the names of the claims that a pod mounts."""
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    return [str(v["persistentVolumeClaim"]["claimName"]) for v in volumes if v.get("persistentVolumeClaim")]


def resources_of(container: Mapping[str, Any]) -> tuple[Body, Body]:
    """Return requests and limits of a container or of its status; what is absent is empty."""
    found = container.get("resources") or {}
    return found.get("requests") or {}, found.get("limits") or {}


def same_image(spec: str, status: str) -> bool:
    """Tell whether a status names the image of the spec: with its tag, and perhaps with a registry before it."""
    full = spec if ":" in spec.rpartition("/")[2] or "@" in spec else f"{spec}:latest"
    return status == full or status.endswith(f"/{full}")


def references(obj: Body) -> dict[str, Body]:
    """Return the owner references by uid."""
    return {str(ref["uid"]): ref for ref in obj["metadata"].get("ownerReferences") or ()}


# Revisions.


def revision_number(revision: Body) -> int:
    """Return ``revision``."""
    return int(revision.get("revision") or 0)


def revision_template(revision: Body) -> Body:
    """Return the pod template in a ControllerRevision."""
    data = revision.get("data") or {}
    found: Body = ((data.get("spec") or {}).get("template") or {}) if isinstance(data, dict) else {}
    return {key: value for key, value in found.items() if key != "$patch"}


def canonical(value: Any) -> bytes:
    """Return a template in a form that is equal for equal meanings: nothing that is null or empty counts."""
    return orjson.dumps(_bare(value), option=orjson.OPT_SORT_KEYS)


def _bare(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: inner for k, v in value.items() if (inner := _bare(v)) not in (None, {}, [], "")}
    if isinstance(value, list):
        return [_bare(one) for one in value]
    return value


def newest(revisions: Iterable[Body]) -> str:
    """Return the name of the revision with the highest number, empty when there is none."""
    found = max(revisions, key=lambda one: (revision_number(one), one["metadata"]["name"]), default=None)
    return "" if found is None else str(found["metadata"]["name"])
