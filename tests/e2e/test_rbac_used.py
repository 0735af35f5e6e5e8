"""The roles and the requests of this whole session: every right is used, and every request had its right.

It is the last test to run. The other direction alone needs the others: a right that is not used is only a finding when
everything ran that uses rights.
"""

from __future__ import annotations

from typing import Any

import pytest

from hack import gates, rbac
from tests.e2e.harness.world import ACTOR, World

pytestmark = pytest.mark.real

NEEDED = {
    *("test_broadcastjob", "test_faults", "test_leader", "test_process"),
    *("test_statefulset_rollout", "test_statefulset_faults", "test_statefulset_users", "test_statefulset_life"),
    *("test_sidecarset_injection", "test_sidecarset_upgrade", "test_sidecarset_outage", "test_webhooks"),
}
"""The modules that together do all that the manager can do."""


UNSEEN: dict[rbac.Right, str] = {
    ("apps.kruise.io", "broadcastjobs", "get"): (
        "a job is read live only when the cache stays behind our own writes for 10 s (CON3), which no fault here does; "
        "tests/unit and tests/simulation do it"
    ),
    ("apps", "controllerrevisions", "get"): "a revision is read live only when its name is taken (spec 2.7)",
    ("apps.kruise.io", "sidecarsets", "get"): "a set is read live only as a job above; tests/simulation does it",
    **{
        (
            group,
            plural,
            "list",
        ): "the first list comes as a watch; LIST is for servers that cannot, and tests/unit has one"
        for group, plural in (
            ("", "configmaps"),
            ("", "namespaces"),
            ("apps.kruise.io", "sidecarsets"),
            ("storage.k8s.io", "storageclasses"),
        )
    },
    ("", "persistentvolumeclaims", "get"): "a claim is read live only when its name is taken and the cache lacks it",
}
"""Rights that this session need not use, and why."""


@pytest.fixture(scope="module")
def used(world: World) -> dict[rbac.Right, set[int]]:
    """Every right that our ServiceAccount used in this session, with the codes of the answers."""
    found: dict[rbac.Right, set[int]] = {}
    for entry in world.cluster.audit.entries():
        if entry.user == ACTOR and entry.resource:
            name = entry.resource + (f"/{entry.subresource}" if entry.subresource else "")
            found.setdefault((entry.group, name, entry.verb), set()).add(entry.code)
    return found


def test_every_request_had_its_right(used: dict[rbac.Right, set[int]]) -> None:
    missing, _ = rbac.compare(right for right, codes in used.items() if codes - {403})
    assert not missing - gates.granted(), f"used without being granted: {sorted(missing)}"
    assert used, "nothing ran before this test"


def test_every_right_is_used(used: dict[rbac.Right, set[int]], request: pytest.FixtureRequest) -> None:
    ran: set[str] = {item.path.stem for item in request.session.items}
    if not ran >= NEEDED or _deselected(request.config):
        pytest.skip("only a whole run uses every right")
    _, unused = rbac.compare(right for right, codes in used.items() if codes - {403})
    unused |= gates.granted() - used.keys()
    assert not unused - UNSEEN.keys(), f"granted and never used: {sorted(unused)}"


def _deselected(config: Any) -> bool:
    """Tell whether the user picked tests by hand."""
    return bool(config.option.keyword or config.option.markexpr or config.option.deselect) or any(
        "::" in arg for arg in config.args
    )
