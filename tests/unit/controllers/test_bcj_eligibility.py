"""May a pod run on a node: each rule, and the order of the rules."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kruise.apis.core import PodSpec
from kruise.controllers.broadcastjob.eligibility import demand_of, fits
from kruise.controllers.common.reasons import Reason
from kruise.runtime.client.nulls import decode_as
from tests.unit.controllers.bcj import node


def spec_of(**spec: Any) -> PodSpec:
    return decode_as(PodSpec, orjson.dumps(spec))


def judge(spec: dict[str, Any], **parts: Any) -> Reason | None:
    made = spec_of(**spec)
    found = fits(made, demand_of(made), node("n1", **parts))
    return None if found is None else found.reason


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    wanted = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": wanted}}


def label(operator: str, *values: str, key: str = "disk") -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def by_field(operator: str, *values: str, key: str = "metadata.name") -> dict[str, Any]:
    return {"matchFields": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(("name", "ok"), [("", True), ("n1", True), ("n2", False)])
def test_the_node_name(name: str, ok: bool) -> None:
    assert (judge({"nodeName": name}) is None) is ok


@pytest.mark.parametrize(
    ("spec", "ok"),
    [
        ({"nodeSelector": {"disk": "ssd"}}, True),
        ({"nodeSelector": {"disk": "hdd"}}, False),
        ({"nodeSelector": {"none": ""}}, False),
        (required(), False),
        (required({}), False),
        (required({}, label("In", "ssd")), True),
        (required(label("In", "hdd", "ssd")), True),
        (required(label("In", "hdd")), False),
        (required(label("In")), False),
        (required(label("In", "ssd", "not valid!")), False),
        (required(label("NotIn", "hdd")), True),
        (required(label("NotIn", "ssd")), False),
        (required(label("NotIn", "x", key="none")), True),
        (required(label("Exists")), True),
        (required(label("Exists", "x")), False),
        (required(label("Exists", key="none")), False),
        (required(label("DoesNotExist", key="none")), True),
        (required(label("DoesNotExist")), False),
        (required(label("Gt", "7", key="cores")), True),
        (required(label("Gt", "8", key="cores")), False),
        (required(label("Lt", "9", key="cores")), True),
        (required(label("Lt", "8", key="cores")), False),
        (required(label("Gt", "-4", key="cores")), False),
        (required(label("Gt", "1", "2", key="cores")), False),
        (required(label("Gt", "99999999999999999999", key="cores")), False),
        (required(label("Gt", "1", key="none")), False),
        (required(label("Gt", "1")), False),
        (required(label("Like", "ssd")), False),
        (required(label("In", "ssd", key="not a key!")), False),
        (required(by_field("In", "n1")), True),
        (required(by_field("In", "n2")), False),
        (required(by_field("In", "n1", "n2")), False),
        (required(by_field("NotIn", "n2")), True),
        (required(by_field("NotIn", "n1")), False),
        (required(by_field("Exists")), False),
        (required(by_field("In", "", key="other")), True),
        (required(by_field("NotIn", "x", key="other")), True),
        (required({**label("In", "ssd"), **by_field("In", "n2")}), False),
        ({"affinity": {}}, True),
        ({"affinity": {"nodeAffinity": {}}}, True),
    ],
)
def test_selector_and_affinity(spec: dict[str, Any], ok: bool) -> None:
    found = judge(spec, labels={"disk": "ssd", "cores": "8"})
    assert found is (None if ok else Reason.NODE_AFFINITY_MISMATCH)


TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("taint", "toleration", "ok"),
    [
        (TAINT, None, False),
        ({**TAINT, "effect": "NoExecute"}, None, False),
        ({**TAINT, "effect": "PreferNoSchedule"}, None, True),
        (TAINT, {"key": "gpu", "value": "yes", "effect": "NoSchedule"}, True),
        (TAINT, {"key": "gpu", "operator": "Equal", "value": "yes"}, True),
        (TAINT, {"key": "gpu", "value": "no"}, False),
        (TAINT, {"key": "other", "operator": "Exists"}, False),
        (TAINT, {"key": "gpu", "operator": "Exists"}, True),
        (TAINT, {"operator": "Exists"}, True),
        (TAINT, {"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        (TAINT, {"key": "gpu", "operator": "Odd"}, False),
    ],
)
def test_taints(taint: dict[str, str], toleration: dict[str, str] | None, ok: bool) -> None:
    found = judge({"tolerations": [toleration] if toleration else []}, taints=[taint])
    assert found is (None if ok else Reason.TAINT_NOT_TOLERATED)


def test_the_taint_is_named() -> None:
    made = spec_of()
    found = fits(made, demand_of(made), node("n1", taints=[TAINT]))
    assert found is not None
    assert found.taint == "gpu"
    assert "{gpu: yes}" in found.text


def test_a_cordon_is_a_taint_of_its_own() -> None:
    assert judge({}, unschedulable=True) is Reason.NODE_CORDONED
    tolerated = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}
    assert judge({"tolerations": [tolerated]}, unschedulable=True) is None


def test_a_cordoned_node_is_called_cordoned_for_all_its_taint() -> None:
    taint = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    assert judge({}, unschedulable=True, taints=[taint]) is Reason.NODE_CORDONED
    assert judge({}, taints=[taint]) is Reason.TAINT_NOT_TOLERATED


def test_the_first_rule_that_fails_is_the_answer() -> None:
    spec = {"nodeName": "n2", "nodeSelector": {"a": "b"}, "containers": [{"resources": {"requests": {"cpu": "99"}}}]}
    everything: dict[str, Any] = {"taints": [TAINT], "unschedulable": True}
    assert judge(spec, **everything) is Reason.NODE_AFFINITY_MISMATCH
    del spec["nodeName"], spec["nodeSelector"]
    assert judge(spec, **everything) is Reason.TAINT_NOT_TOLERATED
    del everything["taints"]
    assert judge(spec, **everything) is Reason.NODE_CORDONED
    assert judge(spec) is Reason.INSUFFICIENT_RESOURCES


def asks(**requests: str) -> dict[str, Any]:
    return {"containers": [{"name": "c", "resources": {"requests": requests}}]}


@pytest.mark.parametrize(
    ("spec", "allocatable", "ok"),
    [
        ({}, {}, False),
        ({}, {"pods": "0"}, False),
        ({}, {"pods": "500m"}, True),
        (asks(cpu="2"), {"pods": "1", "cpu": "2"}, True),
        (asks(cpu="2001m"), {"pods": "1", "cpu": "2"}, False),
        (asks(cpu="1"), {"pods": "1"}, False),
        (asks(cpu="1"), {"pods": "1", "cpu": "garbage"}, False),
        ({}, {"pods": "garbage"}, False),
        (asks(cpu="0"), {"pods": "1"}, True),
        (asks(memory="1Gi"), {"pods": "1", "memory": "1Gi"}, True),
        (asks(memory="1025Mi"), {"pods": "1", "memory": "1Gi"}, False),
        (asks(**{"ephemeral-storage": "2"}), {"pods": "1", "ephemeral-storage": "1"}, False),
        (asks(**{"example.com/gpu": "1"}), {"pods": "1"}, False),
        (asks(**{"example.com/gpu": "1"}), {"pods": "1", "example.com/gpu": 1}, True),
        (asks(**{"hugepages-2Mi": "2Mi"}), {"pods": "1"}, False),
        (asks(**{"attachable-volumes-x": "1"}), {"pods": "1"}, False),
        (asks(**{"x.kubernetes.io/y": "1"}), {"pods": "1"}, False),
        (asks(storage="1", pods="9", **{"requests.cpu": "9", "requests.nvidia.com/gpu": "1"}), {"pods": "1"}, True),
    ],
)
def test_resources_against_the_empty_node(spec: dict[str, Any], allocatable: dict[str, Any], ok: bool) -> None:
    assert judge(spec, allocatable=allocatable) is (None if ok else Reason.INSUFFICIENT_RESOURCES)


def test_the_demand_counts_sidecars_init_containers_and_overhead() -> None:
    one = lambda cpu, **more: {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}  # noqa: E731
    spec = spec_of(
        containers=[one("1")],
        initContainers=[one("2", restartPolicy="Always"), one("5"), one("1", restartPolicy="Always")],
        overhead={"cpu": "100m", "memory": "1Mi"},
    )
    demand = demand_of(spec)
    assert demand.cpu_milli == 7100, "the second init container beside the first sidecar is the peak"
    assert demand.amounts == (("memory", 1 << 20),)


def test_a_malformed_quantity_names_the_container() -> None:
    with pytest.raises(ValueError, match=r"container c: requests\[cpu\]"):
        demand_of(spec_of(**asks(cpu="lots")))
    with pytest.raises(ValueError, match=r"overhead\[memory\]"):
        demand_of(spec_of(overhead={"memory": "many"}))
