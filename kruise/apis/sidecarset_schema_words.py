"""Words that come back in the schema of SidecarSet: amounts of pods, selectors that must not be empty.

Guarantees: plain values and pure functions.

What this does not do: it names no field; the tables do.
"""

from __future__ import annotations

from kruise.apis.schema import Doc, Rule
from kruise.apis.statefulset_schema_words import INT32, MESSAGE, TIME, WORD, count

__all__ = ["INT32", "MESSAGE", "TIME", "WORD", "amount", "count", "not_empty"]


def amount(text: str, default: int) -> Doc:
    """Describe a number of pods, or a percentage of them. 0 is one, and more than all is, too."""
    return Doc(
        text=text,
        default=default,
        pattern="^[0-9]+%$",
        max_length=11,
        rules=(
            Rule(
                cel=f"type(self) != int || (self >= 0 && self <= {INT32})",
                message=f"a number must be from 0 to {INT32}",
            ),
        ),
    )


def not_empty(selector: str, message: str) -> Rule:
    """Refuse a selector without any requirement; *selector* is how a rule calls it."""
    return Rule(
        cel=(
            f"(has({selector}.matchLabels) && size({selector}.matchLabels) > 0) || "
            f"(has({selector}.matchExpressions) && size({selector}.matchExpressions) > 0)"
        ),
        message=message,
    )
