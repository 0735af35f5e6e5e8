"""Which pods a SidecarSet has, what it counts, and which ones it upgrades now, against the recorded answers."""

from __future__ import annotations

from typing import Any

from kruise.apis.core import Pod
from kruise.controllers.sidecarset import slots as m
from kruise.controllers.sidecarset.actions import RESET_NOTE, RESET_SUCCEEDED, Change, Why
from kruise.controllers.sidecarset.plan import plan, upgrades
from kruise.controllers.sidecarset.revisions import choose_revision, revisions_of, surplus
from kruise.controllers.sidecarset.status import counted, counts_differ, settle, wire
from kruise.controllers.sidecarset.view import View
from tests.golden.loader import Case, deviations_for, normalise, parametrize, prune_ignored
from tests.golden.pod_flow import after_write, typed
from tests.golden.sidecar_world import JSON, NOW, comparable, revision, set_of, spaces_of, stamped


def given_view(case: Case, pods: list[Pod], **more: Any) -> View:
    """A view of the given pods, in the namespaces of the case, or else in those that the pods name."""
    spaces = {pod.metadata.namespace: {} for pod in pods} | spaces_of(case.input.get("namespaces") or ())
    return View.of(set_of(case.input["set"]), pods, spaces, **more)


def pods_of(case: Case) -> list[Pod]:
    return [typed(body) for body in case.input["pods"]]


# ---- whose pods ------------------------------------------------------------------------------------------------------


@parametrize("sidecarset-matching-pods")
def test_matching_pods(case: Case) -> None:
    view = View.of(set_of(case.input["set"]), pods_of(case), spaces_of(case.input["namespaces"]))
    found = [str(slot.key) for slot in view.slots() if slot.has(m.MATCHED)]
    if case.input["set"]["spec"].get("selector") == {}:
        assert deviations_for(case, "empty-selector")
        assert found == []
        return
    assert sorted(found) == sorted(case.output["pods"])


# ---- selection -------------------------------------------------------------------------------------------------------


@parametrize("sidecarset-upgrade-select")
def test_c5_select(case: Case) -> None:
    view = given_view(case, pods_of(case))
    assert view.count(m.MATCHED) == len(case.input["pods"])
    immutable = [key.name for key in view.listed(m.IMMUTABLE)]
    assert sorted(immutable) == sorted(case.output["notUpgradable"])
    assert [one.pod.metadata.name for one in upgrades(view, NOW)] == case.output["upgrade"]


# ---- events ----------------------------------------------------------------------------------------------------------


@parametrize("sidecarset-pod-event")
def test_pod_event(case: Case) -> None:
    old, new = typed(case.input["oldPod"]), typed(case.input["pod"])
    view = given_view(case, [old])
    found = view.set_pod(new.key, new)
    wanted: JSON = prune_ignored(case, case.output)
    assert "delaySeconds" not in wanted
    if new.metadata.labels != old.metadata.labels and not view.has_stake(new):
        return
    assert found == (wanted["statusChanged"] or wanted["consistencyOrLabelsChanged"])


# ---- status ----------------------------------------------------------------------------------------------------------


@parametrize("sidecarset-status")
def test_s8_status(case: Case) -> None:
    view = given_view(case, pods_of(case), revision=case.input["latestRevision"])
    found = counted(view, case.input["collisionCount"])
    assert view.count(m.MATCHED) == len(case.input["pods"])
    assert normalise(wire(found)) == normalise(case.output["status"])
    assert counts_differ(view.frame.set.status, found) == case.output["changed"]
    assert (found.updated_pods >= found.matched_pods) == case.output["allUpdated"]


# ---- a whole pass ----------------------------------------------------------------------------------------------------


def after(pods: list[JSON], changes: tuple[Change, ...]) -> list[JSON]:
    """The stored pods after the changes; each write must change something."""
    stored = {body["metadata"]["name"]: body for body in pods}
    for change in changes:
        name = change.pod.metadata.name
        for write in change.writes:
            body = after_write(stored[name], write)
            assert body != stored[name], f"a write that changes nothing: {write}"
            stored[name] = body
    return [comparable(body) for body in stored.values()]


@parametrize("sidecarset-reconcile")
def test_c5_a_whole_pass(case: Case) -> None:
    one = set_of(case.input["set"])
    stored = [revision(body) for body in case.input["revisions"]]
    chosen = choose_revision(one, revisions_of(one, stored, "kruise-system"), "kruise-system")
    view = given_view(case, pods_of(case), revision=chosen.update.name)
    found = plan(view, NOW)
    status = settle(view, found, collision_count=chosen.collision_count).status
    assert status is not None
    counts = {key: value for key, value in wire(status).items() if key != "conditions"}
    assert normalise(counts) == normalise(case.output["status"])
    assert after(case.input["pods"], found.changes) == [comparable(stamped(body)) for body in case.output["pods"]]
    told = [f"{event.type} {event.reason} {event.note}" for event in found.events]
    told += [f"Normal {RESET_SUCCEEDED} {RESET_NOTE}" for change in found.of(Why.FLIP)]
    assert len(told) == len(case.output["events"])
    for have, want in zip(sorted(told), sorted(case.output["events"]), strict=True):
        assert have == want or (have.startswith(want) and deviations_for(case, "examples"))
    numbers = {obj.metadata.name: obj.revision for obj in stored}
    numbers[chosen.update.name] = chosen.update.number
    for gone in surplus(one, chosen, view.revisions_in_use()):
        del numbers[gone.metadata.name]
    assert sorted(f"{name}@{number}" for name, number in numbers.items()) == sorted(case.output["revisions"])
    # Recorded pods in the middle of a hot upgrade lack the condition that its first step writes: it is made up for.
    flipped = {change.pod.key for change in found.of(Why.FLIP)}
    marks = plan(view_after(case, found.changes, chosen.update.name), NOW).of(Why.MARK)
    assert {change.pod.key for change in marks} <= flipped


def view_after(case: Case, changes: tuple[Change, ...], latest: str) -> View:
    """A view of what the changes leave."""
    bodies = {body["metadata"]["name"]: body for body in case.input["pods"]}
    for change in changes:
        for write in change.writes:
            name = change.pod.metadata.name
            bodies[name] = after_write(bodies[name], write)
    return given_view(case, [typed(body) for body in bodies.values()], revision=latest)
