"""Revisions on the embedded server: created, found again, renamed, bumped, adopted, truncated (spec 2.7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import orjson
import pytest

from kruise.apis.core import REVISIONS, ControllerRevision
from kruise.apis.statefulset import STATEFULSETS, StatefulSet
from kruise.controllers.common.owner import Owner
from kruise.controllers.common.revisionhistory import RevisionBlockedError
from kruise.controllers.common.revisions import candidate
from kruise.controllers.statefulset.claiming import selector_of
from kruise.controllers.statefulset.history import Choice, History
from kruise.runtime.client.client import Client, Write
from kruise.runtime.client.guard import WriteGuard
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import chain
from kruise.runtime.clock import Random
from kruise.runtime.errors import Conflict, Reset, UnknownOutcome
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Unreadable
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.intercept import Interceptor, Proceed
from kruise.simulator.apiserver.server import ApiServer
from tests.unit.controllers.asts_identity import TEMPLATE

OTHER = {**TEMPLATE, "spec": {"containers": [{"name": "main", "image": "web:2"}]}}


class World:
    def __init__(self, clock: VirtualClock) -> None:
        metrics = Metrics(process=False)
        self.server = ApiServer(clock, Random(1))
        self.server.registry.add_custom(STATEFULSETS)
        self.server.ensure_namespace("ns")
        self.guard = WriteGuard()
        transport = chain(self.server.transport("manager"), [self.guard])
        rest = Rest(transport, clock=clock, rng=Random(1), metrics=metrics)
        self.written: list[Write] = []
        self.client = Client(rest, metrics=metrics, clock=clock, on_write=self.written.append)
        self.history = History(self.client)
        spec = {"selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE, "replicas": 1}
        body = {"metadata": {"name": "web", "namespace": "ns"}, "spec": spec}
        self.server.create(STATEFULSETS, body, actor="user")

    async def the_set(self) -> StatefulSet:
        return await self.client.live.get(STATEFULSETS, Key("ns", "web"))

    async def listed(self) -> list[ControllerRevision]:
        found = await self.client.live.list(REVISIONS, namespace="ns")
        return [one for one in found if not isinstance(one, Unreadable)]

    def set_template(self, template: Any) -> None:
        self.server.edit(STATEFULSETS, "web", lambda b: b["spec"].update(template=template), "ns", actor="user")

    async def choose(self, last: Choice | None = None) -> Choice:
        sts = await self.the_set()
        owner = Owner(self.client, STATEFULSETS, sts)
        return await self.history.choose(owner, selector_of(sts), await self.listed(), last)

    def make(self, body: dict[str, Any]) -> None:
        plain = orjson.loads(orjson.dumps(body, default=lambda raw: orjson.Fragment(bytes(raw))))
        self.server.create(REVISIONS, plain, actor="user")

    def writes(self) -> list[str]:
        found = []
        for call in self.server.log.writes(actor="manager"):
            name = call.name or orjson.loads(call.body or b"{}")["metadata"]["name"]
            found.append(f"{call.verb} {name}" + (f" {call.code}" if call.code >= 300 else ""))
        return found


def simulate(scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock)
        await scenario(world)
        world.guard.assert_clean()

    run_virtual(main)


def test_2_7_a_new_template_costs_one_post_and_the_next_pass_nothing() -> None:
    async def scenario(world: World) -> None:
        first = await world.choose()
        name = first.chosen.update.name
        assert world.writes() == [f"create {name}"]
        assert first.chosen.current.name == name
        again = await world.choose(first)
        assert again.chosen.update.name == name
        assert await world.choose(again) is again, "nothing changed, nothing is parsed"
        assert len(world.writes()) == 1

    simulate(scenario)


def test_2_7_a_rollback_bumps_the_kept_revision() -> None:
    async def scenario(world: World) -> None:
        old = (await world.choose()).chosen.update.name
        world.set_template(OTHER)
        new = (await world.choose()).chosen.update.name
        world.set_template(TEMPLATE)
        back = await world.choose()
        assert back.chosen.update.name == old
        assert back.chosen.update.number == 3
        assert world.writes() == [f"create {old}", f"create {new}", f"patch {old}"]
        patch = world.server.log.writes(actor="manager")[-1]
        assert patch.headers["content-type"] == "application/merge-patch+json"

    simulate(scenario)


@pytest.mark.parametrize("same", [True, False])
def test_2_7_a_name_that_is_taken_is_read_live(same: bool) -> None:
    async def scenario(world: World) -> None:
        sts = await world.the_set()
        body = candidate(STATEFULSETS, sts, TEMPLATE)
        body["metadata"].pop("ownerReferences")
        body["metadata"]["labels"] = {"not": "listed"}
        if not same:
            body["data"] = msgspec.Raw(b'{"spec":{"template":{"$patch":"replace","spec":{"containers":[]}}}}')
        world.make({**body, "revision": 7})
        taken = body["metadata"]["name"]
        choice = await world.choose()
        if same:
            assert (choice.chosen.update.name, choice.chosen.update.number) == (taken, 7)
            assert choice.chosen.collision_count == 0
        else:
            assert choice.chosen.update.name != taken
            assert choice.chosen.collision_count == 1
            assert world.writes() == [f"create {taken} 409", f"create {choice.chosen.update.name}"]
        seen = [write.key.name for write in world.written]
        assert taken in seen, "the cache must show it before the next pass"

    simulate(scenario)


def test_a_revision_on_its_way_out_is_waited_for() -> None:
    async def scenario(world: World) -> None:
        sts = await world.the_set()
        body = candidate(STATEFULSETS, sts, TEMPLATE)
        body["metadata"]["finalizers"] = ["f.io/x"]
        world.make(body)
        world.server.delete(REVISIONS, body["metadata"]["name"], "ns", actor="user")
        with pytest.raises(RevisionBlockedError, match="is being deleted"):
            await world.choose()

    simulate(scenario)


@pytest.mark.parametrize("applied", [True, False])
def test_rule5_an_unknown_outcome_is_settled_by_a_live_read(applied: bool) -> None:
    class Lost(Interceptor):
        async def request(self, call: Call, proceed: Proceed) -> Answer:
            if call.verb == "create" and call.resource == "controllerrevisions.apps":
                if applied:
                    await proceed()
                raise Reset("the connection broke")
            return await proceed()

    async def scenario(world: World) -> None:
        world.server.faults = Lost()
        if applied:
            choice = await world.choose()
            assert choice.chosen.collision_count == 0
            assert [one.metadata.name for one in await world.listed()] == [choice.chosen.update.name]
        else:
            with pytest.raises(UnknownOutcome):
                await world.choose()

    simulate(scenario)


def test_rule10_an_orphan_is_adopted_after_one_live_read() -> None:
    async def scenario(world: World) -> None:
        sts = await world.the_set()
        for template in (TEMPLATE, OTHER):
            body = candidate(STATEFULSETS, sts, template)
            body["metadata"].pop("ownerReferences")
            world.make(body)
        mark = world.server.log.calls[-1].ordinal
        choice = await world.choose()
        assert len(world.writes()) == 2
        reads = [
            c
            for c in world.server.log.calls
            if c.ordinal > mark and c.verb == "get" and c.resource == str(STATEFULSETS)
        ]
        assert len(reads) == 2, "one of the test, one before the first adoption"
        for one in await world.listed():
            assert [ref.uid for ref in one.metadata.owner_references] == [sts.uid]
        assert choice.chosen.update.name in {one.metadata.name for one in await world.listed()}

    simulate(scenario)


def test_g1_a_set_that_is_not_there_any_more_adopts_nothing() -> None:
    async def scenario(world: World) -> None:
        sts = await world.the_set()
        body = candidate(STATEFULSETS, sts, TEMPLATE)
        body["metadata"].pop("ownerReferences")
        world.make(body)
        listed = await world.listed()
        world.server.delete(STATEFULSETS, "web", "ns", actor="user")
        owner = Owner(world.client, STATEFULSETS, sts)
        with pytest.raises(RevisionBlockedError, match="adopts nothing"):
            await world.history.choose(owner, selector_of(sts), listed, None)
        assert world.writes() == []

    simulate(scenario)


def test_g1_a_revision_that_was_deleted_is_made_again_for_a_set_that_is_there_alone() -> None:
    async def scenario(world: World) -> None:
        sts = await world.the_set()
        name = (await world.choose()).chosen.update.name
        world.server.delete(REVISIONS, name, "ns", actor="user")
        assert (await world.choose()).chosen.update.name == name
        world.server.delete(REVISIONS, name, "ns", actor="user")
        world.server.delete(STATEFULSETS, "web", "ns", actor="user")
        owner = Owner(world.client, STATEFULSETS, sts)
        with pytest.raises(RevisionBlockedError, match=f"its revision {name} is not made again"):
            await world.history.choose(owner, selector_of(sts), [], None)
        assert world.writes() == [f"create {name}"] * 2

    simulate(scenario)


def test_a_set_that_is_being_deleted_writes_no_revision() -> None:
    async def scenario(world: World) -> None:
        world.server.patch(STATEFULSETS, "web", {"metadata": {"finalizers": ["f.io/x"]}}, "ns", actor="user")
        world.server.delete(STATEFULSETS, "web", "ns", actor="user")
        await world.choose()
        assert world.writes() == []

    simulate(scenario)


def test_2_7_truncation_deletes_the_oldest_that_nobody_names() -> None:
    async def scenario(world: World) -> None:
        names = []
        for number in range(5):
            spec = {"containers": [{"name": "main", "image": f"web:{number}"}]}
            world.set_template({**TEMPLATE, "spec": spec})
            names.append((await world.choose()).chosen.update.name)
        choice = await world.choose()
        errors = await world.history.truncate(choice, {names[0], names[4]}, 1)
        assert errors == []
        left = {one.metadata.name for one in await world.listed()}
        assert left == {names[0], names[3], names[4]}
        stale = await world.history.truncate(choice, {names[0], names[4]}, 1)
        assert stale == [], "what is gone is gone"

    simulate(scenario)


def test_a_revision_that_somebody_else_changed_is_not_deleted_blindly() -> None:
    async def scenario(world: World) -> None:
        await world.choose()
        choice = await world.choose()
        name = choice.chosen.update.name
        world.server.patch(REVISIONS, name, {"revision": 9}, "ns", actor="user")
        (error,) = await world.history.truncate(choice, (), 0)
        assert isinstance(error, Conflict)

    simulate(scenario)
