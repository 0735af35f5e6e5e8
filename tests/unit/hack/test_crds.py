"""The generated CustomResourceDefinition: structural, documented, bounded, and OpenKruise's where users see it."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import jsonschema
import msgspec
import pytest

from hack import crds
from kruise.apis.broadcastjob import BROADCASTJOBS, BroadcastJobSpec, BroadcastJobStatus
from kruise.apis.broadcastjob_schema import BROADCASTJOB
from kruise.apis.schema import Doc
from tests.unit.hack.definitions import nodes

CRD = crds.render(BROADCASTJOBS, BROADCASTJOB)
VERSIONS = {one["name"]: one for one in CRD["spec"]["versions"]}
SCHEMA = VERSIONS["v1beta1"]["schema"]["openAPIV3Schema"]
SPEC = SCHEMA["properties"]["spec"]["properties"]
STATUS = SCHEMA["properties"]["status"]


ALL = dict(nodes(SCHEMA))


def test_versions_are_those_of_openkruise() -> None:
    assert [(v["name"], v["served"], v["storage"]) for v in CRD["spec"]["versions"]] == [
        ("v1alpha1", True, False),
        ("v1beta1", True, True),
    ]
    assert VERSIONS["v1alpha1"]["deprecated"] is True
    assert "v1beta1" in VERSIONS["v1alpha1"]["deprecationWarning"]
    assert len(VERSIONS["v1alpha1"]["deprecationWarning"]) <= 256
    assert "deprecated" not in VERSIONS["v1beta1"]
    assert VERSIONS["v1alpha1"]["schema"] == VERSIONS["v1beta1"]["schema"]
    assert CRD["spec"]["conversion"] == {"strategy": "None"}


def test_names() -> None:
    assert CRD["metadata"]["name"] == "broadcastjobs.apps.kruise.io"
    assert CRD["spec"]["scope"] == "Namespaced"
    assert CRD["spec"]["names"] == {
        "kind": "BroadcastJob",
        "listKind": "BroadcastJobList",
        "plural": "broadcastjobs",
        "singular": "broadcastjob",
        "shortNames": ["bcj"],
        "categories": ["kruise"],
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_columns_are_those_of_openkruise(version: str) -> None:
    columns = VERSIONS[version]["additionalPrinterColumns"]
    assert [(c["name"], c["type"], c["jsonPath"]) for c in columns] == [
        ("Desired", "integer", ".status.desired"),
        ("Active", "integer", ".status.active"),
        ("Succeeded", "integer", ".status.succeeded"),
        ("Failed", "integer", ".status.failed"),
        ("AGE", "date", ".metadata.creationTimestamp"),
    ]
    assert all(c["description"] for c in columns)
    assert VERSIONS[version]["subresources"] == {"status": {}}


def test_no_field_is_undocumented() -> None:
    # The API server describes metadata itself, and refuses a definition that does.
    assert [path for path, one in ALL.items() if not one.get("description") and path != ".metadata"] == []
    assert set(ALL[".metadata"]) == {"type", "properties"}


def test_every_field_of_the_structs_is_there() -> None:
    for struct, found in ((BroadcastJobSpec, SPEC), (BroadcastJobStatus, STATUS["properties"])):
        assert set(found) == {one.encode_name for one in msgspec.structs.fields(struct)}


def test_strings_lists_and_maps_are_bounded() -> None:
    bounds = {"string": "maxLength", "array": "maxItems"}
    missing = [
        path
        for path, one in ALL.items()
        if (bound := "maxProperties" if "additionalProperties" in one else bounds.get(one.get("type", "")))
        and bound not in one
    ]
    assert missing == []
    assert "maxLength" in SPEC["parallelism"]


def test_the_limits_that_users_can_meet() -> None:
    pod = SPEC["template"]["properties"]["spec"]["properties"]
    assert (pod["containers"]["minItems"], pod["containers"]["maxItems"], pod["volumes"]["maxItems"]) == (1, 64, 256)
    policy = SPEC["completionPolicy"]["properties"]
    assert policy["ttlSecondsAfterFinished"]["minimum"] == 0
    assert policy["activeDeadlineSeconds"]["minimum"] == 0
    assert SPEC["failurePolicy"]["properties"]["restartLimit"]["minimum"] == 0


def test_required_is_only_what_upstream_requires() -> None:
    required = {path: one["required"] for path, one in ALL.items() if "required" in one}
    assert required == {"": ["spec"], ".spec": ["template"], ".status.conditions[]": ["status", "type"]}


def test_no_enum() -> None:
    assert [path for path, one in ALL.items() if "enum" in one] == []


def test_defaults_are_those_of_the_types_and_none_is_in_the_template() -> None:
    defaults = {path: one["default"] for path, one in ALL.items() if "default" in one}
    assert defaults == {
        ".spec.parallelism": 2147483647,
        ".spec.completionPolicy": {},
        ".spec.completionPolicy.type": "Always",
        ".spec.failurePolicy": {},
        ".spec.failurePolicy.type": "FailFast",
    }
    spec = msgspec.json.decode(b"{}", type=BroadcastJobSpec)
    assert (spec.completion_policy.type, spec.failure_policy.type) == ("Always", "FailFast")


def test_conditions_are_a_map_by_type() -> None:
    conditions = STATUS["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_the_template_keeps_what_it_does_not_know() -> None:
    template = SPEC["template"]
    for one in (template, template["properties"]["metadata"], template["properties"]["spec"]):
        assert one["x-kubernetes-preserve-unknown-fields"] is True
        assert one["type"] == "object"


_STRUCTURE = {
    "type",
    "description",
    "properties",
    "items",
    "additionalProperties",
    "default",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
}
_LIMITS = {"format", "minimum", "maximum", "pattern", "maxLength", "minItems", "maxItems", "maxProperties", "required"}


def test_the_schema_is_structural() -> None:
    for path, one in ALL.items():
        assert set(one) <= _STRUCTURE | _LIMITS | {"anyOf"}, path
        if one.get("x-kubernetes-int-or-string"):
            assert "type" not in one, path
            assert one["anyOf"] == [{"type": "integer"}, {"type": "string"}], path
        else:
            assert one["type"] in ("object", "array", "string", "integer", "boolean"), path
            assert "anyOf" not in one, path
        assert not ("properties" in one and "additionalProperties" in one), path
        assert ("items" in one) == (one.get("type") == "array"), path


def test_rules_blame_fields_that_exist() -> None:
    for path, one in ALL.items():
        for rule in one.get("x-kubernetes-validations", ()):
            assert rule["message"]
            assert "\n" not in rule["message"]
            assert path + rule.get("fieldPath", "") in ALL


GOOD = {
    "apiVersion": "apps.kruise.io/v1beta1",
    "kind": "BroadcastJob",
    "metadata": {"name": "a"},
    "spec": {
        "parallelism": "10%",
        "completionPolicy": {"type": "Always", "ttlSecondsAfterFinished": 5, "activeDeadlineSeconds": 7},
        "failurePolicy": {"type": "Continue", "restartLimit": 1},
        "paused": False,
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b", "tty": True}]}},
    },
    "status": {"active": 0, "conditions": [{"type": "Complete", "status": "True"}]},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    job: dict[str, Any] = copy.deepcopy(GOOD)
    *way, last = path.split(".")
    place = job
    for part in way:
        place = place[part]
    place[last] = value
    return job


def test_jsonschema_takes_the_schema_and_a_good_job() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(GOOD, SCHEMA)
    for good in (0, 1, "1", "100%", "0%"):
        jsonschema.validate(changed("spec.parallelism", good), SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.parallelism", "ten"),
        ("spec.parallelism", "-1"),
        ("spec.parallelism", "10 %"),
        ("spec.parallelism", 1.5),
        ("spec.parallelism", True),
        ("spec.completionPolicy.ttlSecondsAfterFinished", -1),
        ("spec.completionPolicy.ttlSecondsAfterFinished", 1 << 31),
        ("spec.completionPolicy.activeDeadlineSeconds", -1),
        ("spec.failurePolicy.restartLimit", -1),
        ("spec.template.spec.containers", []),
        ("spec.template.spec.containers", [{}] * 65),
        ("spec.template.spec.volumes", [{}] * 257),
        ("status.conditions", [{"type": "Complete"}]),
        ("spec.paused", "yes"),
    ],
)
def test_jsonschema_refuses(path: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed(path, value), SCHEMA)


def test_a_field_without_an_entry_is_an_error() -> None:
    known = BROADCASTJOB.types[BroadcastJobSpec]
    fields = {name: one for name, one in known.fields.items() if name != "paused"}
    doc = replace(BROADCASTJOB, types={**BROADCASTJOB.types, BroadcastJobSpec: replace(known, fields=fields)})
    with pytest.raises(crds.SchemaError, match=r"BroadcastJob\.spec: .* without an entry: paused"):
        crds.render(BROADCASTJOBS, doc)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"nothing": Doc(text="x")}, "entries without a field of BroadcastJobSpec: nothing"),
        ({"paused": Doc(text=" ")}, r"spec\.paused: no description"),
        ({"paused": Doc(text="x", max_items=3)}, "maxItems is a limit of type array, this is boolean"),
        ({"parallelism": Doc(text="x")}, r"spec\.parallelism: string without maxLength"),
    ],
)
def test_an_entry_that_does_not_fit_is_an_error(entry: dict[str, Doc], said: str) -> None:
    known = BROADCASTJOB.types[BroadcastJobSpec]
    changed_type = replace(known, fields={**known.fields, **entry})
    doc = replace(BROADCASTJOB, types={**BROADCASTJOB.types, BroadcastJobSpec: changed_type})
    with pytest.raises(crds.SchemaError, match=said):
        crds.render(BROADCASTJOBS, doc)


def test_a_missing_type_is_an_error() -> None:
    doc = replace(BROADCASTJOB, types={t: d for t, d in BROADCASTJOB.types.items() if t is not BroadcastJobSpec})
    with pytest.raises(crds.SchemaError, match="BroadcastJobSpec has no entry"):
        crds.render(BROADCASTJOBS, doc)


def test_descriptions_say_what_an_absent_field_means() -> None:
    optional = [path for path, one in ALL.items() if path.startswith(".spec.") and path.count(".") <= 3]
    told = [p for p in optional if re.search(r"Defaults to", ALL[p]["description"])]
    assert {".spec.parallelism", ".spec.paused", ".spec.completionPolicy.type", ".spec.failurePolicy.type"} <= set(told)
