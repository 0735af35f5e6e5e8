"""The summary of the demo: each number that is not what it must be is seen."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kruise.cli.demo_counts import (
    Figure,
    Job,
    Phase,
    Sidecars,
    job_figures,
    manager_figures,
    render,
    set_figures,
    sidecar_figures,
)
from kruise.cli.demo_picture import JOBS, LEASE
from kruise.cli.demo_pods import SETS
from kruise.cli.demo_sidecar_pods import SIDECARS
from kruise.runtime.client.rest import USER_AGENT
from kruise.runtime.clock import Random, SystemClock
from kruise.simulator.apiserver.call import Call
from kruise.simulator.apiserver.server import ApiServer

SERVER = ApiServer(SystemClock(), Random(1))


def call(what: str, code: int = 200, *, changed: bool | None = True, dry_run: bool = False) -> Call:
    """``verb resource[/subresource]``."""
    verb, _, rest = what.partition(" ")
    resource, _, subresource = rest.partition("/")
    made = SERVER.call("POST", "/", actor=f"{USER_AGENT}/1 test")
    made.verb, made.subresource, made.code, made.changed, made.dry_run = verb, subresource, code, changed, dry_run
    made.info = SERVER.registry.named("leases.coordination.k8s.io" if resource == LEASE else resource)
    assert made.info is not None, resource
    return made


@pytest.fixture(scope="module", autouse=True)
def _served() -> None:
    from kruise.cli.demo_stage import DEFINITIONS
    from kruise.simulator.embedded import read_definitions

    for definition in read_definitions(DEFINITIONS):
        SERVER.create("customresourcedefinitions.apiextensions.k8s.io", definition)


def job_calls() -> list[Call]:
    return [
        call("list pods", changed=None),
        *[call("create pods", 201) for _ in range(6)],
        *[call(f"patch {JOBS}/status") for _ in range(5)],
    ]


def rest_calls() -> list[Call]:
    return [
        call(f"create {LEASE}", 201),
        call(f"patch {LEASE}"),
        call("create events", 201),
        call("patch secrets"),
        call("patch mutatingwebhookconfigurations.admissionregistration.k8s.io"),
    ]


def wrong_of_job(extra: Sequence[Call] = (), *, nodes: int = 6) -> list[str]:
    found = job_figures([*job_calls(), *rest_calls(), *extra], Job(nodes, 12.0))
    return [figure.what for figure in found if not figure.right]


def wrong(extra: Sequence[Call] = (), *, reconciles: float = 20, cpu: float = 0.2) -> list[str]:
    calls = [*job_calls(), *rest_calls(), *extra]
    found = manager_figures(calls, pods=6, alive=16.0, reconciles=reconciles, cpu=cpu)
    return [figure.what for figure in found if not figure.right]


def test_a_normal_run_is_right() -> None:
    assert wrong_of_job() == []
    assert wrong() == []


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("create pods", "pods created"),
        ("delete pods", "other writes to objects"),
        (f"delete {JOBS}", "other writes to objects"),
        (f"patch {JOBS}", "other writes to objects"),
    ],
)
def test_a_write_too_many_is_seen(extra: str, what: str) -> None:
    assert wrong_of_job([call(extra)]) == [what]


def test_a_pod_too_few_is_seen() -> None:
    assert wrong_of_job(nodes=7) == ["pods created"]


def test_refusals_are_seen_and_do_not_count_as_writes() -> None:
    refused = call("create pods", 403, changed=None)
    assert wrong([refused]) == ["other refused writes"]
    assert wrong_of_job([refused]) == []


def test_others_writes_are_not_the_managers() -> None:
    kubelet = call("patch pods/status")
    kubelet.actor = "simulated-nodes"
    assert wrong_of_job([kubelet]) == []


# Conflicts: whose version was missed.


def write(what: str, ordinal: int, named: str, code: int = 200, after: str = "") -> Call:
    made = call(what, code, changed=True if code < 300 else None)
    made.ordinal, made.namespace, made.name, made.after = ordinal, "default", "web-0", after
    made.document = {"metadata": {"resourceVersion": named}}
    return made


def test_a_conflict_with_a_version_that_the_manager_made_is_its_own() -> None:
    first = write("patch pods/status", 1, "10", after="11")
    assert wrong([first, write("patch pods", 2, "10", 409)]) == ["conflicts of its own making"]


def test_a_conflict_with_a_version_that_a_node_made_is_not_its_own() -> None:
    first = write("patch pods/status", 1, "10", after="11")
    assert wrong([first, write("patch pods", 2, "11", 409)]) == []


def test_a_conflict_of_a_write_that_named_no_version_is_its_own() -> None:
    made = call("create pods", 409, changed=None)
    made.document = {"metadata": {}}
    assert wrong([made]) == ["conflicts of its own making"]


def test_very_many_foreign_conflicts_are_wrong_too() -> None:
    refused = [write("patch pods", n, "11", 409) for n in range(7)]
    assert wrong(refused[:6]) == []
    assert wrong(refused) == ["refused: a node wrote first"], "more than one for each write"


def test_a_write_that_changes_nothing_is_seen() -> None:
    assert wrong([call(f"patch {JOBS}/status", changed=False)]) == ["writes that changed nothing"]


def test_status_patches_and_lease_writes_have_a_bound() -> None:
    status = [call(f"patch {JOBS}/status") for _ in range(24)]
    assert wrong_of_job(status) == ["status patches"]
    assert wrong_of_job(status[:-1]) == []
    assert wrong([call(f"patch {LEASE}") for _ in range(11)]) == ["lease writes"]


def test_certificates_are_no_write_of_a_workload_and_have_a_bound() -> None:
    again = [call("patch secrets") for _ in range(10)]
    assert wrong_of_job(again) == []
    assert wrong(again[:9]) == []
    assert wrong(again) == ["writes of certificates"]


def test_a_dry_run_is_no_write() -> None:
    assert wrong_of_job([call("create pods", 201, dry_run=True)]) == []


def test_no_reconcile_and_too_much_cpu_are_seen() -> None:
    assert wrong(reconciles=0) == ["reconciles, says /metrics"]
    assert wrong(cpu=2.07) == ["CPU seconds"]


# The set: three writes for each update in place.

REVISION = "create controllerrevisions.apps"


def set_calls(*updates: int) -> tuple[list[Call], list[Phase]]:
    """Return the requests of the four parts, with *updates* instead of the right numbers where given."""
    numbers = list(updates) or [10, 15, 4, 13]
    calls: list[Call] = [call("list pods", changed=None)]
    phases: list[Phase] = []
    for what, number in zip(("create", "update", "bad", "repair"), numbers, strict=True):
        first = len(calls)
        calls += [call(REVISION, 201), *[call("patch pods") for _ in range(number)], call(f"patch {SETS}/status")]
        pods = 2 if what == "bad" else 5
        phases.append(Phase(what, first, len(calls), pods, stuck=2 if what == "repair" else 0))
    return calls, phases


def wrong_of_set(calls: Sequence[Call], phases: Sequence[Phase]) -> list[str]:
    return [figure.what for figure in set_figures(calls, phases, lasted=10.0) if not figure.right]


def test_three_writes_a_pod_are_right() -> None:
    assert wrong_of_set(*set_calls()) == []


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        ((9, 15, 4, 13), "writes to new pods"),
        ((10, 16, 4, 13), "writes to updated pods"),
        ((10, 14, 4, 13), "writes to updated pods"),
        ((10, 15, 6, 13), "writes for the bad image"),
        ((10, 15, 4, 15), "writes for the repair"),
    ],
)
def test_a_write_too_many_or_too_few_for_a_pod_is_seen(numbers: tuple[int, ...], what: str) -> None:
    assert wrong_of_set(*set_calls(*numbers)) == [what]


def test_revisions_and_other_writes_of_the_set_are_counted() -> None:
    calls, phases = set_calls()
    assert wrong_of_set([*calls, call(REVISION, 201)], phases) == ["revisions created"]
    assert wrong_of_set([*calls, call(f"patch {SETS}")], phases) == ["other writes to objects"]
    assert wrong_of_set([*calls, *[call(f"patch {SETS}/status") for _ in range(30)]], phases) == ["status patches"]


# The SidecarSet: nothing for an injection, two writes for an upgrade.


def sidecar_calls(*, injecting: int = 0, upgrading: int = 8, created: int = 4) -> tuple[list[Call], Sidecars]:
    calls: list[Call] = [call("list pods", changed=None), call(REVISION, 201)]
    for _ in range(created):
        one = call("create pods", 201)
        one.actor = "demo"
        calls.append(one)
    waiting, binding = call("create pods", 0), call("create pods/binding", 201)
    for one in (waiting, binding):
        one.actor = "somebody else"
    calls += [waiting, binding, *[call("patch pods") for _ in range(injecting)]]
    upgrade = len(calls)
    calls += [call(REVISION, 201), *[call("patch pods") for _ in range(upgrading)], call(f"patch {SIDECARS}/status")]
    return calls, Sidecars(0, upgrade, len(calls), 4, 8.0)


def wrong_of_sidecars(calls: Sequence[Call], act: Sidecars) -> list[str]:
    return [figure.what for figure in sidecar_figures(calls, act) if not figure.right]


def test_an_injection_is_no_write_and_an_upgrade_is_two() -> None:
    assert wrong_of_sidecars(*sidecar_calls()) == []
    assert wrong_of_sidecars(*sidecar_calls(injecting=1)) == ["writes to inject them"]
    assert wrong_of_sidecars(*sidecar_calls(upgrading=7)) == ["writes to upgraded pods"]
    assert wrong_of_sidecars(*sidecar_calls(created=5)) == ["pods created, by others"]


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ([REVISION], "revisions created"),
        ([f"patch {SIDECARS}"], "other writes to objects"),
        ([f"patch {SIDECARS}/status"] * 24, "status patches"),
    ],
)
def test_other_writes_for_a_sidecarset_are_counted(extra: list[str], what: str) -> None:
    calls, act = sidecar_calls()
    calls += [call(one) for one in extra]
    assert wrong_of_sidecars(calls, Sidecars(act.first, act.upgrade, len(calls), act.pods, act.lasted)) == [what]


def test_the_lines_say_what_is_wrong() -> None:
    found = [
        Figure("pods created", "7", "6 (one for each node)", False, "BroadcastJob"),
        Figure("other writes to objects", "0", "0", True, "BroadcastJob"),
        Figure("events", "3", "at least 1", True, "the manager"),
    ]
    assert render(found) == [
        "WRITES OF THE MANAGER        SEEN   EXPECTED",
        "BroadcastJob",
        "  pods created                  7   6 (one for each node)   WRONG",
        "  other writes to objects       0   0",
        "the manager",
        "  events                        3   at least 1",
    ]
