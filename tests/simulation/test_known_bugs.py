"""The known bugs of StatefulSets and SidecarSets elsewhere (reliability 5).

Each is a scenario here, or a test that bears its id.

A scenario is a workload with the plan that once made the bug show; all invariants look on.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from hack.simulate import production, quiet_logs
from kruise.runtime.testing.tape import Tape
from kruise.simulator.faults import OnAdmission, OnPod, OnWrite, Plan, PodFault, View
from kruise.simulator.scenario import judge
from kruise.simulator.scenario_catalogue import WORKLOADS

PRODUCT = production()
TESTS: Final = Path(__file__).parents[1]


def _lagging(**more: object) -> Plan:
    return Plan(views=(View.LAGGING,) * 4, lag=3.0, **more)  # type: ignore[arg-type]


SCENARIOS: Final[dict[str, tuple[tuple[str, Plan], ...]]] = {
    "x1": (("set-crashing-first", Plan()),),
    "x2": (("set-in-place", _lagging()), ("set-recreate", _lagging())),
    "x3": (("set-recreate", Plan(pods=(PodFault(OnPod.FLAP),))),),
    "x4": (("set-percent", Plan()),),
    "x5": (
        ("set-recreate", Plan(pods=(PodFault(OnPod.SLOW_STOP, "*-4"), PodFault(OnPod.PULL_ERROR, "*-3", "*:v2")))),
        ("set-bad-image", Plan()),
    ),
    "x6": (("set-hook-rollback", Plan()), ("set-hooks", Plan(crashes=(0.6, 1.5)))),
    "x7": (("set-in-place", Plan(pods=(PodFault(OnPod.SAME_IMAGE),))),),
    "x8": (("set-bad-image", Plan()), ("set-in-place-only", Plan())),
    "x10": (("set-in-place-rollback", Plan(writes=dict.fromkeys(range(12, 30, 3), OnWrite.TOUCH))),),
    "x11": (("set-retention", Plan()),),
    "x12": (("set-policy-changes", Plan()),),
    "x15": (("set-in-place", Plan(shuffled=True, jitter=True)),),
    "x16": (("set-recreate", _lagging(writes={10: OnWrite.LATE}, late=4.0)),),
    "x26": (
        ("sidecar-pods-come-and-go", _lagging()),
        ("sidecar-pods-come-and-go", Plan(writes={8: OnWrite.RESET_AFTER, 10: OnWrite.TIMEOUT_APPLIED})),
    ),
    "x27": (
        ("sidecar-hot-overlapping", _lagging()),
        ("sidecar-hot-overlapping", Plan(writes=dict.fromkeys(range(8, 30, 3), OnWrite.TOUCH))),
    ),
    "x28": (("sidecar-cold", Plan(crashes=(3.0, 8.0))),),
    "x29": (("sidecar-removed-container", Plan()), ("sidecar-broken-notes", Plan())),
    "x30": (("sidecar-conflict", Plan()), ("sidecar-conflict", _lagging(replicas=2))),
    "x31": (("sidecar-everything", Plan()),),
    "x32": (("sidecar-pods-come-and-go", Plan(writes={9: OnWrite.CRASH_COMMITTED, 12: OnWrite.CRASH_ANSWERED})),),
    "x33": (
        ("sidecar-outage-ignored", Plan()),
        ("sidecar-outage-waited", Plan()),
        ("sidecar-exempt", Plan(admissions=dict.fromkeys(range(2, 12), OnAdmission.REFUSED))),
    ),
    "x34": (("sidecar-rotation", Plan(crashes=(400.0,), replicas=2)),),
    "x35": (("sidecar-everything", Plan(admissions={4: OnAdmission.TRUNCATED, 5: OnAdmission.RESET})),),
    "x36": (
        (
            "set-specified-delete",
            Plan(views=(View.FRESH, View.FROZEN, View.FROZEN), frozen_at=20, crashes=(0.7, 2.0), streams=False),
        ),
        ("set-made-again", Plan(views=(View.FRESH, View.FROZEN), frozen_at=20, crashes=(0.5,), streams=False)),
    ),
    "x37": (("set-bad-from-the-start", Plan()),),
    "x38": (("set-taken-over", Plan()),),
    "x39": (("set-injected", Plan()),),
    "x41": (("set-claim-deleted", Plan()),),
    "x42": (("set-deleted", Plan(writes={2: OnWrite.CRASH_COMMITTED})), ("set-retention", Plan())),
    "x46": (("set-recreate", _lagging(replicas=2)),),
}
LISTED: Final = (*(f"x{n}" for n in (*range(1, 17), *range(26, 43), 46)),)


@pytest.mark.parametrize(
    ("workload", "plan"),
    [pytest.param(*one, id=f"{name}-{one[0]}") for name, many in SCENARIOS.items() for one in many],
)
def test_a_known_bug_does_not_come_back(workload: str, plan: Plan) -> None:
    quiet_logs()
    result = judge(PRODUCT, WORKLOADS[workload], plan, Tape(1), seed=1)
    assert result.survived, result.error


def test_each_known_bug_has_a_scenario_or_a_test_of_its_name() -> None:
    names = "\n".join(
        line
        for path in TESTS.rglob("test_*.py")
        for line in path.read_text("utf-8").splitlines()
        if "def test_" in line
    )
    missing = [x for x in LISTED if x not in SCENARIOS and not re.search(rf"_{x}_", names)]
    assert missing == []


@pytest.mark.parametrize("at", [8, 13, 18])
@pytest.mark.parametrize("workload", ["set-in-place", "set-recreate", "set-retention"])
def test_s2_budgets_hold_when_a_leader_stands_still_and_another_takes_over(workload: str, at: int) -> None:
    """The leader stands still for 30 s with its write on the way, and a second manager leads meanwhile."""
    quiet_logs()
    plan = Plan(replicas=2, shuffled=True, writes={at: OnWrite.PAUSE}, pause=30.0)
    result = judge(PRODUCT, WORKLOADS[workload], plan, Tape(3), seed=3)
    assert result.survived, result.error
    assert OnWrite.PAUSE in result.struck
