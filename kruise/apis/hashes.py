"""The hashes that end up in names, labels and annotations.

Purpose: FNV in its four forms, the encoding that makes a hash safe as a label value and a name, and the names of
controller revisions.

Guarantees: byte for byte what existing clusters hold: a revision or a pod labelled by the Go manager is recognised. A
hash never depends on the order in which Python happens to keep a map.

What this does not do: it does not decide what is hashed; the callers hand over bytes.
"""

from __future__ import annotations

import re
from typing import Any, Final

from kruise.apis import gojson

__all__ = [
    "controller_revision_hash",
    "controller_revision_name",
    "deep_hash_bytes",
    "deep_hash_dump",
    "env_from_metadata_hash",
    "fnv32",
    "fnv32a",
    "fnv64",
    "fnv64a",
    "safe_encode",
]

_OFFSET_32: Final = 2166136261
_PRIME_32: Final = 16777619
_OFFSET_64: Final = 14695981039346656037
_PRIME_64: Final = 1099511628211
_MASK_32: Final = 0xFFFFFFFF
_MASK_64: Final = 0xFFFFFFFFFFFFFFFF

_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels, no digits that look like vowels: a hash never spells a word (k/k#46688)."""
_MAX_REVISION_PREFIX: Final = 223
_METADATA_PATH: Final = re.compile(r"metadata\.(?P<map>labels|annotations)\['(?P<key>.*)'\]", re.DOTALL)
_VERSION_VARIABLES: Final = frozenset({"SIDECARSET_VERSION", "SIDECARSET_VERSION_ALT"})


def fnv32(data: bytes) -> int:
    """FNV-1, 32 bits: multiply, then xor."""
    value = _OFFSET_32
    for byte in data:
        value = (value * _PRIME_32 & _MASK_32) ^ byte
    return value


def fnv32a(data: bytes) -> int:
    """FNV-1a, 32 bits: xor, then multiply."""
    value = _OFFSET_32
    for byte in data:
        value = (value ^ byte) * _PRIME_32 & _MASK_32
    return value


def fnv64(data: bytes) -> int:
    """FNV-1, 64 bits."""
    value = _OFFSET_64
    for byte in data:
        value = (value * _PRIME_64 & _MASK_64) ^ byte
    return value


def fnv64a(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    value = _OFFSET_64
    for byte in data:
        value = (value ^ byte) * _PRIME_64 & _MASK_64
    return value


def safe_encode(text: str) -> str:
    r"""Map each character of *text* to the safe alphabet.

    The result has one character per *byte* of *text*: a multi-byte character yields one letter, and the result is
    filled up with NUL. Only ASCII is ever encoded in earnest.

    >>> safe_encode("2166136261")
    '65bb57b6b5'
    """
    letters = "".join(_ALPHABET[ord(char) % len(_ALPHABET)] for char in text)
    return letters.ljust(len(text.encode("utf-8", "surrogatepass")), "\x00")


def controller_revision_hash(data: bytes, collision_count: int | None) -> str:
    """Return the hash of a revision's raw *data*: the label's value and the tail of its name."""
    suffix = b"" if collision_count is None else str(collision_count).encode()
    return safe_encode(str(fnv32(data + suffix)))


def controller_revision_name(owner: str, revision_hash: str) -> str:
    """Return the name of a revision of the object *owner*; a long owner name is cut to 223 bytes."""
    prefix = owner.encode()[:_MAX_REVISION_PREFIX].decode("utf-8", "ignore")
    return f"{prefix}-{revision_hash}"


def deep_hash_dump(data: bytes) -> str:
    """Return the text form of a byte list that the deep hash is taken of.

    >>> deep_hash_dump(b"{}")
    '([]uint8)[123 125]'
    """
    return f"([]uint8)[{' '.join(str(byte) for byte in data)}]"


def deep_hash_bytes(data: bytes) -> int:
    """Return the deep hash of *data*: FNV-1a, 32 bits, of its text form."""
    return fnv32a(deep_hash_dump(data).encode())


def env_from_metadata_hash(container: dict[str, Any], labels: dict[str, str], annotations: dict[str, str]) -> int:
    """Return the hash of the environment that *container* takes from the pod's labels and annotations.

    Only ``metadata.labels['…']`` and ``metadata.annotations['…']`` count, sorted by the variable's name; the two
    version variables of a hot-upgraded sidecar do not, because they change with every upgrade.
    """
    found: list[dict[str, str]] = []
    for env in container.get("env") or []:
        name = env.get("name", "")
        path = ((env.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath") or ""
        match = _METADATA_PATH.fullmatch(path)
        if match is None or name in _VERSION_VARIABLES:
            continue
        value = (labels if match["map"] == "labels" else annotations).get(match["key"], "")
        found.append({"name": name, "value": value} if value else {"name": name})
    found.sort(key=lambda item: item["name"])
    return deep_hash_bytes(gojson.encode(found or None))
