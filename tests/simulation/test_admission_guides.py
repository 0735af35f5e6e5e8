"""The webhooks take what the guides and the samples show, of all kinds, and both versions are served."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.simulation.admission_world import AdmissionWorld, path_of, simulate_admission
from tests.simulation.world import Body

ROOT: Final = Path(__file__).parents[2]
KINDS: Final = ("BroadcastJob", "StatefulSet")


def manifests() -> list[tuple[str, Body]]:
    """Every object of two kinds in the guides, and of all kinds in the samples."""
    found: list[tuple[str, Body]] = []
    for guide in ("statefulset", "broadcastjob"):
        text = (ROOT / "docs" / f"{guide}.md").read_text()
        blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
        found += [(f"{guide}.md", one) for one in blocks if isinstance(one, dict) and one.get("kind") in KINDS]
    for path in sorted((ROOT / "config" / "samples").glob("apps_*.yaml")):
        listed = yaml.safe_load_all(path.read_text())
        found += [(path.name, one) for one in listed if one["apiVersion"].startswith("apps.kruise.io/")]
    return found


def test_every_manifest_passes_admission() -> None:
    async def scenario(world: AdmissionWorld) -> None:
        await world.started()
        shown = manifests()
        assert len(shown) > 20
        for number, (where, one) in enumerate(shown):
            body = copy.deepcopy(one)
            body["metadata"]["name"] = f"m-{number}"
            path = f"{path_of(body)}?dryRun=All"
            code, answer = await world.send("POST", path, body)
            assert code == 201, (where, answer.get("message"))

    simulate_admission(scenario, rest=None)


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_of_v1alpha1_is_served_as_v1beta1(kind: str) -> None:
    template: Any = {
        "metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "main", "image": "sim.kruise.io/ready-1s:app"}]},
    }
    if kind == "BroadcastJob":
        template["spec"]["restartPolicy"] = "Never"
        spec: Body = {"template": template}
    else:
        spec = {"replicas": 2, "serviceName": "a", "selector": {"matchLabels": {"app": "a"}}, "template": template}

    async def scenario(world: AdmissionWorld) -> None:
        await world.started()
        body = {"apiVersion": "apps.kruise.io/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": spec}
        await world.apply(body)
        code, found = await world.send("GET", path_of({**body, "apiVersion": "apps.kruise.io/v1beta1"}) + "/a")
        assert (code, found["apiVersion"]) == (200, "apps.kruise.io/v1beta1")
        code, again = await world.send("GET", path_of(body) + "/a")
        assert (code, again["apiVersion"]) == (200, "apps.kruise.io/v1alpha1")
        assert again["spec"]["template"] == found["spec"]["template"]
        await world.until(lambda: len(world.server.list("pods", labels={"app": "a"})) >= 2)

    simulate_admission(scenario, rest=None)


def test_in_place_without_the_readiness_gate_is_refused() -> None:
    async def scenario(world: AdmissionWorld) -> None:
        await world.started()
        text = (ROOT / "config" / "samples" / "apps_v1beta1_statefulset_in_place.yaml").read_text()
        body = next(one for one in yaml.safe_load_all(text) if one["kind"] == "StatefulSet")
        del body["spec"]["template"]["spec"]["readinessGates"]
        code, answer = await world.post(body)
        assert code == 422
        assert "readinessGates" in answer["message"]

    simulate_admission(scenario, rest=None)
