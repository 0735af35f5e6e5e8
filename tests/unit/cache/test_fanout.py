"""fanout.py: how two changes of one object become one."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from kruise.runtime import log
from kruise.runtime.cache.fanout import Registration, calls, merge
from kruise.runtime.cache.store import Change
from kruise.runtime.clock import Random
from kruise.runtime.log import SLOW
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from tests.unit.cache.test_store import pod

A1, A2, A3 = pod("a", 1), pod("a", 2), pod("a", 3)


class Moving:
    """A clock that a handler moves: it does not sleep, it is busy."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.ahead = 0.0

    def monotonic(self) -> float:
        return self.clock.monotonic() + self.ahead

    def now(self) -> float:
        return self.clock.now()

    def boottime(self) -> float:
        return self.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)


B1, B2 = pod("a", 8, uid="other"), pod("a", 9, uid="other")


@pytest.mark.parametrize(
    ("first", "then", "net"),
    [
        (Change(None, A1), Change(A1, A2), Change(None, A2)),
        (Change(None, A1, initial=True), Change(A1, A2), Change(None, A2, initial=True)),
        (Change(A1, A2), Change(A2, A3), Change(A1, A3)),
        (Change(None, A1), Change(A1, None), None),
        (Change(A1, A2), Change(A3, None), Change(A3, None)),
        (Change(A1, A2), Change(A2, None, final_state_known=False), Change(A2, None, final_state_known=False)),
        (Change(A1, None), Change(None, B1), Change(A1, B1)),
        (Change(A1, B1), Change(B1, B2), Change(A1, B2)),
        (Change(A1, B1), Change(B2, None), Change(A1, None, final_state_known=False)),
        (Change(A1, None), Change(None, A3), Change(A1, A3)),
        (Change(A1, A1, resync=True), Change(A1, A2), Change(A1, A2)),
        (Change(A1, A1, resync=True), Change(A1, None), Change(A1, None)),
        (Change(A1, A1, resync=True), Change(None, B1), Change(A1, B1)),
    ],
)
def test_inf5_two_changes_of_one_object_become_their_net_change(first: Any, then: Any, net: Any) -> None:
    assert merge(first, then) == net


@pytest.mark.parametrize(("threshold", "told"), [(SLOW.handler, 1), (1.0, 0)])
def test_log3_inf6_a_slow_handler_is_logged_from_its_threshold_on(threshold: float, told: int) -> None:
    async def main(clock: VirtualClock) -> None:
        moving = Moving(clock)

        def slow(_change: Change[Any]) -> None:
            moving.ahead += 0.2

        log.configure(slow=log.SlowThresholds(handler=threshold))
        handler = Registration(slow, name="mine", clock=moving, rng=Random(1), on_remove=lambda _: None)
        with capture_logs() as lines:
            handler.offer(Change(None, A1))
        assert [(one["event"], one["handler"], one["seconds"]) for one in lines] == [
            ("slow handler", "mine", 0.2)
        ] * told

    run_virtual(main)


def test_sto5_a_net_change_over_two_incarnations_is_told_as_two() -> None:
    assert list(calls(Change(A1, B1))) == [Change(A1, None, final_state_known=False), Change(None, B1)]
    assert list(calls(Change(A1, A2))) == [Change(A1, A2)]
