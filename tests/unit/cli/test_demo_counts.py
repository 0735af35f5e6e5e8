"""The summary of the demo: each number that is not what it must be is seen."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kruise.cli.demo_counts import Figure, figures, render
from kruise.cli.demo_picture import JOBS, LEASE
from kruise.runtime.clock import Random, SystemClock
from kruise.simulator.apiserver.call import Call
from kruise.simulator.apiserver.server import ApiServer

SERVER = ApiServer(SystemClock(), Random(1))


def call(what: str, code: int = 200, *, changed: bool | None = True, dry_run: bool = False) -> Call:
    """``verb resource[/subresource]``."""
    verb, _, rest = what.partition(" ")
    resource, _, subresource = rest.partition("/")
    made = SERVER.call("POST", "/")
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


def normal() -> list[Call]:
    status = f"patch {JOBS}/status"
    return [
        call("list pods", changed=None),
        *[call("create pods", 201) for _ in range(6)],
        *[call(status) for _ in range(5)],
        call(f"create {LEASE}", 201),
        call(f"patch {LEASE}"),
        call("create events", 201),
    ]


def wrong(extra: Sequence[Call] = (), *, nodes: int = 6, reconciles: float = 20, cpu: float = 0.2) -> list[str]:
    found = figures([*normal(), *extra], nodes=nodes, running=12.0, alive=16.0, reconciles=reconciles, cpu=cpu)
    return [figure.what for figure in found if not figure.right]


def test_a_normal_run_is_right() -> None:
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
    assert wrong([call(extra)]) == [what]


def test_a_pod_too_few_is_seen() -> None:
    assert wrong(nodes=7) == ["pods created"]


def test_conflicts_and_refusals_are_seen_and_do_not_count_as_writes() -> None:
    assert wrong([call("create pods", 409, changed=None)]) == ["conflicts"]
    assert wrong([call("create pods", 403, changed=None)]) == ["other refused writes"]
    assert wrong([call(f"patch {LEASE}", 409, changed=None)]) == ["conflicts"]


def test_a_write_that_changes_nothing_is_seen() -> None:
    assert wrong([call(f"patch {JOBS}/status", changed=False)]) == ["writes that changed nothing"]


def test_status_patches_and_lease_writes_have_a_bound() -> None:
    status = [call(f"patch {JOBS}/status") for _ in range(24)]
    assert wrong(status) == ["status patches"]
    assert wrong(status[:-1]) == []
    assert wrong([call(f"patch {LEASE}") for _ in range(11)]) == ["lease writes"]


def test_a_dry_run_is_no_write() -> None:
    assert wrong([call("create pods", 201, dry_run=True)]) == []


def test_no_reconcile_and_too_much_cpu_are_seen() -> None:
    assert wrong(reconciles=0) == ["reconciles, says /metrics"]
    assert wrong(cpu=2.07) == ["CPU seconds of the manager"]


def test_the_lines_say_what_is_wrong() -> None:
    lines = render([Figure("pods created", "7", "6 (one for each node)", False), Figure("conflicts", "0", "0", True)])
    assert lines == [
        "THE MANAGER     SEEN   EXPECTED",
        "pods created       7   6 (one for each node)   WRONG",
        "conflicts          0   0",
    ]
