"""An informer against a server that changes, loses connections and compacts: at rest both are equal (REF1, INF1)."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from kruise.runtime.cache.states import Rules
from kruise.runtime.cache.store import Change
from kruise.runtime.errors import BadFrame, Refused, Reset, Truncated
from kruise.runtime.testing import VirtualClock, run_virtual
from tests.unit.cache.fake_server import World, running, status, too_large, until

FAULTS = {
    "eof": b"",
    "half": Truncated("half a line"),
    "reset": Reset("reset"),
    "garbage": b"<html>",
    "gone": b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}',
    "internal": b'{"type":"ERROR","object":{"kind":"Status","code":500,"reason":"InternalError"}}',
    "frame": BadFrame("too long"),
}
ERRORS = {
    "refused": lambda: Refused("no"),
    "410": lambda: status(410, "Expired"),
    "429": lambda: status(429, "TooManyRequests"),
    "500": lambda: status(500, "InternalError"),
    "large": too_large,
    "403": lambda: status(403, "Forbidden"),
    "422": lambda: status(422, "Invalid"),
}
ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from("abcde")),
    st.tuples(st.just("delete"), st.sampled_from("abcde")),
    st.tuples(st.just("recreate"), st.sampled_from("abcde")),
    st.tuples(st.just("bad"), st.sampled_from("abcde")),
    st.tuples(st.just("cut"), st.sampled_from(sorted(FAULTS))),
    st.tuples(st.just("lose"), st.sampled_from(sorted(FAULTS))),
    st.tuples(st.just("fail-list"), st.sampled_from(sorted(ERRORS))),
    st.tuples(st.just("fail-watch"), st.sampled_from(sorted(ERRORS))),
    st.tuples(st.just("wait"), st.sampled_from(["0", "0.5", "2", "40", "90"])),
    st.tuples(st.sampled_from(["compact", "bookmark", "handler", "stale", "fresh"]), st.just("")),
)


class Told:
    """What one handler was told, checked step by step."""

    def __init__(self) -> None:
        self.objects: dict[Any, Any] = {}
        self.versions: dict[str, int] = {}

    def __call__(self, change: Change[Any]) -> None:
        key = change.key
        if change.old is None:
            assert key not in self.objects
        else:
            assert self.objects[key].uid == change.old.uid, "a deletion or change of what was never told"
        if change.new is None:
            del self.objects[key]
            return
        version = int(change.new.resource_version)
        assert version >= self.versions.get(change.new.uid, 0), "an object went back in time"
        self.versions[change.new.uid] = version
        self.objects[key] = change.new


def act(w: World, informer: Any, handlers: list[Told], what: str, arg: str) -> None:
    key = ("default", arg)
    server = w.server
    match what:
        case "put":
            server.put(arg, spec={"size": server.version})
        case "bad":
            server.put(arg, spec={"size": "x"})
        case "delete" if key in server.objects:
            server.delete(arg)
        case "recreate" if key in server.objects:
            server.delete(arg)
            server.put(arg)
        case "cut" if server.open_streams:
            server.stream.feed(FAULTS[arg])
        case "lose" if server.open_streams:
            stream = server.stream
            stream.closed = True  # from now on what happens does not reach the client
            stream.feed(FAULTS[arg])
        case "fail-list":
            server.fail("list", ERRORS[arg]())
        case "fail-watch":
            server.fail("watch", ERRORS[arg]())
        case "compact":
            server.version += 1
            server.compact()
        case "bookmark":
            server.bookmark()
        case "stale":
            server.stale_at = max(100, server.version - 3)
        case "fresh":
            server.stale_at = None
        case "handler":
            handlers.append(Told())
            informer.add_handler(handlers[-1])


@settings(max_examples=120, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=25), streaming=st.sampled_from([True, False, "ends"]), seed=st.integers(0, 9))
def test_ref1_inf1_at_rest_store_and_handlers_equal_the_server(actions: Any, streaming: Any, seed: int) -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock, seed=seed)
        w.server.streaming = streaming
        for name in "abc":
            w.server.put(name)
        informer = w.informer(rules=Rules(page_size=2))
        handlers = [Told()]
        first = informer.add_handler(handlers[0])
        async with running(informer):
            for what, arg in actions:
                if what == "wait":
                    await clock.sleep(float(arg))
                else:
                    act(w, informer, handlers, what, arg)
            w.server.stale_at = None
            w.server.heal()
            w.server.put("last")
            truth = {k: o["metadata"]["resourceVersion"] for k, o in w.server.objects.items()}

            def equal() -> bool:
                return {o.key: o.resource_version for o in informer._objects()} == truth

            await until(equal, timeout=900)
            await w.settle()
            for told in handlers:
                assert told.objects == {o.key: o for o in informer._objects()}
            assert first.has_synced and first.errors == 0 and informer.pending == 0
            assert int(informer.store.version) <= w.server.version

    with capture_logs():
        run_virtual(go, seed=seed)
