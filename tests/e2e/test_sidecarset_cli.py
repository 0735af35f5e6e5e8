"""``kruise status scs/NAME`` and ``kruise inject-check`` against a real API server: what they say is what happens."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kruise.runtime.clock import parse_time
from tests.e2e.conftest import Watched
from tests.e2e.harness.manager import ManagerProcess
from tests.e2e.harness.sidecars import (
    DISABLED,
    condition,
    containers,
    counts,
    deployment,
    image_patch,
    pod,
    settled,
    sidecar,
    sidecarset,
)
from tests.e2e.harness.world import World, until

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]


def kruise(world: World, *args: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    argv = [sys.executable, "-c", "from kruise.cli.main import run; run()", *args]
    connection = f"--kubeconfig={world.cluster.admin}"
    return subprocess.run(
        [*argv, connection], input=given, text=True, capture_output=True, check=False, timeout=60.0, cwd=ROOT
    )


def reasons(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {one["name"]: one["reason"] for one in json.loads(done.stdout)["pods"][0]["sidecarSets"]}


@pytest.mark.timeout(300)
def test_what_is_said_of_pods_before_and_after_is_what_becomes_of_them(
    world: World, watched: Watched, hooked: Callable[..., ManagerProcess]
) -> None:
    world.nodes(4)
    observer, manager = watched.observer, hooked().wait_leading()
    born = parse_time(world.start_workload(pod("early"))["metadata"]["creationTimestamp"]) or 0.0
    until(lambda: time.time() > born + 1.0, 5.0, "the next second begins: times of objects have no parts of one")
    world.create_sidecarset(sidecarset("mesh", sidecar("mesh")))
    observer.until(lambda: condition(observer.sidecarset("mesh"), "Progressing"), 30.0, "the set is known")

    # Before: the template, a set that is not applied yet, and one that opts out.
    wanted = deployment("web", 4)
    said = kruise(world, "inject-check", "-f", "-", "-o", "json", given=yaml.safe_dump(wanted))
    assert said.returncode == 0, said.stderr
    assert reasons(said) == {"mesh": "Injected"}
    (asked,) = json.loads(said.stdout)["pods"]
    assert json.loads(said.stdout)["notes"] == []
    unborn = sidecarset("unborn", sidecar("unborn"))
    both = yaml.safe_dump_all([unborn, pod("any", labels=DISABLED)])
    assert reasons(kruise(world, "inject-check", "-f", "-", "-o", "json", given=both)) == {
        "mesh": "PodExempt",
        "unborn": "PodExempt",
    }

    # It becomes so.
    world.start_workload(wanted)
    observer.until(lambda: settled(observer.sidecarset("mesh"), 4), 60.0, "four pods are injected and ready")
    made = [one for one in world.pods() if one["metadata"]["name"].startswith("web-")]
    assert [containers(one) for one in made] == [["mesh", "main"]] * 4
    revision = asked["sidecarSets"][0]["revision"]
    told = json.loads(made[0]["metadata"]["annotations"]["kruise.io/sidecarset-hash"])
    assert told["mesh"]["controllerRevision"] == revision

    found = kruise(world, "status", "scs/mesh", "-o", "json")
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["counts"]["updatedReady"] == 4
    assert {one["pod"]: one["reason"] for one in document["decisions"]} == {"early": "CreatedBeforeSidecarSet"}
    name = made[0]["metadata"]["name"]
    assert reasons(kruise(world, "inject-check", f"pod/{name}", "-o", "json")) == {"mesh": "AlreadyInjected"}

    # A broken image: what a person has to look at, exit code 2; the next image repairs it, and -w sees the end.
    world.patch_sidecarset("mesh", image_patch("sim.kruise.io/pull-fail:v2"))
    observer.until(
        lambda: condition(observer.sidecarset("mesh"), "Progressing").get("reason") == "ImagePullFailed", 60.0, "stuck"
    )
    stuck = kruise(world, "status", "scs/mesh")
    assert stuck.returncode == 2, stuck.stderr
    assert "ImagePullFailed" in stuck.stdout
    assert "MaxUnavailableReached" in stuck.stdout
    world.patch_sidecarset("mesh", image_patch("registry.example.com/mesh:v3"))
    watch = kruise(world, "status", "scs/mesh", "-w", "--timeout", "50")
    assert watch.returncode == 0, watch.stdout + watch.stderr
    assert "SidecarSet mesh: as desired" in watch.stdout

    # Nobody answers: the pod starts, and is named.
    manager.kill()
    world.start_workload(pod("missed"))
    observer.until(lambda: missed(world), 30.0, "the pod runs")
    late = kruise(world, "status", "scs/mesh")
    assert late.returncode == 2
    assert "default/missed" in late.stdout
    assert reasons(kruise(world, "inject-check", "pod/missed", "-o", "json")) == {"mesh": "NotInjected"}
    hooked().wait_leading()
    observer.until(lambda: said_missed(observer.sidecarset("mesh")), 30.0, "the next manager names it")


def said_missed(body: Any) -> bool:
    found = condition(body, "Injected")
    return found.get("status") == "False" and "default/missed" in found["message"] and counts(body) == (4,) * 4


def missed(world: World) -> Any:
    found = next((one for one in world.pods() if one["metadata"]["name"] == "missed"), None)
    return found is not None and (found.get("status") or {}).get("phase") == "Running"
