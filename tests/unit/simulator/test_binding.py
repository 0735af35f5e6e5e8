"""The binding subresource: a pod is assigned to a node once."""

from __future__ import annotations

from typing import Any

import orjson

from kruise.runtime.client.transport import Request, Response
from kruise.runtime.clock import Random
from kruise.runtime.testing import VirtualClock, run_virtual
from kruise.simulator.apiserver import ApiServer


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i:1"}], **spec}}


async def bind(server: ApiServer, node: str, **meta: Any) -> Response:
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a", **meta}, "target": {"name": node}}
    path = "/api/v1/namespaces/default/pods/a/binding"
    return await server.transport().request(Request("POST", path, body=orjson.dumps(body)))


def test_tst1_a_binding_assigns_a_pod_once_and_says_so_in_its_conditions() -> None:
    async def main(clock: VirtualClock) -> None:
        server = ApiServer(clock, Random(1))
        uid = server.create("pods", pod())["metadata"]["uid"]
        assert (await bind(server, "n1", uid="another")).status == 409
        assert (await bind(server, "n1", uid=uid, annotations={"why": "room"})).status == 201
        bound = server.get("pods", "a")
        assert bound is not None
        assert bound["spec"]["nodeName"] == "n1" and bound["metadata"]["annotations"] == {"why": "room"}
        assert [c["status"] for c in bound["status"]["conditions"] if c["type"] == "PodScheduled"] == ["True"]
        again = await bind(server, "n2")
        assert (again.status, orjson.loads(again.body)["reason"]) == (409, "Conflict")
        assert 'is already assigned to node "n1"' in orjson.loads(again.body)["message"]

    run_virtual(main)


def test_tst1_a_pod_with_scheduling_gates_is_not_bound() -> None:
    async def main(clock: VirtualClock) -> None:
        server = ApiServer(clock, Random(1))
        server.create("pods", pod(schedulingGates=[{"name": "example.com/wait"}]))
        answer = await bind(server, "n1")
        assert answer.status == 409 and "schedulingGates" in orjson.loads(answer.body)["message"]

    run_virtual(main)
