"""What is particular to the definition of StatefulSet. ``test_set_definitions`` has what holds for every set."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hack.install_check import breaches
from kruise.apis.statefulset import StatefulSet, StatefulSetSpec
from kruise.apis.statefulset_rules import ONLY_IN_V1BETA1, default_statefulset
from kruise.apis.statefulset_validation import validate_statefulset
from kruise.simulator.apiserver import ApiServer, Failure
from kruise.simulator.apiserver.rules import RULES
from tests.unit.hack.changing import ABSENT, Change, changed
from tests.unit.hack.definitions import STATEFULSET_KIND as KIND
from tests.unit.hack.definitions import nodes, post, serving
from tests.unit.hack.statefulset_cases import BAD, GOOD, a_set

NAME = "statefulsets.apps.kruise.io"
CRD = KIND.crd
VERSIONS = {one["name"]: one for one in CRD["spec"]["versions"]}
SCHEMAS, SCHEMA = KIND.schemas, KIND.schema
ALL = dict(nodes(SCHEMA))


def test_names_are_those_of_openkruise() -> None:
    assert (CRD["metadata"]["name"], CRD["spec"]["scope"]) == (NAME, "Namespaced")
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


@pytest.fixture(scope="module")
def server() -> ApiServer:
    return serving(KIND)


@pytest.mark.parametrize("what", BAD)
def test_the_installer_blames_the_field_that_the_server_blames(what: str) -> None:
    changes, field, said = BAD[what]
    found = {one.field for one in breaches(NAME, SCHEMA, a_set(*changes))}
    blamed = (field, field.partition("[")[0], field.rpartition("[")[0].removesuffix(".weightPriority"))
    assert found & {*blamed, field.rpartition(".orderPriority")[0]} or (found and "Required" in said), found


@pytest.mark.parametrize("what", GOOD)
def test_what_the_definition_accepts_admission_accepts(what: str) -> None:
    """But for what only admission can see, and for bounds that it never had."""
    made = a_set(("metadata.namespace", "default"), *GOOD[what])
    errors = validate_statefulset(default_statefulset(made))
    assert [error.field for error in errors] in ([], ["spec.template.spec.readinessGates"])


def stored(server: ApiServer, name: str, *changes: Change) -> dict[str, Any]:
    made: dict[str, Any] = server.do("POST", KIND.path(), KIND.body(changed(KIND.started(name), changes)))
    return made


def put(server: ApiServer, kept: dict[str, Any], change: Change) -> None:
    server.do("PUT", KIND.path(kept["metadata"]["name"]), KIND.after(kept, change))


def test_the_default_policy_is_no_change(server: ApiServer) -> None:
    kept = stored(server, "ordered", ("spec.podManagementPolicy", ABSENT))
    assert kept["spec"]["podManagementPolicy"] == "OrderedReady"
    put(server, kept, ("spec.podManagementPolicy", ABSENT))
    with pytest.raises(Failure):
        put(server, kept, ("spec.podManagementPolicy", "Parallel"))


def test_defaults_are_filled_in_and_the_template_stays_as_it_is(server: ApiServer) -> None:
    made = post(server, KIND, a_set())["spec"]
    assert made["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"partition": 0, "maxUnavailable": 1, "podUpdatePolicy": "ReCreate"},
    }
    assert (made["replicas"], made["revisionHistoryLimit"]) == (1, 10)
    assert made["template"] == a_set()["spec"]["template"]
    given = post(server, KIND, a_set(("spec.updateStrategy", {"type": "RollingUpdate"})))["spec"]
    assert given["updateStrategy"] == {"type": "RollingUpdate"}
    partly = post(server, KIND, a_set(("spec.updateStrategy", {"rollingUpdate": {"partition": 3}})))["spec"]
    assert partly["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == 1


def test_the_scale_subresource_reads_and_writes(server: ApiServer) -> None:
    stored(server, "scaled")
    status = {"replicas": 2, "labelSelector": "app=web"}
    merge = "application/merge-patch+json"
    server.do("PATCH", KIND.path("scaled") + "/status", {"status": status}, content_type=merge)
    found = server.do("GET", KIND.path("scaled") + "/scale")
    assert (found["spec"]["replicas"], found["status"]) == (1, {"replicas": 2, "selector": "app=web"})
    server.do("PATCH", KIND.path("scaled") + "/scale", {"spec": {"replicas": 4}}, content_type=merge)
    assert server.do("GET", KIND.path("scaled"))["spec"]["replicas"] == 4


def test_a_breach_of_a_set_names_the_object_and_the_field() -> None:
    made = a_set(("metadata.namespace", "prod"), ("spec.reserveOrdinals", ["5-2"]), ("spec.replicas", -1))
    assert [str(one) for one in breaches(NAME, SCHEMA, made)] == [
        f"{NAME} prod/a-set: spec.replicas: breaks minimum: 0",
        f"{NAME} prod/a-set: spec.reserveOrdinals: 0 th reserve ordinal is invalid: 5-2, err = invalid range 5-2",
    ]
    # Labels that no label can have are for the controller to complain of, as before.
    assert breaches(NAME, SCHEMA, a_set(("metadata.labels", {"a": "b c"}))) == []
