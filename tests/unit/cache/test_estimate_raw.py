"""Templates in the estimate of the memory of a cache."""

from __future__ import annotations

import orjson

from kruise.apis.core import REVISIONS
from kruise.runtime.cache.estimate import estimate_bytes
from kruise.runtime.client.frames import Codec


def test_sto8_a_template_counts_with_the_length_of_its_text() -> None:
    text = "x" * 5000
    body = {"metadata": {"name": "web-1", "namespace": "ns"}, "data": {"spec": {"text": text}}, "revision": 1}
    revision = Codec(REVISIONS).decode(orjson.dumps(body))
    bytes_ = estimate_bytes([{revision.key: revision}])
    assert 5000 < bytes_ < 5000 + 4000, "the text, the object, and its names"
