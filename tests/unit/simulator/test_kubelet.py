"""The pure kubelet: the stages of a pod from its start to its deletion, in virtual time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kruise.runtime.clock import format_time
from kruise.simulator import kubelet
from kruise.simulator.kubelet_containers import crash_delay, pull_delay
from kruise.simulator.kubelet_patch import status_patch
from kruise.simulator.kubelet_types import Place
from tests.unit.simulator.kubelet_driver import CODE, RUN, START, Sim, container, pod

# ---- running and ending ----------------------------------------------------------------------------------------------


def test_a_pod_of_which_nobody_says_anything_runs_for_ever() -> None:
    sim = Sim(pod()).run(1_000_000)
    assert sim.phase == "Running"
    assert sim.running()
    assert sim.condition("Ready") == sim.condition("ContainersReady") == sim.condition("Initialized") == "True"
    assert sim.writes == 1
    assert sim.last is not None and sim.last.wake is None


def test_the_status_has_what_controllers_read() -> None:
    sim = Sim(pod(container(image="app")))
    status = sim.pod.status
    assert status["startTime"] == format_time(START)
    assert status["podIP"] == "10.244.0.7" and status["podIPs"] == [{"ip": "10.244.0.7"}]
    assert status["hostIP"] == "10.0.0.1"
    assert status["observedGeneration"] == 1
    one = sim.status()
    assert one["image"] == "app:latest"
    assert one["imageID"].startswith("app@sha256:")
    assert one["containerID"].startswith("containerd://")
    assert one["restartCount"] == 0 and one["ready"] and one["started"]


@pytest.mark.parametrize(
    ("policy", "code", "phase", "restarts"),
    [
        ("Never", 0, "Succeeded", 0),
        ("Never", 1, "Failed", 0),
        ("OnFailure", 0, "Succeeded", 0),
        ("OnFailure", 1, "Running", 1),
        ("Always", 0, "Running", 1),
        ("Always", 1, "Running", 1),
    ],
)
def test_restart_policies(policy: str, code: int, phase: str, restarts: int) -> None:
    sim = Sim(pod(policy=policy, annotations={RUN: "2", CODE: str(code)})).run(3)
    assert sim.phase == phase
    assert sim.status()["restartCount"] == restarts


def test_a_job_pod_costs_two_writes() -> None:
    sim = Sim(pod(policy="Never", annotations={RUN: "2"})).run(60)
    assert sim.phases() == ["Running", "Succeeded"]
    assert sim.writes == 2
    end = sim.status()["state"]["terminated"]
    assert end["exitCode"] == 0 and end["reason"] == "Completed"
    assert end["finishedAt"] == format_time(START + 2)
    assert sim.condition("Ready") == "False" and sim.reason("Ready") == "PodCompleted"
    assert sim.condition("Initialized") == "True"


def test_exit_codes_of_successive_runs() -> None:
    sim = Sim(pod(policy="OnFailure", annotations={RUN: "1", CODE: "3,4,0"})).run(60)
    assert sim.phase == "Succeeded"
    assert sim.status()["restartCount"] == 2
    assert sim.status()["lastState"]["terminated"]["exitCode"] == 4


def test_a_reason_of_the_end_can_be_set() -> None:
    annotations = {RUN: "1", CODE: "137", "sim.kruise.io/exit-reason": "OOMKilled"}
    sim = Sim(pod(policy="Never", annotations=annotations)).run(2)
    assert sim.status()["state"]["terminated"]["reason"] == "OOMKilled"
    assert sim.phase == "Failed" and sim.reason("Ready") == "PodFailed"


def test_one_container_of_two_decides_the_phase_when_both_have_ended() -> None:
    annotations = {
        "a.sim.kruise.io/run-seconds": "1",
        "b.sim.kruise.io/run-seconds": "5",
        "a.sim.kruise.io/exit-code": "1",
    }
    sim = Sim(pod(container("a"), container("b"), policy="Never", annotations=annotations)).run(2)
    assert sim.phase == "Running"
    assert sim.condition("Ready") == "False"
    assert sim.run(5).phase == "Failed"


def test_an_active_deadline_ends_the_pod() -> None:
    sim = Sim(pod(policy="Never", activeDeadlineSeconds=10)).run(9)
    assert sim.phase == "Running"
    sim.run(1)
    assert sim.phase == "Failed" and sim.pod.status["reason"] == "DeadlineExceeded"


def test_an_eviction_fails_the_pod_and_says_so() -> None:
    sim = Sim(pod(annotations={"sim.kruise.io/evict-seconds": "5"})).run(6)
    assert sim.phase == "Failed" and sim.pod.status["reason"] == "Evicted"
    assert sim.condition("DisruptionTarget") == "True"
    assert not sim.deleted


def test_a_finished_pod_never_changes_again() -> None:
    sim = Sim(pod(policy="Never", annotations={RUN: "1"})).run(2)
    writes = sim.writes
    sim.image("app:2").run(1000)
    assert sim.writes == writes and sim.phase == "Succeeded"


# ---- crash loops -----------------------------------------------------------------------------------------------------


def test_back_off_doubles_to_five_minutes() -> None:
    assert [crash_delay(n) for n in range(9)] == [0, 0, 10, 20, 40, 80, 160, 300, 300]
    assert [pull_delay(n) for n in range(1, 8)] == [10, 20, 40, 80, 160, 300, 300]


def test_a_crash_loop_starts_at_once_and_then_after_10_20_40_seconds() -> None:
    sim = Sim(pod(annotations={RUN: "1", CODE: "1", "sim.kruise.io/restart-seconds": "0"}))
    starts: dict[str, float] = {}
    for _ in range(120):
        if sim.running():
            starts.setdefault(sim.status()["containerID"], sim.now - START)
        sim.run(1)
    # Runs of a second each: start, end, wait from that end.
    assert list(starts.values()) == pytest.approx([0, 1, 12, 33, 74], abs=1.01)
    assert sim.waiting() == "CrashLoopBackOff"
    assert sim.status()["lastState"]["terminated"]["exitCode"] == 1
    assert sim.phase == "Running"


def test_ten_minutes_of_running_forgive_the_past() -> None:
    sim = Sim(pod(annotations={RUN: "1", CODE: "1"})).run(300)
    sim.annotate(**{RUN: "601"}).run(400)
    assert sim.running()
    crashes = sim.state.containers["main"].crashes
    assert crashes > 3
    sim.run(600)
    assert sim.running() and sim.state.containers["main"].crashes == 1


# ---- readiness -------------------------------------------------------------------------------------------------------


def test_readiness_gates_count_and_are_never_written() -> None:
    sim = Sim(pod(readinessGates=[{"conditionType": "InPlaceUpdateReady"}]))
    assert sim.condition("ContainersReady") == "True"
    assert sim.condition("Ready") == "False" and sim.reason("Ready") == "ReadinessGatesNotReady"
    assert sim.condition("InPlaceUpdateReady") is None
    sim.condition_by_others("InPlaceUpdateReady", "True").run(0)
    assert sim.condition("Ready") == "True" and sim.reason("Ready") is None
    sim.condition_by_others("InPlaceUpdateReady", "False").run(0)
    assert sim.condition("Ready") == "False"
    assert sim.condition("InPlaceUpdateReady") == "False"


def test_slow_and_never_ready() -> None:
    sim = Sim(pod(annotations={"sim.kruise.io/ready-seconds": "5"})).run(4)
    assert sim.running() and sim.condition("Ready") == "False"
    assert sim.run(1).condition("Ready") == "True"
    assert Sim(pod(annotations={"sim.kruise.io/ready-seconds": "never"})).run(9e6).condition("Ready") == "False"


def test_readiness_flaps_at_its_period() -> None:
    sim = Sim(pod(annotations={"sim.kruise.io/flap-seconds": "3"})).run(14)
    ready = [next(c["status"] for c in s["conditions"] if c["type"] == "Ready") for _, s in sim.seen]
    assert ready == ["True", "False", "True", "False", "True"]
    assert [round(t - START, 3) for t, _ in sim.seen] == [0, 3, 6, 9, 12]


def test_a_transition_time_stays_while_the_status_does() -> None:
    sim = Sim(pod()).run(100)
    first = {c["type"]: c["lastTransitionTime"] for c in sim.pod.status["conditions"]}
    sim.image("app:2").run(100)
    second = {c["type"]: c["lastTransitionTime"] for c in sim.pod.status["conditions"]}
    assert second["Initialized"] == first["Initialized"]
    assert second["Ready"] != first["Ready"]


# ---- deletion --------------------------------------------------------------------------------------------------------


def test_a_deleted_pod_gets_a_last_phase_and_then_goes() -> None:
    sim = Sim(pod()).delete(30).run(0)
    assert sim.phase == "Failed"
    assert sim.status()["state"]["terminated"]["exitCode"] == 143
    assert sim.deleted


def test_a_pod_that_ends_well_on_sigterm_succeeds() -> None:
    sim = Sim(pod(annotations={"sim.kruise.io/stop-exit-code": "0"})).delete(30).run(0)
    assert sim.phase == "Succeeded" and sim.deleted


def test_the_grace_period_is_a_limit() -> None:
    sim = Sim(pod(annotations={"sim.kruise.io/stop-seconds": "100"})).delete(5).run(4)
    assert sim.running() and not sim.deleted
    sim.run(1)
    assert sim.deleted and sim.status()["state"]["terminated"]["exitCode"] == 137


def test_a_shorter_grace_period_counts_at_once() -> None:
    sim = Sim(pod(annotations={"sim.kruise.io/stop-seconds": "forever"})).delete(600).run(3)
    assert not sim.deleted
    assert sim.delete(1).run(0).deleted


def test_a_pod_that_is_deleted_before_it_ran() -> None:
    sim = Sim(pod(annotations={"sim.kruise.io/start-seconds": "60"})).run(1)
    sim.delete(30).run(0)
    assert sim.deleted and sim.phase == "Failed"
    assert sim.status()["state"]["terminated"]["reason"] == "ContainerStatusUnknown"


def test_a_pod_that_comes_deleted_never_starts() -> None:
    fresh = pod()
    meta = msgspec.structs.replace(
        fresh.metadata, deletion_timestamp=format_time(START), deletion_grace_period_seconds=30
    )
    sim = Sim(msgspec.structs.replace(fresh, metadata=meta))
    assert sim.deleted and not sim.running()
    assert sim.status()["containerID"] == ""


def test_a_finished_pod_is_deleted_without_another_status() -> None:
    sim = Sim(pod(policy="Never", annotations={RUN: "1"})).run(2)
    writes = sim.writes
    sim.delete(30).run(0)
    assert sim.deleted and sim.writes == writes


def test_a_stuck_pod_stays() -> None:
    sim = Sim(pod(annotations={"sim.kruise.io/stuck-terminating": "true"})).delete(5).run(1000)
    assert not sim.deleted
    assert sim.annotate(**{"sim.kruise.io/stuck-terminating": "false"}).run(0).deleted


def test_a_crash_loop_ends_with_its_pod() -> None:
    sim = Sim(pod(annotations={RUN: "1", CODE: "1"})).run(20)
    assert sim.waiting() == "CrashLoopBackOff"
    sim.delete(30).run(0)
    assert sim.deleted and sim.phase == "Failed"
    assert sim.status()["state"]["terminated"]["exitCode"] == 1


# ---- control, loss, restart ------------------------------------------------------------------------------------------


def test_a_container_can_be_made_to_end() -> None:
    sim = Sim(pod(policy="Never")).run(5)
    sim.state = kubelet.force_exit(sim.state, "main", 7, sim.now)
    sim.run(0)
    assert sim.phase == "Failed" and sim.status()["state"]["terminated"]["exitCode"] == 7
    assert kubelet.force_exit(sim.state, "main", 7, sim.now) is sim.state
    assert kubelet.force_exit(sim.state, "nobody", 7, sim.now) is sim.state


def test_a_pod_can_be_evicted_once() -> None:
    sim = Sim(pod())
    sim.state = kubelet.evict(sim.state, sim.now)
    sim.run(0)
    assert sim.pod.status["reason"] == "Evicted"
    assert kubelet.evict(sim.state, sim.now) is sim.state


def test_a_reboot_starts_everything_anew() -> None:
    sim = Sim(pod(container("a"), container("b"))).run(5)
    sim.state = kubelet.reboot(sim.state, sim.now)
    sim.run(5)
    for name in "ab":
        assert sim.running(name) and sim.status(name)["restartCount"] == 1
        assert sim.status(name)["lastState"]["terminated"]["exitCode"] == 255
    finished = Sim(pod(policy="Never", annotations={RUN: "0"})).run(1)
    assert kubelet.reboot(finished.state, finished.now) is finished.state


@pytest.mark.parametrize(
    "subject",
    [
        pod(),
        pod(policy="Never", annotations={RUN: "50"}),
        pod(annotations={RUN: "1", CODE: "1"}),
        pod(annotations={"sim.kruise.io/pull-fail-seconds": "forever"}),
        pod(init=[container("side", restartPolicy="Always")]),
        pod(init=[container("one")], annotations={"one.sim.kruise.io/run-seconds": "3"}),
        pod(container(resources={"requests": {"cpu": "1"}})),
        pod(policy="Never", annotations={RUN: "1"}),
    ],
)
@pytest.mark.parametrize("after", [0.0, 1.5, 30.0])
def test_a_new_process_of_the_node_goes_on_without_a_write(subject: Any, after: float) -> None:
    sim = Sim(subject).run(after)
    before, writes = sim.pod.status, sim.writes
    sim.restart_kubelet().once(sim.now)
    assert sim.pod.status == before
    assert sim.writes == writes


def test_a_restarted_node_keeps_the_order_of_a_crash_loop() -> None:
    sim = Sim(pod(annotations={RUN: "1", CODE: "1"})).run(30)
    restarts = sim.status()["restartCount"]
    sim.restart_kubelet().run(600)
    assert restarts < sim.status()["restartCount"] <= restarts + 5


# ---- the patch -------------------------------------------------------------------------------------------------------


def test_no_news_is_no_patch() -> None:
    sim = Sim(pod())
    assert sim.last is not None
    assert status_patch(sim.pod.status, sim.last.status) is None
    # The API server gives back nulls, fields of others and conditions in another order.
    shown = {
        **sim.pod.status,
        "qosClass": "BestEffort",
        "conditions": [
            {**c, "lastProbeTime": None, "observedGeneration": 1} for c in reversed(sim.pod.status["conditions"])
        ],
    }
    assert status_patch(shown, sim.last.status) is None


def test_only_what_changed_is_sent() -> None:
    sim = Sim(pod())
    sim.condition_by_others("Mine", "True")
    step = sim.once(sim.now)
    assert status_patch(sim.pod.status, step.status) is None
    old = {**sim.pod.status, "phase": "Pending"}
    assert status_patch(old, step.status) == {"phase": "Running"}


def test_a_reason_that_is_gone_is_taken_away() -> None:
    sim = Sim(pod(annotations={"sim.kruise.io/ready-seconds": "1"}))
    before = sim.pod.status
    sim.run(2)
    assert sim.last is not None
    patch = status_patch(before, sim.last.status)
    assert patch is not None
    ready = next(c for c in patch["conditions"] if c["type"] == "Ready")
    assert ready["status"] == "True" and ready["reason"] is None and ready["message"] is None


# ---- properties ------------------------------------------------------------------------------------------------------

seconds = st.sampled_from(["0", "0.5", "1", "3", "7.25", "forever"])
container_settings = st.fixed_dictionaries(
    {},
    optional={
        "run-seconds": seconds,
        "exit-code": st.sampled_from(["0", "1", "1,0", "0,1", "137"]),
        "start-seconds": st.sampled_from(["0", "0.5", "4"]),
        "ready-seconds": st.sampled_from(["0", "2", "never"]),
        "flap-seconds": st.sampled_from(["1", "2.5"]),
        "pull-fail-seconds": st.sampled_from(["0", "15"]),
        "stop-seconds": st.sampled_from(["0", "3", "60"]),
        "restart-seconds": st.sampled_from(["0", "0.2", "1"]),
    },
)


@st.composite
def pods(draw: st.DrawFn) -> Any:
    names = ["main", *draw(st.sampled_from([[], ["second"]]))]
    init = draw(
        st.sampled_from(
            [
                [],
                [container("init")],
                [container("side", restartPolicy="Always")],
                [container("side", restartPolicy="Always"), container("init")],
            ]
        )
    )
    annotations = {"init.sim.kruise.io/run-seconds": "1"}
    for name in [*names, *(c["name"] for c in init)]:
        for key, value in draw(container_settings).items():
            annotations[f"{name}.sim.kruise.io/{key}"] = value
    policy = draw(st.sampled_from(["Always", "OnFailure", "Never"]))
    return pod(*(container(n) for n in names), init=init, policy=policy, annotations=annotations)


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[str, float]]:
    return draw(
        st.lists(
            st.tuples(st.sampled_from(["wait", "image", "delete", "exit"]), st.floats(0, 40)), min_size=1, max_size=5
        )
    )


def play(subject: Any, story: list[tuple[str, float]], stride: float | None) -> Sim:
    sim = Sim(subject)
    for index, (what, wait) in enumerate(story):
        if what == "image":
            sim.image(f"app:{index + 2}")
        elif what == "delete":
            sim.delete(10)
        elif what == "exit":
            sim.state = kubelet.force_exit(sim.state, "main", 9, sim.now)
        sim.run(wait, stride=stride)
    return sim


@settings(max_examples=150, deadline=None)
@given(pods(), stories(), st.sampled_from([0.3, 1.0, 2.7]))
def test_asking_more_often_changes_nothing(subject: Any, story: list[tuple[str, float]], stride: float) -> None:
    calm, nervous = play(subject, story, None), play(subject, story, stride)
    assert calm.pod.status == nervous.pod.status
    assert [s for _, s in calm.seen] == [s for _, s in nervous.seen]
    assert calm.deleted == nervous.deleted


@settings(max_examples=150, deadline=None)
@given(pods(), stories())
def test_what_holds_in_every_status(subject: Any, story: list[tuple[str, float]]) -> None:
    sim = play(subject, story, None)
    rank = {"Pending": 0, "Running": 1, "Succeeded": 3, "Failed": 3}
    over = ""
    restarts: dict[str, int] = {}
    runs: dict[str, dict[int, str]] = {}
    for _, status in sim.seen:
        conditions = {c["type"]: c["status"] for c in status["conditions"]}
        if over:
            assert status["phase"] == over, "a phase went back"
        if rank[status["phase"]] == 3:
            over = status["phase"]
            assert conditions["Ready"] == "False"
        if conditions["Ready"] == "True":
            assert conditions["ContainersReady"] == conditions["Initialized"] == "True"
            assert status["phase"] == "Running"
        for one in (*status.get("initContainerStatuses", ()), *status["containerStatuses"]):
            assert len(one["state"]) == 1
            assert one["restartCount"] >= restarts.get(one["name"], 0)
            restarts[one["name"]] = one["restartCount"]
            if one["containerID"]:
                known = runs.setdefault(one["name"], {})
                assert known.setdefault(one["restartCount"], one["containerID"]) == one["containerID"]
                assert len(set(known.values())) == len(known)
            if one["ready"] and "running" not in one["state"]:
                assert one["name"] == "init"
    if sim.deleted:
        assert over and not any(c.alive for c in sim.state.containers.values())


@settings(max_examples=100, deadline=None)
@given(pods(), st.floats(0, 60))
def test_every_pod_can_be_deleted_within_its_grace(subject: Any, wait: float) -> None:
    sim = Sim(subject).run(wait)
    sim.delete(10).run(10)
    assert sim.deleted


def test_the_machine_never_looks_at_the_place_for_its_decisions() -> None:
    sim, other = Sim(pod()), Sim(pod())
    other.place = Place("node-9", "10.0.0.9", "10.9.9.9")
    assert sim.run(10).state == other.run(10).state
