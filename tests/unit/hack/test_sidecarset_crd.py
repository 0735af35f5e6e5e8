"""What is particular to the definition of SidecarSet. ``test_set_definitions`` has what holds for every set."""

from __future__ import annotations

import msgspec
import pytest

from hack import crds
from kruise.apis.schema import Doc, VersionDoc
from kruise.apis.sidecarset import SIDECARSETS, SidecarSet, SidecarSetSpec
from kruise.apis.sidecarset_rules import default_sidecarset
from kruise.apis.sidecarset_schema import SIDECARSET
from kruise.apis.sidecarset_validation import Surroundings, validate_sidecarset
from kruise.simulator.apiserver import ApiServer, Failure
from tests.unit.hack.changing import changed
from tests.unit.hack.definitions import SIDECARSET_KIND as KIND
from tests.unit.hack.definitions import causes_of, nodes, post, serving
from tests.unit.hack.sidecarset_cases import FIXED, FREE, GOOD, TWO, a_set, needs

NAME = "sidecarsets.apps.kruise.io"
CRD = KIND.crd
VERSIONS = {one["name"]: one for one in CRD["spec"]["versions"]}
SCHEMAS, SCHEMA = KIND.schemas, KIND.schema
ALL = dict(nodes(SCHEMA))
ANYTHING = Surroundings(metadata_allowed=True)


def test_names_are_those_of_openkruise() -> None:
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
    assert VERSIONS[version]["subresources"] == {"status": {}}


def test_section_13_each_version_has_one_field_that_the_other_lacks() -> None:
    here, there = (set(dict(nodes(SCHEMAS[name]))) for name in ("v1beta1", "v1alpha1"))
    assert (here - there, there - here) == ({".spec.customVersion"}, {".spec.namespace"})


def test_a_field_of_one_version_is_none_of_the_struct() -> None:
    twice = VersionDoc(name="v1alpha1", also={SidecarSetSpec: {"selector": Doc(text="x", type="string", max_length=1)}})
    with pytest.raises(crds.SchemaError, match="selector"):
        crds._version(twice, SIDECARSET, SIDECARSETS)


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


@pytest.fixture(scope="module")
def server() -> ApiServer:
    return serving(KIND)


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


@pytest.mark.parametrize("what", FIXED)
def test_what_the_definition_fixes_admission_fixes(what: str) -> None:
    after = default_sidecarset(a_set(FIXED[what][0]))
    assert validate_sidecarset(after, default_sidecarset(KIND.started("a-set")))


@pytest.mark.parametrize("what", FREE)
def test_what_the_definition_lets_change_admission_lets_change(what: str) -> None:
    kept = KIND.started("a-set")
    after = default_sidecarset(changed(kept, [FREE[what]]))
    assert validate_sidecarset(after, default_sidecarset(kept)) == []


def test_containers_cannot_come_to_a_set_without_any(server: ApiServer) -> None:
    made = a_set(*GOOD["no containers but an init container"], ("metadata.name", "bare"))
    kept = server.do("POST", KIND.path(), KIND.body(made))
    with pytest.raises(Failure) as caught:
        server.do("PUT", KIND.path("bare"), KIND.after(kept, ("spec.containers", TWO)))
    assert causes_of(caught.value)[0][0] == "spec.containers"


def test_defaults_are_filled_in_and_containers_stay_as_they_are(server: ApiServer) -> None:
    made = post(server, KIND, a_set())["spec"]
    assert made["updateStrategy"] == {"type": "RollingUpdate", "partition": 0, "maxUnavailable": 1}
    assert made["containers"] == a_set()["spec"]["containers"]
    given = post(server, KIND, a_set(("spec.updateStrategy", {"type": "NotUpdate"})))["spec"]
    assert given["updateStrategy"]["type"] == "NotUpdate"
