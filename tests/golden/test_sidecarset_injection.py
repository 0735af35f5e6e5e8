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


def names_of(item: dict[str, Any], field: str) -> set[str]:
    """The names that the containers of a set have in pods."""
    names = set()
    for container in item["spec"].get(field) or ():
        hot = (container.get("upgradeStrategy") or {}).get("upgradeType") == "HotUpgrade"
        names |= {f"{container['name']}-1", f"{container['name']}-2"} if hot else {container["name"]}
    return names


def depends_on_pod(container: dict[str, Any]) -> bool:
    shares = (container.get(field) or {} for field in ("shareVolumePolicy", "shareVolumeDevicePolicy"))
    asks = container.get("transferEnv") or container.get("resourcesPolicy")
    return bool(asks) or any(share.get("type") == "enabled" for share in shares)


def with_facts(case: Case) -> Case:
    """Add what rules speak about and no single path of the input shows."""
    bases = {canary_base(item["metadata"].get("annotations")) for item in case.input["sets"]}
    sets = [item for item in case.input["sets"] if item["metadata"]["name"] not in bases]
    providers = Counter(
        name for item in sets for name in names_of(item, "containers") | names_of(item, "initContainers")
    )
    volumes: dict[str, list[Any]] = {}
    for item in sets:
        for volume in item["spec"].get("volumes") or ():
            volumes.setdefault(volume["name"], []).append((item["metadata"]["name"], volume))
    pod = case.input["pod"]
    own = {field: {c["name"] for c in pod["spec"].get(field) or ()} for field in ("containers", "initContainers")}
    told = str((pod["metadata"].get("annotations") or {}).get("kruise.io/sidecarset-hash"))
    hashes = [(item["metadata"].get("annotations") or {}).get("kruise.io/sidecarset-hash") for item in sets]
    facts = {
        "oneContainerOfTwoSets": any(count > 1 for count in providers.values()),
        "oneVolumeOfTwoSets": any(
            one != two and volume != other
            for found in volumes.values()
            for one, volume in found
            for two, other in found
        ),
        "nameInBothLists": any(
            names_of(item, "containers") & own["initContainers"] or names_of(item, "initContainers") & own["containers"]
            for item in sets
        ),
        "ownContainerGivesWay": any(
            own["containers"] & set(providers) and depends_on_pod(container)
            for item in sets
            for field in ("containers", "initContainers")
            for container in item["spec"].get(field) or ()
        ),
        "injectedBefore": any(f'"{one}"' in told for one in hashes if one),
        "errorOfADecoder": "unmarshal failed: " in str(case.output),
        "podQuantitiesRespelt": respelt(pod) != pod,
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
    elif deviations_for(case, "left-out"):
        marks = found["pod"]["metadata"].get("annotations") or {}
        assert case.input["sets"][0]["metadata"]["name"] not in marks.get("kruise.io/sidecarset-injected-list", "")
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
