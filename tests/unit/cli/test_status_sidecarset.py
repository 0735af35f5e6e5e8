"""``kruise status scs/NAME``: a reason for every selected pod that is not as desired, in all namespaces."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from kruise.cli import status, status_sidecarset
from kruise.cli.seen_sidecarset import Seen, observe
from kruise.cli.status_sidecarset import as_document, as_table, ended, exit_code
from kruise.runtime.errors import ConfigError, NotFound, RuntimeFault
from tests.unit.cli.sidecars import OWN, Body, Place

GREEN = {
    "Available": ("True", "MinimumReplicasAvailable", "2 of 2 pods are ready, 1 are enough"),
    "Progressing": ("False", "Complete", "every pod has the latest sidecars, and is ready"),
    "Injected": ("True", "Injected", "every pod that should have the sidecars was created with them"),
}


async def seen(place: Place, name: str = "mesh") -> Seen:
    return await observe(place.cluster(), name)


async def reasons(place: Place, name: str = "mesh") -> dict[str, str]:
    return {str(row.key): row.reason for row in (await seen(place, name)).rows}


async def verdict(place: Place) -> tuple[str, int, bool]:
    found = await seen(place)
    return as_document(found)["state"], exit_code(found), ended(found)


def run(monkeypatch: pytest.MonkeyPatch, place: Place, *argv: str) -> Any:
    place.connects(monkeypatch, status)
    parser = argparse.ArgumentParser()
    status.add_parser(parser.add_subparsers())
    return status.run(parser.parse_args(["status", "scs/mesh", *argv]))


def two_pods(place: Place) -> None:
    place.label_namespace("shop")
    place.put_set()
    place.put_pod("a")
    place.put_pod("b", namespace="shop", node="node-2")


# Names.


@pytest.mark.parametrize("kind", ["scs", "SCS", "sidecarset", "SidecarSets", "sidecarset.apps.kruise.io"])
def test_a_target(kind: str) -> None:
    assert status.parse_target(f"{kind}/mesh") == (status_sidecarset.look, "mesh")


@pytest.mark.parametrize(("text", "meant"), [("sidecarst/mesh", "sidecarset/mesh"), ("scss/mesh", "scs/mesh")])
def test_a_mistyped_kind_is_told_what_may_be_meant(text: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"scs \(SidecarSet\); did you mean {meant}"):
        status.parse_target(text)


def test_a_kind_like_no_other_is_told_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"or scs \(SidecarSet\)$"):
        status.parse_target("deploy/web")


# What stands in the way.


async def test_everything_as_desired_has_no_reason_whatever_the_namespace() -> None:
    place = Place()
    two_pods(place)
    found = await seen(place)
    assert found.rows == ()
    assert as_document(found)["counts"] == {
        "matched": 2, "updated": 2, "ready": 2, "updatedReady": 2, "notInjected": 0
    }  # fmt: skip
    assert await verdict(place) == ("as desired", 0, True)


async def test_a_new_image_has_those_that_go_and_those_that_wait() -> None:
    place = Place()
    two_pods(place)
    place.put_set(containers=[{"name": "proxy", "image": "proxy:2"}])
    found = {str(row.key): row for row in (await seen(place)).rows}
    assert {key: row.reason for key, row in found.items()} == {
        "default/a": "Updating",
        "shop/b": "MaxUnavailableReached",
    }
    first = found["default/a"]
    assert (first.state, first.node, first.decision.evidence) == ("Outdated", "node-1", "the next pass upgrades it")
    assert "is one running" in first.decision.unblocked_by
    assert await verdict(place) == ("moves", 0, False)


@pytest.mark.parametrize(
    ("strategy", "reason", "state", "over"),
    [
        ({"paused": True}, "Paused", "paused", True),
        ({"partition": "100%"}, "PartitionHeld", "held by the partition", True),
        ({"type": "NotUpdate"}, "NotUpdate", "does not update", True),
        ({"selector": {"matchLabels": {"x": "y"}}}, "SelectorMismatch", "held by the selector of the update", True),
    ],
)
async def test_what_somebody_wants_so_is_no_failure(strategy: Body, reason: str, state: str, over: bool) -> None:
    place = Place()
    two_pods(place)
    place.put_set(containers=[{"name": "proxy", "image": "proxy:2"}], updateStrategy=strategy)
    assert set((await reasons(place)).values()) == {reason}
    assert await verdict(place) == (state, 0, over)


async def test_no_budget_at_all_does_not_move_and_is_2() -> None:
    place = Place()
    two_pods(place)
    place.put_set(containers=[{"name": "proxy", "image": "proxy:2"}], updateStrategy={"maxUnavailable": 0})
    assert set((await reasons(place)).values()) == {"MaxUnavailableReached"}
    assert await verdict(place) == ("does not move", 2, False)


async def test_more_than_an_image_names_the_fields() -> None:
    place = Place()
    two_pods(place)
    place.put_set(containers=[{"name": "proxy", "image": "proxy:2", "env": [{"name": "A", "value": "b"}]}])
    fields = "containers[proxy].env"
    assert set((await reasons(place)).values()) == {f"ImmutableFieldChanged({fields})"}
    document = as_document(await seen(place))
    assert document["decisions"][0]["fields"] == [fields]
    assert document["decisions"][0]["reason"] == "ImmutableFieldChanged"
    assert await verdict(place) == ("degraded", 2, True)


async def test_whoever_may_not_read_the_revisions_is_told_so() -> None:
    place = Place()
    two_pods(place)
    place.put_set(containers=[{"name": "proxy", "image": "proxy:1", "env": [{"name": "A", "value": "b"}]}])
    place.forbid("controllerrevisions")
    found = await seen(place)
    assert {row.reason for row in found.rows} == {"ImmutableFieldChanged"}
    assert f"the revisions in the namespace {OWN} cannot be read" in found.rows[0].decision.evidence
    assert "cannot be read" in as_document(found)["hidden"]


async def test_an_image_that_cannot_be_pulled_is_2_and_shown_first() -> None:
    place = Place()
    two_pods(place)
    place.put_set(containers=[{"name": "proxy", "image": "proxy:2"}])

    def upgraded(pod: Body) -> None:
        pod["metadata"]["name"] = "c"

    place.put_pod("c", edit=upgraded)
    waits = {"waiting": {"reason": "ImagePullBackOff", "message": "back-off"}}
    place.run_pod("c", waiting={"proxy": waits})
    found = await reasons(place)
    assert found["default/c"] == "ImagePullFailed"
    table = as_table(await seen(place)).splitlines()
    assert table[0] == "SidecarSet mesh: degraded"
    first = next(line for line in table if line.startswith(("default/", "shop/")))
    assert first.startswith("default/c ")
    assert (await verdict(place))[1:] == (2, False)


# Pods without the sidecars.


async def test_c11_a_pod_that_was_missed_is_told_from_one_that_was_there_before() -> None:
    place = Place()
    place.put_pod("old", injected=False)
    place.clock.at += 60
    place.put_set()
    place.clock.at += 60
    place.put_pod("missed", injected=False)
    place.put_pod("exempt", labels={"app": "shop", "apps.kruise.io/sidecarset-injection": "disabled"}, injected=False)
    place.put_pod("system", namespace="kube-system", injected=False)
    found = {str(row.key): row for row in (await seen(place)).rows}
    assert {key: row.reason for key, row in found.items()} == {
        "default/old": "CreatedBeforeSidecarSet",
        "default/missed": "NotInjected",
        "default/exempt": "InjectionExempt",
        "kube-system/system": "InjectionExempt",
    }
    assert found["default/missed"].decision.evidence.endswith("a pod like it would get them now")
    assert {row.state for row in found.values()} == {"NotInjected"}
    assert await verdict(place) == ("degraded", 2, True)


async def test_a_cluster_in_which_nothing_calls_a_manager_is_told_from_an_outage() -> None:
    place = Place()
    place.put_set()
    place.clock.at += 60
    place.put_pod("missed", injected=False)
    place.unregister()
    (row,) = (await seen(place)).rows
    assert row.reason == "NotInjected"
    assert "there is no MutatingWebhookConfiguration" in row.decision.evidence


async def test_c4_a_conflict_names_the_other_set() -> None:
    place = Place()
    place.put_set("base", containers=[{"name": "proxy", "image": "other:1"}])
    place.put_set()
    place.clock.at += 60
    place.put_pod("a")
    rows = (await seen(place)).rows
    assert [row.reason for row in rows] == ["ContainerNameConflict"]
    assert rows[0].decision.evidence == "SidecarSet base already provides the container proxy"
    assert exit_code(await seen(place)) == 2


async def test_c9_a_level_that_forbids_the_sidecar_is_named() -> None:
    place = Place()
    place.label_namespace("strict", **{"pod-security.kubernetes.io/enforce": "restricted"})
    place.put_set()
    place.clock.at += 60
    place.put_pod("a", namespace="strict")
    rows = (await seen(place)).rows
    assert [row.reason for row in rows] == ["NotInjected"]
    assert "the namespace enforces Pod Security restricted" in rows[0].decision.evidence


async def test_a_pod_that_would_not_get_them_today_says_why() -> None:
    place = Place()
    place.put_set(initContainers=None, containers=[{"name": "proxy", "image": "p:1"}])
    place.clock.at += 60
    place.put_pod("a", spec={"initContainers": [{"name": "proxy", "image": "i"}]})
    (row,) = (await seen(place)).rows
    assert row.reason == "ContainerNameConflict"
    assert "the pod has an init container called proxy" in row.decision.evidence


async def test_a_namespace_that_is_not_selected_has_its_reason() -> None:
    place = Place()
    place.label_namespace("shop", tier="front")
    place.put_set(namespaceSelector={"matchLabels": {"tier": "front"}})
    place.put_pod("a")
    place.put_pod("b", namespace="shop")
    assert await reasons(place) == {"default/a": "NamespaceNotSelected"}
    document = as_document(await seen(place))
    assert document["namespaces"] == "namespaces with tier=front"
    assert document["counts"]["matched"] == 1
    assert await verdict(place) == ("as desired", 0, True)


async def test_paused_injection_is_no_failure() -> None:
    place = Place()
    place.put_set(injectionStrategy={"paused": True})
    place.clock.at += 60
    place.put_pod("a")
    assert await reasons(place) == {"default/a": "InjectionPaused"}
    assert (await verdict(place))[1] == 0


async def test_a_canary_in_the_place_of_its_base_is_as_desired() -> None:
    place = Place()
    place.put_set()
    marks = {"apps.kruise.io/sidecarset-canary": "true", "apps.kruise.io/sidecarset-base": "mesh"}
    place.put_set("canary", annotations=marks, updateStrategy={"type": "NotUpdate"})
    place.clock.at += 60
    place.put_pod("a")
    assert await reasons(place) == {}
    assert await reasons(place, "canary") == {}


# Table, document, exit codes.


async def test_the_table_for_a_person() -> None:
    place = Place()
    two_pods(place)
    place.put_set(containers=[{"name": "proxy", "image": "proxy:2"}], updateStrategy={"maxUnavailable": "50%"})
    place.say(Progressing=("True", "Updating", "0 of 2 pods have the latest sidecars"))
    text = as_table(await seen(place))
    revision = (await seen(place)).view.revision
    lines = text.splitlines()
    assert lines[:5] == [
        "SidecarSet mesh: moves",
        f"RollingUpdate, revision {revision}, all namespaces",
        "2 pods injected: 0 updated, 2 ready, 0 both; partition 0, maxUnavailable 50% (1), on their way 0",
        "Progressing=True Updating: 0 of 2 pods have the latest sidecars",
        "",
    ]
    assert lines[5].split() == ["POD", "NODE", "REVISION", "STATE", "REASON", "NEXT", "CHECK", "EVIDENCE"]
    assert "MaxUnavailableReached: unblocked by the pods that are on their way" in text


async def test_many_pods_are_counted_in_the_table_and_complete_in_the_document() -> None:
    place = Place()
    place.put_set()
    for number in range(25):
        place.put_pod(f"p-{number:02}")
    place.put_set(containers=[{"name": "proxy", "image": "proxy:2"}], updateStrategy={"paused": True})
    found = await seen(place)
    assert "... and 5 more pods (5 Paused); -o json has them all" in as_table(found)
    assert len(as_document(found)["decisions"]) == 25


async def test_the_document_is_json_with_the_facts_of_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place()
    two_pods(place)
    place.put_set(containers=[{"name": "proxy", "image": "proxy:2"}])
    assert await run(monkeypatch, place, "-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "SidecarSet"
    assert document["budget"] == {"maxUnavailable": 1, "pods": 1, "used": 0}
    assert {d["subject"] for d in document["decisions"]} == {"pod default/a", "pod shop/b"}
    assert set(document["decisions"][0]) == {
        "subject", "reason", "namespace", "pod", "node", "revision", "state", "evidence", "since", "nextCheck",
        "unblockedBy",
    }  # fmt: skip


async def test_a_set_that_no_manager_saw_is_watched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    place.put_set(observed=False)
    assert await verdict(place) == ("not seen by a manager yet", 0, False)
    assert await run(monkeypatch, place, "-w", "--timeout", "5") == 3


async def test_watch_ends_when_it_is_as_desired(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place()
    two_pods(place)
    place.say(**GREEN)
    assert await run(monkeypatch, place, "-w") == 0
    assert "SidecarSet mesh: as desired" in capsys.readouterr().out


async def test_a_broken_spec_is_stalled_and_2() -> None:
    place = Place()
    place.put_set()
    place.set_as_stored(selector={"matchExpressions": [{"key": "a", "operator": "Odd"}]})
    assert await verdict(place) == ("stalled", 2, True)
    assert 'InvalidSpec: spec.selector or spec.namespaceSelector: "Odd"' in as_table(await seen(place))


async def test_a_set_that_no_webhook_saw_is_told_as_that() -> None:
    place = Place()
    place.put_set()
    assert as_document(await seen(place))["notes"] == []
    place.server.patch("sidecarsets.apps.kruise.io", "mesh", {"metadata": {"annotations": None}})
    assert "note: it has no hash" in as_table(await seen(place))
    assert as_document(await seen(place))["notes"]


# Errors.


async def test_a_missing_set_and_a_missing_crd_are_told() -> None:
    place = Place()
    with pytest.raises(NotFound, match="not found"):
        await seen(place, "nobody")
    place.server.delete("customresourcedefinitions.apiextensions.k8s.io", "sidecarsets.apps.kruise.io")
    with pytest.raises(RuntimeFault, match="make install"):
        await seen(place)


async def test_it_writes_nothing() -> None:
    place = Place()
    two_pods(place)
    place.put_set(containers=[{"name": "proxy", "image": "proxy:2"}])
    await seen(place)
    assert place.server.log.writes(actor="cli") == []
