"""Choosing revisions: what is kept, what is written, and what a name that is taken leads to."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kruise.apis.core import ControllerRevision
from kruise.apis.revisiondata import RevisionDataError, revision_data
from kruise.apis.selectors import convert
from kruise.apis.statefulset import STATEFULSETS, StatefulSet
from kruise.controllers.common.revisions import (
    HASH_LABEL,
    SETTLED_ANNOTATION,
    AdoptRevision,
    BumpRevision,
    Chosen,
    CreateRevision,
    DeletionUnderWayError,
    Form,
    Revision,
    candidate,
    choice_key,
    choose,
    relevant,
    resolve_exists,
    truncate,
    written,
)
from kruise.runtime.objects import Unreadable

SELECTOR = convert({"matchLabels": {"app": "web"}})


def template(image: str = "web:1", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": image}], **spec}}


def owner(given: dict[str, Any] | None = None, **metadata: Any) -> StatefulSet:
    body = {
        "metadata": {"name": "web", "namespace": "ns", "uid": "set", **metadata},
        "spec": {"template": given or template()},
    }
    return msgspec.json.decode(json.dumps(body), type=StatefulSet)


SET = owner()


def stored(body: dict[str, Any], **metadata: Any) -> ControllerRevision:
    """The object that the server makes of *body*."""
    name = body["metadata"]["name"]
    full = {**body, "metadata": {"uid": f"uid-{name}", "resourceVersion": "7", **body["metadata"], **metadata}}
    return msgspec.json.decode(msgspec.json.encode(full), type=ControllerRevision)


def kept(image: str, number: int, *, data: bytes = b"", **metadata: Any) -> ControllerRevision:
    body = candidate(STATEFULSETS, SET, template(image), number=number)
    if data:
        body["data"] = msgspec.Raw(data)
    return stored(body, **metadata)


def pick(listed: list[ControllerRevision], given: dict[str, Any], current: str = "", **how: Any) -> Chosen:
    return choose(STATEFULSETS, how.pop("owner", SET), listed, given, current, how.pop("collisions", 0), **how)


def names(chosen: Chosen) -> tuple[str, str]:
    return chosen.current.name, chosen.update.name


# ---- choosing --------------------------------------------------------------------------------------------------------


def test_the_first_revision_is_current_and_update() -> None:
    chosen = pick([], template())
    (create,) = chosen.writes
    assert isinstance(create, CreateRevision)
    assert create.body["revision"] == 1
    assert chosen.same
    assert chosen.update.number == 1
    assert chosen.update.obj is None
    made = stored(create.body)
    done = written(chosen, create, made)
    assert done.writes == ()
    assert done.update.obj is made
    assert done.current is done.update
    assert [r.name for r in done.listed] == [made.metadata.name]
    assert pick([made], template(), made.metadata.name).writes == (), "and the next pass has nothing to do"


def test_s6_the_newest_equal_one_is_used_without_a_write() -> None:
    old, new = kept("web:1", 3), kept("web:2", 4)
    chosen = pick([new, old], template("web:2"), old.metadata.name)
    assert names(chosen) == (old.metadata.name, new.metadata.name)
    assert chosen.writes == ()
    assert chosen.update.number == 4
    assert chosen.current.template["spec"]["containers"][0]["image"] == "web:1"
    assert not chosen.same


def test_a_new_template_gets_the_next_number_and_the_metadata_of_the_set() -> None:
    sts = owner(annotations={"team": "a"})
    old = kept("web:1", 41)
    chosen = pick([old], template("web:2"), old.metadata.name, owner=sts)
    (create,) = chosen.writes
    assert isinstance(create, CreateRevision)
    body = create.body
    assert body["revision"] == 42
    assert bytes(body["data"]) == revision_data(template("web:2"))
    assert body["metadata"]["annotations"] == {"team": "a"}
    assert body["metadata"]["labels"] == {"app": "web", HASH_LABEL: create.name.removeprefix("web-")}
    assert body["metadata"]["ownerReferences"][0]["uid"] == "set"
    assert names(chosen) == (old.metadata.name, create.name)
    assert chosen.named(old.metadata.name) is chosen.current
    assert chosen.named("gone") is None


def test_a_rollback_takes_the_newest_of_the_equal_ones_with_a_new_number() -> None:
    listed = [kept("web:1", 1), kept("web:1", 2, name="web-again"), kept("web:2", 5)]
    chosen = pick(listed, template("web:1"), listed[2].metadata.name)
    (bump,) = chosen.writes
    assert isinstance(bump, BumpRevision)
    assert bump.obj is listed[1]
    assert bump.patch == {"revision": 6}
    assert not bump.adopts
    assert names(chosen) == (listed[2].metadata.name, "web-again")
    assert chosen.update.number == 6
    bumped = msgspec.structs.replace(listed[1], revision=6)
    done = written(chosen, bump, bumped)
    assert done.writes == ()
    assert done.update.obj is bumped
    assert [r.number for r in done.listed] == [1, 5, 6]


@pytest.mark.parametrize(
    "spelling",
    [
        json.dumps({"spec": {"template": template("web:1")}}).encode(),
        b'{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"image":"web:1","name":"main","resources":{}}]}}}}',
        revision_data(template("web:1", dnsPolicy="ClusterFirst", restartPolicy="Always", securityContext={})),
    ],
    ids=["as kubectl sends it", "without creationTimestamp", "with defaults"],
)
def test_x38_data_of_another_release_keeps_its_name(spelling: bytes) -> None:
    listed = [kept("web:1", 3, data=spelling, name="web-foreign")]
    chosen = pick(listed, template("web:1"), "web-foreign")
    assert names(chosen) == ("web-foreign", "web-foreign")
    assert chosen.writes == ()
    assert chosen.update.data == spelling


def test_x39_the_revision_is_chosen_by_the_template_and_by_nothing_that_runs() -> None:
    """What a webhook adds to pods never reaches the choice: it sees templates and revisions only."""
    listed = [kept("web:1", 1)]
    assert pick(listed, template("web:1"), "x").update.name == listed[0].metadata.name


def test_a_current_revision_that_is_gone_is_the_update_revision() -> None:
    listed = [kept("web:1", 1)]
    assert pick(listed, template("web:1"), "web-gone").same
    assert pick(listed, template("web:1"), "").same


def test_x13_a_revision_that_cannot_be_read_is_kept_and_told() -> None:
    listed = [kept("web:1", 1, data=b'"text"', name="web-broken"), kept("web:2", 2)]
    chosen = pick(listed, template("web:2"), "web-broken")
    assert chosen.current.name == "web-broken"
    assert "invalid JSON" in chosen.current.problem
    with pytest.raises(RevisionDataError):
        _ = chosen.current.template
    assert chosen.update.problem == ""


def test_data_without_a_template_reads_as_that_of_the_set() -> None:
    listed = [kept("web:1", 1, data=b'{"spec":{}}', name="web-bare"), kept("web:2", 2)]
    chosen = pick(listed, template("web:2"), "web-bare")
    assert chosen.current.template == chosen.update.template
    assert chosen.current.name == "web-bare"


def test_a_template_is_parsed_once() -> None:
    revision = Revision.of(kept("web:1", 1))
    assert revision.template is revision.template
    assert revision == Revision(revision.name, 1, revision.data)


def test_equal_numbers_are_ordered_by_creation_and_name() -> None:
    listed = [
        kept("web:1", 2, creationTimestamp="2026-01-02T00:00:00Z"),
        kept("web:2", 2, creationTimestamp="2026-01-01T00:00:00Z"),
        kept("web:3", 2),
    ]
    assert [r.metadata.name for r in relevant(SET, listed, SELECTOR)] == [r.metadata.name for r in listed[::-1]]


# ---- whose they are --------------------------------------------------------------------------------------------------


def test_relevant_are_the_sets_own_and_orphans_in_its_namespace() -> None:
    mine, orphan = kept("web:1", 1), kept("web:2", 2, ownerReferences=[])
    foreign = kept("web:3", 3, ownerReferences=[{"uid": "other", "controller": True}])
    hidden, elsewhere = kept("web:4", 4, labels={"app": "db"}), kept("web:5", 5, namespace="other")
    unreadable = Unreadable(metadata=msgspec.structs.replace(mine.metadata, name="web-x"), problem="p", path="$.data")
    assert relevant(SET, [orphan, foreign, hidden, elsewhere, unreadable, mine], SELECTOR) == (mine, orphan)


def test_rule_10_an_orphan_is_adopted_and_its_other_owners_stay() -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c", "controller": False}
    orphan = kept("web:1", 1, ownerReferences=[other])
    chosen = pick([orphan], template("web:1"))
    (adopt,) = chosen.writes
    assert isinstance(adopt, AdoptRevision)
    assert adopt.adopts
    refs = adopt.patch["metadata"]["ownerReferences"]
    assert [(r["uid"], r["controller"]) for r in refs] == [("c", False), ("set", True)]
    ours = kept("web:1", 1, ownerReferences=refs)
    done = written(chosen, adopt, ours)
    assert done.writes == ()
    assert done.update.obj is ours


def test_rule_10_an_orphan_that_is_rolled_back_to_takes_one_patch() -> None:
    orphan, newest = kept("web:1", 1, ownerReferences=[]), kept("web:2", 2)
    (bump,) = pick([orphan, newest], template("web:1")).writes
    assert isinstance(bump, BumpRevision)
    assert bump.adopts
    assert bump.patch["revision"] == 3
    assert bump.patch["metadata"]["ownerReferences"][0]["uid"] == "set"


def test_a_set_that_is_being_deleted_writes_nothing() -> None:
    gone = owner(deletionTimestamp="2026-01-01T00:00:00Z")
    orphan = kept("web:1", 1, ownerReferences=[])
    for given in (template("web:1"), template("web:2")):
        assert pick([orphan], given, owner=gone).writes == ()


# ---- fields that another manager did not know ------------------------------------------------------------------------

NEWER = template("web:1", hostnameOverride="h", fieldOfTomorrow={"a": 1})


def test_s6_a_takeover_keeps_what_the_other_manager_settled_on_and_notes_it() -> None:
    listed = [kept("web:1", 1)]
    name = listed[0].metadata.name
    chosen = pick(listed, NEWER, name, settled=name)
    (note,) = chosen.writes
    assert names(chosen) == (name, name)
    assert isinstance(note, BumpRevision)
    assert note.patch.keys() == {"metadata"}
    assert note.patch["metadata"]["annotations"].keys() == {SETTLED_ANNOTATION}
    noted = stored(candidate(STATEFULSETS, SET, template("web:1")), annotations=note.patch["metadata"]["annotations"])
    assert pick([noted], NEWER, name).writes == (), "after a change of the scale the status settles nothing"
    assert pick([noted], template("web:1"), name).writes == ()
    changed = pick([noted], template("web:1", hostnameOverride="other"), name)
    assert isinstance(changed.writes[0], CreateRevision), "a field that the user changes is a new version"


def test_s6_without_the_word_of_the_status_an_added_field_is_a_change() -> None:
    listed = [kept("web:1", 1)]
    name = listed[0].metadata.name
    for settled in ("", "web-gone"):
        (create,) = pick(listed, NEWER, name, settled=settled).writes
        assert isinstance(create, CreateRevision)
    (create,) = pick(listed, template("web:2", hostnameOverride="h"), name, settled=name).writes
    assert isinstance(create, CreateRevision), "more than unknown fields differs"


def test_s6_what_is_equal_comes_before_what_the_status_says() -> None:
    listed = [kept("web:1", 1), stored(candidate(STATEFULSETS, SET, NEWER, number=2))]
    chosen = pick(listed, NEWER, settled=listed[0].metadata.name)
    assert chosen.update.name == listed[1].metadata.name
    assert chosen.writes == ()


# ---- names that are taken --------------------------------------------------------------------------------------------


def resolve(chosen: Chosen, existing: ControllerRevision) -> Chosen:
    return resolve_exists(chosen, existing, STATEFULSETS, SET)


def test_a_taken_name_with_the_same_data_is_used_with_its_number() -> None:
    chosen = pick([], template("web:1"))
    existing = kept("web:1", 9, labels={"hidden": "yes"})
    found = resolve(chosen, existing)
    assert found.writes == ()
    assert found.same
    assert found.update.obj is existing
    assert found.update.number == 9
    assert found.collision_count == 0


def test_a_taken_name_with_other_data_leads_to_the_next_count_and_the_label_stays() -> None:
    chosen = pick([], template("web:1"))
    create = chosen.writes[0]
    assert isinstance(create, CreateRevision)
    seen = [create.name]
    for count in (1, 2):
        chosen = resolve(chosen, kept("web:other", 1, name=seen[-1]))
        again = chosen.writes[0]
        assert isinstance(again, CreateRevision)
        assert chosen.collision_count == count
        assert chosen.update.name == again.name
        assert again.body["metadata"]["labels"] == create.body["metadata"]["labels"]
        assert again.name == candidate(STATEFULSETS, SET, template("web:1"), collision_count=count)["metadata"]["name"]
        seen.append(again.name)
    assert len(set(seen)) == 3
    assert create.name == seen[0], "the first write is not changed"


def test_rule_6_a_revision_of_another_owner_is_passed_by() -> None:
    chosen = pick([], template("web:1"))
    foreign = kept("web:1", 1, ownerReferences=[{"uid": "apps-set", "controller": True}])
    assert resolve(chosen, foreign).collision_count == 1
    orphan = kept("web:1", 1, ownerReferences=[])
    adopted = resolve(chosen, orphan)
    assert adopted.collision_count == 0
    assert isinstance(adopted.writes[0], AdoptRevision)


def test_rule_6_a_revision_on_its_way_out_is_waited_for() -> None:
    gone = kept("web:1", 1, deletionTimestamp="2026-01-01T00:00:00Z")
    chosen = pick([gone], template("web:1"), gone.metadata.name)
    assert isinstance(chosen.writes[0], CreateRevision), "it will be gone when a rollback needs it"
    with pytest.raises(DeletionUnderWayError, match="ns/web-"):
        resolve(chosen, gone)


# ---- keys, history, other kinds --------------------------------------------------------------------------------------


def test_a_choice_is_kept_as_long_as_its_key() -> None:
    listed = [kept("web:1", 1)]
    key = choice_key(SET, listed, SET.spec.template, "a", 0)
    assert key == choice_key(owner(), [kept("web:1", 1)], owner().spec.template, "a", 0)
    others = [
        choice_key(owner(uid="again"), listed, SET.spec.template, "a", 0),
        choice_key(SET, [], SET.spec.template, "a", 0),
        choice_key(SET, [kept("web:1", 1, resourceVersion="8")], SET.spec.template, "a", 0),
        choice_key(SET, listed, b"{}", "a", 0),
        choice_key(SET, listed, SET.spec.template, "b", 0),
        choice_key(SET, listed, SET.spec.template, "a", 1),
        choice_key(SET, listed, SET.spec.template, "a", 0, settled="x"),
    ]
    assert key not in others


@pytest.mark.parametrize(("limit", "gone"), [(0, [1, 2, 4]), (1, [1, 2]), (3, []), (None, []), (-1, [1, 2, 4])])
def test_x13_truncation_spares_live_ones_and_takes_the_oldest(limit: int | None, gone: list[int]) -> None:
    listed = [kept(f"web:{n}", n) for n in (4, 1, 3, 2)]
    live = {next(r.metadata.name for r in listed if r.revision == 3), "unknown"}
    assert [r.revision for r in truncate(listed, live, limit)] == gone
    assert truncate([], live, 0) == ()


def test_x13_truncation_leaves_what_is_going_already() -> None:
    listed = [kept("web:1", 1, deletionTimestamp="2026-01-01T00:00:00Z"), kept("web:2", 2), kept("web:3", 3)]
    assert [r.revision for r in truncate(listed, (), 1)] == [2]


def test_another_kind_brings_its_own_form() -> None:
    form = Form(lambda spec: json.dumps(spec, sort_keys=True).encode(), lambda data: data.lower())
    how: dict[str, Any] = {"form": form, "labels": {"set": "web"}, "annotations": {"hash": "h"}, "namespace": "system"}
    chosen = pick([], {"A": 1}, **how)
    (create,) = chosen.writes
    assert isinstance(create, CreateRevision)
    assert create.body["metadata"]["namespace"] == "system"
    assert create.body["metadata"]["labels"]["set"] == "web"
    assert create.body["metadata"]["annotations"] == {"hash": "h"}
    made = stored(create.body)
    assert pick([made], {"a": 1}, **how).writes == (), "equal as the form says"
    assert resolve_exists(pick([], {"a": 1}, **how), made, STATEFULSETS, SET, form=form).writes == ()
