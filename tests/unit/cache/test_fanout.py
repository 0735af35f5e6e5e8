"""fanout.py: how two changes of one object become one."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.runtime.cache.fanout import calls, merge
from kruise.runtime.cache.store import Change
from tests.unit.cache.test_store import pod

A1, A2, A3 = pod("a", 1), pod("a", 2), pod("a", 3)
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


def test_sto5_a_net_change_over_two_incarnations_is_told_as_two() -> None:
    assert list(calls(Change(A1, B1))) == [Change(A1, None, final_state_known=False), Change(None, B1)]
    assert list(calls(Change(A1, A2))) == [Change(A1, A2)]
