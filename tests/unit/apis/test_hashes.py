"""Hashes and Go's JSON: published vectors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kruise.apis import gojson, hashes


def test_published_vectors() -> None:
    assert hashes.fnv32(b"") == 0x811C9DC5
    assert hashes.fnv32(b"a") == 0x050C5D7E
    assert hashes.fnv32(b"foobar") == 0x31F0B262
    assert hashes.fnv32a(b"foobar") == 0xBF9CF968
    assert hashes.fnv64a(b"foobar") == 0x85944171F73967E8


def test_revision_of_the_specification() -> None:
    data = (
        b'{"spec":{"template":{"$patch":"replace","metadata":{"creationTimestamp":null,"labels":{"app":"sample"}},'
        b'"spec":{"containers":[{"image":"nginx:1.21","name":"main","resources":{}}]}}}}'
    )
    assert hashes.controller_revision_hash(data, 0) == "ddd6744d"
    assert hashes.controller_revision_hash(data, 1) == "ddd6744f"
    assert hashes.controller_revision_name("s" * 300, "h") == "s" * 223 + "-h"


def test_environment_hashes_of_the_specification() -> None:
    def container(*names: str) -> dict:
        ref = {"fieldRef": {"fieldPath": "metadata.labels['k']"}}
        return {"env": [{"name": name, "valueFrom": ref} for name in names]}

    assert hashes.env_from_metadata_hash(container("TEST_ENV"), {"k": "bar"}, {}) == 3944769931
    assert hashes.env_from_metadata_hash({}, {}, {}) == 86995377
    assert hashes.env_from_metadata_hash(container("SIDECARSET_VERSION"), {"k": "bar"}, {}) == 86995377
    both = hashes.env_from_metadata_hash(container("A", "B"), {"k": "x"}, {})
    assert both == hashes.env_from_metadata_hash(container("B", "A"), {"k": "x"}, {})


@given(st.text())
def test_safe_encoding_is_as_long_as_the_bytes(text: str) -> None:
    assert len(hashes.safe_encode(text)) == len(text.encode())


def test_go_json() -> None:
    assert (
        gojson.encode({"b": "<&>\u2028", "a": [None, True, 1]})
        == b'{"b":"\\u003c\\u0026\\u003e\\u2028","a":[null,true,1]}'
    )
    assert gojson.encode_sorted({"b": {"z": 1, "y": 2}, "a": [{"d": 1, "c": 2}]}) == (
        b'{"a":[{"c":2,"d":1}],"b":{"y":2,"z":1}}'
    )
    assert gojson.encode("é\x7f\n\x01") == '"é\x7f\\n\\u0001"'.encode()
    assert gojson.encode("\ud800") == '"\ufffd"'.encode()
