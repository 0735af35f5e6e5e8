"""Whose a pod is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kruise.apis.core import PODS, Pod
from kruise.apis.selectors import SelectorError
from kruise.controllers.common.owner import may_adopt
from kruise.controllers.statefulset.claiming import (
    Claiming,
    adoption_patch,
    decide,
    release_patch,
    selector_of,
)
from kruise.runtime.client.noop import PatchKind, would_change
from kruise.runtime.client.preconditions import check_patch
from kruise.runtime.objects import Unreadable, controller_of
from kruise.simulator.apiserver.strategic import strategic_merge
from tests.unit.controllers.asts_identity import STAMP, a_pod, a_set, as_json, owner

OURS = owner("StatefulSet", "web", "set-uid", controller=True, blockOwnerDeletion=True)
THEIRS = owner("StatefulSet", "web", "older-uid", controller=True, blockOwnerDeletion=True)
BESIDE = owner("Backup", "nightly", "b")
OTHER = {"app": "other"}


def one(name: str = "web-0", **meta: Any) -> Pod:
    return a_pod(name, metadata={"ownerReferences": [], **meta})


@pytest.mark.parametrize(
    ("pod", "alive", "dying"),
    [
        (one(ownerReferences=[OURS]), Claiming.KEEP, Claiming.KEEP),
        (one(ownerReferences=[OURS], deletionTimestamp=STAMP), Claiming.KEEP, Claiming.KEEP),
        (one("web-99", ownerReferences=[OURS]), Claiming.KEEP, Claiming.KEEP),
        (one(ownerReferences=[OURS], labels=OTHER), Claiming.RELEASE, Claiming.IGNORE),
        (one("web-00", ownerReferences=[OURS]), Claiming.RELEASE, Claiming.IGNORE),
        (one("db-0", ownerReferences=[OURS]), Claiming.RELEASE, Claiming.IGNORE),
        (one(ownerReferences=[OURS], namespace="elsewhere"), Claiming.RELEASE, Claiming.IGNORE),
        (one(ownerReferences=[THEIRS]), Claiming.IGNORE, Claiming.IGNORE),
        (one(ownerReferences=[THEIRS], labels=OTHER), Claiming.IGNORE, Claiming.IGNORE),
        (one(), Claiming.ADOPT, Claiming.IGNORE),
        (one(ownerReferences=[BESIDE]), Claiming.ADOPT, Claiming.IGNORE),
        (one(deletionTimestamp=STAMP), Claiming.IGNORE, Claiming.IGNORE),
        (one(labels=OTHER), Claiming.IGNORE, Claiming.IGNORE),
        (one("web-00"), Claiming.IGNORE, Claiming.IGNORE),
        (one("web"), Claiming.IGNORE, Claiming.IGNORE),
    ],
)
def test_g1_whose_a_pod_is(pod: Pod, alive: Claiming, dying: Claiming) -> None:
    for sts, wanted in ((a_set(), alive), (a_set(terminating=True), dying)):
        assert decide(sts, selector_of(sts), pod) is wanted
        blurred = Unreadable(metadata=pod.metadata, problem="x", path="$.spec")
        assert decide(sts, selector_of(sts), blurred) is wanted


def test_rule_10_only_the_same_living_set_adopts() -> None:
    sts = a_set()
    assert may_adopt(sts, a_set())
    assert not may_adopt(sts, None)
    assert not may_adopt(sts, a_set(uid="newer"))
    assert not may_adopt(sts, a_set(terminating=True))


def merged(pod: Pod, patch: dict[str, Any]) -> Pod:
    return msgspec.convert(strategic_merge(as_json(pod), patch), Pod)


def test_adoption_and_release_change_the_reference_of_the_set_alone() -> None:
    sts = a_set()
    orphan = one(ownerReferences=[BESIDE])
    adopted = merged(orphan, adoption_patch(sts))
    ref = controller_of(adopted.metadata)
    assert ref is not None
    assert msgspec.to_builtins(ref) == OURS
    assert decide(sts, selector_of(sts), adopted) is Claiming.KEEP
    released = merged(adopted, release_patch(sts))
    assert released.metadata.owner_references == orphan.metadata.owner_references


@pytest.mark.parametrize("patch", [adoption_patch(a_set()), release_patch(a_set())])
def test_rule_1_both_patches_may_go_with_the_uid_alone(patch: dict[str, Any]) -> None:
    pod = one(ownerReferences=[OURS])
    check_patch(PODS, pod, patch, PatchKind.STRATEGIC, "", "", uid_alone=True)


def test_neither_patch_is_taken_for_one_that_changes_nothing() -> None:
    sts = a_set()
    assert would_change(one(), adoption_patch(sts), PatchKind.STRATEGIC)
    assert would_change(one(ownerReferences=[OURS]), release_patch(sts), PatchKind.STRATEGIC)


def test_a_missing_selector_selects_nothing_and_a_broken_one_is_an_error() -> None:
    sts = a_set(selector=None)
    assert decide(sts, selector_of(sts), one()) is Claiming.IGNORE
    broken = {"matchExpressions": [{"key": "app", "operator": "Like", "values": ["w"]}]}
    with pytest.raises(SelectorError):
        selector_of(a_set(selector=broken))


def test_expressions_select_too() -> None:
    sts = a_set(selector={"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "x"]}]})
    assert decide(sts, selector_of(sts), one()) is Claiming.ADOPT
    assert decide(sts, selector_of(sts), one(labels=OTHER)) is Claiming.IGNORE
