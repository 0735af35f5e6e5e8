"""Resources of sidecars: the expression language, the sums behind it, and whole policies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kruise.apis.quantity import ZERO, Quantity
from kruise.apis.sidecarset_expression import ExpressionError, evaluate, probe
from kruise.controllers.sidecarset import resources
from tests.golden.loader import Case, deviations_for, parametrize, prune_ignored

_LOWEST = "-9223372036854775808m"


def _with_facts(case: Case) -> Case:
    return replace(case, input={**case.input, "overflow": _LOWEST in str(case.output)})


@parametrize("sidecarset-resources-expr")
def test_expression(case: Case) -> None:
    expression, value = case.input["expr"], case.input["value"]
    policy = {"limits" if case.input["isLimit"] else "requests": {"cpu": expression}}
    found: dict[str, Any]
    try:
        if value is None or not expression:
            computed = resources.compute(policy, resources.Aggregate({}, {"cpu": Quantity.from_json(value)}))
            assert computed == {}, "an empty expression, and one without an amount, sets nothing"
            found = {"quantity": None if value is None else "0", "milli": 0, "format": "DecimalSI"}
            if value is None:
                found = {"quantity": None}
        else:
            got = evaluate(expression, Quantity.from_json(value))
            found = {"quantity": str(got), "milli": got.milli_value(), "format": str(got.format)}
    except ExpressionError as error:
        found = {"error": str(error)}
    if deviations_for(_with_facts(case), "refuse"):
        assert found["error"].endswith("calculation result overflows")
    else:
        assert found == case.output


@parametrize("sidecarset-resources-expr-probe")
def test_probe(case: Case) -> None:
    complaint = probe(case.input["expr"], case.input["variable"])
    assert complaint == case.output.get("error", "")
    assert (not complaint) is case.output.get("ok", False)


@parametrize("sidecarset-resources-aggregate")
def test_aggregate(case: Case) -> None:
    found = resources.aggregate(case.input["mode"], case.input["containers"])
    assert {key: str(q) for key, q in found.limits.items()} == case.output["limits"]
    assert {key: str(q) for key, q in found.requests.items()} == case.output["requests"]
    assert all(found.requests.get(key, ZERO) == 0 for key in ("cpu", "memory") if key not in case.output["requests"])


@parametrize("sidecarset-resources-policy")
def test_policy(case: Case) -> None:
    pod, policy = case.input["pod"], case.input["sidecar"]["resourcesPolicy"]
    names = {
        container["name"]
        for item in case.input["sets"]
        for field in ("containers", "initContainers")
        for container in item["spec"].get(field) or ()
    }
    found: dict[str, Any] = {"targets": []}
    try:
        chosen = resources.targets(pod, policy.get("targetContainersNameRegex") or "", names)
        found["targets"] = [container["name"] for container in chosen]
        found["resources"] = resources.compute_for(pod, policy, names)
    except resources.ResourcesError as error:
        found["error"] = str(error)
    assert prune_ignored(case, found) == prune_ignored(case, case.output)
