"""SidecarSet in memory: the production manager, the embedded API server, simulated nodes, virtual time.

Counted by the server's request log, exactly: each row of performance 2.2. No conflict of our own making, no write that
changes nothing, a set status twice at once and then at most twice a second. The write guard and the invariants look on
in every test; each ends with ten virtual minutes in which nothing happens.
"""

from __future__ import annotations

from tests.simulation.sidecar_world import (
    CREATE_REVISION,
    PATCH_POD,
    PATCH_STATUS,
    SET_STATUS,
    V2,
    V3,
    SidecarWorld,
    simulate_sidecars,
)


async def costs(world: SidecarWorld, mark: int, count: int, name: str = "mesh") -> dict[str, int]:
    """Let a set settle on *count* pods; return what that cost since *mark* without its status, which is checked."""
    begun = world.clock.monotonic()
    await world.settled(count, name)
    counts = world.counts(since=mark)
    took = world.clock.monotonic() - begun
    assert 1 <= counts.pop(SET_STATUS, 0) <= 2 + took / 0.5
    assert not [what for what in counts if what.endswith("409")], counts
    return counts


# ---- cold upgrades ---------------------------------------------------------------------------------------------------


def test_a_cold_upgrade_is_one_patch_and_one_condition_the_first_time() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.started()
        world.create_set()
        await world.sleep(1)
        assert world.counts() == {CREATE_REVISION: 1, SET_STATUS: 1}
        mark = world.mark()
        world.create_pods(3)
        assert await costs(world, mark, 3) == {}
        mark = world.mark()
        world.set_image(V2)
        assert await costs(world, mark, 3) == {CREATE_REVISION: 1, PATCH_POD: 3, PATCH_STATUS: 3}
        mark = world.mark()
        world.set_image(V3)
        assert await costs(world, mark, 3) == {CREATE_REVISION: 1, PATCH_POD: 3}
        assert {image for number in range(3) for image in world.images(f"shop-{number}").values()} == {
            V3,
            "sim.kruise.io/ready-1s:web",
        }

    simulate_sidecars(scenario)
