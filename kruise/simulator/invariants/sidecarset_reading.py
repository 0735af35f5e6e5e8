"""What the oracles of SidecarSets read out of sets and pods, as plain JSON.

Purpose: the rules of the API in their shortest form, written anew: an oracle that shared its arithmetic with the
controller could not catch it at a wrong sum.

Guarantees: every function is pure, and takes an object as the server stores it, defaults or none. An annotation that
cannot be read counts as absent.

What this does not do: no rule of ``reliability.md``; those are in the modules beside this one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from kruise.simulator.invariants.model import Body
from kruise.simulator.invariants.statefulset_reading import (
    PODS,
    REVISIONS,
    annotation,
    condition,
    containers,
    phase,
    same_image,
    spec_of,
    statuses,
    terminating,
)

__all__ = [
    "PODS",
    "REVISIONS",
    "annotation",
    "condition",
    "containers",
    "phase",
    "same_image",
    "spec_of",
    "statuses",
    "terminating",
]

SIDECARSETS: Final = "sidecarsets.apps.kruise.io"
NAMESPACES: Final = "namespaces"
OWN_NAMESPACE: Final = "kruise-system"
CONTROLLER: Final = "sidecarset-controller"

HASH: Final = "kruise.io/sidecarset-hash"
WITHOUT_IMAGE: Final = "kruise.io/sidecarset-hash-without-image"
LISTED: Final = "kruise.io/sidecarset-injected-list"
STATE: Final = "kruise.io/sidecarset-inplace-update-state"
WORKING: Final = "kruise.io/sidecarset-working-hotupgrade-container"
VERSIONS: Final = ("version.sidecarset.kruise.io/", "versionalt.sidecarset.kruise.io/")
UPGRADABLE: Final = "SidecarSetUpgradable"
MARKERS: Final = frozenset({"IS_INJECTED", "SIDECARSET_VERSION", "SIDECARSET_VERSION_ALT"})
SYSTEM: Final = frozenset({"kube-system", "kube-node-lease", "kube-public"})
EXCLUDED: Final = ("apps.kruise.io/sidecarset-injection", "disabled")
MIRROR: Final = "kubernetes.io/config.mirror"
_PERCENT: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)%\Z")


# Sets.


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One of ``spec.containers``."""

    name: str
    image: str
    empty: str
    """The image of the idle twin; empty for one that is upgraded cold."""
    hot: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its containers in a pod."""
        return (f"{self.name}-1", f"{self.name}-2") if self.hot else (self.name,)


def sidecars(owner: Body, field: str = "containers") -> tuple[Sidecar, ...]:
    """Return the sidecars of a set, or its init containers."""
    found = []
    for one in spec_of(owner).get(field) or ():
        upgrade = one.get("upgradeStrategy") or {}
        hot = upgrade.get("upgradeType") == "HotUpgrade" and (field == "containers" or native(one))
        empty = str(upgrade.get("hotUpgradeEmptyImage") or "") if hot else ""
        found.append(Sidecar(str(one["name"]), str(one.get("image") or ""), empty, hot))
    return tuple(found)


def native(container: Body) -> bool:
    """Tell whether an init container runs as long as its pod."""
    return container.get("restartPolicy") == "Always"


def provided(owner: Body) -> frozenset[str]:
    """Return the names of all containers that the set may put into a pod."""
    both = (*sidecars(owner), *sidecars(owner, "initContainers"))
    return frozenset(name for one in both for name in one.names)


def hash_of(owner: Body, key: str = HASH) -> str:
    """Return one of the hashes that admission wrote; empty where there is none."""
    return annotation(owner, key)


def strategy(owner: Body) -> Body:
    """Return ``updateStrategy``, empty when there is none."""
    return spec_of(owner).get("updateStrategy") or {}


def updates(owner: Body) -> bool:
    """Tell whether running pods are upgraded at all."""
    return strategy(owner).get("type") != "NotUpdate"


def paused(owner: Body) -> bool:
    """Tell whether upgrades are held."""
    return bool(strategy(owner).get("paused"))


def partition(owner: Body, total: int) -> int:
    """Return how many of the waiting pods stay as they are (spec 8.5)."""
    value = strategy(owner).get("partition")
    if isinstance(value, int) or value is None:
        return min(max(int(value or 0), 0), total)
    found = _PERCENT.match(str(value))
    if found is None:
        return 0
    kept = math.ceil(round(float(found[1]) * total / 100, 9))
    if kept == total > 1 and value != "100%":
        kept -= 1
    return min(max(kept, 0), total)


def budget(owner: Body, total: int) -> int:
    """Return how many pods may be on their way at a time (spec 8.5)."""
    value = strategy(owner).get("maxUnavailable")
    if value is None:
        return 1
    if isinstance(value, int):
        return value
    digits = str(value).replace("%", "")
    return -(-int(digits) * total // 100) if digits.isdigit() else 0


def matches(selector: Any, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector selects *labels*; an empty one selects everything."""
    chosen = selector or {}
    if any(labels.get(key) != value for key, value in (chosen.get("matchLabels") or {}).items()):
        return False
    for one in chosen.get("matchExpressions") or ():
        key, values = one.get("key"), one.get("values") or ()
        has = key in labels
        good = {
            "In": has and labels.get(key) in values,
            "NotIn": not has or labels.get(key) not in values,
            "Exists": has,
            "DoesNotExist": not has,
        }
        if not good.get(str(one.get("operator")), False):
            return False
    return True


def selects(owner: Body, pod: Body, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
    """Tell whether the set selects a pod where it is; *namespaces* are the labels of those that exist."""
    selector, chosen = spec_of(owner).get("selector"), spec_of(owner).get("namespaceSelector")
    meta = pod["metadata"]
    if not selector or not (selector.get("matchLabels") or selector.get("matchExpressions")):
        return False
    if chosen is not None:
        labels = namespaces.get(str(meta.get("namespace") or ""))
        if labels is None or not matches(chosen, labels):
            return False
    return matches(selector, meta.get("labels") or {})


def base_of(owner: Body) -> str:
    """Return the set that this one is a canary of; empty when it is none."""
    canary = annotation(owner, "apps.kruise.io/sidecarset-canary") == "true"
    return annotation(owner, "apps.kruise.io/sidecarset-base") if canary else ""


# Pods.


def exempt(pod: Body) -> bool:
    """Tell whether no set may touch a pod (C3)."""
    meta = pod["metadata"]
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    left_alone = meta.get("namespace") in SYSTEM or meta.get("namespace") == OWN_NAMESPACE
    return left_alone or labels.get(EXCLUDED[0]) == EXCLUDED[1] or MIRROR in notes


def active(pod: Body) -> bool:
    """Tell whether a pod still has a life before it."""
    return phase(pod) not in ("Succeeded", "Failed") and not terminating(pod)


def listed(pod: Body) -> tuple[str, ...]:
    """Return the names of the sets that were injected."""
    text = annotation(pod, LISTED)
    return tuple(text.split(",")) if text else ()


def marked(container: Body) -> bool:
    """Tell whether a container says that it was injected."""
    return any(one.get("name") == "IS_INJECTED" and one.get("value") == "true" for one in container.get("env") or ())


def table(pod: Body, key: str) -> dict[str, Any]:
    """Return the JSON object in an annotation; empty for any other text."""
    try:
        found = orjson.loads(annotation(pod, key) or "{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def entry(pod: Body, name: str, key: str = HASH) -> str:
    """Return the hash that a pod has of the set *name*; an older manager wrote it as plain text."""
    found = table(pod, key).get(name)
    if isinstance(found, dict):
        found = found.get("hash")
    return found if isinstance(found, str) else ""


def images(pod: Body) -> dict[str, str]:
    """Return container -> image."""
    return {name: str(one.get("image") or "") for name, one in containers(pod).items()}


def ready(pod: Body) -> bool:
    """Tell whether a pod runs, and is ready."""
    return phase(pod) == "Running" and condition(pod, "Ready").get("status") == "True"


def complete(owner: Body, pod: Body) -> bool:
    """Tell whether a pod has every container of the set (spec 7.3)."""
    names = set(containers(pod))
    early = {str(one["name"]) for one in (pod.get("spec") or {}).get("initContainers") or ()}
    working = table(pod, WORKING)
    for one in sidecars(owner):
        if one.hot and (one.name not in working or not names.issuperset(one.names)):
            return False
        if not one.hot and one.name not in names | early:
            return False
    return True


def up(owner: Body, pod: Body) -> bool:
    """Tell whether a pod works, and no hot sidecar of it is between two versions (spec 9.4)."""
    if not ready(pod) or terminating(pod):
        return False
    have, working = images(pod), table(pod, WORKING)
    for one in sidecars(owner):
        if one.hot and one.empty:
            first, second = one.names
            idle = first if working.get(one.name) == second else second
            real = [name for name in one.names if have.get(name) not in (one.empty, "", None)]
            if len(real) != 1 and have.get(idle) != one.empty:
                return False
    return True


def consistent(owner: Body, pod: Body, names: Collection[str] = ()) -> bool:
    """Tell whether the kubelet runs what the spec says of the set's containers, or of *names* (spec 9.3)."""
    told = statuses(pod)
    own = names or {name for one in sidecars(owner) for name in one.names}
    wanted = [one for one in containers(pod).values() if one["name"] in own]
    if not wanted:
        return True
    if len(containers(pod)) != len(told):
        return False
    for one in wanted:
        name, at, digest = str(one.get("image") or "").partition("@")
        if not at:
            return _settled(owner, pod, own)
        running, _, has = str(told.get(one["name"], {}).get("imageID", "")).rpartition("://")[2].partition("@")
        if has != digest or running.rpartition("/")[2] != name.rpartition("/")[2].partition(":")[0]:
            return False
    return True


def _settled(owner: Body, pod: Body, own: Collection[str]) -> bool:
    if not annotation(pod, STATE):
        return True
    try:
        found = orjson.loads(annotation(pod, STATE))
    except orjson.JSONDecodeError:
        return False
    if found is not None and not isinstance(found, dict):
        return False
    noted = ((found or {}).get(owner["metadata"]["name"]) or {}).get("lastContainerStatuses") or {}
    have = images(pod)
    for name, status in statuses(pod).items():
        before = (noted.get(name) or {}).get("imageID", "") if name in noted else None
        if name not in own or before is None or before != str(status.get("imageID", "")):
            continue
        if not same_image(have.get(name, ""), str(status.get("image", ""))):
            return False
    return True


def in_progress(owner: Body, pod: Body) -> bool:
    """Tell whether a container of the set still runs, ready, what an upgrade took away from it (spec 8.1)."""
    told = statuses(pod)
    own = [name for one in sidecars(owner) for name in one.names]
    return any(told.get(name, {}).get("ready") is True and not consistent(owner, pod, (name,)) for name in own)
