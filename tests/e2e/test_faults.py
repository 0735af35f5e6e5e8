"""Faults of the control plane: the API server killed, etcd frozen, watches cut, history compacted. No manual help."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from hack.cluster import API_SERVER, ETCD
from tests.e2e.conftest import Watched
from tests.e2e.harness import checks
from tests.e2e.harness.caches import compare
from tests.e2e.harness.jobs import counts, job, phase
from tests.e2e.harness.manager import ManagerProcess, Supervisor
from tests.e2e.harness.report import REPORT
from tests.e2e.harness.world import World

pytestmark = pytest.mark.real

CHURN_SECONDS = float(os.environ.get("KRUISE_CHURN_SECONDS", "60"))
"""How long each churn goes on: a minute in CI, 600 by hand."""
QUIET_SECONDS = 35.0
CUT = ("--watch-timeout-min=10s", "--watch-timeout-max=10s")


@pytest.mark.timeout(240)
def test_the_api_server_is_killed_in_the_middle_of_a_job(
    world: World, watched: Watched, launch: Callable[..., ManagerProcess]
) -> None:
    world.nodes(50)
    watched.slack = checks.LONG_SLACK
    observer, manager = watched.observer, launch().wait_leading()
    world.create(job("sweep", run=1, parallelism=10))
    observer.until(lambda: counts(observer.job("sweep"))[2] >= 10, 30.0, "the job is under way")
    world.cluster.restart(API_SERVER, kill=True, down=3.0)
    observer.until(lambda: phase(observer.job("sweep")) == "completed", 90.0, "the job completes")
    assert counts(observer.job("sweep")) == (50, 0, 50, 0)
    assert manager.running, "an absence of 3 s plus a start costs no lease"
    compare(world, manager)
    world.create(job("after", run=0.2))
    observer.until(lambda: phase(observer.job("after")) == "completed", 30.0, "the next job completes")


@pytest.mark.timeout(300)
def test_etcd_is_frozen_for_20_seconds(world: World, watched: Watched) -> None:
    """Longer than the renew deadline: the leader must end itself, and its successor must finish the job."""
    world.nodes(50)
    watched.slack = checks.LONG_SLACK
    observer = watched.observer
    supervisor = Supervisor([world.manager(name="etcd-0"), world.manager(name="etcd-1")]).start()
    try:
        for one in supervisor.managers:
            one.wait_ready()
        world.create(job("sweep", run=1, parallelism=5))
        observer.until(lambda: counts(observer.job("sweep"))[2] >= 5, 60.0, "the job is under way")
        world.cluster.pause(ETCD)
        try:
            time.sleep(20.0)
        finally:
            world.cluster.resume(ETCD)
        observer.until(lambda: phase(observer.job("sweep")) == "completed", 150.0, "the job completes")
        assert counts(observer.job("sweep")) == (50, 0, 50, 0)
        for one in supervisor.managers:
            one.wait_ready()
            compare(world, one)
        assert all(code == 1 for _, _, code in supervisor.restarts), supervisor.restarts
    finally:
        supervisor.stop()


@pytest.mark.timeout(CHURN_SECONDS + 240)
@pytest.mark.parametrize(
    "flags",
    [(), ("--watch-cache=false", "--etcd-compaction-interval=10s")],
    ids=["watches are cut", "history is compacted"],
)
def test_caches_are_true_after_churn(
    world: World, watched: Watched, launch: Callable[..., ManagerProcess], flags: tuple[str, ...]
) -> None:
    """Jobs, pods and nodes come, change and go, while every watch is cut after 10 s (G11)."""
    world.nodes(30)
    if flags:
        world.api_server_flags(*flags)
    try:
        observer, manager = watched.observer, launch(*CUT).wait_leading()
        done = churn(world, CHURN_SECONDS / 2)
        if flags:
            # Only a watch that saw nothing for a while resumes at a version that was compacted meanwhile.
            time.sleep(QUIET_SECONDS)
        done += churn(world, CHURN_SECONDS / 2, done["job"])
        for name in world.node_names():
            world.cordon(name, on=False)
        observer.until(
            lambda: all(phase(j) in ("completed", "failed") for j in observer.all("broadcastjobs.apps.kruise.io")),
            90.0,
            "every job ends",
        )
        seconds = compare(world, manager)
        metrics = manager.metrics()
        relists = relisted(metrics)
        requests = checks.by_kind(watched.audit, watched.mark)
        made = checks.tally(checks.writes(watched.audit, watched.mark))
        refused = {what: count for what, count in made.items() if what.endswith(" 409")}
        REPORT.add(
            "Churn, watches cut every 10 s",
            api_server=" ".join(flags) or "-",
            seconds=CHURN_SECONDS,
            jobs=done["job"],
            pods_deleted=done["pod"],
            cordons=done["cordon"],
            nodes_added=done["add"],
            nodes_removed=done["remove"],
            watches=sum(n for what, n in requests.items() if what.startswith("watch ")),
            relists=" ".join(f"{reason}:{count}" for reason, count in sorted(relists.items())) or "0",
            until_equal=seconds,
            conflicts=" ".join(f"{what.replace(' 409', '')}:{count}" for what, count in sorted(refused.items())) or "0",
        )
        assert set(refused) <= {"delete pods 409"}, f"only kubelets write beside us, and only pods: {refused}"
        assert requests["watch pods"] >= CHURN_SECONDS / 10 - 1, "the watches were not cut"
        assert bool(relists) == bool(flags), "410 Expired comes with compaction, and only then"
    finally:
        if flags:
            world.api_server_flags()


def test_a_server_that_streams_no_lists(world: World, watched: Watched, launch: Callable[..., ManagerProcess]) -> None:
    """Kubernetes before 1.32, or with the feature off: lists come in pages, and everything works the same."""
    world.nodes(30)
    world.api_server_flags("--feature-gates=WatchList=false")
    try:
        observer, manager = watched.observer, launch().wait_leading()
        world.create(job("sweep", run=0.5, parallelism=10))
        observer.until(lambda: phase(observer.job("sweep")) == "completed", 60.0, "the job completes")
        assert counts(observer.job("sweep")) == (30, 0, 30, 0)
        compare(world, manager)
        fallen = [key for key in manager.metrics() if key.startswith("kruise_informer_watchlist_fallback_total{")]
        assert len(fallen) >= 3, fallen
        requests = checks.by_kind(watched.audit, watched.mark)
        for resource in ("pods", "nodes", "broadcastjobs"):
            assert requests[f"list {resource}"] == 1, f"{resource} are listed once, and watched from there"
    finally:
        world.api_server_flags()


def relisted(metrics: dict[str, float]) -> dict[str, int]:
    """Return how many lists followed the first one, by reason."""
    found: Counter[str] = Counter()
    for key, value in metrics.items():
        if key.startswith("kruise_informer_relists_total{") and value:
            found[key.partition('reason="')[2].partition('"')[0]] += int(value)
    return dict(found)


def churn(world: World, seconds: float, first: int = 0) -> Counter[str]:
    """Make things happen for *seconds*; return how many of each. Jobs are numbered from *first*."""
    rng = random.Random(4711 + first)
    done: Counter[str] = Counter()
    number = itertools.count(first)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        names = world.node_names()
        match rng.choice(("job", "job", "pod", "pod", "cordon", "uncordon", "add", "remove", "delete")):
            case "job":
                run = rng.choice((0.2, 1, 3))
                world.create(job(f"churn-{next(number)}", run=run, failure={"type": "Continue"}, parallelism="50%"))
                done["job"] += 1
            case "pod" if pods := world.pods():
                meta = rng.choice(pods)["metadata"]
                world.cluster.api.ask("DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}")
                done["pod"] += 1
            case "cordon":
                world.cordon(rng.choice(names))
                done["cordon"] += 1
            case "uncordon":
                for name in names:
                    world.cordon(name, on=False)
            case "add" if len(names) < 36:
                world.control("POST", "/nodes", {"count": 1})
                done["add"] += 1
            case "remove" if len(names) > 24:
                world.control("DELETE", f"/nodes/{rng.choice(names)}")
                done["remove"] += 1
            case "delete":
                jobs = world.call("GET", "/apis/apps.kruise.io/v1beta1/broadcastjobs")["items"]
                if len(jobs) > 8:
                    world.delete_job(rng.choice(jobs)["metadata"]["name"])
            case _:
                pass
        time.sleep(rng.uniform(0.05, 0.4))
    return done
