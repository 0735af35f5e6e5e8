"""Certificates through the years, in virtual time, against the embedded API server."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import ConfigError
from kruise.runtime.manager.certs import Pair, self_signed
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.runtime.webhook.certs import DAY, CertificateRules, Keyring, successor
from kruise.runtime.webhook.keeper import EVERY, CertificateKeeper, from_outside
from kruise.runtime.webhook.targets import Reach
from tests.unit.webhook.webhook_world import HOST, MUTATING, NAME, NAMESPACE, SECRET, World, trusted

YEAR = 365 * DAY


def served(keeper: CertificateKeeper) -> bytes:
    assert keeper.pair is not None
    return keeper.pair.certificate


def refused(world: World, *keepers: CertificateKeeper) -> list[str]:
    """Return what a caller that trusts each live bundle would say of each replica."""
    now = world.clock.now()
    return [
        text
        for keeper in keepers
        for bundle in world.bundles()
        if (text := trusted(served(keeper), bundle, now)) is not None
    ]


def test_crt2_a_first_start_makes_stores_and_publishes() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        keeper = world.keeper("a")
        assert keeper.check() == "there is no certificate yet"
        await keeper.set_up()
        assert served(keeper) == world.ring().leaf.certificate
        assert world.bundles() == [world.ring().pem] * 4
        assert keeper.bundles() == (world.ring().pem,)
        assert not refused(world, keeper)
        assert keeper.check() is None
        assert (await keeper.certificate()).pair == keeper.pair

    run_virtual(main)


@pytest.mark.parametrize("seed", range(5))
def test_crt4_replicas_that_race_at_the_first_start_end_with_one_keyring(seed: int) -> None:
    async def main() -> None:
        world = World(VirtualClock())
        keepers = [world.keeper(name, leads=False) for name in "abc"]
        async with asyncio.TaskGroup() as group:
            for keeper in keepers:
                group.create_task(keeper.set_up())
        assert len({served(keeper) for keeper in keepers}) == 1
        assert not refused(world, *keepers)

    run_virtual(main, seed=seed, pick="random")


def test_crt4_only_the_leader_writes_after_the_first_set_up() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        leader, other = world.keeper("a"), world.keeper("b", leads=False)
        await leader.set_up()
        await other.set_up()
        assert not world.server.commits(actor="b")
        world.server.edit(MUTATING, NAME, lambda c: c["webhooks"][0]["clientConfig"].pop("caBundle"))
        await other.look()
        assert not world.server.commits(actor="b")
        assert len(set(world.bundles())) == 2
        await leader.look()
        assert len(set(world.bundles())) == 1

    run_virtual(main)


def test_crt2_drift_is_repaired_within_a_minute_and_nothing_else_is_written() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        keeper = world.keeper("a")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(keeper.run())
            await keeper.ready()
            writes = len(world.server.commits(actor="a"))
            await world.clock.sleep(24 * 3600)
            assert len(world.server.commits(actor="a")) == writes
            world.server.edit(MUTATING, NAME, lambda c: c["webhooks"][1]["clientConfig"].update(caBundle="Cg=="))
            await world.clock.sleep(1.1 * EVERY)
            assert not refused(world, keeper)
            task.cancel()

    run_virtual(main, timeout=2 * DAY)


def test_crt3_crt4_a_new_leaf_reaches_every_replica_without_a_restart() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        leader, other = world.keeper("a"), world.keeper("b", leads=False)
        await leader.set_up()
        await other.set_up()
        first = served(leader)
        listening = (await other.certificate()).context
        await world.clock.sleep(61 * DAY)
        await leader.look()
        assert served(leader) != first
        assert not refused(world, leader, other), "the old one is good for another month"
        await other.look()
        assert served(other) == served(leader)
        assert (await other.certificate()).context is listening

    run_virtual(main, timeout=100 * DAY)


@pytest.mark.parametrize("how", ["empty", "torn", "garbage", "one key"])
def test_x34_what_is_broken_by_hand_is_put_back_and_the_last_good_pair_stays(how: str) -> None:
    async def main() -> None:
        world = World(VirtualClock())
        leader, other = world.keeper("a"), world.keeper("b", leads=False)
        await leader.set_up()
        await other.set_up()
        good = world.ring()

        def spoil(secret: dict[str, dict[str, str]]) -> None:
            if how == "empty":
                secret.pop("data")
            elif how == "torn":
                secret["data"]["tls.key"] = secret["data"]["ca.key"]
            elif how == "garbage":
                secret["data"]["ca.crt"] = "AAAA"
            else:
                secret["data"].pop("ca.key")

        world.server.edit("secrets", SECRET, spoil, NAMESPACE)
        await other.look()
        assert not refused(world, leader, other)
        await leader.look()
        assert world.ring() == good
        assert not refused(world, leader, other)

    run_virtual(main)


def test_f11_x34_a_keyring_of_somebody_else_is_taken_over_with_both_bundles() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        leader, other = world.keeper("a"), world.keeper("b", leads=False)
        await leader.set_up()
        await other.set_up()
        foreign, _ = successor(None, leader.rules, now=world.clock.now(), published=False)

        def swap(secret: dict[str, dict[str, str]]) -> None:
            secret["data"] = {k: base64.b64encode(v).decode() for k, v in foreign.data().items()}

        world.server.edit("secrets", SECRET, swap, NAMESPACE)
        for _ in range(20):
            await other.look()
            assert not refused(world, leader, other)
            await leader.look()
            assert not refused(world, leader, other)
            await world.clock.sleep(60)
        assert served(leader) == served(other) == foreign.leaf.certificate

    run_virtual(main)


def test_crt6_a_set_up_that_fails_says_what_is_missing() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        world.server.delete(MUTATING, NAME)
        keeper = world.keeper("a", initialize_timeout=30.0)
        begun = world.clock.monotonic()
        told = rf"initialize-timeout=30s.*MutatingWebhookConfiguration {NAME} is not.*--disable-webhooks"
        with pytest.raises(ConfigError, match=told):
            await keeper.run()
        assert 28 <= world.clock.monotonic() - begun <= 31

    run_virtual(main)


def test_crt6_a_set_up_that_waits_says_for_what_at_once_and_once() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        kept = world.server.get(MUTATING, NAME)
        assert kept is not None
        world.server.delete(MUTATING, NAME)
        validating = "validatingwebhookconfigurations.admissionregistration.k8s.io"
        keeper = world.keeper("a", initialize_timeout=30.0)
        with capture_logs() as lines:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(keeper.set_up())
                await world.clock.sleep(0.5)
                first = [one for one in lines if one["log_level"] == "warning"]
                assert len(first) == 1
                assert f"MutatingWebhookConfiguration {NAME} is not there" in first[0]["problem"]
                assert "--disable-webhooks" in first[0]["solution"]

                await world.clock.sleep(10)
                assert [one for one in lines if one["log_level"] == "warning"] == first  # ten tries, nothing new

                world.server.delete(validating, NAME)
                await world.clock.sleep(2)
                second = [one for one in lines if one["log_level"] == "warning"][1:]
                assert ["ValidatingWebhookConfiguration" in one["problem"] for one in second] == [True]
                running.cancel()

    run_virtual(main)


def test_crt6_what_comes_late_is_waited_for() -> None:
    async def main() -> None:
        world = World(VirtualClock(), configurations=False)
        late = World(world.clock)
        keeper = world.keeper("a")

        async def install() -> None:
            await world.clock.sleep(20)
            for plural in (MUTATING, "validatingwebhookconfigurations.admissionregistration.k8s.io"):
                found = late.server.get(plural, NAME)
                assert found is not None
                world.server.create(plural, {"metadata": {"name": NAME}, "webhooks": found["webhooks"]})
            crd = late.server.get("customresourcedefinitions.apiextensions.k8s.io", "webs.example.com")
            assert crd is not None
            body = {"metadata": {"name": "webs.example.com"}, "spec": crd["spec"]}
            world.server.create("customresourcedefinitions.apiextensions.k8s.io", body)

        async with asyncio.TaskGroup() as group:
            group.create_task(install())
            await keeper.set_up()
        assert not refused(world, keeper)

    run_virtual(main)


def test_web9_a_set_up_that_would_block_our_own_pods_is_refused() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        world.server.edit(MUTATING, NAME, lambda c: c["webhooks"][0].update(failurePolicy="Fail", rules=[rule]))
        with pytest.raises(ConfigError, match="nobody could start us"):
            await world.keeper("a", namespace=NAMESPACE).run()

    run_virtual(main)


def test_crt3_another_host_gets_a_leaf_at_once() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        await world.keeper("a").set_up()
        reach = Reach(NAMESPACE, "kruise-webhook-service", url="https://laptop.example:9876")
        keeper = world.keeper("b", rules=CertificateRules(("laptop.example",)), reach=reach)
        await keeper.set_up()
        assert trusted(served(keeper), world.bundles()[0], world.clock.now(), "laptop.example") is None
        assert world.configs()[3]["url"] == "https://laptop.example:9876/convert"

    run_virtual(main)


def at(port: int) -> Reach:
    return Reach(NAMESPACE, "kruise-webhook-service", url=f"https://{HOST}:{port}")


def ports(world: World) -> set[str]:
    """Return where the configurations lead to."""
    return {one["url"].rsplit(":", 1)[1].split("/")[0] for one in world.configs()}


def test_a_replica_takes_over_when_it_listens_itself() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        await world.keeper("a", reach=at(1)).set_up()
        assert ports(world) == {"1"}
        listens = asyncio.Event()

        async def listening() -> None:
            await listens.wait()

        second = world.keeper("b", reach=at(2), leads=False)
        second.serves(listening)
        running = asyncio.create_task(second.run())
        await second.ready()
        await world.clock.sleep(5.0)
        assert ports(world) == {"1"}, "nobody listens at the other one"
        assert second.called() == "the configurations lead to another replica until this one listens"
        listens.set()
        await world.clock.sleep(1.0)
        assert ports(world) == {"2"}
        assert second.called() is None
        running.cancel()

    run_virtual(main)


def test_two_managers_with_different_addresses_do_not_fight_for_ever() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        keepers = [world.keeper("a", reach=at(1)), world.keeper("b", reach=at(2))]
        with capture_logs() as logs:
            running = [asyncio.create_task(one.run()) for one in keepers]
            await world.clock.sleep(20 * EVERY)
            mark = len(world.server.log.calls)
            await world.clock.sleep(60 * EVERY)
        written = [c for c in world.server.log.calls[mark:] if c.verb == "patch" and c.resource == MUTATING]
        assert len(ports(world)) == 1
        assert len(written) <= 2 * 60 // 10 + 2, "an attempt in ten minutes"
        said = [line for line in logs if line["log_level"] == "error"]
        assert said and "again and again" in said[0]["event"] and "WEBHOOK_PORT" in said[0]["hint"]
        assert len(said) <= 2
        for one in running:
            one.cancel()

    run_virtual(main)


class Skewed:
    """A clock whose wall time differs."""

    def __init__(self, clock: Clock, by: float) -> None:
        self._clock, self._by = clock, by
        self.monotonic, self.boottime, self.sleep = clock.monotonic, clock.boottime, clock.sleep

    def now(self) -> float:
        return self._clock.now() + self._by


@pytest.mark.parametrize("seed", range(2))
def test_f11_x34_three_years_of_rotations_and_not_one_failed_admission(seed: int) -> None:
    """Two replicas that restart now and then, clocks that differ, an API server that sees configurations late."""

    async def main() -> None:
        world = World(VirtualClock())
        rng = Random(seed)
        step = 8 * 3600.0
        keepers: list[CertificateKeeper] = []
        for name, leads in (("a", True), ("b", False)):
            clock = Skewed(world.clock, rng.uniform(-1800, 1800))
            keepers.append(world.keeper(name, leads=leads, clock=clock))
            await keepers[-1].set_up()
        known = world.bundles()
        leaves, bundles, calls = set(), set(), 0
        end = world.clock.now() + 3 * YEAR
        while world.clock.now() < end:
            await world.clock.sleep(step)
            place = rng.randrange(2)
            if rng.random() < 0.02:
                clock = Skewed(world.clock, rng.uniform(-1800, 1800))
                keepers[place] = world.keeper("ab"[place], leads=place == 0, clock=clock)
                await keepers[place].set_up()
            elif rng.random() < 0.9:  # else the API server was away
                await keepers[place].look()
            now = world.clock.now()
            for keeper in keepers:
                leaves.add(served(keeper))
                for bundle in {*known, *world.bundles()}:  # what it sees now, and what it saw eight hours ago
                    calls += 1
                    assert trusted(served(keeper), bundle, now) is None
            known = world.bundles()
            bundles.update(known)
        assert len(leaves) >= 3 * 6
        assert len(bundles) >= 6
        assert calls > 6000

    run_virtual(main, timeout=4 * YEAR)


# Certificates from outside.


def test_crt5_crt6_files_of_others_are_waited_for_and_never_written(tmp_path: Path) -> None:
    async def main() -> None:
        clock = VirtualClock()
        pair = self_signed([HOST], now=clock.now())
        certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"

        async def issue() -> None:
            await clock.sleep(10)
            certificate.write_bytes(pair.certificate)
            await clock.sleep(10)
            key.write_bytes(pair.key)

        async with asyncio.TaskGroup() as group:
            group.create_task(issue())
            found = await from_outside(certificate, key, clock=clock, metrics=Metrics(process=False))
        assert found.pair == pair
        written.append(pair)

    written: list[Pair] = []
    run_virtual(main)
    (pair,) = written
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"tls.crt": pair.certificate, "tls.key": pair.key}


def test_crt6_files_that_never_come_name_their_flag(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match="--webhook-cert-path"):
            await from_outside(
                tmp_path / "tls.crt", tmp_path / "tls.key", clock=VirtualClock(), metrics=Metrics(process=False)
            )

    run_virtual(main)


def test_crt3_a_keyring_that_is_stored_reads_back() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        await world.keeper("a").set_up()
        assert Keyring.read(world.secret()).data() == world.secret()

    run_virtual(main)
