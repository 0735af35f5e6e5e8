"""Each fault of a plan, as a client meets it: what it is told, what was committed, and what became of its process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from kruise.runtime.client.transport import Request
from kruise.runtime.clock import Random
from kruise.runtime.errors import Reset, Timeout, Truncated
from kruise.runtime.testing import VirtualClock, run_virtual
from kruise.runtime.testing.tape import Tape
from kruise.simulator.apiserver import ApiServer, Call
from kruise.simulator.faults import OnChunk, OnList, OnOpen, OnWrite, Plan
from kruise.simulator.faults_injector import Injector

PODS = "/api/v1/namespaces/default/pods"


class Victims:
    """Notes what befalls the processes, and does it no harm."""

    def __init__(self) -> None:
        self.befell: list[str] = []
        self.postponed: list[Callable[[], Awaitable[object]]] = []

    def is_ours(self, actor: str) -> bool:
        return actor == "manager"

    def crash(self, actor: str) -> None:
        self.befell.append("crash")

    def crash_with_answer(self, actor: str) -> None:
        self.befell.append("crash with answer")

    def pause(self, actor: str, seconds: float) -> None:
        self.befell.append(f"pause {seconds:g}")

    def touch(self, call: Call) -> None:
        self.befell.append(f"touch {call.name}")

    def later(self, seconds: float, do: Callable[[], Awaitable[object]]) -> None:
        self.befell.append(f"later {seconds:g}")
        self.postponed.append(do)

    def note(self, text: str) -> None:
        pass


def world(clock: VirtualClock, plan: Plan) -> tuple[ApiServer, Injector, Victims]:
    server, victims = ApiServer(clock, Random(1)), Victims()
    injector = Injector(plan, Tape(1), clock, victims)
    server.faults = injector
    return server, injector, victims


def pod(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}


def creation(name: str) -> Request:
    return Request("POST", PODS, body=orjson.dumps({"apiVersion": "v1", "kind": "Pod", **pod(name)}))


REFUSED = {
    OnWrite.CONFLICT: (409, "Conflict"),
    OnWrite.INVALID: (422, "Invalid"),
    OnWrite.FORBIDDEN: (403, "Forbidden"),
    OnWrite.MISSING: (404, "NotFound"),
    OnWrite.THROTTLED: (429, "TooManyRequests"),
    OnWrite.INTERNAL: (500, "InternalError"),
    OnWrite.UNAVAILABLE: (503, "ServiceUnavailable"),
    OnWrite.TIMEOUT_LOST: (504, "Timeout"),
}
CUT = {
    OnWrite.CRASH_BEFORE: (False, ["crash"]),
    OnWrite.CRASH_COMMITTED: (True, ["crash"]),
    OnWrite.RESET_BEFORE: (False, []),
    OnWrite.RESET_AFTER: (True, []),
    OnWrite.LATE: (False, ["later 1"]),
}
LANDED: dict[OnWrite, tuple[int, list[str]]] = {
    OnWrite.CRASH_ANSWERED: (201, ["crash with answer"]),
    OnWrite.TOUCH: (201, ["touch "]),
    OnWrite.PAUSE: (201, ["pause 2"]),
    OnWrite.TIMEOUT_APPLIED: (504, []),
    OnWrite.TRUNCATED: (201, []),
}


def test_tst2_every_fault_of_a_write_is_met_here() -> None:
    assert {*REFUSED, *CUT, *LANDED, OnWrite.HANGS} == {*OnWrite}


@pytest.mark.parametrize("fault", REFUSED)
def test_tst2_a_write_is_refused_and_nothing_is_committed(fault: OnWrite) -> None:
    async def main(clock: VirtualClock) -> None:
        server, injector, victims = world(clock, Plan(writes={0: fault}))
        answer = await server.transport("manager").request(creation("a"))
        assert (answer.status, orjson.loads(answer.body)["reason"]) == REFUSED[fault]
        assert ("retry-after" in answer.headers) == (fault is OnWrite.THROTTLED)
        assert server.get("pods", "a") is None and victims.befell == []
        assert injector.struck == {fault.value: 1}
        assert (await server.transport("manager").request(creation("a"))).status == 201, "only the numbered write"

    run_virtual(main)


@pytest.mark.parametrize("fault", CUT)
def test_tst2_tst5_an_answer_gets_lost_before_or_after_the_commit(fault: OnWrite) -> None:
    committed, befell = CUT[fault]

    async def main(clock: VirtualClock) -> None:
        server, _, victims = world(clock, Plan(writes={0: fault}))
        with pytest.raises(Reset):
            await server.transport("manager").request(creation("a"))
        assert (server.get("pods", "a") is not None) == committed
        assert victims.befell == befell
        for one in victims.postponed:
            await one()
            assert server.get("pods", "a") is not None, "it lands when the sender has given up"

    run_virtual(main)


@pytest.mark.parametrize("fault", LANDED)
def test_tst2_tst5_a_write_lands_and_something_else_goes_wrong(fault: OnWrite) -> None:
    status, befell = LANDED[fault]

    async def main(clock: VirtualClock) -> None:
        server, _, victims = world(clock, Plan(writes={0: fault}))
        answer = await server.transport("manager").request(creation("a"))
        assert (answer.status, victims.befell) == (status, befell)
        assert server.get("pods", "a") is not None
        if fault is OnWrite.TRUNCATED:
            with pytest.raises(orjson.JSONDecodeError):
                orjson.loads(answer.body)

    run_virtual(main)


def test_tst2_an_answer_is_slower_than_its_client_waits() -> None:
    async def main(clock: VirtualClock) -> None:
        server, _, _ = world(clock, Plan(writes={0: OnWrite.HANGS}))
        with pytest.raises(Timeout):
            await server.transport("manager").request(creation("a"))
        assert clock.monotonic() == 30.0 and server.get("pods", "a") is not None

    run_virtual(main)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (OnOpen.GONE, 410),
        (OnOpen.THROTTLED, 429),
        (OnOpen.INTERNAL, 500),
        (OnOpen.TOO_LARGE, 504),
        (OnOpen.RESET, 0),
        (OnOpen.UNSUPPORTED, 422),
    ],
)
def test_tst2_a_watch_is_refused_when_it_is_opened(fault: OnOpen, code: int) -> None:
    async def main(clock: VirtualClock) -> None:
        server, _, _ = world(clock, Plan(opens={0: fault}))
        path = "/api/v1/pods?watch=1"
        if fault is OnOpen.UNSUPPORTED:
            path += "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        if not code:
            with pytest.raises(Reset):
                await server.transport("manager").stream(Request("GET", path))
        else:
            async with await server.transport("manager").stream(Request("GET", path)) as stream:
                assert stream.status == code
        async with await server.transport("manager").stream(Request("GET", path)) as stream:
            assert stream.status == 200

    run_virtual(main)


@pytest.mark.parametrize("fault", OnList)
def test_tst2_a_page_of_a_list_fails(fault: OnList) -> None:
    async def main(clock: VirtualClock) -> None:
        server, _, _ = world(clock, Plan(lists={1: fault}, page=1))
        for name in "ab":
            server.create("pods", pod(name))
        transport = server.transport("manager")
        first = orjson.loads((await transport.request(Request("GET", "/api/v1/pods?limit=500"))).body)
        assert len(first["items"]) == 1, "a page has as many objects as the plan says"
        following = Request("GET", f"/api/v1/pods?limit=500&continue={first['metadata']['continue']}")
        if fault is OnList.RESET:
            with pytest.raises(Reset):
                await transport.request(following)
            return
        answer = await transport.request(following)
        if fault is OnList.TRUNCATED:
            with pytest.raises(orjson.JSONDecodeError):
                orjson.loads(answer.body)
            return
        assert answer.status == {OnList.GONE: 410, OnList.THROTTLED: 429, OnList.INTERNAL: 500}[fault]

    run_virtual(main)


LINES: dict[OnChunk, list[str]] = {
    OnChunk.TWICE: ["a", "b", "b", "c"],
    OnChunk.REPLAY: ["a", "b", "a", "c"],
    OnChunk.DELAY: ["a", "b", "c"],
    OnChunk.EOF: ["a", "end"],
    OnChunk.HALF: ["a", "truncated"],
    OnChunk.GARBAGE: ["a", "garbage", "c"],
    OnChunk.STALL: ["a", "silence"],
    OnChunk.GONE: ["a", "410", "end"],
    OnChunk.ERROR: ["a", "500", "end"],
}


@pytest.mark.parametrize("fault", OnChunk)
def test_tst2_a_line_of_a_watch_goes_wrong(fault: OnChunk) -> None:
    async def main(clock: VirtualClock) -> None:
        server, _, _ = world(clock, Plan(chunks={1: fault}))
        path = f"/api/v1/pods?watch=1&timeoutSeconds=3000&resourceVersion={server.storage.rv}"
        seen: list[str] = []
        async with await server.transport("manager").stream(Request("GET", path)) as stream:
            for name in "abc":
                server.create("pods", pod(name))
            while seen[-1:] not in (["c"], ["end"], ["truncated"], ["silence"]):
                seen.append(await _next(stream))
        assert seen == LINES[fault]
        assert (clock.monotonic() > 0) == (fault in (OnChunk.DELAY, OnChunk.STALL))

    async def _next(stream: Any) -> str:
        try:
            async with asyncio.timeout(120):
                line = await stream.read_line()
        except Truncated:
            return "truncated"
        except TimeoutError:
            return "silence"
        if not line:
            return "end"
        try:
            shown = orjson.loads(line)["object"]
        except orjson.JSONDecodeError:
            return "garbage"
        return str(shown.get("code") or shown["metadata"]["name"])

    run_virtual(main)


def test_tst2_nothing_goes_wrong_for_others_or_after_healing() -> None:
    async def main(clock: VirtualClock) -> None:
        server, injector, _ = world(clock, Plan(writes={0: OnWrite.CONFLICT, 1: OnWrite.CONFLICT}))
        assert (await server.transport("user").request(creation("a"))).status == 201
        assert injector.writes == 0, "only the writes of a manager have a number"
        injector.heal()
        assert (await server.transport("manager").request(creation("b"))).status == 201
        assert injector.struck == {}

    run_virtual(main)
