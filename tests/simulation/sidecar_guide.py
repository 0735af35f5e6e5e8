"""What the tests of docs/sidecarset.md share: the guide taken apart, and short words for what users see."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import yaml

from kruise.cli.preview import preview
from kruise.cli.seen_sets import WHOLE_PODS, read_world
from kruise.cli.status_sidecarset import look
from kruise.runtime.clock import format_time
from kruise.runtime.objects import Key
from tests.simulation.admission_world import AdmissionWorld
from tests.simulation.world import NAMESPACE, Body

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "docs" / "sidecarset.md").read_text()
BLOCKS: Final = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
MANIFESTS: Final[dict[str, Body]] = {one["metadata"]["name"]: one for one in BLOCKS if one.get("kind") == "SidecarSet"}
WHITE_LIST: Final = next(one for one in BLOCKS if one.get("kind") == "ConfigMap")
PARTIAL: Final = next(one for one in BLOCKS if "injectionStrategy" in one)
Scenario = Callable[[AdmissionWorld, Body], Awaitable[None]]
V2: Final = "registry.example.com/mesh/proxy:2"


def containers(pod: Body) -> list[str]:
    return [one["name"] for one in pod["spec"]["containers"]]


def named(pod: Body, container: str) -> Body:
    return next(one for one in pod["spec"]["containers"] if one["name"] == container)


def versions(world: AdmissionWorld, app: str, container: str = "proxy") -> list[str]:
    """The tags of the sidecar in the pods of an app, by name."""
    pods = world.server.list("pods", labels={"app": app})
    return [named(pod, container)["image"].rpartition(":")[2] for pod in pods]


async def status(world: AdmissionWorld, name: str) -> tuple[dict[str, str], int, Body]:
    """Return the reasons by pod, the exit code and the document of `kruise status`."""
    answer = await look(world.cluster(), Key("", name))
    return {d["pod"]: d["reason"] for d in answer.document["decisions"]}, answer.code, answer.document


async def check(world: AdmissionWorld, pod: Body, namespace: str = NAMESPACE, *, live: bool = False) -> dict[str, str]:
    """Return the reasons of `kruise inject-check` by set."""
    sets = await read_world(world.cluster())
    now = format_time(world.clock.now())
    found = preview(pod, namespace, sets, sets.snapshot(), now=now, sort_by_name=False, live=live)
    return {row.name: str(row.reason) for row in found.rows}


async def check_living(world: AdmissionWorld, name: str) -> dict[str, str]:
    pod = await world.cluster().client.live.get(WHOLE_PODS, Key(NAMESPACE, name))
    return await check(world, pod.as_json(), live=True)


async def upgrade(world: AdmissionWorld, body: Body, image: str = V2) -> int:
    """Change the image of the first container; return from where on to count."""
    mark = world.mark()
    await world.set_sidecar(body, image=image)
    return mark
