"""The nodes of a process against the embedded API server, in virtual time: nodes, pods, trouble."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from kruise.runtime.client.transport import ByteStream, Request, Response, Transport
from kruise.runtime.errors import Reset
from kruise.runtime.objects import Key
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.simulator import node_objects
from kruise.simulator.apiserver.bodies import STRATEGIC
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.node_objects import NodeShape
from tests.unit.simulator.nodes_world import ACTOR, World, playing, virtual

# ---- nodes -----------------------------------------------------------------------------------------------------------


def test_nodes_are_registered_ready_with_all_that_a_node_says() -> None:
    async def body(w: World) -> None:
        found = w.server.get("nodes", "node-1", "")
        assert found is not None
        assert found["metadata"]["labels"]["kubernetes.io/hostname"] == "node-1"
        assert found["metadata"]["labels"][node_objects.SIMULATED] == "true"
        assert found["metadata"]["labels"]["zone"] == "a"
        assert found["status"]["allocatable"]["cpu"] == "8"
        assert {c["type"]: c["status"] for c in found["status"]["conditions"]}["Ready"] == "True"
        assert {a["type"] for a in found["status"]["addresses"]} == {"InternalIP", "Hostname"}

    virtual(body, shape=NodeShape(cpu="8", labels={"zone": "a"}))


def test_leases_are_renewed_every_quarter_and_cost_one_patch() -> None:
    async def body(w: World) -> None:
        await w.clock.sleep(100)
        lease = w.server.get("leases.coordination.k8s.io", "node-0", "kube-node-lease")
        assert lease is not None and lease["spec"]["holderIdentity"] == "node-0"
        assert lease["spec"]["leaseDurationSeconds"] == 40
        before = w.writes("patch leases")
        await w.clock.sleep(1000)
        assert w.writes("patch leases") - before == pytest.approx(20 * 100, rel=0.03)
        assert w.writes("patch nodes") == w.writes("patch pods") == 0

    virtual(body, count=20)


def test_a_node_that_is_down_stops_renewing_and_comes_back_ready() -> None:
    async def body(w: World) -> None:
        def renewed() -> str:
            lease = w.server.get("leases.coordination.k8s.io", "node-0", "kube-node-lease")
            assert lease is not None
            return str(lease["spec"]["renewTime"])

        w.pod("a")
        w.pod("b", "node-1")
        await w.phases(a="Running", b="Running")
        assert (await w.control.handle("POST", "/nodes/node-0/down"))[0] == 200
        await w.clock.sleep(1)
        before = renewed()
        w.server.patch("pods", "a", {"metadata": {"annotations": {"sim.kruise.io/run-seconds": "0"}}})
        await w.clock.sleep(100)
        assert renewed() == before
        assert w.phase("a") == "Running"
        # The node controller of a cluster does this.
        w.server.patch(
            "nodes",
            "node-0",
            {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
            namespace="",
            subresource="status",
        )
        await w.control.handle("POST", "/nodes/node-0/up")
        await w.until(lambda: renewed() != before)

        def ready() -> bool:
            node = w.server.get("nodes", "node-0", "")
            assert node is not None
            return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])

        await w.until(ready)

    virtual(body)


def test_a_node_without_power_loses_its_containers() -> None:
    async def body(w: World) -> None:
        w.pod("a")
        await w.phases(a="Running")
        w.server.patch("nodes", "node-0", {"metadata": {"annotations": {node_objects.DOWN: "power"}}}, namespace="")
        await w.clock.sleep(30)
        w.server.patch("nodes", "node-0", {"metadata": {"annotations": {node_objects.DOWN: None}}}, namespace="")

        def restarted() -> bool:
            pod = w.get("a")
            assert pod is not None
            return bool(pod["status"]["containerStatuses"][0]["restartCount"] == 1)

        await w.until(restarted)

    virtual(body)


def test_a_deleted_node_is_let_go_and_a_labelled_one_is_played() -> None:
    async def body(w: World) -> None:
        assert (await w.control.handle("DELETE", "/nodes/node-1"))[0] == 200
        await w.until(lambda: "node-1" not in w.agent.keeper.nodes)
        w.server.create(
            "nodes",
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": "guest", "labels": {node_objects.SIMULATED: "true"}},
            },
        )
        w.server.create("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "foreign"}})
        w.pod("a", "guest")
        w.pod("b", "foreign")
        await w.phases(a="Running")
        assert w.phase("b") == "Pending"
        assert set(w.agent.keeper.nodes) == {"node-0", "guest"}

    virtual(body)


def test_a_second_process_takes_over_nodes_and_pods_without_a_pod_write() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, count=2)
        async with playing(world):
            world.pod("a")
            world.pod("b", annotations={"sim.kruise.io/run-seconds": "100"}, restartPolicy="Never")
            await world.phases(a="Running", b="Running")
        before = world.get("a")
        await clock.sleep(30)
        world.agent = world.fresh()
        async with playing(world):
            await clock.sleep(60)
            assert world.get("a") == before
            await world.phases(b="Succeeded")
            world.pod("c")
            await world.phases(c="Running")
            c = world.get("c")
            assert before is not None and c is not None
            assert c["status"]["podIP"] not in (before["status"]["podIP"], None)

    run_virtual(main)


# ---- pods ------------------------------------------------------------------------------------------------------------


def test_a_job_pod_costs_two_status_writes() -> None:
    async def body(w: World) -> None:
        for number in range(10):
            w.pod(f"j{number}", annotations={"sim.kruise.io/run-seconds": "2"}, restartPolicy="Never")
        await w.until(lambda: all(w.phase(f"j{n}") == "Succeeded" for n in range(10)))
        assert w.writes("patch pods/status") == 20
        assert w.agent.counts.conflicts == 0
        await w.clock.sleep(3600)
        assert w.writes("patch pods/status") == 20

    virtual(body)


def test_a_kubelet_answers_no_sooner_than_its_reaction_time_and_forgets_no_other_time() -> None:
    async def body(w: World) -> None:
        begun = w.clock.monotonic()
        w.pod("a", annotations={"sim.kruise.io/run-seconds": "2"}, restartPolicy="Never")
        await w.phases(a="Running")
        assert w.clock.monotonic() - begun >= 0.5
        await w.clock.sleep(1.8)
        w.server.patch("pods", "a", {"metadata": {"labels": {"x": "y"}}})
        await w.phases(a="Succeeded")
        assert w.clock.monotonic() - begun == pytest.approx(2.5, abs=0.1), "the news did not put off its end"

    virtual(body, reaction=0.5)


class Slow:
    """A user opens a gate while the kubelet waits for an answer."""

    def __init__(self) -> None:
        self.server: ApiServer | None = None
        self.opened = False

    async def call(self, request: Request, nxt: Transport) -> Response:
        answer = await nxt.request(request)
        if request.method == "PATCH" and request.resource == "pods" and self.server is not None and not self.opened:
            self.opened = True
            gate = {"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}}
            self.server.patch("pods", request.name, gate, subresource="status", content_type=STRATEGIC)
            await asyncio.sleep(0.01)
        return answer

    async def stream(self, request: Request, nxt: Transport) -> ByteStream:
        return await nxt.stream(request)


def test_news_that_comes_while_a_kubelet_writes_is_not_lost() -> None:
    """Its own write says when to look again; the news must not be put off until then."""
    slow = Slow()

    async def body(w: World) -> None:
        slow.server = w.server
        run = {"sim.kruise.io/run-seconds": "1000"}
        w.pod("a", annotations=run, readinessGates=[{"conditionType": "example.com/gate"}])

        def ready() -> bool:
            conditions = (w.get("a") or {}).get("status", {}).get("conditions", [])
            return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

        await w.until(ready, 5.0)

    virtual(body, middleware=(slow,), reaction=0.02)


def test_news_are_not_lost_after_a_time_that_has_passed() -> None:
    """A time that came while its pod was worked on stays noted; it must not be taken for one that is still to come."""

    async def body(w: World) -> None:
        w.pod("a")
        await w.phases(a="Running")
        await w.clock.sleep(1)
        w.agent.pods[Key("default", "a")].due = w.clock.monotonic() - 0.5
        steps = w.agent.counts.steps
        w.server.patch("pods", "a", {"metadata": {"labels": {"x": "y"}}})
        await w.clock.sleep(0.1)
        assert w.agent.counts.steps == steps + 1

    virtual(body, reaction=0.02)


def test_a_deleted_pod_ends_and_is_deleted_by_uid() -> None:
    async def body(w: World) -> None:
        w.pod("a", annotations={"sim.kruise.io/stop-seconds": "3"})
        await w.phases(a="Running")
        begun = w.clock.monotonic()
        w.server.delete("pods", "a")
        await w.phases(a="gone")
        assert w.clock.monotonic() - begun == pytest.approx(3, abs=0.2)
        last = [c for c in w.server.log.writes(actor=ACTOR) if c.verb == "delete"]
        assert len(last) == 1

    virtual(body)


def test_a_finalizer_keeps_the_object_and_one_delete_is_enough() -> None:
    async def body(w: World) -> None:
        w.pod("a")
        await w.phases(a="Running")
        w.server.patch("pods", "a", {"metadata": {"finalizers": ["example.com/hold"]}})
        w.server.delete("pods", "a")
        await w.phases(a="Failed")
        await w.clock.sleep(100)
        assert w.agent.counts.deletes == 1
        w.server.patch("pods", "a", {"metadata": {"finalizers": None}})
        await w.phases(a="gone")

    virtual(body)


def test_a_successor_of_the_same_name_is_another_pod() -> None:
    async def body(w: World) -> None:
        w.pod("a", annotations={"sim.kruise.io/stop-seconds": "20"})
        await w.phases(a="Running")
        first = w.get("a")
        w.server.delete("pods", "a")
        await w.clock.sleep(5)
        for _ in range(2):  # removed by force, as pod garbage collection does, and created again at once
            w.server.do("DELETE", "/api/v1/namespaces/default/pods/a", {"gracePeriodSeconds": 0})
            w.pod("a")
        await w.phases(a="Running")
        second = w.get("a")
        await w.clock.sleep(60)
        assert first is not None and second is not None and w.get("a") == second
        assert first["metadata"]["uid"] != second["metadata"]["uid"]

    virtual(body)


def test_a_node_takes_no_more_than_it_holds() -> None:
    async def body(w: World) -> None:
        asks = [{"name": "main", "image": "a", "resources": {"requests": {"cpu": "3"}}}]
        for number in range(3):
            w.pod(f"p{number}", containers=asks)
        await w.until(lambda: sorted(w.phase(f"p{n}") for n in range(3)) == ["Failed", "Running", "Running"])
        refused = next(p for n in range(3) if (p := w.get(f"p{n}")) and p["status"]["phase"] == "Failed")
        assert refused["status"]["reason"] == "OutOfcpu"
        w.pod("p3", "node-1", containers=asks)
        await w.phases(p3="Running")

    virtual(body, shape=NodeShape(cpu="8"))


def test_gates_are_honoured_and_others_conditions_kept() -> None:
    async def body(w: World) -> None:
        w.pod("a", readinessGates=[{"conditionType": "example.com/gate"}])
        await w.phases(a="Running")

        def ready() -> str:
            pod = w.get("a")
            assert pod is not None
            return next(str(c["status"]) for c in pod["status"]["conditions"] if c["type"] == "Ready")

        assert ready() == "False"
        gate = {"type": "example.com/gate", "status": "True"}
        pod = w.get("a")
        assert pod is not None
        w.server.patch(
            "pods", "a", {"status": {"conditions": [*pod["status"]["conditions"], gate]}}, subresource="status"
        )
        await w.until(lambda: ready() == "True")
        pod = w.get("a")
        assert pod is not None
        assert [c["status"] for c in pod["status"]["conditions"] if c["type"] == "example.com/gate"] == ["True"]

    virtual(body)


def test_node_annotations_rule_the_pods_of_a_node() -> None:
    async def body(w: World) -> None:
        w.server.patch("nodes", "node-1", {"metadata": {"annotations": {"sim.kruise.io/exit-code": "3"}}}, namespace="")
        for node in ("node-0", "node-1"):
            w.pod(f"on-{node}", node, annotations={"sim.kruise.io/run-seconds": "2"}, restartPolicy="Never")
        await w.phases(on_node_0="Succeeded", on_node_1="Failed")

    virtual(body)


# ---- trouble ---------------------------------------------------------------------------------------------------------


class Trouble:
    """Answers each n-th status write badly: a reset after the server has it, a conflict, or a reset before."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.seen = 0
        self.kinds: list[str] = []

    async def call(self, request: Request, nxt: Transport) -> Response:
        if request.subresource != "status" or request.resource != "pods":
            return await nxt.request(request)
        self.seen += 1
        if self.seen % self.every:
            return await nxt.request(request)
        kind = ("applied", "lost", "conflict", "unavailable")[len(self.kinds) % 4]
        self.kinds.append(kind)
        if kind == "applied":
            await nxt.request(request)
            raise Reset("the answer was lost")
        if kind == "lost":
            raise Reset("never arrived")
        code, reason = (409, "Conflict") if kind == "conflict" else (503, "ServiceUnavailable")
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
        return Response(code, {"content-type": "application/json"}, orjson.dumps(body))

    async def stream(self, request: Request, nxt: Transport) -> ByteStream:
        return await nxt.stream(request)


def test_lost_answers_and_conflicts_end_in_the_right_status() -> None:
    trouble = Trouble(3)

    async def body(w: World) -> None:
        for number in range(12):
            w.pod(f"j{number}", annotations={"sim.kruise.io/run-seconds": "2"}, restartPolicy="Never")
        await w.until(lambda: all(w.phase(f"j{n}") == "Succeeded" for n in range(12)), timeout=120)
        for number in range(12):
            w.server.delete("pods", f"j{number}")
        await w.until(lambda: all(w.phase(f"j{n}") == "gone" for n in range(12)))

    virtual(body, middleware=(trouble,))
    assert set(trouble.kinds) == {"applied", "lost", "conflict", "unavailable"}


def test_a_user_who_writes_in_between_costs_a_read_and_nothing_is_lost() -> None:
    class Meddler:
        def __init__(self) -> None:
            self.server: ApiServer | None = None
            self.done = 0

        async def call(self, request: Request, nxt: Transport) -> Response:
            if request.subresource == "status" and request.resource == "pods" and self.done < 3 and self.server:
                self.done += 1
                self.server.patch("pods", request.name, {"metadata": {"labels": {"touched": str(self.done)}}})
            return await nxt.request(request)

        async def stream(self, request: Request, nxt: Transport) -> ByteStream:
            return await nxt.stream(request)

    meddler = Meddler()

    async def body(w: World) -> None:
        meddler.server = w.server
        w.pod("a")
        await w.phases(a="Running")
        pod = w.get("a")
        assert pod is not None and pod["metadata"]["labels"]["touched"] == "3"
        assert w.agent.counts.conflicts == 3

    virtual(body, middleware=(meddler,))
