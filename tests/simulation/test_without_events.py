"""When no event comes that would tell.

An owner that is gone while its watch is silent: what is made for it is collected, and is not made again and again. A
half-open connection shows no deletion until bookmarks are missed. The garbage collector's own deletions are seen all
the while, on other watches, and each of them wakes the owner that the cache still shows. And a refusal that reads like
a conflict, where nobody wrote.
"""

from __future__ import annotations

import math

import orjson
import pytest

from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.intercept import Chunk, Interceptor, Proceed
from tests.simulation.set_world import SetWorld, simulate_sets
from tests.simulation.sidecar_world import V2, SidecarWorld, simulate_sidecars
from tests.simulation.world import World, is_manager, simulate, template_of

PATH = "/apis/apps.kruise.io/v1beta1"
SILENCE = 100.0
"""Seconds: a watch without bookmarks is given up after 70."""


class Silence(Interceptor):
    """No line of the watch of one resource reaches a manager any more, from now on."""

    def __init__(self, plural: str) -> None:
        self._plural = plural
        self._old: set[int] | None = None
        self._seen: set[int] = set()

    def begin(self) -> None:
        """Let every watch that is open now be silent. One that is opened later speaks."""
        self._old = set(self._seen)

    def chunk(self, call: Call, line: bytes) -> Chunk:
        if call.resource.split(".")[0] == self._plural and is_manager(call.actor):
            if self._old is None:
                self._seen.add(call.ordinal)
            elif call.ordinal in self._old:
                return Chunk(after=math.inf)
        return Chunk((line,))


def listening(world: World, plural: str) -> Silence:
    """Let the watches of *plural* be such that can be silenced. To be called before managers start."""
    silence = Silence(plural)
    world.server.faults = silence
    return silence


async def creations(world: World, silence: Silence, delete: str) -> int:
    """Delete the owner behind silent watches; return how often managers create something for it afterwards."""
    silence.begin()
    mark = world.mark()
    world.server.do("DELETE", delete, {"propagationPolicy": "Background"}, actor="user")
    await world.sleep(SILENCE)
    return sum(call.verb == "create" for call in world.writes(since=mark))


@pytest.mark.parametrize("claims", [(), ("data",)])
def test_a_set_that_is_gone_gets_each_revision_and_pod_once_more_at_most(claims: tuple[str, ...]) -> None:
    async def scenario(world: SetWorld) -> None:
        silence = listening(world, "statefulsets")
        await world.started()
        world.create_set(replicas=3, image="sim.kruise.io/ready-1s:v1", claims=claims)
        await world.until(world.done, 60.0)
        assert await creations(world, silence, f"{PATH}/namespaces/default/statefulsets/web") <= 4

    simulate_sets(scenario)


def test_a_job_that_is_gone_gets_each_pod_once_more_at_most() -> None:
    async def scenario(world: World) -> None:
        silence = listening(world, "broadcastjobs")
        await world.started()
        world.create_job("sweep", template=template_of("run-900s"))
        await world.until(lambda: world.active("sweep") == 5)
        assert await creations(world, silence, f"{PATH}/namespaces/default/broadcastjobs/sweep") <= 5

    simulate(scenario, nodes=5)


def test_a_sidecarset_that_is_gone_gets_its_revision_once_more_at_most() -> None:
    async def scenario(world: SidecarWorld) -> None:
        silence = listening(world, "sidecarsets")
        await world.standing(3)
        assert await creations(world, silence, f"{PATH}/sidecarsets/mesh") <= 1

    simulate_sidecars(scenario)


class Refusing(Interceptor):
    """A webhook that says 409 to the patches of managers that change images, and leaves everything as it is."""

    def __init__(self) -> None:
        self.left = 3

    async def request(self, call: Call, proceed: Proceed) -> Answer:
        images = call.verb == "patch" and call.resource == "pods" and b'"image"' in (call.body or b"")
        if not (images and is_manager(call.actor) and self.left):
            return await proceed()
        self.left -= 1
        call.document, call.code = orjson.loads(call.body or b"null"), 409
        status = {"kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict", "message": "not now"}
        return Answer(409, orjson.dumps(status), {"content-type": "application/json"})


def test_l1_a_patch_that_a_webhook_answers_with_a_conflict_is_sent_again_without_any_event() -> None:
    async def sets(world: SetWorld) -> None:
        await world.started()
        world.create_set(
            replicas=1, image="sim.kruise.io/ready-1s:v1", rolling={"podUpdatePolicy": "InPlaceIfPossible"}
        )
        await world.until(world.done, 60.0)
        world.server.faults = refusing = Refusing()
        world.set_image("web", "sim.kruise.io/ready-1s:v2")
        await world.until(lambda: world.done() and not refusing.left, 60.0)

    async def sidecars(world: SidecarWorld) -> None:
        await world.standing(1)
        world.server.faults = refusing = Refusing()
        world.set_image(V2)
        await world.until(lambda: world.all_of(1) and not refusing.left, 60.0)

    simulate_sets(sets)
    simulate_sidecars(sidecars)
