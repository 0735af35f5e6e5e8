"""What is run under faults: SidecarSets with their webhooks, and users and pods that do things to them.

Purpose: the table of workloads: script, what must come true once nothing goes wrong any more, and what must then be
the same as without any fault.

Guarantees: what is compared is what faults may not change by the rules: a pod that was created while no webhook
answered is made anew by its user, and then has its sidecars. What the pods do is drawn with the plan, and what the
calls of the webhooks meet.

What this does not do: the scripts are in ``scenario_sidecar_injection`` and ``scenario_sidecar_upgrades``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kruise.simulator import scenario_sidecar_injection as injection
from kruise.simulator import scenario_sidecar_upgrades as upgrades
from kruise.simulator.scenario_sidecars import arrived, seen
from kruise.simulator.scenario_workloads import Script, Workload
from kruise.simulator.scenario_world import Cluster


def _of(name: str, script: Script, done: Callable[[Cluster], bool], **more: Any) -> Workload:
    given: dict[str, Any] = {"nodes": 3, "writes": 20, "once": False, "pods": True, "end": seen, "webhooks": True}
    return Workload(f"sidecar-{name}", script, done, **{**given, **more})


SIDECAR_WORKLOADS: Final[dict[str, Workload]] = {
    one.name: one
    for one in (
        _of("everything", injection.everything, injection.all_of_it, writes=8),
        _of("under-lag", injection.under_lag, arrived("side:v2"), writes=16),
        _of("older-pods", injection.older_pods, injection.newer_only, writes=6, end=injection.ready_pods),
        _of("namespaces", injection.namespaces, arrived("side:v2"), writes=14),
        _of("exempt", injection.exempt, injection.two_and_no_more, writes=6),
        _of("conflict", injection.conflict, arrived("side:v1", total=3), writes=8),
        _of("canary", injection.canary, injection.one_trial, writes=16),
        _of("pinned", injection.pinned, injection.one_or_two, writes=10, end=injection.ready_pods),
        _of("partial", injection.partial, injection.either_version, writes=8, end=injection.ready_pods),
        _of("restricted", injection.restricted, injection.the_tight_one, writes=8),
        _of("unreadable", injection.unreadable, injection.all_but_the_odd_one, writes=14, end=injection.ready_pods),
        _of("injection-paused", injection.injection_paused, injection.upgraded_and_held, end=injection.ready_pods),
        _of("outage-ignored", injection.outage_ignored, arrived("side:v1"), writes=8),
        _of("outage-waited", injection.outage_waited, arrived("side:v1", total=3), writes=6),
        # Pods that change their minds every few seconds would do so for the whole year.
        _of("rotation", injection.rotation, arrived("side:v1"), writes=30, pods=False),
        _of("broken-notes", injection.broken_notes, injection.all_or_marked, writes=18),
        _of("cold", upgrades.cold, arrived("side:v2", total=5), writes=20),
        _of("percent", upgrades.percent, arrived("side:v3"), writes=28),
        _of("rollback", upgrades.rollback, arrived("side-start-1s:v1"), writes=24),
        _of("overlapping", upgrades.overlapping, arrived("side-start-1s:v4"), writes=30),
        _of("overtaken", upgrades.overtaken, arrived("side-start-3s:v4", total=6), writes=36),
        _of("bad-image", upgrades.bad_image, arrived("side:v3"), writes=24),
        _of("paused", upgrades.paused, arrived("side:v3"), writes=22),
        _of("partitions", upgrades.partitions, upgrades.three_of_five, writes=20, end=upgrades.only_ready),
        _of("priorities", upgrades.priorities, upgrades.the_first_two, writes=14, end=upgrades.only_ready),
        _of("scattered", upgrades.scattered, arrived("side:v2", total=6), writes=22),
        _of("selected", upgrades.selected, arrived("side:v2"), writes=20),
        _of("not-update", upgrades.not_update, arrived("side:v2", total=5), writes=18),
        _of("deleted", upgrades.deleted, upgrades.gone_alone, writes=14, end=upgrades.only_ready),
        _of("made-again", upgrades.made_again, upgrades.all_anew, writes=18),
        _of("immutable", upgrades.immutable, upgrades.renewed, writes=18),
        _of("not-upgradable", upgrades.left_as_it_is, upgrades.marked_or_new, writes=14, end=upgrades.only_ready),
        _of("taken-back", upgrades.taken_back, arrived("side:v3"), writes=24),
        _of("removed-container", upgrades.removed_container, upgrades.without_log, writes=16),
        _of("pods-come-and-go", upgrades.pods_come_and_go, arrived("side-start-1s:v2", total=5), writes=28),
        _of("hot", upgrades.hot, arrived("side:v2", total=3), writes=18),
        _of("hot-overlapping", upgrades.hot_overlapping, arrived("side-start-1s:v4", total=3), writes=28),
        _of("hot-taken-back", upgrades.hot_taken_back, arrived("side:v1", total=3), writes=18),
        _of("hot-paused", upgrades.hot_paused, arrived("side-ready-2s:v2", total=3), writes=18),
        _of("two-sets", upgrades.two_sets, upgrades.both_on_v2, writes=30),
        _of("with-a-set", upgrades.with_a_set, upgrades.set_and_sidecars, writes=40),
    )
}
