"""The ordered set under the planner, against a plain sorted list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kruise.controllers.statefulset.ordinalset import OrdinalSet

ordinals = st.integers(0, 12)
changes = st.lists(st.tuples(st.booleans(), ordinals))


@given(changes=changes, low=ordinals)
def test_it_is_a_sorted_set(changes: list[tuple[bool, int]], low: int) -> None:
    ours, plain = OrdinalSet(), set[int]()
    for add, ordinal in changes:
        (ours.add if add else ours.discard)(ordinal)
        (plain.add if add else plain.discard)(ordinal)
    wanted = sorted(plain)
    assert list(ours) == wanted
    assert list(reversed(ours)) == wanted[::-1]
    assert ours == OrdinalSet(plain)
    assert len(ours) == len(wanted)
    assert (ours.first, ours.last) == ((wanted[0], wanted[-1]) if wanted else (None, None))
    assert ours.below(low) == sum(1 for o in wanted if o < low)
    assert list(ours.down_from_top(low)) == [o for o in wanted[::-1] if o >= low]
    assert all((o in ours) is (o in plain) for o in range(13))
