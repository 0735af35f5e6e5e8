"""The shell of SidecarSets and what nobody expects: sets, pods and annotations of any shape."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.apis.core import PODS
from kruise.apis.sidecarset import SIDECARSETS
from kruise.runtime.controller import Done
from kruise.runtime.errors import TerminalError
from tests.simulation.sidecar_objects import V1, V2
from tests.unit.controllers.scs_bench import STATUS, Bench, bench


def test_g8_a_set_that_cannot_be_read_is_told_once_and_stops_no_other() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        b.create("bad")
        b.server.edit(SIDECARSETS, "bad", lambda body: body["spec"].update(updateStrategy="soon"), actor="user")
        b.create_pods(0)
        for _ in range(3):
            assert await b.once("bad") == Done()
            await b.once()
        assert [(name, reason) for name, _, reason, _ in b.events.seen] == [("bad", "InvalidSpec")]
        assert "updateStrategy" in b.events.seen[0][3]
        assert b.status("bad") == {}
        await b.clock.sleep(1)
        await b.once()
        assert b.numbers()[0] == 1
        b.server.delete(SIDECARSETS, "bad", actor="user")
        await b.once("bad")
        assert b.reconciler.kept() == 1

    bench(scenario)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"selector": {"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]}}, "spec.selector"),
        ({"containers": {"name": "no list"}}, "spec.containers"),
        ({"containers": [{"name": 7}]}, "spec.containers"),
        ({"initContainers": "none"}, "spec.initContainers"),
    ],
)
def test_x29_a_spec_that_cannot_be_used_is_named_once_and_changes_no_pod(spec: dict[str, Any], field: str) -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1)
        mark = b.mark()
        b.server.edit(SIDECARSETS, "mesh", lambda body: body["spec"].update(spec), actor="user")
        with pytest.raises(TerminalError, match=field):
            await b.once()
        assert await b.once() == Done(), "counted once"
        assert b.counts(mark) == {STATUS: 1}
        condition = b.condition("Progressing")
        assert (condition["status"], condition["reason"]) == ("False", "InvalidSpec")
        assert condition["message"].startswith(field)
        assert [reason for _, _, reason, _ in b.events.seen] == ["InvalidSpec"]
        b.edit(lambda body: body.update(spec={**body["spec"], **_good()}))
        await b.once()
        await b.clock.sleep(1)
        await b.once()
        assert b.numbers()[0] == 1
        assert b.condition("Progressing")["reason"] != "InvalidSpec"

    bench(scenario)


def _good() -> dict[str, Any]:
    containers = [{"name": "mesh-proxy", "image": V1}]
    return {"selector": {"matchLabels": {"app": "shop"}}, "containers": containers, "initContainers": None}


@pytest.mark.parametrize("volumes", [[7], {"a": 1}, "x", [None], [[]]])
def test_x13_volumes_of_any_shape_end_no_pass_in_an_exception_of_ours(volumes: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1)
        b.server.edit(SIDECARSETS, "mesh", lambda body: body["spec"].update(volumes=volumes), actor="user")
        await b.once()
        assert b.status()["observedGeneration"] == 2

    bench(scenario)


def test_a_pod_that_cannot_be_read_is_counted_told_once_and_never_upgraded() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(2)
        b.spoiled.add("shop-0")
        b.server.patch(PODS, "shop-0", {"metadata": {"annotations": {"odd": "1"}}}, actor="user")
        b.set_image(V2)
        for _ in range(4):
            await b.clock.sleep(1)
            await b.once()
            b.run_pods(1)
        assert b.numbers() == (2, 1, 1, 1)
        assert V2 in b.images(1)
        assert b.events.reasons() == ["PodUnreadable"]
        assert "default/shop-0" in b.events.seen[0][3]
        assert b.condition("Progressing")["reason"] == "PodUnreadable"
        # A manager that begins now does not tell it again.
        b.begin()
        await b.once()
        assert b.events.seen == []

    bench(scenario)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mesh": 7}', "\x00", "9" * 400])
def test_g8_annotations_of_any_shape_end_no_pass(text: str) -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(2, hot=True)
        keys = [key for key in b.pod(0)["metadata"]["annotations"] if "kruise.io" in key and "injected-list" not in key]

        def spoil(body: dict[str, Any]) -> None:
            body["metadata"]["annotations"].update(dict.fromkeys(keys, text))

        b.server.edit(PODS, "shop-0", spoil, actor="user")
        b.set_image(V2)
        for _ in range(4):
            await b.clock.sleep(1)
            await b.once()
            b.run_pods(0, 1)
        assert V2 in b.images(1)

    bench(scenario)
