"""The manifests of docs/statefulset.md, and what the guide says of each: one scenario an example."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import yaml

from kruise.apis.core import REVISIONS
from kruise.cli.cluster import Cluster
from kruise.cli.status_statefulset import look
from kruise.runtime.client.client import Client
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key
from tests.simulation.set_world import (
    CREATE_POD,
    DELETE_POD,
    PATCH_POD,
    PATCH_STATUS,
    SETS,
    SetWorld,
)
from tests.simulation.world import NAMESPACE, Body

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "docs" / "statefulset.md").read_text()
MANIFESTS: Final = {
    m["metadata"]["name"]: m for m in map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))
}
Scenario = Callable[[SetWorld, str], Awaitable[None]]
V2: Final = "registry.example.com/shop/other:2"


def ordinals(world: SetWorld, name: str) -> list[int]:
    return [int(p["metadata"]["name"].rpartition("-")[2]) for p in world.members(name)]


def faces(world: SetWorld, name: str) -> list[tuple[str, str, str]]:
    """By what its pods are known: uid, node and IP."""
    return [(p["metadata"]["uid"], p["spec"]["nodeName"], p["status"]["podIP"]) for p in world.members(name)]


def images(world: SetWorld, name: str) -> list[str]:
    return [p["spec"]["containers"][0]["image"].rpartition(":")[2] for p in world.members(name)]


async def status(world: SetWorld, name: str) -> tuple[list[tuple[str, str]], int, dict[str, Any]]:
    """Return (pod, reason) pairs, the exit code and the document of `kruise status`."""
    client = Client(world.rest_of("status"), metrics=Metrics(process=False), clock=world.clock)
    answer = await look(Cluster(client, world.clock, NAMESPACE, world.gates), Key(NAMESPACE, name))
    return [(d["pod"], d["reason"]) for d in answer.document["decisions"]], answer.code, answer.document


async def update(world: SetWorld, name: str, image: str = V2) -> int:
    """Change the image; return from where on to count."""
    await world.settled(name)
    mark = world.mark()
    world.set_image(name, image)
    return mark


def label(world: SetWorld, pod: str, **labels: str | None) -> None:
    world.server.patch("pods", pod, {"metadata": {"labels": labels}}, actor="user")


async def web(world: SetWorld, name: str) -> None:
    seen: list[list[int]] = []

    def done() -> bool:
        now = ordinals(world, name)
        if not seen or seen[-1] != now:
            seen.append(now)
        return world.done(name)

    await world.until(done, every=0.005)
    assert seen[-3:] == [[0], [0, 1], [0, 1, 2]], "one after the other"
    first = world.members(name)[0]["spec"]
    assert (first["hostname"], first["subdomain"]) == ("web-0", "web")
    before = faces(world, name)
    await update(world, name)
    await world.settled(name)
    assert not {uid for uid, *_ in before} & {uid for uid, *_ in faces(world, name)}, "ReCreate is the default"
    # A broken image: nothing moves, also not to the next template, until somebody deletes the pod.
    world.set_image(name, "sim.kruise.io/pull-fail:v3")
    await world.sleep(30)
    world.set_image(name, V2.replace(":2", ":4"))
    await world.sleep(60)
    assert images(world, name) == ["2", "2", "v3"]
    assert (await status(world, name))[1] == 2
    world.server.delete("pods", "web-2", actor="user")
    await world.settled(name)
    assert images(world, name) == ["4", "4", "4"]


async def in_place(world: SetWorld, name: str) -> None:
    await world.settled(name)
    before = faces(world, name)
    mark = await update(world, name)
    await world.sleep(2)
    found, code, _ = await status(world, name)
    assert ("in-place-3", "InPlaceGracePeriod") in found
    assert code == 0
    assert [r for _, r in found].count("MaxUnavailableReached") == 3
    took = await world.settled(name)
    assert took > 4 * 5 - 3, "five seconds of grace for each of four pods"
    assert faces(world, name) == before
    assert images(world, name) == ["2"] * 4
    counts = world.counts(since=mark)
    assert counts[PATCH_STATUS] + counts[PATCH_POD] == 3 * 4
    assert CREATE_POD not in counts

    # What cannot be changed in place recreates the pod.
    def command(body: Body) -> None:
        body["spec"]["template"]["spec"]["containers"][0]["command"] = ["serve"]

    world.server.edit(SETS, name, command, actor="user")
    await world.settled(name)
    assert not {uid for uid, *_ in before} & {uid for uid, *_ in faces(world, name)}


async def strict(world: SetWorld, name: str) -> None:
    await world.settled(name)
    before = faces(world, name)

    def mode(body: Body) -> None:
        body["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = "safe"

    world.server.edit(SETS, name, mode, actor="user")
    await world.sleep(5)
    found, code, document = await status(world, name)
    assert {r for _, r in found} == {"InPlaceNotPossible"}
    assert code == 2
    assert "env" in document["decisions"][0]["evidence"]
    assert world.set_condition("Stalled", name)["status"] == "True"
    assert faces(world, name) == before

    def back(body: Body) -> None:
        body["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = "fast"

    world.server.edit(SETS, name, back, actor="user")
    await world.settled(name)
    assert faces(world, name) == before


async def wide(world: SetWorld, name: str) -> None:
    await world.settled(name)
    await update(world, name)
    most = 0
    reasons: set[str] = set()

    def down() -> int:
        ready = [
            p
            for p in world.members(name)
            if any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions") or ())
        ]
        return 8 - len(ready)

    for _ in range(600):
        most = max(most, down())
        await world.sleep(0.02)
    reasons |= {reason for _, reason in (await status(world, name))[0]}
    await world.settled(name)
    assert most == 2, "a quarter of eight"
    assert "WaitingMinReady" in reasons or "MaxUnavailableReached" in reasons


async def canary(world: SetWorld, name: str) -> None:
    await update(world, name)
    await world.until(lambda: world.set_status(name).get("updatedReadyReplicas") == 2)
    await world.sleep(5)
    assert images(world, name) == ["1", "1", "1", "2", "2"]
    found, code, _ = await status(world, name)
    assert (found, code) == ([(f"canary-{n}", "PartitionHeld") for n in range(3)], 0)
    assert world.set_condition("Ready", name)["status"] == "True"
    assert world.set_condition("Paused", name)["reason"] == "PartitionHeld"
    world.edit_set(name, updateStrategy={"rollingUpdate": {"partition": 0, "paused": True}})
    await world.sleep(5)
    found, code, _ = await status(world, name)
    assert (found, code) == ([(f"canary-{n}", "Paused") for n in range(3)], 0)
    world.edit_set(name, updateStrategy={"rollingUpdate": {"partition": 5, "paused": False}})
    await world.sleep(5)
    assert images(world, name) == ["1", "1", "1", "2", "2"], "a higher partition moves nobody back"
    world.edit_set(name, updateStrategy={"rollingUpdate": {"partition": 0}})
    await world.settled(name)
    assert images(world, name) == ["2"] * 5
    # A single pod, by the user's word.
    before = faces(world, name)
    label(world, "canary-1", **{"apps.kruise.io/specified-delete": "true"})
    await world.sleep(5)
    await world.settled(name)
    assert [a == b for a, b in zip(before, faces(world, name), strict=True)] == [True, False, True, True, True]
    # Roll back: the old revision, under its old name.
    old = world.set_status(name)["currentRevision"]
    world.set_image(name, "sim.kruise.io/pull-fail:v3")
    await world.sleep(30)
    assert world.set_condition("Progressing", name)["reason"] == "ImagePullFailed"
    world.set_image(name, V2)
    await world.settled(name)
    assert world.set_status(name)["currentRevision"] == old


async def by_hand(world: SetWorld, name: str) -> None:
    await update(world, name)
    await world.sleep(5)
    assert images(world, name) == ["1", "1"]
    assert (await status(world, name))[0] == [("by-hand-0", "OnDelete"), ("by-hand-1", "OnDelete")]
    world.server.delete("pods", "by-hand-0", actor="user")
    await world.until(lambda: images(world, name) == ["2", "1"])
    for number in range(3, 9):
        await world.sleep(2)
        world.set_image(name, V2.replace(":2", f":{number}"))
    await world.sleep(5)
    used = {p["metadata"]["labels"]["controller-revision-hash"] for p in world.members(name)}
    used |= {world.set_status(name)["updateRevision"], world.set_status(name)["currentRevision"]}
    kept = {r["metadata"]["name"] for r in world.server.list(str(REVISIONS), NAMESPACE)}
    assert used <= kept
    assert len(kept - used) == 3, "revisionHistoryLimit"


async def order_of(world: SetWorld, name: str) -> list[int]:
    """Update; return the ordinals in the order in which their pods were deleted."""
    mark = await update(world, name)
    await world.settled(name)
    calls = [c for c in world.writes()[0:] if c.verb == "delete" and c.resource == "pods"]
    assert mark >= 0
    return [int(c.name.rpartition("-")[2]) for c in calls]


async def by_weight(world: SetWorld, name: str) -> None:
    await world.settled(name)
    label(world, "by-weight-0", role="follower")
    label(world, "by-weight-1", role="leader")
    assert await order_of(world, name) == [0, 1, 2]


async def by_order(world: SetWorld, name: str) -> None:
    await world.settled(name)
    label(world, "by-order-0", turn="t-7")
    label(world, "by-order-1", turn="t-3")
    assert await order_of(world, name) == [2, 0, 1], "those without the key come first"


async def gaps(world: SetWorld, name: str) -> None:
    most = 0

    def done() -> bool:
        nonlocal most
        pods = world.members(name)
        most = max(most, sum(1 for p in pods if p["status"].get("phase") != "Running"))
        return world.done(name)

    await world.until(done, every=0.005)
    assert ordinals(world, name) == [0, 2, 6, 7]
    assert most <= 2
    assert (await status(world, name))[2]["ordinals"] == "0, 2, 6-7"
    world.edit_set(name, reserveOrdinals=[1, 2, "3-5"])
    await world.until(lambda: ordinals(world, name) == [0, 6, 7, 8])
    scale = {"spec": {"replicas": 2}}
    world.server.patch(SETS, name, scale, subresource="scale", actor="user")
    await world.until(lambda: ordinals(world, name) == [0, 6])
    await world.settled(name)


async def from_ten(world: SetWorld, name: str) -> None:
    await world.settled(name)
    assert ordinals(world, name) == [10, 11]


async def store(world: SetWorld, name: str) -> None:
    await world.settled(name)
    before = faces(world, name)

    def claims() -> dict[str, str]:
        found = world.server.list("persistentvolumeclaims", NAMESPACE)
        return {c["metadata"]["name"]: c["spec"]["resources"]["requests"]["storage"] for c in found}

    assert claims() == {f"data-store-{n}": "1Gi" for n in range(3)}

    def larger(body: Body) -> None:
        body["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = "2Gi"

    world.server.edit(SETS, name, larger, actor="user")
    await world.until(lambda: set(claims().values()) == {"2Gi"})
    await world.sleep(10)
    assert faces(world, name) == before, "no pod is restarted for it"
    world.edit_set(name, replicas=2)
    await world.until(lambda: set(claims()) == {"data-store-0", "data-store-1"}, timeout=120.0)
    mark = await update(world, name)
    await world.settled(name)
    assert world.counts(since=mark)[DELETE_POD] == 2
    assert set(claims()) == {"data-store-0", "data-store-1"}


async def hooked(world: SetWorld, name: str) -> None:
    await world.sleep(5)
    found, code, _ = await status(world, name)
    assert {r for _, r in found} == {"LifecycleHookBlocked"}
    assert code == 2
    joined, drained, state = "example.com/joined", "example.com/drained", "lifecycle.apps.kruise.io/state"

    def states() -> list[str]:
        return [p["metadata"]["labels"][state] for p in world.members(name)]

    assert states() == ["PreparingNormal"] * 2
    for n in range(2):
        label(world, f"hooked-{n}", **{joined: "true", drained: "false"})
    await world.settled(name)
    before = faces(world, name)
    await update(world, name)
    await world.until(lambda: states() == ["Normal", "PreparingUpdate"])
    gates = [g["conditionType"] for g in world.members(name)[1]["spec"]["readinessGates"]]
    assert "KruisePodReady" in gates
    label(world, "hooked-1", **{drained: "true"})
    await world.until(lambda: states() == ["Normal", "Updated"])
    label(world, "hooked-1", **{drained: "false"})
    await world.until(lambda: states() == ["PreparingUpdate", "Normal"])
    label(world, "hooked-0", **{drained: "true"})
    await world.until(lambda: states() == ["Updated", "Normal"])
    label(world, "hooked-0", **{drained: "false"})
    await world.settled(name)
    assert faces(world, name) == before
    # preDelete, and a change of mind.
    holds = {"metadata": {"finalizers": ["example.com/backup"]}}
    world.server.patch("pods", "hooked-1", holds, actor="user")
    world.edit_set(name, replicas=1)
    await world.until(lambda: states() == ["Normal", "PreparingDelete"])
    world.edit_set(name, replicas=2)
    await world.until(lambda: states() == ["Normal", "Normal"])
    world.edit_set(name, replicas=1)
    await world.until(lambda: states() == ["Normal", "PreparingDelete"])
    world.server.patch("pods", "hooked-1", {"metadata": {"finalizers": None}}, actor="user")
    await world.until(lambda: ordinals(world, name) == [0])
    await world.settled(name)


async def sized(world: SetWorld, name: str) -> None:
    await world.settled(name)
    before = faces(world, name)

    def more(body: Body) -> None:
        body["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "150m"

    world.server.edit(SETS, name, more, actor="user")
    await world.settled(name)
    assert faces(world, name) == before
    for pod in world.members(name):
        assert pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "150m"
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    assert world.counts()["patch pods/resize"] == 2


GATES: Final = {
    "from-ten": ("StatefulSetStartOrdinal",),
    "store": ("StatefulSetAutoResizePVCGate",),
    "sized": ("InPlaceWorkloadVerticalScaling",),
}
SCENARIOS: Final[dict[str, Scenario]] = {
    "web": web,
    "in-place": in_place,
    "strict": strict,
    "wide": wide,
    "canary": canary,
    "by-hand": by_hand,
    "by-weight": by_weight,
    "by-order": by_order,
    "gaps": gaps,
    "from-ten": from_ten,
    "store": store,
    "hooked": hooked,
    "sized": sized,
}
