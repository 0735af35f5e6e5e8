"""What is run under faults: Advanced StatefulSets, and users, pods and nodes that do things to them.

Purpose: the table of workloads: script, what must come true once nothing goes wrong any more, and what must then be
the same as without any fault.

Guarantees: what is compared is what faults may not change by the rules. What the pods do is drawn with the plan
(``Workload.pods``).

What this does not do: the scripts are in ``scenario_set_scale`` and ``scenario_set_updates``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kruise.simulator import scenario_set_scale as scale
from kruise.simulator import scenario_set_updates as updates
from kruise.simulator.scenario_sets import arrived, seen, seen_by_image, seen_without_spares, storage_class
from kruise.simulator.scenario_workloads import Script, Workload
from kruise.simulator.scenario_world import Cluster


def _with_class(script: Script) -> Script:
    async def run(c: Cluster) -> None:
        c.server.create("storageclasses.storage.k8s.io", storage_class(), actor="user")
        await script(c)

    return run


def _of(name: str, script: Script, done: Callable[[Cluster], bool], **more: Any) -> Workload:
    given: dict[str, Any] = {"nodes": 3, "writes": 20, "once": False, "pods": True, "end": seen, **more}
    if given.get("volumes"):
        script = _with_class(script)
    return Workload(f"set-{name}", script, done, **given)


RESIZE: Final = ("StatefulSetAutoResizePVCGate",)
STARTS: Final = ("StatefulSetStartOrdinal",)
VERTICAL: Final = ("InPlaceWorkloadVerticalScaling",)

SET_WORKLOADS: Final[dict[str, Workload]] = {
    one.name: one
    for one in (
        _of("ordered", scale.ordered, arrived("app:v1"), writes=8),
        _of("parallel", scale.parallel, arrived("app:v1"), writes=14),
        _of("throttled", scale.throttled, arrived("app-ready-1s:v1"), writes=12),
        _of("scaled-in-order", scale.scaled_in_order, arrived("app:v1"), writes=16),
        _of("scaled-at-once", scale.scaled_at_once, arrived("app:v1"), writes=24),
        _of("min-ready", scale.min_ready, arrived("app:v2"), writes=24),
        _of("deleted", scale.deleted, scale.gone, writes=10, volumes=True),
        _of("made-again", scale.made_again, arrived("app:v2"), writes=14),
        _of("recreate", updates.recreate, arrived("app:v2"), writes=30),
        _of("recreate-in-order", updates.recreate_in_order, arrived("app:v2"), writes=24),
        _of("rollback", updates.rollback, arrived("app:v1"), writes=30),
        _of("partitions", updates.partitions, arrived("app:v2", updated=3), writes=30),
        _of("paused", updates.paused, arrived("app:v3"), writes=30),
        _of("on-delete", updates.on_delete, updates.all_on_v2, writes=16),
        _of("percent", updates.percent, arrived("app:v3"), writes=40),
        # A pod that fails meanwhile is made anew from the new revision (6.2), and then another one keeps the old one.
        _of("priorities", updates.priorities, arrived("app:v2", updated=3), writes=20, end=seen_by_image),
        _of("priorities-by-order", updates.priorities_by_order, arrived("app-start-3s:v2"), writes=30),
        _of("starts", updates.starts, arrived("app:v2"), writes=24, gates=STARTS),
        _of("holes", updates.holes, arrived("app:v2"), writes=24),
        _of("specified-delete", updates.specified_delete, arrived("app:v2"), writes=30),
        _of("failed-pods", updates.failed_pods, arrived("app:v1"), writes=14),
        _of("in-place", updates.in_place, arrived("app:v2"), writes=36),
        _of("in-place-in-order", updates.in_place_in_order, arrived("app:v2"), writes=24),
        _of("in-place-only", updates.in_place_only, arrived("app:v2"), writes=24),
        _of("in-place-rollback", updates.in_place_rollback, arrived("app-start-1s:v1"), writes=36),
        _of("overlapping", updates.overlapping, arrived("app:v2"), writes=40),
        _of("grace", updates.grace, arrived("app:v3"), writes=30),
        _of("injected", updates.injected, arrived("app:v2"), writes=24),
        _of("metadata", updates.metadata, updates.noted, writes=30),
        _of("resources", updates.resources, updates.resized, writes=30, gates=VERTICAL),
        _of("bad-image", updates.bad_image, arrived("app:v3"), writes=36),
        _of("bad-from-the-start", updates.bad_from_the_start, arrived("app:v2"), writes=18),
        _of("never-ready", updates.never_ready, arrived("app:v3"), writes=30),
        _of("crashing-first", updates.crashing_first, arrived("app:v2"), writes=30),
        _of("node-loss", updates.node_loss, arrived("app:v2"), writes=30, volumes=True),
        _of("pods-deleted", updates.pods_deleted, arrived("app:v2"), writes=30),
        _of("hooks", updates.hooks, arrived("app:v2"), writes=50),
        _of("hooks-in-order", updates.hooks_in_order, arrived("app:v2"), writes=40),
        _of("hook-rollback", updates.hook_rollback, arrived("app:v1"), writes=24),
        _of("pre-normal", updates.pre_normal, arrived("app:v2"), writes=24),
        _of(
            "retained",
            scale.retained,
            lambda c: arrived("app:v1")(c) and scale.no_claim_went(c),
            writes=20,
            volumes=True,
            end=seen_without_spares,
        ),
        _of(
            "retention",
            scale.retention,
            lambda c: arrived("app-stop-1s:v1")(c) and scale.claims_fit(c),
            writes=24,
            volumes=True,
        ),
        _of("policy-changes", scale.policy_changes, arrived("app:v1"), writes=14, volumes=True),
        _of("claim-deleted", scale.claim_deleted, arrived("app-stop-2s:v1"), writes=12, volumes=True),
        _of(
            "claim-resize",
            scale.claim_resize,
            lambda c: arrived("app:v2")(c) and scale.grown(c, "2Gi") == 3,
            writes=24,
            volumes=True,
            gates=RESIZE,
        ),
        _of("adopted", scale.adopted, scale.members, writes=14),
        _of("taken-over", scale.taken_over, scale.nothing_restarted, writes=8, pods=False),
        _of("released", scale.released, scale.members, writes=10),
    )
}
