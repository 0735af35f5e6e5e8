"""The definition of SidecarSet: OpenKruise's where users see it, bounded, documented; its rules, evaluated."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hack import crds, kustomize
from hack.install_check import breaches
from kruise.apis.schema import Doc, VersionDoc
from kruise.apis.sidecarset import SIDECARSETS, SidecarSet, SidecarSetSpec
from kruise.apis.sidecarset_rules import default_sidecarset
from kruise.apis.sidecarset_schema import SIDECARSET
from kruise.apis.sidecarset_validation import Surroundings, validate_sidecarset
from kruise.runtime.clock import Random
from kruise.simulator.apiserver import ApiServer, Failure
from kruise.simulator.apiserver.crd import DEFINITIONS
from kruise.simulator.apiserver.rules import RULES
from tests.unit.hack.sidecarset_cases import BAD, FIXED, FREE, GOOD, TWO, Change, a_set, needs
from tests.unit.hack.test_crds import _LIMITS, _STRUCTURE, nodes

NAME = "sidecarsets.apps.kruise.io"
CRD = crds.render(SIDECARSETS, SIDECARSET)
VERSIONS = {one["name"]: one for one in CRD["spec"]["versions"]}
SCHEMAS = {name: one["schema"]["openAPIV3Schema"] for name, one in VERSIONS.items()}
SCHEMA = SCHEMAS["v1beta1"]
ALL = dict(nodes(SCHEMA))
EACH = [(name, path, one) for name, schema in SCHEMAS.items() for path, one in nodes(schema)]
ANYTHING = Surroundings(metadata_allowed=True)


def test_versions_and_names_are_those_of_openkruise() -> None:
    assert [(v["name"], v["served"], v["storage"]) for v in CRD["spec"]["versions"]] == [
        ("v1alpha1", True, False),
        ("v1beta1", True, True),
    ]
    assert VERSIONS["v1alpha1"]["deprecated"] is True
    assert "v1beta1" in VERSIONS["v1alpha1"]["deprecationWarning"]
    assert (CRD["metadata"]["name"], CRD["spec"]["scope"]) == (NAME, "Cluster")
    assert CRD["spec"]["names"] == {
        "kind": "SidecarSet",
        "listKind": "SidecarSetList",
        "plural": "sidecarsets",
        "singular": "sidecarset",
        "shortNames": ["scs"],
        "categories": ["kruise"],
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_columns_are_those_of_openkruise(version: str) -> None:
    columns = VERSIONS[version]["additionalPrinterColumns"]
    assert [(c["name"], c["type"], c["jsonPath"], c.get("priority", 0)) for c in columns] == [
        ("MATCHED", "integer", ".status.matchedPods", 0),
        ("UPDATED", "integer", ".status.updatedPods", 0),
        ("READY", "integer", ".status.readyPods", 0),
        ("AGE", "date", ".metadata.creationTimestamp", 0),
    ]
    assert all(c["description"] for c in columns)
    assert VERSIONS[version]["subresources"] == {"status": {}}


def test_section_13_each_version_has_one_field_that_the_other_lacks() -> None:
    here, there = (set(dict(nodes(SCHEMAS[name]))) for name in ("v1beta1", "v1alpha1"))
    assert (here - there, there - here) == ({".spec.customVersion"}, {".spec.namespace"})


def test_a_field_of_one_version_is_none_of_the_struct() -> None:
    twice = VersionDoc(name="v1alpha1", also={SidecarSetSpec: {"selector": Doc(text="x", type="string", max_length=1)}})
    with pytest.raises(crds.SchemaError, match="selector"):
        crds._version(twice, SIDECARSET, SIDECARSETS)


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
        for rule in one.get(RULES, ()):
            assert path + rule.get("fieldPath", "") in dict(nodes(SCHEMAS[version])), (version, path)


def test_reliability_87_the_limits_and_unique_names() -> None:
    spec = SCHEMA["properties"]["spec"]["properties"]
    limits = {key: spec[key]["maxItems"] for key in ("containers", "initContainers", "volumes", "patchPodMetadata")}
    assert limits == {"containers": 64, "initContainers": 64, "volumes": 256, "patchPodMetadata": 64}
    for key in ("containers", "initContainers"):
        assert spec[key]["x-kubernetes-list-type"] == "map"
        assert spec[key]["x-kubernetes-list-map-keys"] == ["name"]
        assert spec[key]["items"]["x-kubernetes-preserve-unknown-fields"] is True
        assert set(spec[key]["items"]["required"]) == {"name", "image"}


def test_nothing_of_the_status_is_required() -> None:
    required = {path: one["required"] for path, one in ALL.items() if path.startswith(".status") and "required" in one}
    assert required == {".status.conditions[]": ["status", "type"]}
    assert ALL[".status.conditions"]["x-kubernetes-list-map-keys"] == ["type"]


def test_ecosystem_51_defaults_are_those_of_the_types_and_none_but_one_is_inside_containers() -> None:
    defaults = {path: one["default"] for path, one in ALL.items() if "default" in one}
    inside = {path: value for path, value in defaults.items() if "ontainers[]" in path}
    assert set(inside.values()) == {".*"}
    assert {path.rpartition(".")[2] for path in inside} == {"targetContainersNameRegex"}
    assert {path: value for path, value in defaults.items() if path not in inside} == {
        ".spec.updateStrategy": {},
        ".spec.updateStrategy.type": "RollingUpdate",
        ".spec.updateStrategy.partition": 0,
        ".spec.updateStrategy.maxUnavailable": 1,
        ".spec.revisionHistoryLimit": 10,
        ".spec.patchPodMetadata[].patchPolicy": "Retain",
        ".spec.injectionStrategy.revision.policy": "Always",
        ".spec.imagePullSecrets[].name": "",
    }
    strategy = {key: defaults[f".spec.updateStrategy.{key}"] for key in ("type", "partition", "maxUnavailable")}
    assert msgspec.convert({"spec": {"updateStrategy": strategy}}, SidecarSet) == SidecarSet()
    by_admission = default_sidecarset({"spec": {}})["spec"]
    assert by_admission == {"updateStrategy": strategy, "revisionHistoryLimit": 10}


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
    return f"/apis/apps.kruise.io/{version}/sidecarsets" + (f"/{name}" if name else "")


def post(server: ApiServer, made: dict[str, Any], version: str) -> Any:
    """Create *made* without keeping it; every rule must have been evaluated."""
    try:
        return server.do("POST", path_of(version) + "?dryRun=All", {**made, "apiVersion": f"apps.kruise.io/{version}"})
    finally:
        assert not [one for one in server.log.calls[-1].warnings if "CEL" in one]


def causes_of(failure: Failure) -> list[tuple[str, str]]:
    return [(cause.get("field", ""), cause["message"]) for cause in failure.details["causes"]]


@pytest.mark.parametrize("what", GOOD)
def test_accepts(server: ApiServer, what: str) -> None:
    made = a_set(*GOOD[what])
    for version in needs(GOOD[what]):
        post(server, made, version)
    assert breaches(NAME, SCHEMA, made) == []


@pytest.mark.parametrize("what", BAD)
def test_refuses_and_names_the_field(server: ApiServer, what: str) -> None:
    changes, field, said = BAD[what]
    made = a_set(*changes)
    for version in needs(changes):
        with pytest.raises(Failure) as caught:
            post(server, made, version)
        assert caught.value.code == 422
        causes = causes_of(caught.value)
        assert any(place == field and said in message for place, message in causes), causes
    # What the installer says of a stored set is what the server says of a written one.
    assert breaches(NAME, SCHEMA, made)


@pytest.mark.parametrize("what", GOOD)
def test_what_the_definition_accepts_admission_accepts(what: str) -> None:
    """But for what only admission can see."""
    version = needs(GOOD[what])[0]
    made = {**a_set(*GOOD[what]), "apiVersion": f"apps.kruise.io/{version}"}
    errors = validate_sidecarset(default_sidecarset(made), None, ANYTHING)
    # A revision that nobody has kept, and an expression for names that the schema would have filled in.
    unseen = {"revision"} if what == "an older revision" else set()
    unseen |= {"spec[0].resourcesPolicy.targetContainersNameRegex"} if what.startswith("resources") else set()
    assert {error.field for error in errors} == unseen, errors


def stored(server: ApiServer, name: str) -> dict[str, Any]:
    made = a_set(("metadata.name", name), ("spec.containers", TWO))
    return server.do("POST", path_of("v1beta1"), {**made, "apiVersion": "apps.kruise.io/v1beta1"})


def put(server: ApiServer, kept: dict[str, Any], change: Change) -> Any:
    made = a_set(("metadata", kept["metadata"]), ("spec", kept["spec"]), change)
    return server.do(
        "PUT", path_of("v1beta1", kept["metadata"]["name"]), {**made, "apiVersion": "apps.kruise.io/v1beta1"}
    )


@pytest.mark.parametrize("what", FIXED)
def test_what_containers_may_not_become(server: ApiServer, what: str) -> None:
    change, field, said = FIXED[what]
    kept = stored(server, "fixed")
    try:
        with pytest.raises(Failure) as caught:
            put(server, kept, change)
        assert any(place == field and said in message for place, message in causes_of(caught.value))
        after = default_sidecarset(a_set(change))
        assert validate_sidecarset(after, default_sidecarset(kept))
    finally:
        server.do("DELETE", path_of("v1beta1", "fixed"))


@pytest.mark.parametrize("what", FREE)
def test_what_may_change(server: ApiServer, what: str) -> None:
    kept = stored(server, "free")
    try:
        put(server, kept, FREE[what])
        after = default_sidecarset(a_set(("spec.containers", TWO), FREE[what]))
        assert validate_sidecarset(after, default_sidecarset(kept)) == []
    finally:
        server.do("DELETE", path_of("v1beta1", "free"))


def test_containers_cannot_come_to_a_set_without_any(server: ApiServer) -> None:
    made = a_set(*GOOD["no containers but an init container"], ("metadata.name", "bare"))
    kept = server.do("POST", path_of("v1beta1"), {**made, "apiVersion": "apps.kruise.io/v1beta1"})
    with pytest.raises(Failure) as caught:
        put(server, kept, ("spec.containers", TWO))
    assert causes_of(caught.value)[0][0] == "spec.containers"


def test_defaults_are_filled_in_and_containers_stay_as_they_are(server: ApiServer) -> None:
    made = post(server, a_set(), "v1beta1")["spec"]
    assert made["updateStrategy"] == {"type": "RollingUpdate", "partition": 0, "maxUnavailable": 1}
    assert made["containers"] == a_set()["spec"]["containers"]
    given = post(server, a_set(("spec.updateStrategy", {"type": "NotUpdate"})), "v1beta1")["spec"]
    assert given["updateStrategy"]["type"] == "NotUpdate"


def test_kruise_995_a_status_needs_nothing(server: ApiServer) -> None:
    for status in ({}, {"matchedPods": 1}, {"conditions": []}):
        post(server, a_set(("status", status)), "v1beta1")


@pytest.mark.parametrize("rubbish", [[], "x", {"containers": [3], "selector": 3}, {"updateStrategy": [1]}])
def test_rubbish_is_a_breach_and_no_failure(rubbish: Any) -> None:
    assert breaches(NAME, SCHEMA, {"metadata": {"name": "a"}, "spec": rubbish})
