"""The probes: what they answer, and what each check of our own sees."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp
import pytest

from kruise.runtime.clock import LagProbe
from kruise.runtime.errors import ConfigError
from kruise.runtime.manager.health import BLOCKED_AFTER, Checks, Health, freshness_check, loop_check
from kruise.runtime.manager.http import Address, HttpServer
from kruise.runtime.objects import PartialObject, Resource
from kruise.runtime.testing.loop import VirtualClock, run_virtual

PODS = Resource("", "v1", "Pod", "pods", PartialObject)
NODES = Resource("", "v1", "Node", "nodes", PartialObject)


def test_hea1_the_plain_answer_names_the_check_and_withholds_the_reason() -> None:
    checks = Checks("readyz")
    checks.add("cache", lambda: "pods: 403 Forbidden")
    verdict = checks.all()
    assert not verdict.ok
    assert verdict.text == "[+]ping ok\n[-]cache failed: reason withheld\nreadyz check failed\n"
    assert "403 Forbidden" in checks.all(verbose=True).text


def test_hea1_a_good_answer_is_short_and_a_verbose_one_lists_all() -> None:
    checks = Checks("healthz")
    checks.add("loop", lambda: None)
    checks.add_detail(lambda: ["pods: synced, 3 objects"])
    assert checks.all().text == "ok"
    assert checks.all(verbose=True).text == "[+]ping ok\n[+]loop ok\npods: synced, 3 objects\nhealthz check passed\n"


def test_hea1_a_check_can_be_excluded() -> None:
    checks = Checks("readyz")
    checks.add("bad", lambda: "no")
    assert checks.all(exclude={"bad"}).ok
    assert "[+]bad excluded: ok" in checks.all(exclude={"bad"}, verbose=True).text


def test_hea1_excluding_an_unknown_check_is_told_and_harmless() -> None:
    verdict = Checks("readyz").all(exclude={"typo"})
    assert verdict.ok and "no check is named 'typo'" in verdict.text


@pytest.mark.parametrize("bad", ["one", "two", "three"])
def test_hea2_each_check_can_fail_alone(bad: str) -> None:
    checks = Checks("readyz")
    for name in ("one", "two", "three"):
        checks.add(name, lambda name=name: "broken" if name == bad else None)  # type: ignore[misc]
    text = checks.all().text
    assert text.count("[-]") == 1 and f"[-]{bad} failed" in text
    assert not checks.one(bad).ok
    assert sum(checks.one(name).ok for name in ("one", "two", "three")) == 2


def test_hea1_an_unknown_sub_path_is_no_success() -> None:
    verdict = Checks("healthz").one("nothing")
    assert not verdict.ok and not verdict.known


def test_hea1_a_check_that_raises_fails_and_the_others_are_asked() -> None:
    checks = Checks("healthz")

    def broken() -> str | None:
        raise KeyError("x")

    checks.add("broken", broken)
    checks.add("good", lambda: None)
    text = checks.all(verbose=True).text
    assert "[-]broken failed: KeyError: 'x'" in text and "[+]good ok" in text
    checks.add_detail(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert "details are missing: ZeroDivisionError" in checks.all(verbose=True).text


def test_hea1_names_are_unique_and_fit_into_a_path() -> None:
    checks = Checks("healthz")
    remove = checks.add("a", lambda: None)
    with pytest.raises(ConfigError, match="there already"):
        checks.add("a", lambda: None)
    for bad in ("", "a/b", " a"):
        with pytest.raises(ConfigError, match="one part of a path"):
            checks.add(bad, lambda: None)
    remove()
    checks.add("a", lambda: None)
    assert checks.names() == ("ping", "a")


def test_hea1_a_failure_is_logged_once_and_its_end_too(capsys: pytest.CaptureFixture[str]) -> None:
    checks = Checks("readyz")
    problem: list[str | None] = ["stale"]
    checks.add("watch", lambda: problem[0])
    for _ in range(5):
        checks.all()
    problem[0] = None
    checks.all()
    out = capsys.readouterr().err
    assert out.count("a check fails") == 1 and out.count("stale") == 1 and out.count("a check passes again") == 1


def test_hea3_a_stop_fails_readiness_whatever_is_excluded() -> None:
    health = Health()
    health.ready.fail_all("the process is stopping")
    assert not health.ready.all().ok
    assert not health.ready.all(exclude={"ping", "shutdown"}).ok
    assert health.alive.all().ok, "a stopping process is alive: the kubelet must not kill it"


def test_hea2_clk5_a_blocked_loop_fails_the_check() -> None:
    async def main(clock: VirtualClock) -> None:
        probe = LagProbe(clock)
        check = loop_check(probe)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(probe.run())
            await clock.sleep(3)
            assert check() is None
            probe.lag = BLOCKED_AFTER
            assert "blocked for 20.0 s" in (check() or "")
            probe.lag = 0.0
            probe._expected = clock.monotonic() - 25.0  # the next callback is overdue right now
            assert "blocked for 25.0 s" in (check() or "")
            task.cancel()

    run_virtual(main)


@dataclass
class FakeInformer:
    resource: Resource[PartialObject]
    has_synced: bool
    age: float | None

    def event_age(self) -> float | None:
        return self.age


def test_hea5_a_silent_watch_fails_only_where_bookmarks_come() -> None:
    pods, nodes = FakeInformer(PODS, True, 200.0), FakeInformer(NODES, True, 10_000.0)
    check = freshness_check(lambda: [pods, nodes], lambda resource: resource == PODS)
    assert check() == "nothing came from the watch of pods for 200 s (limit 180 s)"
    pods.age = 179.0
    assert check() is None
    pods.age, pods.has_synced = 500.0, False
    assert check() is None, "a first list that takes long is no stale watch"
    pods.age, pods.has_synced = None, True
    assert check() is None


async def test_hea1_hea3_the_endpoints_over_http() -> None:
    health = Health()
    health.alive.add("loop", lambda: None)
    health.ready.add("cache", lambda: "pods are missing")
    server = HttpServer("probes", Address("127.0.0.1", 0), flag="--health-probe-addr")
    health.serve_on(server)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run())
        await server.ready()
        assert server.bound is not None
        base = f"http://{server.bound}"
        async with aiohttp.ClientSession() as session:

            async def get(path: str) -> tuple[int, str]:
                async with session.get(base + path) as answer:
                    return answer.status, await answer.text()

            assert await get("/healthz") == (200, "ok\n")
            assert await get("/healthz/loop") == (200, "ok\n")
            assert (await get("/healthz/nothing"))[0] == 404
            assert await get("/readyz") == (500, "[+]ping ok\n[-]cache failed: reason withheld\nreadyz check failed\n")
            assert (await get("/readyz?exclude=cache"))[0] == 200
            assert (await get("/readyz?exclude=other,cache&verbose"))[0] == 200
            assert "pods are missing" in (await get("/readyz?verbose"))[1]
            assert (await get("/readyz/cache"))[0] == 500
            assert (await get("/startupz"))[0] == 200
            assert (await get("/"))[0] == 404
            async with session.post(base + "/healthz") as answer:
                assert answer.status == 405 and answer.headers["allow"] == "GET, HEAD"
            async with session.head(base + "/healthz") as answer:
                assert answer.status == 200
        task.cancel()
