"""What is written, in which order, and what becomes of a chain whose write is refused: against the embedded server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from kruise.apis.core import CLAIMS, PODS, Pod
from kruise.apis.statefulset import STATEFULSETS
from kruise.controllers.common.inplace.writes import MAIN, STATUS, PodWrite
from kruise.controllers.common.reasons import NameConflictError
from kruise.controllers.statefulset.actions import (
    Chain,
    CreateClaim,
    CreatePod,
    DeletePod,
    PatchClaim,
    PatchPod,
    Step,
    Why,
)
from kruise.controllers.statefulset.apply import Applied, apply
from kruise.controllers.statefulset.plan import Plan
from kruise.controllers.statefulset.reports import action_events
from kruise.runtime.client.client import Client, Write
from kruise.runtime.client.guard import WriteGuard
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import chain as stacked
from kruise.runtime.clock import Random
from kruise.runtime.errors import Fenced, Forbidden, Reset, UnknownOutcome
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, owner_reference
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.simulator.apiserver.call import Answer, Call, counted
from kruise.simulator.apiserver.intercept import Interceptor, Proceed
from kruise.simulator.apiserver.server import ApiServer
from tests.unit.controllers.asts_identity import TEMPLATE, a_set

SET = a_set(uid="set-uid")
RV, UID = "resourceVersion", "uid"


class Faults(Interceptor):
    """Refuses, or loses the answer of, the writes for which somebody asked."""

    def __init__(self) -> None:
        self.rules: list[tuple[Callable[[Call], bool], int, bool]] = []

    def refuse(self, code: int, when: Callable[[Call], bool]) -> None:
        self.rules.append((when, code, False))

    def lose(self, when: Callable[[Call], bool], *, applied: bool) -> None:
        self.rules.append((when, 0, applied))

    async def request(self, call: Call, proceed: Proceed) -> Answer:
        for rule in self.rules:
            when, code, applied = rule
            if not when(call):
                continue
            if code:
                body = {"kind": "Status", "status": "Failure", "code": code, "reason": "Forbidden", "message": "no"}
                return Answer(code, orjson.dumps(body))
            self.rules.remove(rule)
            if applied:
                await proceed()
            raise Reset("the connection broke")
        return await proceed()


class World:
    """The embedded server, and a client as a controller has it."""

    def __init__(self, clock: VirtualClock, *, latency: float = 0.005) -> None:
        self.clock = clock
        self.server = ApiServer(clock, Random(1))
        self.server.registry.add_custom(STATEFULSETS)
        self.server.ensure_namespace("ns")
        self.faults = Faults()
        self.server.faults = self.faults
        self.guard = WriteGuard()
        self.transport = self.server.transport("manager", latency=latency)
        metrics = Metrics(process=False)
        rest = Rest(stacked(self.transport, [self.guard]), clock=clock, rng=Random(1), metrics=metrics)
        self.window = rest.window
        self.written: list[Write] = []
        self.client = Client(rest, metrics=metrics, clock=clock, on_write=self.written.append)

    # Bodies.

    def pod_body(self, name: str, *, owner_uid: str = "set-uid") -> dict[str, Any]:
        owner = owner_reference(STATEFULSETS, a_set(uid=owner_uid))
        meta = {"name": name, "namespace": "ns", "labels": {"app": "web"}, "ownerReferences": [owner]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": TEMPLATE["spec"]}

    def claim_body(self, name: str) -> dict[str, Any]:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        return {"metadata": {"name": name, "namespace": "ns"}, "spec": spec}

    async def pod(self, name: str, **options: Any) -> Pod:
        """Make a pod, and return it as a cache would have it."""
        self.server.create(PODS, self.pod_body(name, **options), actor="user")
        return await self.read(name)

    async def read(self, name: str) -> Pod:
        return await self.client.live.get(PODS, Key("ns", name))

    # Chains.

    def creation(self, ordinal: int, *claims: str) -> Chain:
        name = f"web-{ordinal}"
        steps: list[Step] = [
            CreateClaim(f"{claim}-{name}", lambda claim=claim: self.claim_body(f"{claim}-{name}")) for claim in claims
        ]
        return Chain(ordinal, name, (*steps, CreatePod(name, "rev", lambda: self.pod_body(name))))

    def update(self, pod: Pod, ordinal: int = 0) -> Chain:
        unready = {"status": {"conditions": [{"type": "InPlaceUpdateReady", "status": "False"}]}}
        image = {"spec": {"containers": [{"name": "main", "image": "web:2"}]}}
        writes = (PodWrite(STATUS, unready, "gate"), PodWrite(MAIN, image, "image"))
        return Chain(ordinal, pod.metadata.name, (PatchPod(pod, writes, Why.UPDATE, True, "rev"),))

    def sent(self, verb: str = "") -> list[Call]:
        return [c for c in self.server.log.writes(actor="manager") if c.verb == verb or not verb]

    def counts(self) -> dict[str, int]:
        return counted(self.sent())

    async def apply(self, *, continuations: Iterable[Chain] = (), **groups: Iterable[Chain]) -> Applied:
        view: Any = None  # whoever applies a plan does not look at it
        more: Any = {group: tuple(chains) for group, chains in groups.items()}
        plan = Plan(view, 0.0, continuations=tuple(continuations), **more)
        return await apply(self.client, SET, plan)


def simulate(scenario: Callable[[World], Awaitable[None]], **options: Any) -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, **options)
        await scenario(world)
        world.guard.assert_clean()

    run_virtual(main)


def body(call: Call) -> Any:
    return orjson.loads(call.body or b"null")


def on(name: str, verb: str = "", resource: str = "") -> Callable[[Call], bool]:
    def matches(call: Call) -> bool:
        named = call.name or body(call)["metadata"]["name"] if call.body else call.name
        return named == name and verb in ("", call.verb) and resource in ("", call.resource)

    return matches


# ---- a chain ---------------------------------------------------------------------------------------------------------


def test_rule4_the_second_write_carries_the_version_that_the_first_returned() -> None:
    async def scenario(world: World) -> None:
        pod = await world.pod("web-0")
        done = await world.apply(disruptions=[world.update(pod)])
        first, second = world.sent()
        assert body(first)["metadata"] == {RV: pod.resource_version, UID: pod.uid}
        assert (first.subresource, second.subresource) == ("status", "")
        returned = world.written[0].version
        assert returned != pod.resource_version
        assert body(second)["metadata"] == {RV: returned, UID: pod.uid}
        assert first.headers["content-type"] == "application/strategic-merge-patch+json"
        assert (len(done.done), done.failures, done.stale) == (1, [], [])

    simulate(scenario)


@pytest.mark.parametrize("before", [True, False])
def test_rule3_a_foreign_change_ends_the_chain_silently(before: bool) -> None:
    async def scenario(world: World) -> None:
        pod, other = await world.pod("web-0"), await world.pod("web-1")

        def change() -> None:
            patch = {"metadata": {"annotations": {"seen": "yes"}}}
            world.server.patch(PODS, "web-0", patch, "ns", actor="kubelet")

        if before:
            change()
        else:

            class Between(Interceptor):
                async def request(self, call: Call, proceed: Proceed) -> Answer:
                    answer = await proceed()
                    if call.subresource == "status" and call.name == "web-0":
                        change()
                    return answer

            world.server.faults = Between()
        done = await world.apply(disruptions=[world.update(pod), world.update(other, 1)])
        assert [chain.name for chain in done.stale] == ["web-0"]
        assert done.failures == []
        assert [chain.name for chain, _ in done.done] == ["web-1"]
        assert action_events("web", done)[0].note == "successfully update pod web-1 in-place(revision rev)"
        refused = [c for c in world.sent() if c.code == 409]
        assert len(refused) == 1, "sent once, not repeated"
        assert (await world.read("web-0")).spec.containers[0].image == "web:1"

    simulate(scenario)


def test_rule3_what_is_known_to_be_stale_is_not_sent() -> None:
    async def scenario(b: World) -> None:
        pods = [await b.pod(f"web-{n}") for n in range(3)]
        b.server.patch(PODS, "web-0", {"metadata": {"labels": {"a": "b"}}}, "ns", actor="kubelet")
        newer = await b.read("web-0")
        older = replace(pods[1], metadata=replace(pods[1].metadata, resource_version="1"))
        another = replace(pods[2], metadata=replace(pods[2].metadata, uid="another", resource_version="99999"))
        known = {newer.key: newer, older.key: older, another.key: another}
        view: Any = None
        chains = tuple(b.update(pod, n) for n, pod in enumerate(pods))
        done = await apply(b.client, SET, Plan(view, 0.0, disruptions=chains), seen=known.get)
        assert [chain.name for chain in done.stale] == ["web-0"]
        assert sorted(chain.name for chain, _ in done.done) == ["web-1", "web-2"], "a cache that lags says nothing"
        assert {call.name for call in b.sent("patch")} == {"web-1", "web-2"}

    simulate(scenario)


def test_rule3_another_pod_of_the_name_and_one_that_is_gone_end_the_chain_silently() -> None:
    async def scenario(world: World) -> None:
        another, gone = await world.pod("web-0"), await world.pod("web-1")
        for pod in (another, gone):
            world.server.delete(PODS, pod.metadata.name, "ns", gracePeriodSeconds=0)
        await world.pod("web-0")
        done = await world.apply(disruptions=[world.update(another), world.update(gone, 1)])
        assert [chain.name for chain in done.stale] == ["web-0", "web-1"]
        assert done.failures == []
        assert action_events("web", done) == []

    simulate(scenario)


def test_rule30_a_refused_chain_stops_no_other() -> None:
    async def scenario(world: World) -> None:
        pods = [await world.pod(f"web-{n}") for n in range(3)]
        world.faults.refuse(403, on("web-1"))
        done = await world.apply(disruptions=[world.update(pod, n) for n, pod in enumerate(pods)])
        assert [chain.name for chain, _ in done.done] == ["web-0", "web-2"]
        (failure,) = done.failures
        assert failure.chain.name == "web-1"
        assert isinstance(failure.error, Forbidden)
        assert world.counts() == {"patch pods/status": 2, "patch pods": 2, "patch pods/status 403": 1}

    simulate(scenario)


def test_a_deletion_carries_uid_and_the_newest_version_that_the_chain_knows() -> None:
    async def scenario(world: World) -> None:
        pod, other = await world.pod("web-0"), await world.pod("web-1")
        label = PatchPod(pod, (PodWrite(MAIN, {"metadata": {"labels": {"x": "y"}}}, "label"),), Why.PREPARE)
        chains = [
            Chain(0, "web-0", (label, DeletePod(pod, Why.UPDATE))),
            Chain(1, "web-1", (DeletePod(other, Why.SCALE_DOWN, False),)),
        ]
        done = await world.apply(disruptions=chains)
        first, second = sorted(world.sent("delete"), key=lambda call: call.name)
        assert body(first)["preconditions"] == {UID: pod.uid, RV: world.written[0].version}
        assert body(second)["preconditions"] == {UID: other.uid}
        assert len(done.done) == 3

    simulate(scenario)


def test_a_deletion_of_what_changed_is_stale_and_of_what_is_gone_is_done() -> None:
    async def scenario(world: World) -> None:
        pod, gone = await world.pod("web-0"), await world.pod("web-1")
        world.server.patch(PODS, "web-0", {"metadata": {"labels": {"x": "y"}}}, "ns", actor="user")
        world.server.delete(PODS, "web-1", "ns", gracePeriodSeconds=0)
        chains = [Chain(n, p.metadata.name, (DeletePod(p, Why.UPDATE),)) for n, p in enumerate((pod, gone))]
        done = await world.apply(disruptions=chains)
        assert [chain.name for chain in done.stale] == ["web-0"]
        assert [chain.name for chain, _ in done.done] == ["web-1"]

    simulate(scenario)


def test_rule7_a_write_that_would_change_nothing_is_not_sent_and_the_chain_goes_on() -> None:
    async def scenario(world: World) -> None:
        pod = await world.pod("web-0")
        same = PodWrite(MAIN, {"metadata": {"labels": {"app": "web"}}}, "label")
        image = PodWrite(MAIN, {"spec": {"containers": [{"name": "main", "image": "web:2"}]}}, "image")
        done = await world.apply(continuations=[Chain(0, "web-0", (PatchPod(pod, (same, image), Why.REFRESH),))])
        assert world.counts() == {"patch pods": 1}
        assert len(done.done) == 1

    simulate(scenario)


def test_claims_are_patched_strategically_on_their_version() -> None:
    async def scenario(world: World) -> None:
        world.server.create(CLAIMS, world.claim_body("data-web-0"), actor="user")
        claim = await world.client.live.get(CLAIMS, Key("ns", "data-web-0"))
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "u"}
        patch = {"metadata": {"ownerReferences": [owner]}}
        done = await world.apply(continuations=[Chain(0, "web-0", (PatchClaim(claim, patch, Why.RETENTION),))])
        (call,) = world.sent()
        assert call.headers["content-type"] == "application/strategic-merge-patch+json"
        assert body(call)["metadata"][RV] == claim.resource_version
        assert action_events("web", done) == []

    simulate(scenario)


# ---- order -----------------------------------------------------------------------------------------------------------


def test_perf25_chains_run_at_the_same_time_and_second_writes_pass_first_ones() -> None:
    async def scenario(world: World) -> None:
        pods = [await world.pod(f"web-{n}") for n in range(64)]
        begun = world.clock.monotonic()
        await world.apply(disruptions=[world.update(pod, n) for n, pod in enumerate(pods)])
        took = world.clock.monotonic() - begun
        assert world.counts() == {"patch pods/status": 64, "patch pods": 64}
        assert took < 0.05, "128 writes of 5 ms, 16 to 20 at a time"
        calls = world.sent()
        for place, call in enumerate(calls):
            if call.subresource == "status":
                second = next(n for n, c in enumerate(calls) if c.name == call.name and not c.subresource)
                assert second - place <= 40, "the second write of a pod does not stand behind all first ones"

    simulate(scenario)


def test_perf25_continuations_begin_before_disruptions() -> None:
    async def scenario(world: World) -> None:
        old = [await world.pod(f"web-{n}") for n in range(20)]
        new = [await world.pod(f"web-{n}") for n in range(20, 90)]
        label = PodWrite(STATUS, {"metadata": {"labels": {"x": "y"}}}, "refresh")
        finish = [Chain(n, p.metadata.name, (PatchPod(p, (label,), Why.REFRESH),)) for n, p in enumerate(old)]
        start = [world.update(p, n) for n, p in enumerate(new, 20)]
        await world.apply(continuations=finish, disruptions=start)
        first = [call.name for call in world.sent()[:20]]
        assert set(first) == {pod.metadata.name for pod in old}

    simulate(scenario)


def test_rule9_creations_come_in_batches_in_the_order_of_ordinals() -> None:
    async def scenario(world: World) -> None:
        done = await world.apply(creates=[world.creation(n) for n in range(100)])
        assert world.counts() == {"create pods": 100}
        assert len(done.done) == 100
        times: dict[float, list[str]] = {}
        for call in world.sent():
            times.setdefault(call.time, []).append(body(call)["metadata"]["name"])
        first, second, *_ = times.values()
        assert first == ["web-0"]
        assert second == [f"web-{n}" for n in range(1, 17)]
        assert [body(c)["metadata"]["name"] for c in world.sent()] == [f"web-{n}" for n in range(100)]

    simulate(scenario)


def test_rule9_a_template_that_is_refused_costs_one_request() -> None:
    async def scenario(world: World) -> None:
        world.faults.refuse(403, lambda call: call.verb == "create")
        done = await world.apply(creates=[world.creation(n) for n in range(100)])
        assert world.counts() == {"create pods 403": 1}
        (failure,) = done.failures
        assert failure.chain.ordinal == 0
        (event,) = action_events("web", done)
        assert (event.type, event.reason) == ("Warning", "FailedCreate")
        assert event.note.startswith("create Pod web-0 in StatefulSet web failed error: create pods ")

    simulate(scenario)


def test_a_failing_disruption_does_not_stop_creations() -> None:
    async def scenario(world: World) -> None:
        pod = await world.pod("old-0")
        world.faults.refuse(403, on("old-0"))
        done = await world.apply(disruptions=[world.update(pod, 200)], creates=[world.creation(n) for n in range(40)])
        assert len(done.failures) == 1
        assert world.counts()["create pods"] == 40

    simulate(scenario)


# ---- creations -------------------------------------------------------------------------------------------------------


def test_claims_come_before_their_pod_and_one_that_is_refused_holds_it_back() -> None:
    async def scenario(world: World) -> None:
        await world.apply(creates=[world.creation(0, "data", "logs")])
        assert [(c.resource, body(c)["metadata"]["name"]) for c in world.sent()] == [
            ("persistentvolumeclaims", "data-web-0"),
            ("persistentvolumeclaims", "logs-web-0"),
            ("pods", "web-0"),
        ]
        world.faults.refuse(403, on("logs-web-1"))
        done = await world.apply(creates=[world.creation(1, "data", "logs")])
        assert world.server.get(PODS, "web-1", "ns") is None
        notes = [event.note for event in action_events("web", done)]
        assert notes[0].startswith("create Claim logs-web-1 for Pod web-1 in StatefulSet web failed error: ")
        assert notes[1] == "create Claim data-web-1 Pod web-1 in StatefulSet web success"

    simulate(scenario)


def test_s5_a_claim_that_the_cache_does_not_show_is_looked_at_first() -> None:
    async def scenario(world: World) -> None:
        world.server.create(CLAIMS, world.claim_body("data-web-0"), actor="user")
        done = await world.apply(creates=[world.creation(0, "data")])
        assert world.server.get(PODS, "web-0", "ns") is None
        assert [failure.chain.name for failure in done.failures] == ["web-0"]
        assert action_events("web", done) == [], "a name of our own that is there is nobody's business"
        assert [write.key.name for write in world.written] == ["data-web-0"], "the cache must show it first"

    simulate(scenario)


def test_5_1_a_pod_that_is_there_already_is_done_when_it_is_ours() -> None:
    async def scenario(world: World) -> None:
        await world.pod("web-0")
        done = await world.apply(creates=[world.creation(0)])
        assert len(done.done) == 1
        assert done.failures == []
        assert [write.key.name for write in world.written] == ["web-0"]

    simulate(scenario)


def test_5_1_a_terminating_pod_of_ours_is_waited_for() -> None:
    async def scenario(world: World) -> None:
        made = world.pod_body("web-0")
        made["metadata"]["finalizers"] = ["f.io/x"]
        world.server.create(PODS, made, actor="user")
        world.server.delete(PODS, "web-0", "ns", gracePeriodSeconds=0)
        done = await world.apply(creates=[world.creation(0), world.creation(1)])
        assert [chain.name for chain in done.stale] == ["web-0"]
        assert [chain.name for chain, _ in done.done] == ["web-1"]

    simulate(scenario)


def test_rule6_a_foreign_pod_of_the_name_is_a_name_conflict() -> None:
    async def scenario(world: World) -> None:
        await world.pod("web-0", owner_uid="other-uid")
        done = await world.apply(creates=[world.creation(0)])
        (failure,) = done.failures
        assert isinstance(failure.error, NameConflictError)
        assert "pod ns/web-0" in str(failure.error)
        assert world.written == []

    simulate(scenario)


@pytest.mark.parametrize("applied", [True, False])
def test_rule5_an_unknown_outcome_is_settled_by_a_live_read(applied: bool) -> None:
    async def scenario(world: World) -> None:
        world.faults.lose(on("web-0", "create"), applied=applied)
        done = await world.apply(creates=[world.creation(0)])
        if applied:
            assert len(done.done) == 1
            assert [write.key.name for write in world.written] == ["web-0"]
        else:
            (failure,) = done.failures
            assert isinstance(failure.error, UnknownOutcome)
        assert len(world.sent("create")) == 1, "never tried under another name, never repeated here"

    simulate(scenario)


def test_a_write_beyond_the_term_ends_everything() -> None:
    async def scenario(world: World) -> None:
        pods = [await world.pod(f"web-{n}") for n in range(3)]

        async def patch(*_: Any, **__: Any) -> None:
            raise Fenced("the term is over")

        world.client.patch = patch  # type: ignore[method-assign,assignment]
        with pytest.raises(ExceptionGroup) as raised:
            await world.apply(disruptions=[world.update(pod, n) for n, pod in enumerate(pods)])
        assert raised.group_contains(Fenced)

    simulate(scenario)


# ---- words -----------------------------------------------------------------------------------------------------------


def test_rec7_a_thousand_pods_are_one_event() -> None:
    async def scenario(world: World) -> None:
        done = await world.apply(creates=[world.creation(n, "data") for n in range(20)])
        notes = [(event.reason, event.note) for event in action_events("web", done)]
        assert notes == [
            (
                "SuccessfulCreate",
                (
                    "create Claims data-web-0 Pod web-0, data-web-1 Pod web-1, data-web-2 Pod web-2, "
                    "data-web-3 Pod web-3, data-web-4 Pod web-4 and 15 more (20 in all) in StatefulSet web success"
                ),
            ),
            (
                "SuccessfulCreate",
                "create Pods web-0, web-1, web-2, web-3, web-4 and 15 more (20 in all) in StatefulSet web successful",
            ),
        ]

    simulate(scenario)
