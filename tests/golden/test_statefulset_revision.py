"""Revisions of StatefulSets: exact bytes and names, equality, which one is chosen, which ones go."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kruise.apis.core import ControllerRevision
from kruise.apis.go_encoding import POD_TEMPLATE, canonical
from kruise.apis.podtemplate import default_pod_template
from kruise.apis.revisiondata import (
    RevisionDataError,
    applied_template,
    canonical_template,
    revision_data,
    semantically_equal,
)
from kruise.apis.selectors import convert
from kruise.apis.statefulset import STATEFULSETS, StatefulSet
from kruise.controllers.common.revisions import (
    HASH_LABEL,
    AdoptRevision,
    BumpRevision,
    Chosen,
    CreateRevision,
    candidate,
    choose,
    relevant,
    resolve_exists,
    truncate,
)
from kruise.runtime.objects import controller_of
from tests.golden.loader import Case, cases, deviations_for, parametrize

FILE = "statefulset-revision"


def given_set(body: dict[str, Any]) -> StatefulSet:
    """The set, as a client reads it: its template as bytes, its nulls as absent."""
    return msgspec.json.decode(json.dumps(without_nulls(body)), type=StatefulSet)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def template_of_set(case: Case, body: dict[str, Any]) -> dict[str, Any]:
    """The template, without what Go's types do not know where a rule says that we keep it."""
    template: dict[str, Any] = body["spec"].get("template") or {}
    if canonical(template, POD_TEMPLATE) != canonical(template, POD_TEMPLATE, upstream_only=True):
        assert deviations_for(case, "keep-unknown"), "a field that OpenKruise does not know, and no rule"
        return known_to_upstream(template)
    return template


def known_to_upstream(template: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = canonical(template, POD_TEMPLATE, upstream_only=True)
    return found


def revision(body: dict[str, Any]) -> ControllerRevision:
    text = body.pop("data")
    raw = json.dumps(without_nulls({**body, "data": None}))
    found = msgspec.json.decode(raw, type=ControllerRevision)
    return msgspec.structs.replace(found, data=msgspec.Raw(text.encode()))


def revisions(case: Case) -> list[ControllerRevision]:
    return [revision(dict(body)) for body in case.input["revisions"]]


@parametrize(FILE)
def test_s6_every_question_is_asked(case: Case) -> None:
    assert case.id.rpartition("-")[0] in {"revision", "equality", "apply", "select", "truncate"}


# ---- revision --------------------------------------------------------------------------------------------------------


def of_kind(kind: str) -> pytest.MarkDecorator:
    """All cases whose id is of *kind*."""
    found = [case for case in cases(FILE) if case.id.rpartition("-")[0] == kind]
    if not found:
        return pytest.mark.parametrize("case", [pytest.param(None, marks=pytest.mark.skip(reason="no such case"))])
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in found])


@of_kind("revision")
def test_s6_revisions_have_the_bytes_names_and_metadata_of_openkruise(case: Case) -> None:
    sts, template = given_set(case.input["set"]), template_of_set(case, case.input["set"])
    wanted = case.output
    for named in wanted["names"]:
        body = candidate(
            STATEFULSETS, sts, template, collision_count=named["collisionCount"], number=case.input["revision"]
        )
        metadata = body["metadata"]
        assert bytes(body["data"]).decode() == wanted["data"]
        assert metadata["name"] == named["name"]
        assert metadata["labels"] == {**wanted["labels"], HASH_LABEL: named["hashLabel"]}
        assert metadata.get("annotations", {}) == wanted["annotations"]
        assert metadata["ownerReferences"] == wanted["ownerReferences"]
        assert metadata["namespace"] == sts.metadata.namespace
        assert body["revision"] == wanted["revision"]


# ---- equality --------------------------------------------------------------------------------------------------------


@of_kind("equality")
def test_s6_templates_are_equal_as_openkruise_finds_them_or_as_a_rule_says(case: Case) -> None:
    templates = [template_of_set(case, case.input[name]) for name in ("a", "b")]
    a, b = (revision_data(template) for template in templates)
    assert a.decode() == case.output["dataA"]
    assert b.decode() == case.output["dataB"]
    assert (a == b) == case.output["equal"]
    wanted = case.output["setAMatchesRevisionB"]
    if deviations_for(case, "equal-with-defaults"):
        completed = [revision_data(default_pod_template(canonical_template(template))) for template in templates]
        wanted = completed[0] == completed[1]
    assert semantically_equal(a, b) == wanted


# ---- apply -----------------------------------------------------------------------------------------------------------


@of_kind("apply")
def test_a_revision_replaces_the_template_and_nothing_else(case: Case) -> None:
    given = case.input["set"]
    if "error" in case.output:
        with pytest.raises(RevisionDataError):
            applied_template(case.input["data"].encode(), given["spec"]["template"])
        return
    wanted = case.output["set"]
    template = applied_template(case.input["data"].encode(), given["spec"]["template"])
    assert known_to_upstream(template) == wanted["spec"]["template"]
    for key, value in given.items():
        kept = {k: v for k, v in value.items() if k != "template"}
        assert kept.items() <= wanted[key].items(), "upstream changes the rest"


# ---- select ----------------------------------------------------------------------------------------------------------


class World:
    """The revisions of a namespace, which answer AlreadyExists."""

    def __init__(self, case: Case) -> None:
        self.sts = given_set(case.input["set"])
        self.there = {obj.metadata.name: obj for obj in revisions(case)}
        selector = convert(case.input["set"]["spec"].get("selector"))
        self.listed = relevant(self.sts, self.there.values(), selector)
        self.template = template_of_set(case, case.input["set"])
        self.writes: list[dict[str, Any]] = []

    def settle(self) -> Chosen:
        status = self.sts.status
        chosen = choose(
            STATEFULSETS, self.sts, self.listed, self.template, status.current_revision, status.collision_count
        )
        for write in chosen.writes:
            if isinstance(write, BumpRevision):
                self.writes.append(
                    {"do": "updateRevision", "name": write.obj.metadata.name, "revision": write.patch["revision"]}
                )
            else:
                # Listing adopts first; the recorded pass begins after that.
                assert isinstance(write, AdoptRevision | CreateRevision)
        while create := next((w for w in chosen.writes if isinstance(w, CreateRevision)), None):
            self.writes.append(self.shown(create))
            existing = self.there.get(create.name)
            if existing is None:
                break
            chosen = resolve_exists(chosen, existing, STATEFULSETS, self.sts)
        return chosen

    def shown(self, write: CreateRevision) -> dict[str, Any]:
        metadata = {k: v for k, v in write.body["metadata"].items() if k != "namespace"}
        metadata["creationTimestamp"] = None
        return {
            "do": "createRevision",
            "name": write.name,
            "revisionObject": {
                "data": bytes(write.body["data"]).decode(),
                "metadata": metadata,
                "revision": write.body["revision"],
            },
        }

    def foreign(self, case: Case) -> bool:
        """Whether the recorded choice took the revision of another owner."""
        taken = self.there.get(case.output["update"])
        controller = controller_of(taken.metadata) if taken is not None else None
        return controller is not None and controller.uid != self.sts.uid


@of_kind("select")
def test_s6_the_revision_that_openkruise_would_choose_is_chosen(case: Case) -> None:
    world = World(case)
    if world.foreign(case) and deviations_for(case, "leave-foreign"):
        assert world.settle().collision_count > 0
        return
    assert [obj.metadata.name for obj in world.listed] == case.output["listedSorted"]
    chosen = world.settle()
    assert chosen.collision_count == case.output["collisionCount"]
    assert chosen.current.name == case.output["current"]
    assert chosen.update.name == case.output["update"]
    assert chosen.update.number == case.output["updateRevisionNumber"]
    assert chosen.update.data.decode() == case.output["updateData"]
    assert world.writes == case.output["writes"]


# ---- truncate --------------------------------------------------------------------------------------------------------


@of_kind("truncate")
def test_x13_history_keeps_what_is_live_and_the_newest_of_the_rest(case: Case) -> None:
    sts = given_set(case.input["set"])
    live = {sts.status.current_revision, sts.status.update_revision}
    live |= {(pod["metadata"].get("labels") or {}).get("controller-revision-hash", "") for pod in case.input["pods"]}
    gone = truncate(revisions(case), live, sts.spec.revision_history_limit)
    assert [{"do": "deleteRevision", "name": obj.metadata.name} for obj in gone] == case.output["writes"]
