"""The writes of revisions against the embedded API server: every one is taken, and the bytes survive."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kruise.apis.core import REVISIONS, ControllerRevision
from kruise.apis.revisiondata import revision_data
from kruise.apis.selectors import convert
from kruise.apis.statefulset import STATEFULSETS, StatefulSet
from kruise.controllers.common.revisions import (
    AdoptRevision,
    BumpRevision,
    Chosen,
    CreateRevision,
    choose,
    relevant,
    resolve_exists,
    truncate,
    written,
)
from kruise.runtime.client.client import Client
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.errors import AlreadyExists, Conflict
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.server import ApiServer

STRATEGIC = "application/strategic-merge-patch+json"
SELECTOR = convert({"matchLabels": {"app": "web"}})
SET = msgspec.json.decode(b'{"metadata":{"name":"web","namespace":"ns","uid":"set"}}', type=StatefulSet)


def template(image: str) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": image,
        "args": ["a<b & c>d \u2028"],
        "resources": {"limits": {"cpu": "1000m"}},
    }
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container], "fieldOfTomorrow": 1}}


class World:
    """A namespace, and somebody who does what was chosen."""

    def __init__(self) -> None:
        clock, metrics = SystemClock(), Metrics(process=False)
        self.server = ApiServer(clock, Random(1))
        self.server.ensure_namespace("ns")
        rest = Rest(self.server.transport("manager"), clock=clock, rng=Random(1), metrics=metrics)
        self.client = Client(rest, metrics=metrics, clock=clock)

    async def listed(self) -> tuple[ControllerRevision, ...]:
        found = await self.client.live.list(REVISIONS, namespace="ns")
        return relevant(SET, found, SELECTOR)

    async def settle(self, image: str, current: str = "", collisions: int = 0) -> Chosen:
        chosen = choose(STATEFULSETS, SET, await self.listed(), template(image), current, collisions)
        while chosen.writes:
            write = chosen.writes[0]
            if isinstance(write, CreateRevision):
                try:
                    made = await self.client.create(REVISIONS, write.body, want="object")
                except AlreadyExists:
                    existing = await self.client.live.get(REVISIONS, Key("ns", write.name))
                    chosen = resolve_exists(chosen, existing, STATEFULSETS, SET)
                    continue
            else:
                assert isinstance(write, BumpRevision | AdoptRevision)
                patched = await self.client.patch(REVISIONS, write.obj, write.patch, want="object")
                assert patched is not None
                made = patched
            chosen = written(chosen, write, made)
        return chosen


@pytest.fixture
def world() -> World:
    return World()


async def test_s6_data_has_the_bytes_of_go_on_the_server_too(world: World) -> None:
    chosen = await world.settle("web:1")
    (there,) = await world.listed()
    assert json.loads(bytes(there.data)) == json.loads(revision_data(template("web:1")))
    # Only data that is exactly Go's survives a strategic patch: the server encodes it anew and compares.
    label = {"metadata": {"labels": {"marked": "yes"}}}
    world.server.patch("controllerrevisions.apps", there.metadata.name, label, "ns", content_type=STRATEGIC)
    (there,) = await world.listed()
    again = await world.settle("web:1", chosen.current.name)
    assert again.update.obj == there
    assert (again.writes, again.update.name) == ((), chosen.update.name)


async def test_rule_8_a_rollback_is_a_merge_patch_and_leaves_the_data(world: World) -> None:
    first = await world.settle("web:1")
    second = await world.settle("web:2", first.update.name)
    assert (first.update.number, second.update.number) == (1, 2)
    back = await world.settle("web:1", second.update.name)
    assert (back.update.name, back.update.number) == (first.update.name, 3)
    assert [r.revision for r in await world.listed()] == [2, 3]
    assert back.update.data == first.update.data


async def test_a_decision_on_an_older_version_is_refused(world: World) -> None:
    first = await world.settle("web:1")
    await world.settle("web:2", first.update.name)
    stale = choose(STATEFULSETS, SET, await world.listed(), template("web:1"), "", 0)
    await world.settle("web:1")
    (bump,) = stale.writes
    assert isinstance(bump, BumpRevision)
    with pytest.raises(Conflict):
        await world.client.patch(REVISIONS, bump.obj, bump.patch)


async def test_names_that_are_taken_are_passed_by_or_used(world: World) -> None:
    first = choose(STATEFULSETS, SET, (), template("web:1"), "", 0).writes[0]
    assert isinstance(first, CreateRevision)
    taken = {**first.body, "data": {"spec": {}}, "metadata": {**first.body["metadata"], "labels": {"hidden": "yes"}}}
    await world.client.create(REVISIONS, taken)
    chosen = await world.settle("web:1")
    assert chosen.collision_count == 1
    assert chosen.update.name != first.name
    assert [obj.metadata.name for obj in await world.listed()] == [chosen.update.name]


async def test_rule_10_an_orphan_is_adopted_with_its_other_owners(world: World) -> None:
    write = choose(STATEFULSETS, SET, (), template("web:1"), "", 0).writes[0]
    assert isinstance(write, CreateRevision)
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c"}
    await world.client.create(
        REVISIONS, {**write.body, "metadata": {**write.body["metadata"], "ownerReferences": [other]}}
    )
    chosen = await world.settle("web:1")
    assert chosen.update.obj is not None
    assert [ref.uid for ref in chosen.update.obj.metadata.owner_references] == ["c", "set"]
    assert (await world.settle("web:1")).writes == ()


async def test_truncation_deletes_the_very_version_that_was_read(world: World) -> None:
    current = ""
    for n in range(4):
        current = (await world.settle(f"web:{n}", current)).update.name
    listed = await world.listed()
    gone = truncate(listed, {current}, 1)
    assert [obj.revision for obj in gone] == [1, 2]
    assert await world.client.delete(REVISIONS, gone[0], disrupts=True)
    await world.settle("web:1", current)
    with pytest.raises(Conflict):
        await world.client.delete(REVISIONS, gone[1], disrupts=True)
    assert [obj.revision for obj in await world.listed()] == [3, 4, 5]
