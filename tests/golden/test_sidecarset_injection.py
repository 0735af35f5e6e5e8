"""Injection: pods as OpenKruise makes them."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec

from kruise.apis.core import ControllerRevision
from kruise.apis.quantity import Quantity
from kruise.apis.sidecarset import SidecarSet
from kruise.controllers.sidecarset.match import canary_base
from kruise.runtime.webhook.patching import apply_patch
from kruise.webhooks.inject import InjectionRefused, Request, inject
from kruise.webhooks.inject_snapshot import Snapshot, make_snapshot
from tests.golden.loader import Case, deviations_for, normalise, parametrize, prune_ignored

NOW = "2024-11-23T10:11:12Z"


def typed(value: Any, kind: type[Any]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value), type=kind)


def snapshot_of(case: Case) -> Snapshot:
    return make_snapshot(
        [typed(item, SidecarSet) for item in case.input["sets"]],
        {item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in case.input["namespaces"]},
        [typed(item, ControllerRevision) for item in case.input.get("revisions") or ()],
    )


def with_facts(case: Case) -> Case:
    """Add what rules speak about and no single path of the input shows."""
    bases = {canary_base(item["metadata"].get("annotations")) for item in case.input["sets"]}
    names = Counter(
        container["name"]
        for item in case.input["sets"]
        if item["metadata"]["name"] not in bases
        for field in ("containers", "initContainers")
        for container in item["spec"].get(field) or ()
    )
    facts = {
        "oneContainerOfTwoSets": any(count > 1 for count in names.values()),
        "errorOfADecoder": "unmarshal failed: " in str(case.output),
        "podQuantitiesRespelt": respelt(case.input["pod"]) != case.input["pod"],
    }
    return replace(case, input={**case.input, "facts": facts})


def respelt(pod: dict[str, Any]) -> dict[str, Any]:
    """Return *pod* with its quantities as Go writes them."""
    pod = copy.deepcopy(pod)
    for field in ("containers", "initContainers"):
        for container in pod["spec"].get(field) or ():
            for amounts in (container.get("resources") or {}).values():
                for name, value in amounts.items():
                    amounts[name] = str(Quantity.from_json(value))
    return pod


def answer(case: Case, pod: dict[str, Any]) -> dict[str, Any]:
    request = Request(
        uid="0e7f3d2a-6b1c-4c55-9d3f-b3b1f9f0a001",
        namespace="default",
        operation=case.input["operation"],
        resource=case.input.get("resource", "pods"),
        sub_resource=case.input.get("subResource", ""),
    )
    sort = case.gates.get("EnableSortSidecarContainerByName", False)
    try:
        outcome = inject(pod, request, snapshot_of(case), now=NOW, sort_by_name=sort)
    except InjectionRefused as error:
        return {"error": str(error)}
    patched = apply_patch(pod, msgspec.json.decode(outcome.patch or b"[]"))
    # The webhook's bytes and plain JSON are two ways in; they must lead to the same patch.
    assert inject(msgspec.json.encode(pod), request, snapshot_of(case), now=NOW, sort_by_name=sort) == outcome
    return {"skip": not outcome.patch, "pod": patched}


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items()}
    if isinstance(value, list):
        return [timeless(item) for item in value]
    return value.replace(NOW, "NOW") if isinstance(value, str) else value


@parametrize("sidecarset-injection")
def test_injection(case: Case) -> None:
    case = with_facts(case)
    pod = copy.deepcopy(case.input["pod"])
    found = timeless(answer(case, pod))
    assert pod == case.input["pod"], "the pod of the request is not changed"
    if deviations_for(case, "unchanged"):
        assert found == {"skip": True, "pod": pod}
    elif deviations_for(case, "first-set-only"):
        _compare_first(case, found)
    elif deviations_for(case, "own-words"):
        head, mark, _ = case.output["error"].partition("unmarshal failed: ")
        assert found["error"].startswith(head + mark)
    elif "crash" in case.output:
        assert "pod" in found
    else:
        wanted = prune_ignored(case, case.output)
        if deviations_for(case, "respell"):
            found["pod"] = respelt(found["pod"])
        assert normalise(prune_ignored(case, found)) == normalise(wanted)


def _compare_first(case: Case, found: dict[str, Any]) -> None:
    """The first set that provides a container keeps it, and nothing of the other one is left."""
    alone = replace(case, input={**case.input, "sets": case.input["sets"][:1]})
    assert found == timeless(answer(alone, case.input["pod"]))
