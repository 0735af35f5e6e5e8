"""In which order waiting pods of a SidecarSet are upgraded, against the recorded answers."""

from __future__ import annotations

from kruise.controllers.sidecarset.order import expanded, ranking, scattered
from tests.golden.loader import Case, parametrize
from tests.golden.pod_flow import typed
from tests.golden.sidecar_world import set_of


@parametrize("sidecarset-upgrade-sort")
def test_c5_order(case: Case) -> None:
    strategy = set_of(case.input["set"]).spec.update_strategy
    pods = [typed(body) for body in case.input["pods"]]
    rank = ranking(strategy.priority_strategy)
    order = sorted(case.input["indexes"], key=lambda i: rank(pods[i]))
    pairs = expanded(strategy.scatter_strategy, lambda: (pod.metadata.labels for pod in pods))
    found = scattered(
        order,
        lambda i: pods[i].metadata.labels,
        pairs,
        lambda key, value: sum(1 for pod in pods if pod.metadata.labels.get(key) == value),
        len(pods),
    )
    assert found == case.output["indexes"]
