"""Regular expressions of Go: what is found, what is refused and in which words, and what no expression may cost."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.apis.goregex import RegexError, compile_regex

FOUND = [
    ("", ""),
    ("b", "abc"),
    ("^web-\\d+$", "web-10"),
    ("a{2}", "baab"),
    ("a{,2}", "a{,2}"),
    ("x{", "x{"),
    ("[]a]+$", "a]"),
    ("[a-]", "-"),
    ("[^\\d]", "1x"),
    ("[^a]", "\n"),
    ("[[:alpha:]][[:^digit:]]", "1a."),
    ("(?i)SideCar", "my-sidecar"),
    ("(?i:S)idecar", "sidecar"),
    ("(?i)\\p{Lu}", "a"),
    ("a(?i)b", "aB"),
    ("(?s)a.b", "a\nb"),
    ("(?m)^b$", "a\nb\nc"),
    ("\\bweb\\b", "a web b"),
    ("\\Ba\\B", "bab"),
    ("\\Aa\\z", "a"),
    ("\\Q.*\\E", "a.*b"),
    ("\\Q.*", "a.*b"),
    ("\\x41\\x{42}\\103\\.", "ABC."),
    ("\\pL\\PL", "a1"),
    ("\\p{^Lu}", "a"),
    ("\\p{Latin}", "é"),
    ("(?P<n>a)(?<n>b)(?:c)", "abc"),
    ("(a*)*b", "aaab"),
    ("a|", "x"),
    ("a*?b", "aab"),
]
MISSED = [
    ("a", ""),
    ("(?i)a", "b"),
    ("a.b", "a\nb"),
    ("^b", "a\nb"),
    ("$a", "a"),
    ("[^\\D]", "a"),
    ("a(?-i)b", "aB"),
    ("(?i:a)b", "AB"),
    ("\\bweb\\b", "aweb"),
    ("x{3}", "xx"),
    ("\\p{Common}", "é"),
]
REFUSED = {
    "([a-z": "missing closing ]: `[a-z`",
    "^(?!x).*$": "invalid or unsupported Perl syntax: `(?!`",
    "(?<=a)b": "invalid named capture: `(?<=a)b`",
    "(": "missing closing ): `(`",
    "a)": "unexpected ): `a)`",
    "a**": "invalid nested repetition operator: `**`",
    "*?": "missing argument to repetition operator: `*?`",
    "a|{1}": "missing argument to repetition operator: `{1}`",
    "a{2,1}": "invalid repeat count: `{2,1}`",
    "a{1001}": "invalid repeat count: `{1001}`",
    "(a{500}){500}": "invalid repeat count: `{500}`",
    "[z-a]": "invalid character class range: `z-a`",
    "[[:wort:]]": "invalid character class range: `[:wort:]`",
    "\\p{Klingon}": "invalid character class range: `\\p{Klingon}`",
    "\\pX": "invalid character class range: `\\pX`",
    "\\q": "invalid escape sequence: `\\q`",
    "\\1": "invalid escape sequence: `\\1`",
    "\\x{110000}": "invalid escape sequence: `\\x{110000}`",
    "a\\": "trailing backslash at end of expression: ``",
    "(?i": "invalid or unsupported Perl syntax: `(?i`",
    "(?P<a b>x)": "invalid named capture: `(?P<a b>`",
    "(?P<n": "invalid named capture: `(?P<n`",
}


@pytest.mark.parametrize(("pattern", "text"), FOUND)
def test_finds(pattern: str, text: str) -> None:
    assert compile_regex(pattern).search(text)


@pytest.mark.parametrize(("pattern", "text"), MISSED)
def test_does_not_find(pattern: str, text: str) -> None:
    assert not compile_regex(pattern).search(text)


@pytest.mark.parametrize("pattern", REFUSED)
def test_refuses_in_the_words_of_go(pattern: str) -> None:
    with pytest.raises(RegexError, match=re.escape(f"error parsing regexp: {REFUSED[pattern]}")):
        compile_regex(pattern)


def test_c8_no_expression_is_slow() -> None:
    """Engines that go back would not come to an end here."""
    for pattern in ("(a+)+$", "(a|a)*c", "(a*)*c", "a?" * 40 + "a" * 40 + "c", "(.*){20}x"):
        assert not compile_regex(pattern).search("a" * 300 + "b")


def test_c8_size_and_depth_are_bounded() -> None:
    with pytest.raises(RegexError, match="expression too large"):
        compile_regex("(abcdefgh){1000}")
    with pytest.raises(RegexError, match="expression nests too deeply"):
        compile_regex("(" * 5000 + ")" * 5000)


ATOMS = st.sampled_from(
    ["a", "b", ".", "[ab]", "[^a]", r"\w", r"\d", r"(?:\b)", "(?:^)", "(?:a|b)", "(?:ab|c)", "(?i:A)"]
)
TIMES = st.sampled_from(["", "", "*", "+", "?", "{1,2}", "*?"])
ROWS = st.lists(st.tuples(ATOMS, TIMES).map("".join), max_size=4).map("".join)


@given(pattern=st.lists(ROWS, min_size=1, max_size=2).map("|".join), text=st.text("abcA1.-", max_size=6))
def test_agrees_with_the_other_engine_where_both_speak_alike(pattern: str, text: str) -> None:
    assert compile_regex(pattern).search(text) is bool(re.search(pattern, text))


@given(pattern=st.text("ab()[]{}|*+?\\^$.-:<>P=!,1dpQE", max_size=12), text=st.text("ab1", max_size=4))
def test_c8_any_text_is_an_expression_or_refused(pattern: str, text: str) -> None:
    with contextlib.suppress(RegexError):
        compile_regex(pattern).search(text)
