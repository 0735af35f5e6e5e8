"""The typed form of Go: byte for byte what the types of two releases of Kubernetes write.

``go_template_vectors.json`` holds random pod templates, and the revision data that a program in Go made of each with
the types of k8s.io/api v0.32.10 (OpenKruise's) and v0.37.2.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from hack import gen_go_encoding
from kruise.apis import go_encoding
from kruise.apis.core_fields import fields
from kruise.apis.go_encoding import POD_TEMPLATE, canonical, encoder_version
from kruise.apis.gojson import encode_sorted
from kruise.apis.revisiondata import revision_data, semantically_equal

VECTORS: Final = json.loads((Path(__file__).parent / "go_template_vectors.json").read_text("utf-8"))


def written(template: dict[str, Any], **how: Any) -> dict[str, Any]:
    found: dict[str, Any] = canonical(template, POD_TEMPLATE, **how)
    return found


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_s6_templates_have_the_bytes_of_go(vector: dict[str, Any]) -> None:
    template = {"$patch": "replace", **written(vector["template"], upstream_only=True)}
    assert encode_sorted({"spec": {"template": template}}).decode() == vector["v1.32"]


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_x38_the_bytes_of_another_release_mean_the_same(vector: dict[str, Any]) -> None:
    """1.34 stopped to write ``creationTimestamp: null``, and every built-in StatefulSet was restarted."""
    old, new = vector["v1.32"].encode(), vector["v1.37"].encode()
    assert (old != new) == (b'"creationTimestamp":null' in old)
    assert semantically_equal(old, new)
    assert semantically_equal(revision_data(json.loads(new)["spec"]["template"]), old)


def test_row_23_integers_pass_through_a_float() -> None:
    for given, wanted in ((9007199254740993, 9007199254740992), (2**63 - 1, 9223372036854776000), (-5, -5)):
        spec = written({"spec": {"securityContext": {"runAsUser": given}}})["spec"]
        assert spec["securityContext"] == {"runAsUser": wanted}


def test_nulls_that_go_writes() -> None:
    spec = written(
        {
            "spec": {
                "volumes": [
                    {"name": "p", "projected": {}},
                    {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {"dataSource": {"kind": "S"}}}}},
                    {"name": "s", "scaleIO": {}},
                ]
            }
        }
    )["spec"]
    assert spec["containers"] is None
    assert spec["volumes"][0]["projected"] == {"sources": None}
    claim = spec["volumes"][1]["ephemeral"]["volumeClaimTemplate"]
    assert claim["metadata"] == {"creationTimestamp": None}
    assert claim["spec"]["dataSource"] == {"apiGroup": None, "kind": "S", "name": ""}
    assert spec["volumes"][2]["scaleIO"]["secretRef"] is None


def test_zeros_of_pointers_stay_and_those_of_values_go() -> None:
    container = {"name": "c", "stdin": False, "workingDir": "", "restartPolicy": "", "securityContext": {}}
    found = canonical({**container, "env": [{"name": "E", "value": "", "valueFrom": None}]}, "core.v1.Container")
    assert found == {
        "name": "c",
        "restartPolicy": "",
        "securityContext": {},
        "env": [{"name": "E"}],
        "resources": {},
    }


def test_null_items_are_the_zero_of_their_type() -> None:
    found = canonical(
        {"command": ["a", None], "env": [None], "resources": {"limits": {"cpu": None}}}, "core.v1.Container"
    )
    assert found["command"] == ["a", ""]
    assert found["env"] == [{"name": ""}]
    assert found["resources"] == {"limits": {"cpu": "0"}}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("2026-01-01T02:00:00.75+02:00", "2026-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00Z", None),
        ("0033-01-01T00:00:00Z", "0033-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
        ("yesterday", "yesterday"),
        ("2026-01-01T00:00:00", "2026-01-01T00:00:00"),
        (7, 7),
    ],
)
def test_times_are_in_utc_and_what_is_none_stays(given: Any, wanted: Any) -> None:
    assert written({"metadata": {"creationTimestamp": given}})["metadata"] == {"creationTimestamp": wanted}


def test_x13_values_of_a_wrong_type_stay() -> None:
    wrong = {"metadata": [], "spec": {"containers": {"a": 1}, "volumes": ["x", 3], "nodeSelector": "y", "overhead": []}}
    found = written(wrong)
    assert found["metadata"] == []
    assert found["spec"] == {"containers": {"a": 1}, "volumes": ["x", 3], "nodeSelector": "y"}


def test_what_go_does_not_know_is_kept_as_it_came_and_dropped_on_request() -> None:
    """Newer fields of the table in their form, others as they are; integers of nobody's are exact."""
    spec = {
        "hostnameOverride": "",
        "bogus": {"big": 9007199254740993, "float": 2.0, "null": None},
        "gone": None,
        "containers": [{"name": "c", "restartPolicyRules": [], "lifecycle": {"stopSignal": "SIGUSR1"}}],
    }
    found = written({"spec": spec})["spec"]
    assert found["hostnameOverride"] == ""
    assert found["bogus"] == {"big": 9007199254740993, "float": 2, "null": None}
    assert "gone" not in found
    assert found["containers"] == [{"name": "c", "lifecycle": {"stopSignal": "SIGUSR1"}, "resources": {}}]
    assert written({"spec": spec}, upstream_only=True)["spec"] == {
        "containers": [{"name": "c", "lifecycle": {}, "resources": {}}]
    }


def test_design_2_a_newer_table_changes_no_equality(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data written while nobody knew the fields means the same once the table knows them."""
    template = {
        "spec": {
            "hostnameOverride": "h",
            "schedulingGroup": {"podGroupName": "g"},
            "containers": [
                {
                    "name": "c",
                    "image": "i",
                    "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}],
                    "env": [{"name": "E", "valueFrom": {"fileKeyRef": {"key": "k", "path": "p", "volumeName": "v"}}}],
                    "volumeMounts": [{"name": "v", "mountPath": "/v", "bindMountOptions": []}],
                }
            ],
        }
    }
    now = revision_data(template)
    options = go_encoding._table()[1]

    def older(type_name: str) -> Any:
        known = options.get(type_name)
        return {k: v for k, v in fields(type_name).items() if known is None or k in known}

    monkeypatch.setattr(go_encoding, "fields", older)
    go_encoding._structure.cache_clear()
    before = revision_data(template)
    monkeypatch.undo()
    go_encoding._structure.cache_clear()
    assert b"bindMountOptions" in before
    assert b"bindMountOptions" not in now
    assert semantically_equal(before, now)


def test_the_table_is_of_the_release_that_openkruise_is_built_with() -> None:
    assert encoder_version() == gen_go_encoding.VERSION


@pytest.mark.skipif(shutil.which("go") is None, reason="no Go")
def test_the_table_is_what_the_sources_say(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert gen_go_encoding.main(["--check"]) == 0, capsys.readouterr().err
    except SystemExit as error:
        pytest.skip(str(error))
