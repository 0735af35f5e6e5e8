"""The product, broken on purpose: each mutant is a bug that some controller once had, and a workload must notice it.

A mutant is applied by replacing attributes, and undone afterwards. :func:`hunt` looks for a scenario that fails: the
workload that is meant to notice it, over a few seeds or with a plan made for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from kruise.apis.core import PODS
from kruise.controllers.broadcastjob import apply as applying
from kruise.controllers.broadcastjob import plan as planning
from kruise.controllers.broadcastjob import reconciler as reconciling
from kruise.controllers.broadcastjob.view import View
from kruise.controllers.common.holds import Holds
from kruise.runtime.cache import reflector
from kruise.runtime.cache.consistency import ConsistencyTracker
from kruise.runtime.cache.signals import ListPage
from kruise.runtime.cache.states import Empty, Paging
from kruise.runtime.client import client as client_module
from kruise.runtime.client.client import Client
from kruise.runtime.controller.controller import Controller
from kruise.runtime.errors import Conflict, UnknownOutcome
from kruise.runtime.testing.tape import Tape
from kruise.simulator.faults import NO_FAULT, OnChunk, OnWrite, Plan
from kruise.simulator.faults import View as FrontView
from kruise.simulator.scenario import Result, judge, reference, run_seed
from kruise.simulator.scenario_catalogue import WORKLOADS
from kruise.simulator.scenario_world import Product

Patch = tuple[Any, str, Any]
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    workload: str
    patches: Callable[[], list[Patch]]
    plan: Plan | None = None
    """A plan in which the guard that is removed is the only defence. Without one, seeds are tried."""
    seeds: int = 12
    rule: str = ""
    """What the mutant breaks; for the table."""


@contextlib.contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Break the product; mend it at the end."""
    undo: list[Patch] = []
    try:
        for owner, name, value in mutant.patches():
            undo.append((owner, name, owner.__dict__.get(name, _ABSENT)))
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(undo):
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


def hunt(product: Product, mutant: Mutant) -> Result | None:
    """Return the first scenario that notices *mutant* and nothing in the sound product; None when it lives."""
    # The run without faults, to which others are compared, is made by the sound product.
    undisturbed = reference(product, mutant.workload)
    assert undisturbed.survived, f"{mutant.name}: the sound product fails without faults\n{undisturbed.error}"
    for seed in range(mutant.seeds):
        with applied(mutant):
            result = attempt(product, mutant, seed)
        if not result.survived:
            sound = undisturbed if result.plan == NO_FAULT else attempt(product, mutant, seed)
            assert sound.survived, f"{mutant.name}: the sound product fails as well\n{sound.error}"
            return result
    return None


def attempt(product: Product, mutant: Mutant, seed: int) -> Result:
    if mutant.plan is not None:
        return judge(product, WORKLOADS[mutant.workload], mutant.plan, Tape(seed), seed=seed)
    return run_seed(product, seed, workload=mutant.workload)


# The mutants.


def _delete_by_name() -> list[Patch]:
    sound = client_module.encode

    def encode(body: Any) -> bytes:
        if isinstance(body, dict) and body.get("kind") == "DeleteOptions":
            body = {name: value for name, value in body.items() if name != "preconditions"}
        return sound(body)

    return [(client_module, "encode", encode)]


def _delete_without_version() -> list[Patch]:
    sound = Client.delete

    async def delete(self: Client, resource: Any, obj: Any, *, disrupts: bool = False, **options: Any) -> bool:
        return await sound(self, resource, obj, disrupts=False, **options)

    return [(Client, "delete", delete)]


def _any_version() -> list[Patch]:
    sound = reflector._begin

    def begin(state: Any, origin: Any, *, streaming: bool) -> Any:
        if isinstance(origin, Empty):
            return replace(state, phase=Paging(origin)), (ListPage(version="0"),)
        return sound(state, origin, streaming=streaming)

    return [(reflector, "_begin", begin)]


def _no_gate() -> list[Patch]:
    return [(ConsistencyTracker, "blocked", lambda self, owner: False)]


def _gate_never_opens() -> list[Patch]:
    return [
        (ConsistencyTracker, "_seen", lambda self, wait: None),
        (ConsistencyTracker, "_expire", lambda self: None),
    ]


def _generated_names() -> list[Patch]:
    sound = applying.build_pod
    counter = iter(range(10**6))

    def build_pod(*given: Any, **options: Any) -> dict[str, Any]:
        body = sound(*given, **options)
        name = body["metadata"]["name"]
        body["metadata"]["name"] = f"{name[:-5]}{_word(next(counter))}"
        return body

    return [(applying, "build_pod", build_pod)]


def _word(number: int) -> str:
    letters = "bcdfghjklmnpqrstvwxz2456789"
    return "".join(letters[number // 27**place % 27] for place in range(5))


def _retry_on_conflict() -> list[Patch]:
    sound = Client.patch_status

    async def patch_status(self: Client, resource: Any, obj: Any, status: dict[str, Any]) -> Any:
        for _ in range(5):
            try:
                return await sound(self, resource, obj, status)
            except Conflict:
                obj = await self.live.get(resource, obj.key)
        return await sound(self, resource, obj, status)

    return [(Client, "patch_status", patch_status)]


def _counts_failed_creates() -> list[Patch]:
    def results(self: Any) -> Any:
        return planning.Results(len(self.created) + len(self.refusals), len(self.deleted), self.stopped)

    return [(applying.Applied, "results", property(results))]


def _another_name_after_a_timeout() -> list[Patch]:
    sound = applying._create_one
    tried: dict[str, int] = {}

    async def create_one(client: Any, job: Any, template: Any, slot: Any, by_scheduler: bool) -> str:
        k = tried.get(slot.uid, 0)
        body = applying.build_pod(job, template, slot.name, slot.uid, by_scheduler=by_scheduler, k=k)
        try:
            await client.create(PODS, body)
        except UnknownOutcome:
            tried[slot.uid] = k + 1
            raise
        return str(body["metadata"]["name"])

    assert sound is not None
    return [(applying, "_create_one", create_one)]


def _survivors() -> list[Patch]:
    sound = planning._over

    def over(job: Any, view: Any, now: float) -> Any:
        return replace(sound(job, view, now), deletes=())

    return [(planning, "_over", over)]


def _creates_after_the_end() -> list[Patch]:
    def is_over(job: Any) -> bool:
        return False

    sound = planning.plan

    def plan(job: Any, view: Any, now: float) -> Any:
        if job.status.phase == "completed":
            return planning.Plan(
                planning.Ending.RUNNING,
                creates=tuple(view.first_candidates(99)),
                room=99,
                start_time=job.status.start_time,
            )
        return sound(job, view, now)

    return [(reconciling, "is_over", is_over), (planning, "is_over", is_over), (reconciling, "plan", plan)]


def _one_too_many() -> list[Patch]:
    sound = planning.parallelism
    return [(planning, "parallelism", lambda job, desired: sound(job, desired) + 1)]


def _timer_from_now() -> list[Patch]:
    return [(planning, "_deadline", _only_first)]


def _only_first(job: Any, start: str, now: float) -> float | None:
    """The deadline as it is armed by the pass that starts the job, and by no other (X23)."""
    seconds = job.spec.completion_policy.active_deadline_seconds
    return float(seconds) if seconds is not None and not job.status.start_time else None


def _status_always() -> list[Patch]:
    return [(client_module, "would_change", lambda obj, patch: True), (reconciling, "wire", _Fickle())]


class _Fickle:
    """Renders a status so that it never equals another one: comparison by identity (X28)."""

    def __init__(self) -> None:
        self._sound = reconciling.wire

    def __call__(self, status: Any) -> Any:
        return _Unequal(self._sound(status))


class _Unequal(dict[str, Any]):
    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def _no_room_kept() -> list[Patch]:
    return [(Holds, "unsure", lambda self, now: frozenset())]


def _worker_outlives_its_end() -> list[Patch]:
    async def work(self: Controller) -> None:
        from kruise.runtime.errors import QueueClosed

        while True:
            try:
                item = await self.queue.get()
            except QueueClosed:
                return
            await self._process(item)
            await self._clock.sleep(0)

    return [(Controller, "_work", work)]


def _limit_ignored() -> list[Patch]:
    sound = View._kind
    from kruise.controllers.broadcastjob.slots import PodClass

    def kind(self: View, pod: Any, uid: str) -> Any:
        found, evicted = sound(self, pod, uid)
        return (PodClass.ACTIVE, evicted) if found is PodClass.RESTART_FAILED else (found, evicted)

    return [(View, "_kind", kind)]


def _deaf_to_nodes() -> list[Patch]:
    return [(reconciling.BroadcastJobReconciler, "jobs_of_node", lambda self, change: ())]


def _floor_ignored() -> list[Patch]:
    """A replayed older event is applied (etcd#15271)."""
    sound = reflector.compare_versions

    def compare(left: str, right: str) -> int | None:
        found = sound(left, right)
        return 0 if found is not None and found < 0 else found

    return [(reflector, "compare_versions", compare)]


def _stale(**more: Any) -> Plan:
    return Plan(views=(FrontView.LAGGING,) * 4, lag=3.0, **more)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("deletes by name alone", "cordon", _delete_by_name, rule="G2, X16"),
    Mutant("deletes without the version", "cordon", _delete_without_version, rule="G2"),
    Mutant(
        "first list at resourceVersion=0",
        "swept-up",
        _any_version,
        Plan(
            views=(FrontView.FRESH, FrontView.FROZEN, FrontView.FROZEN),
            frozen_at=32,
            frozen_for=20.0,
            crashes=(21.0,),
            streams=False,
        ),
        rule="rule 11, X36",
    ),
    Mutant("no read-your-writes gate", "growing", _no_gate, _stale(), rule="G6, B4"),
    Mutant("expectations are never cleared", "plain", _gate_never_opens, Plan(), rule="L3, X22"),
    Mutant("generated names", "plain", _generated_names, Plan(writes={1: OnWrite.LATE}, late=0.1), rule="B1, X17"),
    Mutant(
        "retries a conflict with the old decision",
        "more-time",
        _retry_on_conflict,
        Plan(jitter=True),
        rule="rule 3, X10",
    ),
    Mutant(
        "counts a failed creation as active",
        "parallelism",
        _counts_failed_creates,
        Plan(writes=dict.fromkeys(range(1, 12), OnWrite.FORBIDDEN)),
        rule="B8, X21",
    ),
    Mutant(
        "another name after a timeout",
        "plain",
        _another_name_after_a_timeout,
        _stale(writes={0: OnWrite.TIMEOUT_APPLIED, 1: OnWrite.RESET_BEFORE}),
        rule="rule 5, X25",
    ),
    Mutant(
        "leaves the survivors of a failure alone",
        "deadline",
        _survivors,
        Plan(writes={4: OnWrite.INTERNAL}),
        rule="B5, X23",
    ),
    Mutant("creates pods for a job that has ended", "swept-up", _creates_after_the_end, Plan(), rule="B5"),
    Mutant("one pod more than parallelism", "parallelism", _one_too_many, Plan(), rule="B4"),
    Mutant("the deadline is armed once", "deadline", _timer_from_now, Plan(crashes=(2.0,)), rule="B7, L6, X23"),
    Mutant("a status never equals another", "plain", _status_always, Plan(), rule="G4, G5, X28"),
    Mutant(
        "no room for what may still land",
        "parallelism",
        _no_room_kept,
        Plan(writes={3: OnWrite.LATE}, late=0.1),
        rule="B4",
    ),
    Mutant(
        "a worker survives its cancellation",
        "growing",
        _worker_outlives_its_end,
        Plan(pauses=((3.0, 30.0),)),
        rule="G12, X52",
    ),
    Mutant("the restart limit is ignored", "crash-loop", _limit_ignored, Plan(), rule="B6"),
    Mutant("nodes wake no job", "churn", _deaf_to_nodes, Plan(), rule="L1, X20"),
    Mutant(
        "an older event is applied",
        "deleted-pods",
        _floor_ignored,
        Plan(chunks=dict.fromkeys(range(12, 80, 2), OnChunk.REPLAY)),
        rule="REF4, G11",
    ),
)
