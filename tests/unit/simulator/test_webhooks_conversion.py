from __future__ import annotations

import asyncio
import copy
import json

import pytest

from kruise.runtime.client.transport import Request
from kruise.runtime.clock import Random
from kruise.runtime.manager.http import Reply
from kruise.runtime.testing import VirtualClock, run_virtual
from kruise.simulator.apiserver import ApiServer, Failure, Fault, LocalCaller
from kruise.simulator.apiserver.crd import DEFINITIONS
from tests.unit.simulator.stopped_clock import StoppedClock

FIELDS = {"v1": "size", "v2": "length"}
PATH = "/apis/test.example.com/{}/namespaces/default/gizmos"


def definition(**conversion):
    def version(name, field):
        spec = {"type": "object", "properties": {field: {"type": "integer"}}}
        schema = {"type": "object", "properties": {"spec": spec, "status": {"type": "object", "properties": {}}}}
        return {
            "name": name,
            "served": True,
            "storage": name == "v1",
            "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}},
        }

    config = {"service": {"namespace": "test", "name": "hooks", "path": "/convert"}}
    return {
        "metadata": {"name": "gizmos.test.example.com"},
        "spec": {
            "group": "test.example.com",
            "scope": "Namespaced",
            "names": {"plural": "gizmos", "kind": "Gizmo"},
            "versions": [version(*one) for one in FIELDS.items()],
            "conversion": conversion
            or {"strategy": "Webhook", "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]}},
        },
    }


def renamed(obj, version):
    new = copy.deepcopy(obj)
    group, _, old = obj["apiVersion"].partition("/")
    new["apiVersion"] = f"{group}/{version}"
    new["spec"][FIELDS[version]] = new["spec"].pop(FIELDS[old])
    return new


class Gizmos:
    def __init__(self, clock):
        self.clock = clock
        self.server = ApiServer(clock, Random(1))
        self.caller = LocalCaller(clock)
        self.caller.serve("test/hooks", self.answer)
        self.server.caller = self.caller
        self.batches = []
        self.failing = ""
        self.server.create(DEFINITIONS, definition())

    async def answer(self, call):
        review = json.loads(call.body)
        request = review["request"]
        version = request["desiredAPIVersion"].rpartition("/")[2]
        self.batches.append([o["metadata"]["name"] for o in request["objects"]])
        response = {
            "uid": request["uid"],
            "convertedObjects": [renamed(o, version) for o in request["objects"]],
            "result": {"status": "Failure", "message": self.failing} if self.failing else {"status": "Success"},
        }
        answer = {"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response}
        return Reply(200, json.dumps(answer).encode(), "application/json")

    def make(self, version, name, **spec):
        body = {"apiVersion": f"test.example.com/{version}", "kind": "Gizmo", "metadata": {"name": name}, "spec": spec}
        return self.server.do("POST", PATH.format(version), body)

    def read(self, version, name=""):
        return self.server.do("GET", PATH.format(version) + (f"/{name}" if name else ""))


@pytest.fixture
def gizmos():
    return Gizmos(StoppedClock())


def test_tst1_objects_are_stored_in_one_version_and_read_in_any(gizmos):
    made = gizmos.make("v2", "a", length=3)
    assert made["spec"] == {"length": 3}
    assert made["apiVersion"] == "test.example.com/v2"
    assert gizmos.server.get("gizmos.test.example.com", "a")["spec"] == {"size": 3}
    assert gizmos.read("v1", "a")["spec"] == {"size": 3}
    assert gizmos.read("v2", "a")["spec"] == {"length": 3}
    assert gizmos.read("v2", "a")["metadata"] == gizmos.read("v1", "a")["metadata"]


def test_tst1_a_list_asks_once_for_all_that_it_needs(gizmos):
    for name in "abc":
        gizmos.make("v1", name, size=1)
    gizmos.batches.clear()
    listed = gizmos.read("v2")
    assert [i["spec"] for i in listed["items"]] == [{"length": 1}] * 3
    assert gizmos.batches == [["a", "b", "c"]]
    gizmos.make("v1", "d", size=2)
    assert len(gizmos.read("v2")["items"]) == 4
    assert gizmos.batches == [["a", "b", "c"], ["d"]]
    assert gizmos.read("v1")["items"][3]["spec"] == {"size": 2}


def test_tst1_a_write_in_another_version_is_a_no_op_when_nothing_changes(gizmos):
    made = gizmos.make("v2", "a", length=3)
    again = gizmos.server.do("PUT", PATH.format("v2") + "/a", made)
    assert again == made
    changed = gizmos.server.do(
        "PATCH", PATH.format("v2") + "/a", {"spec": {"length": 4}}, content_type="application/merge-patch+json"
    )
    assert changed["metadata"]["generation"] == 2
    assert gizmos.read("v1", "a")["spec"] == {"size": 4}


def test_tst1_a_failed_conversion_says_which_object_and_why(gizmos):
    gizmos.make("v1", "a", size=1)
    gizmos.failing = "no such unit"
    with pytest.raises(Failure) as caught:
        gizmos.read("v2", "a")
    assert caught.value.code == 500
    assert "conversion webhook for test.example.com/v1, Kind=Gizmo failed: no such unit" in caught.value.message
    with pytest.raises(Failure, match="no such unit"):
        gizmos.make("v2", "b", length=3)
    assert gizmos.read("v1", "a")["spec"] == {"size": 1}


def test_tst1_another_definition_converts_anew(gizmos):
    gizmos.make("v1", "a", size=1)
    assert gizmos.read("v2")["items"][0]["spec"] == {"length": 1}
    gizmos.server.patch(
        DEFINITIONS, "gizmos.test.example.com", {"spec": {"conversion": {"strategy": "None", "webhook": None}}}
    )
    assert gizmos.read("v2")["items"][0]["spec"] == {"size": 1}


def test_tst1_what_needs_a_webhook_cannot_be_had_without_waiting(gizmos):
    gizmos.make("v1", "a", size=1)
    info = gizmos.server.registry.named("gizmos.test.example.com")
    with pytest.raises(RuntimeError, match="without waiting"):
        info.in_version(gizmos.server.get("gizmos.test.example.com", "a"), "v2")


def test_tst1_a_watch_keeps_the_order_while_it_waits_for_conversions():
    async def main():
        gizmos = Gizmos(VirtualClock(asyncio.get_running_loop()))
        for name in "ab":
            gizmos.make("v1", name, size=1)
        gizmos.caller.faults = lambda _target, _body: Fault(delay=2.0)
        transport = gizmos.server.transport("client")
        query = "?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        stream = await transport.stream(Request("GET", PATH.format("v2") + query, timeout=60.0))
        async with stream:
            seen = []
            gizmos.server.do(
                "PATCH", PATH.format("v1") + "/a", {"spec": {"size": 9}}, content_type="application/merge-patch+json"
            )
            gizmos.server.do("DELETE", PATH.format("v1") + "/b")
            for _ in range(5):
                seen.append(json.loads(await stream.read_line()))
        shown = [(e["type"], e["object"]["metadata"].get("name"), e["object"].get("spec")) for e in seen]
        assert shown == [
            ("ADDED", "a", {"length": 1}),
            ("ADDED", "b", {"length": 1}),
            ("BOOKMARK", None, None),
            ("MODIFIED", "a", {"length": 9}),
            ("DELETED", "b", {"length": 1}),
        ]
        versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in seen[2:]]
        assert versions == sorted(versions)

    run_virtual(main())


def test_tst1_a_watch_whose_conversion_fails_ends_with_an_error():
    async def main():
        gizmos = Gizmos(VirtualClock(asyncio.get_running_loop()))
        gizmos.make("v1", "a", size=1)
        gizmos.failing = "no"
        transport = gizmos.server.transport("client")
        stream = await transport.stream(Request("GET", PATH.format("v2") + "?watch=1", timeout=60.0))
        async with stream:
            event = json.loads(await stream.read_line())
            assert event["type"] == "ERROR"
            assert event["object"]["code"] == 500
            assert await stream.read_line() == b""

    run_virtual(main())


def test_tst1_another_conversion_ends_the_watches():
    async def main():
        gizmos = Gizmos(VirtualClock(asyncio.get_running_loop()))
        gizmos.make("v1", "a", size=1)
        transport = gizmos.server.transport("client")
        stream = await transport.stream(Request("GET", PATH.format("v2") + "?watch=1", timeout=60.0))
        async with stream:
            assert json.loads(await stream.read_line())["object"]["spec"] == {"length": 1}
            change = {"spec": {"conversion": {"strategy": "None", "webhook": None}}}
            gizmos.server.patch(DEFINITIONS, "gizmos.test.example.com", change)
            assert await stream.read_line() == b""
        stream = await transport.stream(Request("GET", PATH.format("v2") + "?watch=1", timeout=60.0))
        async with stream:
            assert json.loads(await stream.read_line())["object"]["spec"] == {"size": 1}

    run_virtual(main())


@pytest.mark.parametrize(
    ("conversion", "why"),
    [
        ({"strategy": "Webhook"}, "spec.conversion.webhookClientConfig: Required value"),
        ({"strategy": "Perhaps"}, "spec.conversion.strategy: Unsupported value"),
    ],
)
def test_tst1_a_conversion_is_held_to_its_rules(conversion, why):
    server = ApiServer(StoppedClock(), Random(1))
    with pytest.raises(Failure, match=why) as caught:
        server.create(DEFINITIONS, definition(**conversion))
    assert caught.value.code == 422
