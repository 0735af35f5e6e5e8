"""Words that come back in the schema of Advanced StatefulSet: lengths, counts, budgets, maps of labels.

Guarantees: plain values and pure functions.

What this does not do: it names no field; the tables do.
"""

from __future__ import annotations

from typing import Final

from kruise.apis.schema import ABSENT, Doc, Rule

__all__ = ["INT32", "MESSAGE", "ONE_BY_ONE", "TIME", "WORD", "budget", "count", "labels_of"]

WORD: Final = 253
"""Longest name, type, reason or policy."""
TIME: Final = 64
MESSAGE: Final = 32768
INT32: Final = 2147483647
ONE_BY_ONE: Final = "can only work with Parallel PodManagementPolicyType"
"""Why more than one pod at a time is refused."""


def count(text: str) -> Doc:
    """Describe a number of the status."""
    return Doc(text=text, format="int32")


def labels_of(text: str) -> Doc:
    """Describe a map of labels."""
    return Doc(text=text, max_properties=64, values=Doc(text="The value of a label.", type="string", max_length=63))


def budget(text: str, default: int | None = None) -> Doc:
    """Describe a count of pods that may be unavailable: at least 1, or a percentage above 0."""
    return Doc(
        text=text,
        default=ABSENT if default is None else default,
        pattern="^[0-9]+%$",
        max_length=11,
        rules=(
            Rule(cel="type(self) == int ? self >= 1 : !self.matches('^0+%$')", message="should not be less than 1"),
            Rule(cel=f"type(self) != int || self <= {INT32}", message=f"a number must be from 1 to {INT32}"),
        ),
    )
