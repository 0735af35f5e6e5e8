"""The pure kubelet: which pods a node admits, and how it resizes them."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.simulator import kubelet
from kruise.simulator.kubelet_admission import host_ports, refusal, requests, room
from kruise.simulator.kubelet_types import Room
from tests.unit.simulator.kubelet_driver import START, Sim, container, pod

# ---- resize ----------------------------------------------------------------------------------------------------------


def resources(cpu: str, memory: str = "64Mi") -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}


def test_a_resize_is_granted_and_then_in_force() -> None:
    sim = Sim(pod(container(resources=resources("100m"))))
    assert sim.status()["resources"] == resources("100m")
    assert sim.status()["allocatedResources"] == resources("100m")["requests"]
    sim.spec(containers=[container(resources=resources("200m"))]).once(sim.now)
    assert sim.condition("PodResizeInProgress") == "True"
    assert sim.status()["allocatedResources"]["cpu"] == "200m"
    assert sim.status()["resources"] == resources("100m")
    sim.run(1)
    assert sim.condition("PodResizeInProgress") is None
    assert sim.status()["resources"] == resources("200m")
    assert sim.status()["restartCount"] == 0 and sim.condition("Ready") == "True"


def test_a_resize_restarts_where_the_policy_says_so() -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    sim = Sim(pod(container(resources=resources("1"), resizePolicy=policy)))
    sim.spec(containers=[container(resources=resources("2"), resizePolicy=policy)]).run(5)
    assert sim.status()["restartCount"] == 0
    sim.spec(containers=[container(resources=resources("2", "128Mi"), resizePolicy=policy)]).run(5)
    assert sim.status()["restartCount"] == 1 and sim.running()
    assert sim.status()["resources"] == resources("2", "128Mi")


def test_a_resize_that_could_never_fit_is_infeasible() -> None:
    sim = Sim(pod(container(resources=resources("1"))), room=Room({"cpu": 4000, "memory": 10**15}))
    sim.spec(containers=[container(resources=resources("5"))]).run(100)
    assert sim.reason("PodResizePending") == "Infeasible"
    assert sim.status()["resources"] == resources("1")
    sim.spec(containers=[container(resources=resources("1"))]).run(1)
    assert sim.condition("PodResizePending") is None


def test_a_deferred_resize_is_granted_once_there_is_room() -> None:
    full = Room({"cpu": 4000, "memory": 10**15}, {"cpu": 3000})
    sim = Sim(pod(container(resources=resources("1"))), room=full)
    sim.spec(containers=[container(resources=resources("2"))]).run(10)
    assert sim.reason("PodResizePending") == "Deferred"
    sim.room(Room({"cpu": 4000, "memory": 10**15}, {"cpu": 1000})).run(5)
    assert sim.condition("PodResizePending") is None
    assert sim.status()["resources"] == resources("2")


# ---- admission -------------------------------------------------------------------------------------------------------


def spec(cpu: str = "0", port: int = 0, **more: Any) -> dict[str, Any]:
    ports = [{"containerPort": 80, "hostPort": port}] if port else []
    return {"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}, "ports": ports}], **more}


ALLOCATABLE = {"cpu": "4", "memory": "8Gi", "pods": "3"}


@pytest.mark.parametrize(
    ("wanted", "others", "reason"),
    [
        (spec("4"), [], None),
        (spec("4001m"), [], "OutOfcpu"),
        (spec("2"), [spec("1500m"), spec("1")], "OutOfcpu"),
        (spec(), [spec()] * 3, "OutOfpods"),
        (spec(port=80), [spec(port=81)], None),
        (spec(port=80), [spec(port=80)], "NodePorts"),
        (spec(nodeSelector={"zone": "a"}), [], None),
        (spec(nodeSelector={"zone": "b"}), [], "NodeAffinity"),
        ({"containers": [{"name": "a", "resources": {"requests": {"gpu": "1"}}}]}, [], "OutOfgpu"),
    ],
)
def test_admission(wanted: dict[str, Any], others: list[dict[str, Any]], reason: str | None) -> None:
    answer = refusal(wanted, {"zone": "a"}, room(ALLOCATABLE, map(requests, others)), others)
    assert (answer[0] if answer else None) == reason


def test_requests_count_what_runs_together() -> None:
    asked = {
        "containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}],
        "initContainers": [
            {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
            {"name": "big", "resources": {"requests": {"cpu": "2"}}},
        ],
        "overhead": {"cpu": "100m"},
    }
    assert requests(asked)["cpu"] == 2600  # the init container beside the sidecar is the peak


def test_a_host_port_on_one_address_clashes_with_all_addresses() -> None:
    def with_ip(ip: str) -> dict[str, Any]:
        return {"containers": [{"name": "a", "ports": [{"hostPort": 80, "hostIP": ip}]}]}

    one, two, every = with_ip("10.0.0.1"), with_ip("10.0.0.2"), spec(port=80)
    assert host_ports(every) == {("0.0.0.0", "TCP", 80)}
    space = room(ALLOCATABLE, [])
    assert refusal(one, {}, space, [two]) is None
    assert refusal(one, {}, space, [every]) is not None


def test_a_refused_pod_fails_for_good_with_the_reason() -> None:
    subject = pod()
    sim = Sim(subject)
    sim.pod = subject
    sim.state = kubelet.accept(subject, START, sim.place, refused=("OutOfcpu", "too much"))
    sim.run(100)
    assert sim.phase == "Failed" and sim.pod.status["reason"] == "OutOfcpu"
    assert "containerStatuses" not in sim.pod.status
    assert sim.delete().run(0).deleted


def test_a_pod_that_already_runs_is_never_refused() -> None:
    sim = Sim(pod())
    assert kubelet.accept(sim.pod, START, sim.place, refused=("OutOfcpu", "too much")).rejected is None


def test_a_node_can_be_told_to_refuse() -> None:
    sim = Sim(pod(annotations={"sim.kruise.io/reject": "OutOfmemory"}))
    assert sim.phase == "Failed" and sim.pod.status["reason"] == "OutOfmemory"
