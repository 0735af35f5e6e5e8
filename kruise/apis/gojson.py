r"""JSON as Go's encoder writes it.

Purpose: hashes and revisions are taken of bytes that Go wrote; this module writes the same bytes.

Guarantees: compact; ``<``, ``>``, ``&``, U+2028 and U+2029 escaped; control characters as ``\u00XX`` but for the short
forms of newline, carriage return, tab, backspace and form feed; keys in the order that the caller gives them, or
sorted; text that is no valid Unicode replaced by U+FFFD.

What this does not do: it writes no floating-point numbers in exponent form; API objects hold none.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["encode", "encode_sorted"]

_ESCAPED: Final = re.compile("[<>&\u2028\u2029\x7f]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _go_text(encoded: str) -> bytes:
    text = _ESCAPED.sub(lambda m: m[0] if m[0] == "\x7f" else f"\\u{ord(m[0]):04x}", encoded)
    return _SURROGATE.sub("\ufffd", text).encode()


def encode(value: Any) -> bytes:
    r"""Return *value* as JSON bytes, maps in the order in which they are built.

    >>> encode({"b": "<a>", "a": 1})
    b'{"b":"\\u003ca\\u003e","a":1}'
    """
    return _go_text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def encode_sorted(value: Any) -> bytes:
    """Return *value* as JSON bytes, maps sorted by key, as Go writes a map (and unstructured objects)."""
    # Text compares by code point, and so do its bytes in UTF-8.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, sort_keys=True)
    return _go_text(text)
