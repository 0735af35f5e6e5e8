"""Eligibility of nodes, against the recorded answers."""

from __future__ import annotations

from typing import Any

import orjson

from kruise.apis.core import Node, Pod, PodTemplate
from kruise.controllers.broadcastjob.eligibility import demand_of, fits
from kruise.controllers.broadcastjob.pods import assigned_node
from kruise.runtime.client.nulls import decode_as
from tests.golden.loader import Case, parametrize, prune_ignored


@parametrize("broadcastjob-fit")
def test_fit(case: Case) -> None:
    node = decode_as(Node, orjson.dumps(case.input["node"]))
    actual: dict[str, Any] = {}
    if "pod" in case.input:
        pod = decode_as(Pod, orjson.dumps(case.input["pod"]))
        misfit = fits(pod.spec, demand_of(pod.spec), node)
        actual["assignedNode"] = assigned_node(pod)
    else:
        # The mock pod of upstream carries the node's own name, whatever the template says.
        spec = decode_as(PodTemplate, orjson.dumps(case.input["template"])).spec
        misfit = fits(spec, demand_of(spec), node, node_name=node.metadata.name)
    actual["fits"] = misfit is None
    if misfit is not None:
        actual["reason"] = misfit.text
    assert prune_ignored(case, actual) == prune_ignored(case, case.output)
