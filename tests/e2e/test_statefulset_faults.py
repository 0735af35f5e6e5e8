"""A rollout that outlives the processes that drive it: killed, frozen, replaced one after the other."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.conftest import Watched
from tests.e2e.harness import checks
from tests.e2e.harness.manager import ManagerProcess, Supervisor
from tests.e2e.harness.observer import LEASES, Observer
from tests.e2e.harness.report import REPORT
from tests.e2e.harness.sets import identity, image_patch, rolled_out, statefulset, status
from tests.e2e.harness.world import World

pytestmark = [pytest.mark.real, pytest.mark.slow]

PODS = 200
BUDGET = 10
KILLS = 10
IMAGE = "sim.kruise.io/start-1s"


def holder(observer: Observer) -> str:
    """Return who holds the Lease now."""
    lease = observer.get(LEASES, "kruise-system", "kruise-manager") or {}
    return (lease.get("spec") or {}).get("holderIdentity") or ""


@contextlib.contextmanager
def supervised(world: World, watched: Watched, name: str, count: int = 2) -> Iterator[Supervisor]:
    """Replicas under a supervisor, and a set that runs, until the end of the block."""
    world.nodes(20)
    watched.slack = checks.LONG_SLACK
    # The default lease: a takeover takes its fifteen seconds.
    supervisor = Supervisor([world.manager(name=f"{name}-{number}") for number in range(count)])
    try:
        supervisor.start()
        world.create_set(statefulset("web", PODS, image=f"{IMAGE}:v1", budget=BUDGET))
        watched.observer.until(lambda: rolled_out(watched.observer.set("web")), 120.0, "all pods run")
        yield supervisor
    finally:
        supervisor.stop()


def roll_out(world: World, observer: Observer) -> None:
    """Change the image, and wait until the status is that of the new revision: before, it counts the old pods."""
    asked = world.patch_set("web", image_patch(f"{IMAGE}:v2"))["metadata"]["generation"]
    observer.until(lambda: status(observer.set("web")).get("observedGeneration") == asked, 30.0, "the change is seen")


def updated(observer: Observer) -> int:
    """Return how many pods are done."""
    return int(status(observer.set("web")).get("updatedReadyReplicas") or 0)


def finished(world: World, watched: Watched, mark: int, before: dict[str, object]) -> Counter[str]:
    """Wait for the end of the rollout; check that nothing was written twice; return the writes."""
    observer, asked = watched.observer, world.set("web")
    observer.until(lambda: rolled_out(observer.set("web"), asked), 300.0, "the rollout ends")
    assert {pod["metadata"]["name"]: identity(pod) for pod in observer.set_pods("web")} == before
    for pod in observer.set_pods("web"):
        main = next(s for s in pod["status"]["containerStatuses"] if s["name"] == "main")
        assert main["restartCount"] == 1, f"{pod['metadata']['name']} was restarted more than once"
    time.sleep(1.0)
    made = checks.tally(checks.writes(world.cluster.audit, mark))
    assert made["patch pods 200"] == PODS, f"one change of the image for each pod: {made}"
    assert made["create controllerrevisions 201"] == 1, made
    assert "delete pods 200" not in made
    return made


@pytest.mark.timeout(900)
def test_ten_kills_in_a_rollout(world: World, watched: Watched) -> None:
    """Budgets hold, nothing is written twice, it ends well; the invariants look on."""
    chance = random.Random(20261123)
    with supervised(world, watched, "killed") as supervisor:
        observer, mark = watched.observer, world.cluster.audit.mark()
        before: dict[str, object] = {p["metadata"]["name"]: identity(p) for p in observer.set_pods("web")}
        began = time.monotonic()
        roll_out(world, observer)
        for _ in range(KILLS):
            goal = updated(observer) + chance.randint(1, 10)
            observer.until(lambda goal=goal: updated(observer) >= goal, 120.0, f"{goal} pods are done")
            time.sleep(chance.uniform(0.0, 0.5))
            leader = supervisor.by_identity(holder(observer))
            assert leader is not None
            dead = leader.identity
            leader.signal(signal.SIGKILL)
            leader.wait()
            # A killed leader gives its lease to nobody: the next one waits it out.
            observer.until(lambda dead=dead: holder(observer) not in ("", dead), 40.0, "another one leads")
        made = finished(world, watched, mark, before)
        REPORT.add(
            "StatefulSet, 200 pods in place, the leader killed again and again",
            kills=KILLS,
            seconds=time.monotonic() - began,
            pod_patches=made["patch pods 200"],
            status_patches_of_pods=made["patch pods/status 200"],
            conflicts=made["patch pods 409"] + made["patch pods/status 409"],
        )


@pytest.mark.timeout(600)
def test_a_leader_that_stands_still_for_thirty_seconds(world: World, watched: Watched) -> None:
    with supervised(world, watched, "frozen", 3) as supervisor:
        observer, mark = watched.observer, world.cluster.audit.mark()
        before: dict[str, object] = {p["metadata"]["name"]: identity(p) for p in observer.set_pods("web")}
        roll_out(world, observer)
        observer.until(lambda: updated(observer) >= 50, 120.0, "the rollout is under way")
        leader = supervisor.by_identity(holder(observer))
        assert leader is not None
        frozen = leader.identity
        leader.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        observer.until(lambda: holder(observer) not in ("", frozen), 30.0, "another one leads")
        time.sleep(max(0.0, stopped + 30.0 - time.monotonic()))
        leader.signal(signal.SIGCONT)
        finished(world, watched, mark, before)
        observer.until(lambda: any(name == leader.name for _, name, _ in supervisor.restarts), 30.0, "it ends itself")


@pytest.mark.timeout(600)
def test_replacing_the_managers_one_after_the_other(
    world: World, watched: Watched, launch: Callable[..., ManagerProcess]
) -> None:
    """A rolling upgrade of the manager in the middle of a rollout: each hands its lease over."""
    world.nodes(20)
    observer = watched.observer
    old = [launch(), launch()]
    for one in old:
        one.wait_ready()
    world.create_set(statefulset("web", PODS, image=f"{IMAGE}:v1", budget=BUDGET))
    observer.until(lambda: rolled_out(observer.set("web")), 120.0, "all pods run")
    mark = world.cluster.audit.mark()
    before: dict[str, object] = {p["metadata"]["name"]: identity(p) for p in observer.set_pods("web")}
    roll_out(world, observer)
    for number, one in enumerate(old):
        observer.until(lambda goal=40 * (number + 1): updated(observer) >= goal, 120.0, "the rollout is under way")
        launch().wait_ready()
        assert one.stop() == 0
    made = finished(world, watched, mark, before)
    assert made["patch pods/status 200"] == 2 * PODS, f"three writes a pod also across two handovers: {made}"
