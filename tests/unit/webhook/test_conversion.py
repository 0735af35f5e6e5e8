"""The core of conversion: bytes in, bytes out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.runtime.errors import ConfigError
from kruise.runtime.webhook.admission import Outcome
from kruise.runtime.webhook.conversion import ConversionFailed, Conversions, convert_review

GROUP = "example.com"


def v1_to_hub(obj: dict[str, Any]) -> dict[str, Any]:
    obj["spec"] = {"replicas": obj.pop("size"), **obj.get("spec", {})}
    return obj


def v1_from_hub(obj: dict[str, Any]) -> dict[str, Any]:
    obj["size"] = obj["spec"].pop("replicas")
    return obj


def old_to_hub(obj: dict[str, Any]) -> dict[str, Any]:
    if obj["count"] == "boom":
        raise KeyError("secret")
    obj["spec"] = {"replicas": int(obj.pop("count"))}
    obj["metadata"] = {"name": "somebody else"}
    return obj


def old_from_hub(obj: dict[str, Any]) -> dict[str, Any]:
    if obj["spec"]["replicas"] < 0:
        raise ConversionFailed("a negative number has no old form")
    return {"metadata": obj["metadata"], "count": str(obj["spec"]["replicas"])}


def conversions() -> Conversions:
    found = Conversions()
    found.hub(GROUP, "Web", "v2")
    found.spoke(GROUP, "Web", "v1", to_hub=v1_to_hub, from_hub=v1_from_hub)
    found.spoke(GROUP, "Web", "old", to_hub=old_to_hub, from_hub=old_from_hub)
    return found


def web(version: str, **more: Any) -> dict[str, Any]:
    meta = {"name": "web", "namespace": "shop", "uid": "u", "labels": {"a": "b"}}
    return {"apiVersion": f"{GROUP}/{version}", "kind": "Web", "metadata": meta, **more}


def ask(desired: str, *objects: Any, version: str = "v1") -> bytes:
    request = {"uid": "r-1", "desiredAPIVersion": desired, "objects": list(objects)}
    return orjson.dumps(
        {"apiVersion": f"apiextensions.k8s.io/{version}", "kind": "ConversionReview", "request": request}
    )


def answer(outcome: Outcome) -> dict[str, Any]:
    assert outcome.status == 200
    body = orjson.loads(outcome.body)
    assert body["kind"] == "ConversionReview"
    assert body["response"]["uid"] == "r-1"
    found: dict[str, Any] = body["response"]
    return found


def test_web6_objects_are_converted_in_order() -> None:
    found = answer(
        convert_review(ask("example.com/v2", web("v1", size=1), web("v2", spec={"replicas": 2})), conversions())
    )
    assert found["result"] == {"status": "Success"}
    assert [o["spec"]["replicas"] for o in found["convertedObjects"]] == [1, 2]
    assert {o["apiVersion"] for o in found["convertedObjects"]} == {"example.com/v2"}


def test_web6_a_spoke_becomes_another_by_way_of_the_hub() -> None:
    (one,) = answer(convert_review(ask("example.com/old", web("v1", size=3), version="v1beta1"), conversions()))[
        "convertedObjects"
    ]
    assert one["count"] == "3"
    assert one["apiVersion"] == "example.com/old"


def test_web6_the_identity_of_an_object_stays() -> None:
    (one,) = answer(convert_review(ask("example.com/v2", web("old", count="3")), conversions()))["convertedObjects"]
    assert {k: one["metadata"][k] for k in ("name", "namespace", "uid")} == {
        "name": "web", "namespace": "shop", "uid": "u"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("obj", "desired", "text"),
    [
        (web("v2", spec={"replicas": -1}), "example.com/old", "Web shop/web: a negative number has no old form"),
        (web("old", count="boom"), "example.com/v2", "Web shop/web: KeyError"),
        (web("v3"), "example.com/v2", "has the versions v2, v1, old"),
        ({**web("v2"), "kind": "Job"}, "example.com/v2", "Job.example.com is not converted here"),
        ({"metadata": {}}, "example.com/v2", "object 1: the object has no apiVersion and kind"),
        (17, "example.com/v2", "object 1: it is no object"),
    ],
)
def test_web6_one_bad_object_fails_its_request_with_its_name(obj: Any, desired: str, text: str) -> None:
    registry = conversions()
    found = answer(convert_review(ask(desired, web("v2", spec={"replicas": 1}), obj), registry))
    assert text in found["result"]["message"]
    assert found["convertedObjects"] == []
    assert "secret" not in found["result"]["message"]
    good = answer(convert_review(ask("example.com/v2", web("v1", size=1)), registry))
    assert good["result"]["status"] == "Success"


@pytest.mark.parametrize("desired", ["example.com/v9", "other.com/v2", "v2"])
def test_web6_a_version_that_is_not_known_is_said(desired: str) -> None:
    found = answer(convert_review(ask(desired, web("v2", spec={})), conversions()))
    assert found["result"]["message"].startswith("Web shop/web: Web.example.com has the versions v2, v1, old: not ")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"kind":"ConversionReview"}',
        ask("example.com/v2").replace(b"ConversionReview", b"AdmissionReview"),
        ask("example.com/v2").replace(b'"r-1"', b'""'),
        ask("example.com/v2").replace(b'"r-1"', b'"\xff"'),
        ask(""),
        ask("example.com/v2").replace(b"[]", b"[" * 10_000 + b"]" * 10_000),
        ask("example.com/v2").replace(b"[]", b"[" * 300 + b"]" * 300),
    ],
)
def test_web6_what_is_no_review_is_http_400(body: bytes) -> None:
    outcome = convert_review(body, conversions())
    assert outcome.status == 400
    assert outcome.problem


def test_web6_a_function_that_makes_no_json_fails_its_request() -> None:
    registry = Conversions()
    registry.hub(GROUP, "Web", "v2")
    registry.spoke(GROUP, "Web", "v1", to_hub=lambda o: {**o, "spec": {1, 2}}, from_hub=dict)
    body = orjson.loads(convert_review(ask("example.com/v2", web("v1")), registry).body)
    assert body["response"]["result"]["status"] == "Failure"
    assert body["response"]["uid"] == "r-1"


def test_web6_a_kind_is_declared_once() -> None:
    registry = conversions()
    with pytest.raises(ConfigError, match="v2 is the hub already"):
        registry.hub(GROUP, "Web", "v1")
    with pytest.raises(ConfigError, match="is there already"):
        registry.spoke(GROUP, "Web", "v1", to_hub=dict, from_hub=dict)
    with pytest.raises(ConfigError, match="declare the hub first"):
        registry.spoke(GROUP, "Job", "v1", to_hub=dict, from_hub=dict)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


@given(st.integers(0, 9), st.dictionaries(st.text("xyz", min_size=1, max_size=2), values, max_size=3))
def test_web6_a_round_trip_changes_nothing(size: int, unknown: dict[str, Any]) -> None:
    registry = conversions()
    first = {**web("v1", size=size), "spec": unknown}
    hub = registry.convert(first, "example.com/v2")
    assert registry.convert(hub, "example.com/v1") == first
    assert registry.convert(hub, "example.com/v2") == hub
