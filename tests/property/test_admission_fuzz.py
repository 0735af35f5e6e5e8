"""Admission and conversion from bytes to bytes: whatever comes, there is a clean answer and nothing is left behind.

Examples are mutated real reviews, random JSON in the place of a review, and random bytes. What a handler does with
the object is drawn as well: patches that may or may not apply, refusals, exceptions. ``admission_corpus`` has bodies to
start from; each file name begins with the status of its answer. What a longer search finds joins them.
"""

from __future__ import annotations

import base64
import gc
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kruise.runtime.clock import Random
from kruise.runtime.errors import Cause
from kruise.runtime.webhook.admission import (
    AdmissionRequest,
    Answer,
    Outcome,
    allow,
    deny,
    patch,
    respond,
    too_deep,
    too_many,
)
from kruise.runtime.webhook.conversion import Conversions, convert_review
from kruise.runtime.webhook.handlers import Defaulter, Validator, in_turn
from kruise.runtime.webhook.patching import apply_patch

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "web-", "labels": {"app": "web"}, "annotations": {"a/b~c": "\u2028\U0001f600"}},
    "spec": {"containers": [{"name": "app", "env": [{"name": "A", "value": "hunter2"}]}], "volumes": []},
}

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=15,
)
paths = st.lists(
    st.sampled_from(["metadata", "spec", "containers", "labels", "0", "-", "1", "env", "a~1b~0c", "", "~2", "99", "x"]),
    max_size=5,
).map(lambda parts: "".join(f"/{p}" for p in parts))
operations = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "test", "move", "copy", "grow"]), "path": paths},
        optional={"value": values, "from": paths},
    ),
    max_size=4,
)


@st.composite
def reviews(draw: st.DrawFn) -> bytes:
    """A review in which a few places hold something else, cut or changed as bytes now and then."""
    request: dict[str, Any] = {
        "uid": draw(st.just("u-1") | st.text(max_size=8) | values),
        "kind": draw(st.just({"group": "", "version": "v1", "kind": "Pod"}) | values),
        "operation": draw(st.sampled_from(["CREATE", "UPDATE", "DELETE", "CONNECT", ""]) | values),
        "object": draw(st.just(POD) | values),
        "oldObject": draw(st.none() | st.just(POD) | values),
        "name": draw(st.just("web-0") | values),
        "namespace": draw(st.just("shop") | values),
        "userInfo": draw(st.just({"username": "ann"}) | values),
        "dryRun": draw(st.booleans() | values),
    }
    for name in draw(st.lists(st.sampled_from(sorted(request)), max_size=2)):
        request.pop(name, None)
    envelope: Any = {
        "apiVersion": draw(st.sampled_from(["admission.k8s.io/v1", "admission.k8s.io/v1beta1", "v1"]) | scalars),
        "kind": draw(st.sampled_from(["AdmissionReview", "Review"])),
        "request": request,
    }
    try:
        body = orjson.dumps(envelope)
    except TypeError:  # an integer that orjson does not write
        body = orjson.dumps({"kind": "AdmissionReview"})
    return draw(mangled(body))


def mangled(body: bytes) -> st.SearchStrategy[bytes]:
    """The body itself most of the time; else cut, with other bytes inside, or doubled."""
    place = st.integers(0, max(0, len(body) - 1))
    return st.one_of(
        st.just(body),
        st.just(body),
        st.just(body),
        place.map(lambda n: body[:n]),
        st.tuples(place, st.binary(max_size=6)).map(lambda p: body[: p[0]] + p[1] + body[p[0] :]),
        st.tuples(place, st.integers(0, 255)).map(lambda p: body[: p[0]] + bytes([p[1]]) + body[p[0] + 1 :]),
        st.just(body + body),
    )


def clean(outcome: Outcome, *, refuses: bool) -> None:
    """Hold an outcome to the rules: known codes, a decision with 200 alone, no value of the object anywhere."""
    assert outcome.status in (200, 400, 500)
    assert b"hunter2" not in outcome.body
    assert "hunter2" not in outcome.problem
    if outcome.status != 200:
        assert outcome.allowed is None
        return
    answer = orjson.loads(outcome.body)
    assert answer["kind"] == "AdmissionReview"
    assert answer["apiVersion"] in ("admission.k8s.io/v1", "admission.k8s.io/v1beta1")
    assert isinstance(answer["response"]["uid"], str)
    assert answer["response"]["uid"]
    assert answer["response"]["allowed"] is outcome.allowed
    assert outcome.allowed or refuses, "only a handler refuses"


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(reviews(), reviews(), st.binary(max_size=200), values.map(lambda v: repr(v).encode())))
@example(b"[" * 100_000)
@example(b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"\\ud800"}}')
@example(b"\xef\xbb\xbf{}")
def test_c8_web2_any_bytes_get_an_answer_and_refuse_nobody(body: bytes) -> None:
    seen: list[AdmissionRequest] = []

    def look(request: AdmissionRequest) -> Answer:
        seen.append(request)
        request.parsed()
        return allow()

    outcome = respond(body, look)
    clean(outcome, refuses=False)
    assert outcome.status in (200, 400), "nothing that comes is a fault of ours"
    if outcome.status == 200:
        assert orjson.loads(outcome.body)["response"]["uid"] == seen[0].uid


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(operations, st.booleans())
def test_c8_web12_a_patch_is_sent_only_when_it_applies(found: list[dict[str, Any]], serialized: bool) -> None:
    body = (
        orjson.dumps(
            {
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "request": {"uid": "u", "operation": "CREATE", "object": POD},
            }
        )
        if _plain(found)
        else b""
    )
    outcome = respond(body, lambda _: patch(orjson.dumps(found) if serialized else found))
    clean(outcome, refuses=False)
    if outcome.status == 200 and "patch" in (answer := orjson.loads(outcome.body)["response"]):
        sent = orjson.loads(base64.b64decode(answer["patch"]))
        assert isinstance(apply_patch(POD, sent), dict)


def _plain(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(reviews(), values, st.sampled_from(["default", "validate", "deny", "raise", "all"]))
def test_c8_web2_web4_web5_whatever_a_handler_does_the_answer_is_clean(body: bytes, drawn: Any, how: str) -> None:
    def broken(request: AdmissionRequest) -> Answer:
        raise ValueError(f"hunter2 {drawn!r} {request.object!r}")

    default = Defaulter(lambda obj, _: {**obj, "drawn": drawn})
    validate = Validator(dict, create=lambda obj: [Cause("x", "y", "spec")] if "drawn" in obj else [])
    refuse = lambda _: deny(f"no {type(drawn).__name__}")  # noqa: E731
    handler = {
        "default": default,
        "validate": validate,
        "deny": refuse,
        "raise": broken,
        "all": in_turn(default, validate, refuse, broken),
    }[how]
    clean(respond(body, handler), refuses=True)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_c8_web6_any_bytes_get_an_answer_of_conversion(data: st.DataObject) -> None:
    obj = {"apiVersion": "example.com/v1", "kind": "Web", "metadata": {"name": "a"}, "spec": {"secret": "hunter2"}}
    request = {
        "uid": data.draw(st.just("u") | values),
        "desiredAPIVersion": data.draw(st.sampled_from(["example.com/v2", "example.com/v1", "v2"]) | values),
        "objects": data.draw(st.lists(st.just(obj) | values, max_size=3) | values),
    }
    envelope = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request}
    body = data.draw(mangled(orjson.dumps(envelope) if _plain(envelope) else b"{}"))
    conversions = Conversions()
    conversions.hub("example.com", "Web", "v2")
    conversions.spoke("example.com", "Web", "v1", to_hub=lambda o: {**o, "n": o["spec"]["n"]}, from_hub=dict)
    outcome = convert_review(body, conversions)
    assert outcome.status in (200, 400)
    assert "hunter2" not in outcome.problem
    if outcome.status == 200:
        response = orjson.loads(outcome.body)["response"]
        failed = response["result"]["status"] == "Failure"
        assert failed == bool(response["result"].get("message"))
        assert not (failed and response["convertedObjects"])


def test_c8_ten_thousand_malformed_reviews_leave_nothing_behind() -> None:
    rng = Random(7)
    good = orjson.dumps(
        {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {"uid": "u", "operation": "CREATE", "object": POD},
        }
    )

    def batch(count: int) -> dict[int, int]:
        found: dict[int, int] = {}
        for _ in range(count):
            body = bytearray(good)
            for _ in range(rng.randrange(1, 4)):
                body[rng.randrange(len(body))] = rng.randrange(256)
            outcome = respond(
                bytes(body[: rng.randrange(1, len(body) + 1)]),
                lambda r: patch([{"op": "add", "path": "/x", "value": len(r.parsed())}]),
            )
            clean(outcome, refuses=False)
            found[outcome.status] = found.get(outcome.status, 0) + 1
        return found

    batch(500)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        found = batch(10_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert sum(found.values()) == 10_000
    assert found[400] > 9_000
    assert 500 not in found
    assert grown < 100_000


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


awkward = st.text('[]{}"\\,: n\u2028', max_size=8)
nested = st.recursive(
    awkward,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(awkward, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=500)
@given(nested, st.integers(0, 6))
def test_c8_the_depth_of_values_is_measured_without_parsing(value: Any, limit: int) -> None:
    assert too_deep(orjson.dumps(value), limit) is (_depth(value) > limit)


def _values(value: Any) -> int:
    """Return how many values stand beside the first of each list and object."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return max(len(value) - 1, 0) + sum(map(_values, inner))
    return 0


@settings(max_examples=500)
@given(nested, st.integers(0, 8))
def test_c8_values_are_counted_without_parsing(value: Any, limit: int) -> None:
    assert too_many(orjson.dumps(value), limit) is (_values(value) > limit)


CORPUS = {path.name: path.read_bytes() for path in sorted(Path(__file__).with_name("admission_corpus").iterdir())}


def touch(request: AdmissionRequest) -> Answer:
    """Patch what can be patched, so that the object is parsed and the patch is tried."""
    if request.operation in ("DELETE", "CONNECT"):
        return allow()
    return patch([{"op": "add", "path": "/x", "value": len(request.parsed())}])


@pytest.mark.parametrize("name", CORPUS)
def test_c8_the_stored_corpus_is_answered_as_its_names_say(name: str) -> None:
    outcome = respond(CORPUS[name], touch)
    clean(outcome, refuses=False)
    assert outcome.status == int(name.partition("-")[0]), outcome.problem


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_c8_whatever_grows_out_of_the_corpus_is_answered(data: st.DataObject) -> None:
    body = CORPUS[data.draw(st.sampled_from(sorted(CORPUS)))]
    outcome = respond(data.draw(mangled(body)), touch)
    clean(outcome, refuses=False)
    assert outcome.status in (200, 400)
