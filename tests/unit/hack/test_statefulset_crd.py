"""The definition of StatefulSet: OpenKruise's where users see it, bounded, documented; its rules, evaluated."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hack import crds, kustomize
from hack.install_check import breaches
from kruise.apis.statefulset import STATEFULSETS, StatefulSet, StatefulSetSpec
from kruise.apis.statefulset_rules import ONLY_IN_V1BETA1, default_statefulset
from kruise.apis.statefulset_schema import STATEFULSET
from kruise.apis.statefulset_validation import validate_statefulset
from kruise.runtime.clock import Random
from kruise.simulator.apiserver import ApiServer, Failure
from kruise.simulator.apiserver.crd import DEFINITIONS
from kruise.simulator.apiserver.rules import RULES
from tests.unit.hack.statefulset_cases import ABSENT, BAD, FIXED, FREE, GOOD, Change, a_set, needs_v1beta1
from tests.unit.hack.test_crds import _LIMITS, _STRUCTURE, nodes

NAME = "statefulsets.apps.kruise.io"
CRD = crds.render(STATEFULSETS, STATEFULSET)
VERSIONS = {one["name"]: one for one in CRD["spec"]["versions"]}
SCHEMAS = {name: one["schema"]["openAPIV3Schema"] for name, one in VERSIONS.items()}
SCHEMA = SCHEMAS["v1beta1"]
ALL = dict(nodes(SCHEMA))
EACH = [(name, path, one) for name, schema in SCHEMAS.items() for path, one in nodes(schema)]


def test_versions_and_names_are_those_of_openkruise() -> None:
    assert [(v["name"], v["served"], v["storage"]) for v in CRD["spec"]["versions"]] == [
        ("v1alpha1", True, False),
        ("v1beta1", True, True),
    ]
    assert VERSIONS["v1alpha1"]["deprecated"] is True
    assert "v1beta1" in VERSIONS["v1alpha1"]["deprecationWarning"]
    assert "deprecated" not in VERSIONS["v1beta1"]
    assert CRD["metadata"]["name"] == NAME
    assert CRD["spec"]["scope"] == "Namespaced"
    assert CRD["spec"]["names"] == {
        "kind": "StatefulSet",
        "listKind": "StatefulSetList",
        "plural": "statefulsets",
        "singular": "statefulset",
        "shortNames": ["sts", "asts"],
        "categories": ["kruise"],
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_columns_and_scale_are_those_of_openkruise(version: str) -> None:
    columns = VERSIONS[version]["additionalPrinterColumns"]
    assert [(c["name"], c["type"], c["jsonPath"], c.get("priority", 0)) for c in columns] == [
        ("DESIRED", "integer", ".spec.replicas", 0),
        ("CURRENT", "integer", ".status.replicas", 0),
        ("UPDATED", "integer", ".status.updatedReplicas", 0),
        ("READY", "integer", ".status.readyReplicas", 0),
        ("AGE", "date", ".metadata.creationTimestamp", 0),
        ("CONTAINERS", "string", ".spec.template.spec.containers[*].name", 1),
        ("IMAGES", "string", ".spec.template.spec.containers[*].image", 1),
    ]
    assert all(c["description"] for c in columns)
    assert VERSIONS[version]["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.labelSelector",
        },
    }


def test_row_19_v1alpha1_has_what_v1beta1_has_but_for_nine_fields() -> None:
    here, there = (set(dict(nodes(SCHEMAS[name]))) for name in ("v1beta1", "v1alpha1"))
    lost = {f".spec.{name}" for name in ONLY_IN_V1BETA1[StatefulSetSpec]} | {
        ".status.updatedReadyReplicas",
        ".status.updatedAvailableReplicas",
        ".status.volumeClaims",
    }
    assert there < here
    assert {path for path in here - there if path.count(".") == 2 and "[" not in path} == lost
    for name, schema in SCHEMAS.items():
        for path, one in nodes(schema):
            for rule in one.get(RULES, ()):
                assert name == "v1beta1" or "scaleStrategy" not in rule["rule"], path


def test_ecosystem_52_both_overlays_serve_v1beta1_alone() -> None:
    for folder in ("default", "local"):
        (found,) = [one for one in kustomize.render(crds.ROOT / "config" / folder) if one["metadata"]["name"] == NAME]
        assert {v["name"]: v["served"] for v in found["spec"]["versions"]} == {"v1alpha1": False, "v1beta1": True}
        assert found["spec"]["conversion"] == {"strategy": "None"}


def test_no_field_is_undocumented_and_everything_is_bounded() -> None:
    bounds = {"string": "maxLength", "array": "maxItems"}
    for version, path, one in EACH:
        assert one.get("description") or path == ".metadata", (version, path)
        bound = "maxProperties" if "additionalProperties" in one else bounds.get(one.get("type", ""))
        bound = "maxLength" if one.get("x-kubernetes-int-or-string") else bound
        assert not bound or bound in one, (version, path)


def test_the_schema_is_structural_and_rules_blame_fields_that_exist() -> None:
    for version, path, one in EACH:
        assert set(one) <= _STRUCTURE | _LIMITS | {"anyOf", "enum"}, (version, path)
        if one.get("x-kubernetes-int-or-string"):
            assert one["anyOf"] == [{"type": "integer"}, {"type": "string"}], path
        else:
            assert one["type"] in ("object", "array", "string", "integer", "boolean"), path
        for rule in one.get(RULES, ()):
            assert path + rule.get("fieldPath", "") in dict(nodes(SCHEMAS[version]))


def test_reliability_87_the_limits() -> None:
    spec, pod = SCHEMA["properties"]["spec"]["properties"], ALL[".spec.template.spec"]["properties"]
    assert (spec["replicas"]["minimum"], spec["replicas"]["maximum"]) == (0, 100_000)
    assert (spec["reserveOrdinals"]["maxItems"], spec["volumeClaimTemplates"]["maxItems"]) == (10_000, 32)
    assert (pod["containers"]["maxItems"], pod["volumes"]["maxItems"]) == (64, 256)
    rolling = ALL[".spec.updateStrategy.rollingUpdate"]["properties"]
    assert (rolling["minReadySeconds"]["minimum"], rolling["minReadySeconds"]["maximum"]) == (0, 300)
    assert rolling["partition"]["minimum"] == 0


def test_required_is_what_upstream_requires_and_nothing_of_the_status() -> None:
    required = {path: one["required"] for path, one in ALL.items() if "required" in one}
    expressions = ".matchExpressions[]"
    weights = ".spec.updateStrategy.rollingUpdate.unorderedUpdate.priorityStrategy.weightPriority[].matchSelector"
    assert required == {
        "": ["spec"],
        ".spec": ["selector", "template"],
        f".spec.selector{expressions}": ["key", "operator"],
        f"{weights}{expressions}": ["key", "operator"],
        ".status.conditions[]": ["status", "type"],
    }
    assert ALL[".status.conditions"]["x-kubernetes-list-map-keys"] == ["type"]


def test_ecosystem_51_defaults_are_those_of_the_types_and_of_admission() -> None:
    defaults = {path: one["default"] for path, one in ALL.items() if "default" in one}
    rolling = {"partition": 0, "maxUnavailable": 1, "podUpdatePolicy": "ReCreate"}
    assert defaults == {
        ".spec.replicas": 1,
        ".spec.podManagementPolicy": "OrderedReady",
        ".spec.revisionHistoryLimit": 10,
        ".spec.updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        ".spec.updateStrategy.type": "RollingUpdate",
        **{f".spec.updateStrategy.rollingUpdate.{name}": value for name, value in rolling.items()},
    }
    assert msgspec.convert({"spec": {"updateStrategy": defaults[".spec.updateStrategy"]}}, StatefulSet) == StatefulSet()
    by_admission = default_statefulset({"spec": {}}, template_defaults=False)["spec"]
    assert by_admission["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {**rolling, "minReadySeconds": 0},
    }


def test_enums_are_what_admission_allows() -> None:
    enums = {path.rpartition(".")[2]: set(one["enum"]) for path, one in ALL.items() if "enum" in one}
    assert enums == {
        "podManagementPolicy": {"OrderedReady", "Parallel"},
        "type": {"RollingUpdate", "OnDelete"},
        "podUpdatePolicy": {"ReCreate", "InPlaceIfPossible", "InPlaceOnly"},
        "whenDeleted": {"Retain", "Delete"},
        "whenScaled": {"Retain", "Delete"},
        "operator": {"In", "NotIn", "Exists", "DoesNotExist"},
    }


# ---- on the embedded server ------------------------------------------------------------------------------------------


class StoppedClock:
    def now(self) -> float:
        return 1_767_225_600.0

    def monotonic(self) -> float:
        return 0.0

    boottime = monotonic


@pytest.fixture(scope="module")
def server() -> ApiServer:
    made = ApiServer(StoppedClock(), Random(1))  # type: ignore[arg-type]
    made.create(DEFINITIONS, CRD)
    return made


def path_of(version: str, name: str = "") -> str:
    return f"/apis/apps.kruise.io/{version}/namespaces/default/statefulsets" + (f"/{name}" if name else "")


def post(server: ApiServer, made: dict[str, Any], version: str) -> Any:
    """Create *made* without keeping it; every rule must have been evaluated."""
    try:
        return server.do("POST", path_of(version) + "?dryRun=All", {**made, "apiVersion": f"apps.kruise.io/{version}"})
    finally:
        assert not [one for one in server.log.calls[-1].warnings if "CEL" in one]


def causes_of(failure: Failure) -> list[tuple[str, str]]:
    return [(cause.get("field", ""), cause["message"]) for cause in failure.details["causes"]]


def versions_for(changes: list[Change]) -> list[str]:
    return ["v1beta1"] if needs_v1beta1(changes) else ["v1beta1", "v1alpha1"]


@pytest.mark.parametrize("what", GOOD)
def test_accepts(server: ApiServer, what: str) -> None:
    made = a_set(*GOOD[what])
    for version in versions_for(GOOD[what]):
        post(server, made, version)
    assert breaches(NAME, SCHEMA, made) == []


@pytest.mark.parametrize("what", BAD)
def test_refuses_and_names_the_field(server: ApiServer, what: str) -> None:
    changes, field, said = BAD[what]
    made = a_set(*changes)
    for version in versions_for(changes):
        with pytest.raises(Failure) as caught:
            post(server, made, version)
        assert caught.value.code == 422
        causes = causes_of(caught.value)
        assert any(place == field and said in message for place, message in causes), causes
    # What the installer says of a stored set is what the server says of a written one.
    found = {one.field for one in breaches(NAME, SCHEMA, made)}
    blamed = (field, field.partition("[")[0], field.rpartition("[")[0].removesuffix(".weightPriority"))
    assert found & {*blamed, field.rpartition(".orderPriority")[0]} or (found and "Required" in said), found


@pytest.mark.parametrize("what", GOOD)
def test_what_the_definition_accepts_admission_accepts(what: str) -> None:
    """But for what only admission can see, and for bounds that it never had."""
    made = a_set(("metadata.namespace", "default"), *GOOD[what])
    errors = validate_statefulset(default_statefulset(made))
    assert [error.field for error in errors] in ([], ["spec.template.spec.readinessGates"])


def stored(server: ApiServer, name: str, *changes: Change) -> dict[str, Any]:
    made = a_set(("metadata.name", name), ("spec.serviceName", "svc"), *changes)
    return server.do("POST", path_of("v1beta1"), {**made, "apiVersion": "apps.kruise.io/v1beta1"})


def put(server: ApiServer, kept: dict[str, Any], change: Change) -> Any:
    made = a_set(("metadata", kept["metadata"]), ("spec", kept["spec"]), change)
    name = kept["metadata"]["name"]
    return server.do("PUT", path_of("v1beta1", name), {**made, "apiVersion": "apps.kruise.io/v1beta1"})


@pytest.mark.parametrize("what", FIXED)
def test_what_is_immutable(server: ApiServer, what: str) -> None:
    change, field = FIXED[what]
    kept = stored(server, "fixed")
    try:
        with pytest.raises(Failure) as caught:
            put(server, kept, change)
        assert "field is immutable" in dict(causes_of(caught.value))[field]
    finally:
        server.do("DELETE", path_of("v1beta1", "fixed"))


@pytest.mark.parametrize("what", FREE)
def test_what_may_change(server: ApiServer, what: str) -> None:
    kept = stored(server, "free")
    try:
        put(server, kept, FREE[what])
    finally:
        server.do("DELETE", path_of("v1beta1", "free"))


def test_the_default_policy_is_no_change(server: ApiServer) -> None:
    kept = stored(server, "ordered", ("spec.podManagementPolicy", ABSENT))
    assert kept["spec"]["podManagementPolicy"] == "OrderedReady"
    put(server, kept, ("spec.podManagementPolicy", ABSENT))
    with pytest.raises(Failure):
        put(server, kept, ("spec.podManagementPolicy", "Parallel"))


def test_defaults_are_filled_in_and_the_template_stays_as_it_is(server: ApiServer) -> None:
    made = post(server, a_set(), "v1beta1")["spec"]
    assert made["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"partition": 0, "maxUnavailable": 1, "podUpdatePolicy": "ReCreate"},
    }
    assert (made["replicas"], made["revisionHistoryLimit"]) == (1, 10)
    assert made["template"] == a_set()["spec"]["template"]
    given = post(server, a_set(("spec.updateStrategy", {"type": "RollingUpdate"})), "v1beta1")["spec"]
    assert given["updateStrategy"] == {"type": "RollingUpdate"}
    partly = post(server, a_set(("spec.updateStrategy", {"rollingUpdate": {"partition": 3}})), "v1beta1")["spec"]
    assert partly["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == 1


def test_kruise_995_a_status_needs_nothing(server: ApiServer) -> None:
    for status in ({}, {"replicas": 1}, {"volumeClaims": [{}], "conditions": []}):
        post(server, a_set(("status", status)), "v1beta1")


def test_the_scale_subresource_reads_and_writes(server: ApiServer) -> None:
    stored(server, "scaled")
    status = {"replicas": 2, "labelSelector": "app=web"}
    merge = "application/merge-patch+json"
    server.do("PATCH", path_of("v1beta1", "scaled") + "/status", {"status": status}, content_type=merge)
    found = server.do("GET", path_of("v1beta1", "scaled") + "/scale")
    assert (found["spec"]["replicas"], found["status"]) == (1, {"replicas": 2, "selector": "app=web"})
    server.do("PATCH", path_of("v1beta1", "scaled") + "/scale", {"spec": {"replicas": 4}}, content_type=merge)
    assert server.do("GET", path_of("v1beta1", "scaled"))["spec"]["replicas"] == 4


def test_a_breach_of_a_set_names_the_object_and_the_field() -> None:
    made = a_set(("metadata.namespace", "prod"), ("spec.reserveOrdinals", ["5-2"]), ("spec.replicas", -1))
    assert [str(one) for one in breaches(NAME, SCHEMA, made)] == [
        f"{NAME} prod/a-set: spec.replicas: breaks minimum: 0",
        f"{NAME} prod/a-set: spec.reserveOrdinals: 0 th reserve ordinal is invalid: 5-2, err = invalid range 5-2",
    ]
    # Labels that no label can have are for the controller to complain of, as before.
    assert breaches(NAME, SCHEMA, a_set(("metadata.labels", {"a": "b c"}))) == []


@pytest.mark.parametrize("rubbish", [[], "x", {"template": [], "selector": 3}, {"updateStrategy": [1]}])
def test_rubbish_is_a_breach_and_no_failure(rubbish: Any) -> None:
    assert breaches(NAME, SCHEMA, {"metadata": {"name": "a"}, "spec": rubbish})
