"""SidecarSets and their injection, broken on purpose: bugs that some controller once had (reliability 6.7)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from kruise.apis import sidecarset_rules as scs_rules
from kruise.apis.selectors import EVERYTHING
from kruise.controllers.common.reasons import Reason
from kruise.controllers.sidecarset import frame as framing
from kruise.controllers.sidecarset import order, podstate, slots, upgrade
from kruise.controllers.sidecarset import plan as planning
from kruise.controllers.sidecarset import reconciler as reconciling
from kruise.controllers.sidecarset import status as settling
from kruise.controllers.sidecarset import view as viewing
from kruise.controllers.sidecarset.frame import Frame
from kruise.controllers.sidecarset.podannotations import Entry
from kruise.runtime.client import client as client_module
from kruise.runtime.webhook.keeper import CertificateKeeper
from kruise.simulator.faults import OnPod, Plan, PodFault
from kruise.webhooks import conversion
from kruise.webhooks import inject as injecting
from kruise.webhooks.inject_patch import PodPatch
from tests.simulation.mutants import Mutant, Patch, _no_gate, _stale


def _one_too_many() -> list[Patch]:
    sound = order.budget
    return [(planning, "budget", lambda strategy, total: sound(strategy, total) + 1)]


def _floored() -> list[Patch]:
    """A small percentage is nothing (X4)."""
    sound = order.budget

    def budget(strategy: Any, total: int) -> int:
        value = strategy.max_unavailable
        return int(value.rstrip("%")) * total // 100 if isinstance(value, str) else sound(strategy, total)

    return [(planning, "budget", budget)]


def _partition_ignored() -> list[Patch]:
    return [(planning, "partition", lambda strategy, total: 0)]


def _pause_ignored() -> list[Patch]:
    return [(Frame, "paused", property(lambda self: False))]


def _not_update_ignored() -> list[Patch]:
    return [(Frame, "updates", property(lambda self: True))]


def _selector_ignored() -> list[Patch]:
    return [(framing, "_chosen", lambda selector: EVERYTHING)]


def _priority_ignored() -> list[Patch]:
    sound = order.ranking
    return [(viewing, "ranking", lambda strategy: sound(None))]


def _working_first() -> list[Patch]:
    """Pods that work are upgraded before those that are down: whoever is down stays down longest."""
    sound = order.default_rank
    return [(order, "default_rank", lambda pod: tuple(-one for one in sound(pod)))]


def _version_lost() -> list[Patch]:
    """The version of the user's own is forgotten on the way to v1alpha1: the next write there takes it away."""
    sound = scs_rules._to_alpha
    return [(scs_rules, "_to_alpha", lambda metadata, spec: (metadata, sound(metadata, spec)[1]))]


def _metadata_lost() -> list[Patch]:
    """Labels, annotations and the rest of the metadata do not survive a conversion."""
    sound = conversion._to
    names = ("name", "namespace", "uid")

    def to(version: str, convert: Any) -> Any:
        sure = sound(version, convert)
        return lambda obj: {**sure(obj), "metadata": {k: v for k, v in obj["metadata"].items() if k in names}}

    return [(conversion, "_to", to)]


def _all_upgradable() -> list[Patch]:
    """The hash without images is not looked at."""
    sound = podstate.state_of_pod
    return [(slots, "state_of_pod", lambda frame, pod: replace(sound(frame, pod), upgradable=True))]


def _never_marked() -> list[Patch]:
    return [(planning._Round, "marks", lambda self: iter(()))]


def _hash_without_image() -> list[Patch]:
    """The annotation is written, and the image is forgotten (X27)."""
    return [(upgrade._Edit, "image", lambda self, container, image: None)]


def _more_than_the_image() -> list[Patch]:
    """The whole container is rendered anew, with what the set says of it now."""
    sound = upgrade._Edit.write

    def write(self: Any, why: str) -> Any:
        found = sound(self, why)
        for one in ((found.patch if found is not None else {}).get("spec") or {}).get("containers") or ():
            one["imagePullPolicy"] = "Always"
        return found

    return [(upgrade._Edit, "write", write)]


def _wrong_twin() -> list[Patch]:
    return [(upgrade, "upgrade_twin", lambda frame, twins, pod: twins.worker.name)]


def _flips_too_early() -> list[Patch]:
    sound = podstate.flip_of

    def flip_of(frame: Frame, pod: Any) -> Any:
        return replace(sound(frame, pod), consistent=True, ready=True)

    return [(podstate, "flip_of", flip_of)]


def _never_repaired() -> list[Patch]:
    """The old image that is published again is nothing to do, and the failing twin stays (spec 10.3)."""
    return [
        (podstate, "stranded", lambda frame, pod: ()),
        (upgrade, "stranded", lambda frame, pod: ()),
        (upgrade._Edit, "empty", _only_flips(upgrade._Edit.empty)),
    ]


def _only_flips(sound: Callable[..., None]) -> Callable[..., None]:
    def empty(self: Any, twins: Any, failing: str, serving: str) -> None:
        if failing == twins.other.name:
            sound(self, twins, failing, serving)

    return empty


def _status_always() -> list[Patch]:
    def wire(status: Any) -> dict[str, Any]:
        return _Unequal(settling.wire(status))

    return [
        (settling, "counts_differ", lambda old, new: True),
        (reconciling, "wire", wire),
        (client_module, "would_change", lambda *given: True),
    ]


class _Unequal(dict[str, Any]):
    """A status that never equals another: comparison by identity (X28)."""

    def __ne__(self, other: object) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None


def _missed_pods_unseen() -> list[Patch]:
    return [(settling, "_injected", lambda view: (True, Reason.INJECTED, "all is well"))]


# Admission.


def _nobody_exempt() -> list[Patch]:
    return [(injecting, "exempt", lambda *given: "")]


def _both_provide() -> list[Patch]:
    return [(injecting._Injection, "_conflict", lambda self, *given: "")]


def _level_ignored() -> list[Patch]:
    return [(injecting, "violation", lambda *given: "")]


def _drawn_again() -> list[Patch]:
    """The share of old versions is drawn for each call, whatever the pod already says."""
    numbers = itertools.cycle([Fraction(1, 4), Fraction(3, 4)])
    return [(injecting, "_draw", lambda uid, name: next(numbers))]


def _forgets_the_draw() -> list[Patch]:
    """A pod that comes a second time, under another uid, is judged as if it were new."""
    return [
        (injecting._Injection, "_entry", lambda self, name: Entry()),
        (injecting._Injection, "_has", lambda self, item: False),
    ]


def _whole_lists() -> list[Patch]:
    """Lists are replaced as a whole: what another webhook wrote meanwhile is lost (X35)."""
    sound = PodPatch.elements

    def elements(self: PodPatch, path: str, *, exists: bool, first: Any, last: Any) -> None:
        values = [*first, *last]
        if exists and values:
            joined = b"[" + b",".join(values) + b"]"
            self._operations.append(b'{"op":"replace","path":"%b","value":%b}' % (path.encode(), joined))
        else:
            sound(self, path, exists=exists, first=values, last=())

    return [(PodPatch, "elements", elements)]


def _never_renewed() -> list[Patch]:
    """The certificate is made once, and served until it ends (X34)."""

    async def look(self: CertificateKeeper) -> None:
        return None

    return [(CertificateKeeper, "look", look)]


_SLOW = Plan(pods=(PodFault(OnPod.SLOW_START, "*", "*:v2"),))

SIDECAR_MUTANTS: tuple[Mutant, ...] = (
    Mutant("takes one pod more than maxUnavailable", "sidecar-cold", _one_too_many, Plan(), rule="C5"),
    Mutant("floors a percentage of sidecars", "sidecar-percent", _floored, Plan(), rule="L1, X4"),
    Mutant("upgrades beyond the partition", "sidecar-partitions", _partition_ignored, Plan(), rule="C5"),
    Mutant("upgrades sidecars while paused", "sidecar-paused", _pause_ignored, Plan(), rule="C5"),
    Mutant("upgrades sidecars under NotUpdate", "sidecar-not-update", _not_update_ignored, Plan(), rule="C5"),
    Mutant("upgrades sidecars outside the selector", "sidecar-selected", _selector_ignored, Plan(), rule="C5"),
    Mutant("upgrades sidecars in any order", "sidecar-priorities", _priority_ignored, Plan(), rule="C5"),
    Mutant("upgrades working sidecars first", "sidecar-overtaken", _working_first, Plan(), rule="C5"),
    Mutant("loses a version of the user's own", "sidecar-older-version", _version_lost, Plan(), rule="WEB6"),
    Mutant("converts no labels and no annotations", "set-older-version", _metadata_lost, Plan(), rule="WEB6"),
    Mutant("upgrades in place what only a new pod gets", "sidecar-immutable", _all_upgradable, Plan(), rule="C7"),
    Mutant("marks no pod as not upgradable", "sidecar-not-upgradable", _never_marked, Plan(), rule="C7, L1"),
    Mutant("writes the hash without the image", "sidecar-cold", _hash_without_image, Plan(), rule="C6, X27"),
    Mutant("writes more than images", "sidecar-cold", _more_than_the_image, Plan(), rule="C1"),
    Mutant("upgrades the serving twin", "sidecar-hot", _wrong_twin, Plan(), rule="C6"),
    Mutant("empties the old twin too early", "sidecar-hot", _flips_too_early, _SLOW, rule="C6"),
    Mutant("leaves a failing twin at work", "sidecar-hot-taken-back", _never_repaired, Plan(), rule="L1, L4"),
    Mutant("no read-your-writes gate for sidecars", "sidecar-cold", _no_gate, _stale(), rule="G6, X26"),
    Mutant("a status of sidecars never equals another", "sidecar-cold", _status_always, Plan(), rule="G4, X28"),
    Mutant("pods without sidecars stay unseen", "sidecar-outage-ignored", _missed_pods_unseen, Plan(), rule="C11"),
    Mutant("injects into pods of the system", "sidecar-exempt", _nobody_exempt, Plan(), rule="C3"),
    Mutant("two sets provide one container", "sidecar-conflict", _both_provide, _stale(), rule="C4, X30"),
    Mutant("Pod Security is not looked at", "sidecar-restricted", _level_ignored, Plan(), rule="C9"),
    Mutant("draws the version anew at each call", "sidecar-partial", _drawn_again, Plan(), rule="C2"),
    Mutant("forgets which version it drew", "sidecar-partial", _forgets_the_draw, Plan(), rule="C2"),
    Mutant("replaces lists as a whole", "sidecar-everything", _whole_lists, Plan(), rule="C1, C2, X35"),
    Mutant("never renews its certificate", "sidecar-rotation", _never_renewed, Plan(), rule="F11, X34"),
)
