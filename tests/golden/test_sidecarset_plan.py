"""Which pods a SidecarSet has, what it counts, and which ones it upgrades now, against the recorded answers."""

from __future__ import annotations

from typing import Any

from kruise.apis.core import Pod
from kruise.controllers.sidecarset import slots as m
from kruise.controllers.sidecarset.plan import upgrades
from kruise.controllers.sidecarset.view import View
from tests.golden.loader import Case, deviations_for, parametrize, prune_ignored
from tests.golden.pod_flow import typed
from tests.golden.sidecar_world import JSON, NOW, set_of, spaces_of


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
