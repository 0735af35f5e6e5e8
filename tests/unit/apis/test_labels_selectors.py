"""Names and selectors: the traps of regular expressions, and the round trip of selector texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.apis import labels, selectors
from kruise.apis.selectors import EVERYTHING, NOTHING, SelectorError

WORD = st.from_regex(r"[a-z0-9]([a-z0-9.]{0,8}[a-z0-9])?", fullmatch=True).filter(lambda w: w not in ("in", "notin"))
EXPRESSION = st.one_of(
    st.fixed_dictionaries(
        {
            "key": WORD,
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(WORD, min_size=1, max_size=3, unique=True),
        }
    ),
    st.fixed_dictionaries({"key": WORD, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)
SELECTOR = st.fixed_dictionaries(
    {"matchLabels": st.dictionaries(WORD, WORD, max_size=3), "matchExpressions": st.lists(EXPRESSION, max_size=3)}
)


@pytest.mark.parametrize(
    "rule",
    [
        labels.dns1123_label,
        labels.dns1123_subdomain,
        labels.qualified_name,
        labels.label_value,
        labels.env_var_name,
        labels.percent,
        labels.port_name,
        labels.config_key,
        labels.http_header_name,
        labels.dns1035_label,
        labels.dns1123_subdomain_with_underscore,
        labels.wildcard_subdomain,
        labels.ip_address,
    ],
)
def test_a_trailing_newline_is_never_accepted(rule: labels.NameRule) -> None:
    for good in ("a", "1%", "*.a", "1.2.3.4"):
        if not rule(good):
            assert rule(good + "\n")
            assert rule("") or rule is labels.label_value
            break
    else:
        raise AssertionError("no good example")


def test_lengths_count_bytes() -> None:
    assert labels.label_value("a" * 63) == []
    assert any("no more than 63" in found for found in labels.label_value("a" * 64))
    assert any("no more than 63" in found for found in labels.label_value("ä" * 40))


def test_names() -> None:
    assert labels.dns1123_label("a.b") == ["must not contain dots"]
    assert labels.qualified_name("example.com/x") == []
    assert labels.qualified_name("/x")[0] == "prefix part must be non-empty"
    assert labels.port_name("a--b") == ["must not contain consecutive hyphens"]
    assert labels.env_var_name("..a")[0] == "must not start with '..'"
    assert labels.config_key("..") == ["must not be '..'"]
    assert labels.as_prefix("abc-") == "aba"
    assert labels.in_range(0, 1, 2) == ["must be between 1 and 2, inclusive"]


@pytest.mark.parametrize("text", ["010.1.1.1", "::1", "::ffff:1.2.3.4", "1.2.3.4"])
def test_addresses(text: str) -> None:
    assert labels.parse_ip(text) is not None


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.256", "fe80::1%eth0", "1.2.3.4/8", "x", "1.2.3.-4"])
def test_no_addresses(text: str) -> None:
    assert labels.parse_ip(text) is None


@given(SELECTOR, st.dictionaries(WORD, WORD, max_size=4))
def test_the_text_form_selects_the_same(selector: dict, have: dict) -> None:
    converted = selectors.convert(selector)
    assert selectors.parse(str(converted)).matches(have) == converted.matches(have)
    assert selectors.convert_fast(selector) == converted
    assert str(selectors.parse(str(converted))) == str(converted)


@given(SELECTOR)
def test_a_selector_that_selects_anything_overlaps_itself_unless_it_contradicts(selector: dict) -> None:
    positive = {"matchLabels": selector["matchLabels"]}
    assert selectors.overlapping(positive, positive)


def test_null_and_empty_differ() -> None:
    assert selectors.convert(None) is NOTHING
    assert not NOTHING.matches({"a": "b"})
    assert not NOTHING.empty
    assert selectors.convert({}) == EVERYTHING
    assert EVERYTHING.matches(None)
    assert EVERYTHING.empty


def test_numbers_compare_as_numbers() -> None:
    assert selectors.parse("v>9").matches({"v": "10"})
    assert not selectors.parse("v<9").matches({"v": "10"})
    assert not selectors.parse("v<9").matches({"v": "x"})
    assert not selectors.parse("v<9").matches({})
    for bad in ("v>x", "v>", "v>1,v>"):
        with pytest.raises(SelectorError):
            selectors.parse(bad)


@pytest.mark.parametrize(
    "bad", ["a in (x", "a in x", "a in (x y)", "a in (=)", "(", "a=b=c", "!", "a b", "a in (,=)", "a/b/c"]
)
def test_broken_texts_are_refused(bad: str) -> None:
    with pytest.raises(SelectorError):
        selectors.parse(bad)


@pytest.mark.parametrize(
    "good", ["a in (,x)", "a in (x,)", "a in (x,,y)", "a notin ()", "in in (in,notin)", "a,!b", ""]
)
def test_odd_texts_are_accepted(good: str) -> None:
    assert str(selectors.parse(str(selectors.parse(good)))) == str(selectors.parse(good))
