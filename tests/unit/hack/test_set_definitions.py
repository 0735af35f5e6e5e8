"""What holds for the definition of every kind of set: bounded, documented, structural; its rules, evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hack import crds, kustomize
from hack.install_check import breaches
from kruise.simulator.apiserver import ApiServer, Failure
from kruise.simulator.apiserver.rules import RULES
from tests.unit.hack.definitions import KINDS, SetDefinition, causes_of, each, named, nodes, post, serving
from tests.unit.hack.test_crds import _LIMITS, _STRUCTURE

every_kind = pytest.mark.parametrize("kind", KINDS, ids=named)


@pytest.fixture(scope="module")
def server() -> ApiServer:
    return serving(*KINDS)


@pytest.fixture
def kept(server: ApiServer, kind: SetDefinition) -> Iterator[dict[str, Any]]:
    """A stored set."""
    yield server.do("POST", kind.path(), kind.body(kind.started("kept")))
    server.do("DELETE", kind.path("kept"))


def every_node(kind: SetDefinition) -> list[tuple[str, str, dict[str, Any]]]:
    return [(version, path, one) for version, schema in kind.schemas.items() for path, one in nodes(schema)]


@every_kind
def test_versions_are_those_of_openkruise(kind: SetDefinition) -> None:
    versions = {one["name"]: one for one in kind.crd["spec"]["versions"]}
    assert [(v["name"], v["served"], v["storage"]) for v in kind.crd["spec"]["versions"]] == [
        ("v1alpha1", True, False),
        ("v1beta1", True, True),
    ]
    assert versions["v1alpha1"]["deprecated"] is True
    assert "v1beta1" in versions["v1alpha1"]["deprecationWarning"]
    assert "deprecated" not in versions["v1beta1"]
    assert all(c["description"] for one in versions.values() for c in one["additionalPrinterColumns"])


@every_kind
def test_ecosystem_52_v1alpha1_is_served_where_a_webhook_converts_it_and_nowhere_else(kind: SetDefinition) -> None:
    for folder, converts in (("default", True), ("local-webhooks", True), ("local", False)):
        rendered = kustomize.render(crds.ROOT / "config" / folder)
        (found,) = [one for one in rendered if one["metadata"]["name"] == kind.name]
        assert {v["name"]: v["served"] for v in found["spec"]["versions"]} == {"v1alpha1": converts, "v1beta1": True}
        assert found["spec"]["conversion"]["strategy"] == ("Webhook" if converts else "None")


@every_kind
def test_no_field_is_undocumented_and_everything_is_bounded(kind: SetDefinition) -> None:
    bounds = {"string": "maxLength", "array": "maxItems"}
    for version, path, one in every_node(kind):
        assert one.get("description") or path == ".metadata", (version, path)
        bound = "maxProperties" if "additionalProperties" in one else bounds.get(one.get("type", ""))
        bound = "maxLength" if one.get("x-kubernetes-int-or-string") else bound
        assert not bound or bound in one, (version, path)


@every_kind
def test_the_schema_is_structural_and_rules_blame_fields_that_exist(kind: SetDefinition) -> None:
    for version, path, one in every_node(kind):
        assert set(one) <= _STRUCTURE | _LIMITS | {"anyOf", "enum"}, (version, path)
        if one.get("x-kubernetes-int-or-string"):
            assert one["anyOf"] == [{"type": "integer"}, {"type": "string"}], path
        else:
            assert one["type"] in ("object", "array", "string", "integer", "boolean"), path
        for rule in one.get(RULES, ()):
            assert path + rule.get("fieldPath", "") in dict(nodes(kind.schemas[version])), (version, path)


@every_kind
def test_the_conditions_of_a_status_are_a_map_by_type(kind: SetDefinition) -> None:
    assert dict(nodes(kind.schema))[".status.conditions"]["x-kubernetes-list-map-keys"] == ["type"]


@pytest.mark.parametrize(("kind", "what"), each("GOOD"), ids=named)
def test_accepts(server: ApiServer, kind: SetDefinition, what: str) -> None:
    changes = kind.cases.GOOD[what]
    made = kind.cases.a_set(*changes)
    for version in kind.cases.needs(changes):
        post(server, kind, made, version)
    assert breaches(kind.name, kind.schema, made) == []


@pytest.mark.parametrize(("kind", "what"), each("BAD"), ids=named)
def test_refuses_and_names_the_field(server: ApiServer, kind: SetDefinition, what: str) -> None:
    changes, field, said = kind.cases.BAD[what]
    made = kind.cases.a_set(*changes)
    for version in kind.cases.needs(changes):
        with pytest.raises(Failure) as caught:
            post(server, kind, made, version)
        assert caught.value.code == 422
        causes = causes_of(caught.value)
        assert any(place == field and said in message for place, message in causes), causes
    # What the installer says of a stored set is what the server says of a written one.
    assert breaches(kind.name, kind.schema, made)


@pytest.mark.parametrize(("kind", "what"), each("FIXED"), ids=named)
def test_what_may_never_change(server: ApiServer, kind: SetDefinition, what: str, kept: dict[str, Any]) -> None:
    change, field, said = kind.cases.FIXED[what]
    with pytest.raises(Failure) as caught:
        server.do("PUT", kind.path("kept"), kind.after(kept, change))
    causes = causes_of(caught.value)
    assert any(place == field and said in message for place, message in causes), causes


@pytest.mark.parametrize(("kind", "what"), each("FREE"), ids=named)
def test_what_may_change(server: ApiServer, kind: SetDefinition, what: str, kept: dict[str, Any]) -> None:
    server.do("PUT", kind.path("kept"), kind.after(kept, kind.cases.FREE[what]))


@every_kind
def test_kruise_995_a_status_needs_nothing(server: ApiServer, kind: SetDefinition) -> None:
    for status in kind.cases.STATUSES:
        post(server, kind, kind.cases.a_set(("status", status)))


@every_kind
@pytest.mark.parametrize(
    "rubbish",
    [[], "x", {"template": [], "selector": 3}, {"updateStrategy": [1]}, {"containers": [3], "selector": 3}],
    ids=str,
)
def test_rubbish_is_a_breach_and_no_failure(kind: SetDefinition, rubbish: Any) -> None:
    assert breaches(kind.name, kind.schema, {"metadata": {"name": "a"}, "spec": rubbish})
