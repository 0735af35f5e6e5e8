"""A pass that waits for its writes lends its worker: one object whose writes are slow holds up no other (CTL1).

One worker, and an API server that takes ten seconds for each write to a pod of the slow object, its status left out.
"""

from __future__ import annotations

from typing import Final

from kruise.runtime.clock import Clock
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.intercept import Interceptor, Proceed
from tests.simulation.sidecar_world import CREATE_REVISION, PATCH_POD, PATCH_STATUS, V2, SidecarWorld, simulate_sidecars
from tests.simulation.world import CREATE, MANAGER, STATUS, World, simulate

SLOW: Final = 10.0


class SlowPods(Interceptor):
    """Lets the writes of the manager to pods whose name begins in a certain way take their time."""

    def __init__(self, clock: Clock, prefix: str) -> None:
        self.clock = clock
        self.prefix = prefix
        self.waiting = 0

    async def request(self, call: Call, proceed: Proceed) -> Answer:
        named = call.name.startswith(self.prefix) or f'"name":"{self.prefix}'.encode() in (call.body or b"")
        if (
            call.actor.startswith(MANAGER)
            and call.writes
            and call.resource == "pods"
            and not call.subresource
            and named
        ):
            self.waiting += 1
            await self.clock.sleep(SLOW)
            self.waiting -= 1
        return await proceed()


def test_ctl1_another_job_is_run_while_the_pods_of_one_are_created_slowly() -> None:
    async def scenario(world: World) -> None:
        process = world.start_manager(workers=1)
        world.server.faults = slow = SlowPods(world.clock, "slow")
        await world.until(lambda: process.manager.leading and process.controller.took_over is not None)
        world.create_job("slow")
        await world.until(lambda: slow.waiting == 1)
        world.create_job("quick")
        await world.until(lambda: world.phase("quick") == "completed", SLOW / 2)
        assert not world.pods("slow"), "the first write of the other one is still on its way"
        await world.until(lambda: world.phase("slow") == "completed")
        counts = world.counts()
        assert counts.pop(STATUS) <= 8
        assert counts == {CREATE: 10}

    simulate(scenario, nodes=5)


def test_ctl1_another_set_of_sidecars_is_rolled_while_the_pods_of_one_are_written_slowly() -> None:
    async def scenario(world: SidecarWorld) -> None:
        world.start_manager(workers=1)
        for name in ("slow", "quick"):
            world.create_set(name, selector={"matchLabels": {"app": name}})
            world.create_pods(3, prefix=name, labels={"app": name})
        for name in ("slow", "quick"):
            await world.settled(3, name)
        world.server.faults = slow = SlowPods(world.clock, "slow-")
        mark = world.mark()
        world.set_image(V2, "slow")
        await world.until(lambda: slow.waiting == 1)
        world.set_image(V2, "quick")
        await world.until(lambda: world.all_of(3, "quick"), SLOW / 2)
        assert slow.waiting == 1, "the first write of the other one is still on its way"
        await world.settled(3, "slow")
        counts = {
            what: n
            for what, n in world.counts(since=mark).items()
            if not what.endswith("sidecarsets.apps.kruise.io/status")
        }
        assert counts == {CREATE_REVISION: 2, PATCH_POD: 6, PATCH_STATUS: 6}

    simulate_sidecars(scenario)


def test_ctl1_a_set_waits_for_one_that_writes_to_pods_which_both_are_in() -> None:
    async def scenario(world: SidecarWorld) -> None:
        world.start_manager(workers=1)
        for name in ("mesh", "logs"):
            world.create_set(name, strategy={"maxUnavailable": 3})
        world.create_pods(3)
        for name in ("mesh", "logs"):
            await world.settled(3, name)
        world.server.faults = slow = SlowPods(world.clock, "shop-")
        mark = world.mark()
        world.set_image(V2, "mesh")
        world.set_image(V2, "logs")
        await world.until(lambda: slow.waiting == 3)
        first = world.counts(since=mark)
        await world.sleep(SLOW / 2)
        assert world.counts(since=mark) == first and slow.waiting == 3, "the other set plans when these are written"
        slow.prefix = "nobody"
        for name in ("mesh", "logs"):
            await world.settled(3, name)
        assert not [what for what in world.counts(since=mark) if what.endswith("409")]

    simulate_sidecars(scenario)
