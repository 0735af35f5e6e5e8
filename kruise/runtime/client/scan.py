"""Split JSON text into its members without building anything and without recursion.

Purpose: find out which object a text is about when a decoder refuses it. A decoder gives up on a text as a whole, and
on one nested some hundred levels deep before it has seen anything; the envelope of a watch event or of a list must be
readable even then, or one object would stop all the others.

Guarantees:

* FRA5: :func:`members` and :func:`elements` work on any nesting depth, on strings that are no UTF-8, and on values that
  make no sense, as long as brackets and quotes match.

What this does not do: it does not check that a text is JSON. It is slow beside a decoder, and used only after one
failed.
"""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]', re.DOTALL)
_CLOSES: Final = {b"}": b"{", b"]": b"["}


def members(text: bytes) -> dict[str, bytes]:
    """Return the members of the object *text*: name to the bytes of the value. Raises ValueError when it is none."""
    found: dict[str, bytes] = {}
    for part in _split(text, b"{"):
        head = _TOKEN.match(part)
        if head is None or not head.group().startswith(b'"'):
            raise ValueError("a member without a name")
        rest = part[head.end() :].lstrip()
        if not rest.startswith(b":"):
            raise ValueError("a member without a value")
        found[head.group()[1:-1].decode("utf-8", "replace")] = rest[1:].strip()
    return found


def elements(text: bytes) -> list[bytes]:
    """Return the elements of the array *text*. Raises ValueError when it is none."""
    return _split(text, b"[")


def _split(text: bytes, opening: bytes) -> list[bytes]:
    text = text.strip()
    if not text.startswith(opening):
        raise ValueError(f"no {'object' if opening == b'{' else 'array'}")
    stack: list[bytes] = []
    parts: list[bytes] = []
    start = 1
    end = -1
    for token in _TOKEN.finditer(text):
        sign = token.group()
        if end >= 0:
            raise ValueError("text after the end")
        if sign in (b"{", b"["):
            stack.append(sign)
        elif sign in _CLOSES:
            if not stack or stack.pop() != _CLOSES[sign]:
                raise ValueError("brackets do not match")
            if not stack:
                end = token.start()
        elif sign == b"," and len(stack) == 1:
            parts.append(text[start : token.start()].strip())
            start = token.end()
    if end < 0 or end != len(text) - 1:
        raise ValueError("the text is cut off" if end < 0 else "text after the end")
    last = text[start:end].strip()
    if last or parts:
        parts.append(last)
    return parts
