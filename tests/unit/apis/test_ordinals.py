"""The arithmetic of ordinals, against a reference that walks (spec/advanced-statefulset 2.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.apis.ordinals import (
    MAX_ORDINAL,
    NO_MEMBER,
    NOTHING_RESERVED,
    Reserved,
    ordinal_range,
    parse_member,
    parse_reserved,
    pod_name,
    reserved_errors,
    split_pod_name,
)

SPANS = st.lists(
    st.tuples(st.integers(-3, 25), st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=8
)


def walked(replicas: int, start: int, reserved: set[int]) -> tuple[list[int], int]:
    """The definition of the specification, step by step."""
    valid: list[int] = []
    at = start
    while len(valid) < replicas:
        if at not in reserved:
            valid.append(at)
        at += 1
    return valid, at


@given(st.integers(-1, 20), st.integers(-2, 20), SPANS)
def test_s2_the_range_is_what_walking_finds(replicas: int, start: int, spans: list[tuple[int, int]]) -> None:
    members = {one for first, last in spans for one in range(first, last + 1)}
    valid, end = walked(replicas, start, members)
    found = ordinal_range(replicas, start, Reserved(spans))
    assert (found.start, found.end, found.count) == (start, end, len(valid))
    assert list(found.ordinals()) == valid
    assert [found.nth(index) for index in range(len(valid))] == valid
    for at in range(-4, 60):
        assert (at in found) is (at in valid)
        assert found.slot_index(at) == sum(1 for one in valid if one < at)
    for index in (-1, len(valid)):
        with pytest.raises(IndexError):
            found.nth(index)


@given(SPANS)
def test_reserved_is_a_set(spans: list[tuple[int, int]]) -> None:
    members = {one for first, last in spans for one in range(first, last + 1)}
    found = Reserved(spans)
    assert set(found) == members
    assert len(found) == len(members)
    assert found == Reserved.of(members)
    assert hash(found) == hash(Reserved.of(members))
    assert all((at in found) is (at in members) for at in range(-5, 40))
    assert set(found & {1, 2, 3}) == members & {1, 2, 3}
    assert isinstance(found | {99}, Reserved)


def test_a_huge_reservation_costs_nothing() -> None:
    found = ordinal_range(3, 0, parse_reserved(["1-2000000000"]))
    assert list(found.ordinals()) == [0, 2000000001, 2000000002]
    assert found.slot_index(1_999_999_999) == 1
    assert found.nth(1) == 2_000_000_001
    assert hash(found) == hash(ordinal_range(3, 0, parse_reserved(["1-2000000000"])))


def test_no_ordinal_has_more_than_32_bits() -> None:
    """Its pod would be no member, and be created again for ever."""
    found = ordinal_range(5, MAX_ORDINAL - 1, frozenset())
    assert list(found.ordinals()) == [MAX_ORDINAL - 1, MAX_ORDINAL]
    assert all(parse_member(pod_name("web", at), "web") == at for at in found.ordinals())
    assert list(ordinal_range(1, 0, parse_reserved(["0-9000000000000000000"])).ordinals()) == []


@pytest.mark.parametrize(
    ("entries", "members"),
    [
        ((), set()),
        ((2, "1-3", "3-4"), {1, 2, 3, 4}),
        (("0003-005",), {3, 4, 5}),
        (("+1-+2",), {1, 2}),
        ((-1,), {-1}),
        ((1, "12"), set()),
        ((1, "5-2"), set()),
        ((1, " 1-3"), set()),
        ((1, "1-"), set()),
        ((1, "-1"), set()),
        ((1, "1-2-3"), set()),
        ((1, "١-٢"), set()),
        ((1, "1-99999999999999999999"), set()),
        ((1, "1-" + "9" * 5000), set()),
    ],
)
def test_reservations_as_read_at_run_time(entries: tuple[int | str, ...], members: set[int]) -> None:
    assert set(parse_reserved(entries)) == members


@pytest.mark.parametrize(
    ("entries", "details"),
    [
        ((0, "0003-005", "4-4"), []),
        ((1, -3), ["1 th reserve ordinal is negative: -3"]),
        (("5-2",), ["0 th reserve ordinal is invalid: 5-2, err = invalid range 5-2"]),
        (("+1-3",), ["0 th reserve ordinal is not a valid range: +1-3"]),
        (
            ("a-b",),
            [
                "0 th reserve ordinal is not a valid range: a-b",
                '0 th reserve ordinal is invalid: a-b, err = strconv.Atoi: parsing "a": invalid syntax',
            ],
        ),
        (
            ("1-3\n",),
            [
                "0 th reserve ordinal is not a valid range: 1-3\n",
                '0 th reserve ordinal is invalid: 1-3\n, err = strconv.Atoi: parsing "3\\n": invalid syntax',
            ],
        ),
    ],
)
def test_row_28_validation_is_stricter_than_reading(entries: tuple[int | str, ...], details: list[str]) -> None:
    errors = reserved_errors(entries, "spec")
    assert [error.detail for error in errors] == details
    assert {error.field for error in errors} <= {"spec"}


@pytest.mark.parametrize(
    ("pod", "name", "ordinal"),
    [
        ("web-0", "web", 0),
        ("web-10", "web", 10),
        ("web-2147483647", "web", 2147483647),
        ("web-2147483648", "web", NO_MEMBER),
        ("web-" + "9" * 5000, "web", NO_MEMBER),
        ("web-00", "web", NO_MEMBER),
        ("web-07", "web", NO_MEMBER),
        ("web--1", "web", NO_MEMBER),
        ("web-1-2", "web", NO_MEMBER),
        ("web-", "web", NO_MEMBER),
        ("web", "web", NO_MEMBER),
        ("web-+1", "web", NO_MEMBER),
        ("web-1_0", "web", NO_MEMBER),
        ("web-١", "web", NO_MEMBER),
        ("db-2-1", "db-2", 1),
        ("db-2", "db-2", NO_MEMBER),
    ],
)
def test_row_30_only_the_canonical_form_is_a_member(pod: str, name: str, ordinal: int) -> None:
    assert parse_member(pod, name) == ordinal


@given(st.from_regex(r"[a-z0-9.-]{0,12}", fullmatch=True), st.integers(0, MAX_ORDINAL))
def test_a_pod_name_says_its_set_and_ordinal(name: str, ordinal: int) -> None:
    assert parse_member(pod_name(name, ordinal), name) == ordinal
    assert split_pod_name(pod_name(name, ordinal)) == (name, ordinal)


def test_nothing_reserved_is_empty() -> None:
    assert not NOTHING_RESERVED
    assert list(NOTHING_RESERVED) == []
    assert repr(Reserved([(1, 1), (3, 5)])) == "Reserved(1, 3-5)"
    assert Reserved([(1, 1)]) != {1}
