"""docs/statefulset.md: its manifests are valid and do what it says, run by the manager in virtual time.

Each example has a scenario here, the migration too. The vocabulary of the guide is that of the code.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
import orjson
import pytest

from kruise.apis.core import REVISIONS
from kruise.apis.hashes import controller_revision_hash, controller_revision_name
from kruise.apis.revisiondata import revision_data
from kruise.apis.statefulset import StatefulSetSpec
from kruise.apis.statefulset_rules import default_statefulset
from kruise.apis.statefulset_validation import validate_statefulset
from kruise.controllers.common.reasons import Reason
from kruise.simulator.apiserver.failure import Failure
from kruise.simulator.invariants.statefulset import StatefulSets
from tests.simulation.set_guide import (
    GATES,
    MANIFESTS,
    ROOT,
    SCENARIOS,
    TEXT,
    faces,
    status,
    update,
)
from tests.simulation.set_world import (
    CREATE_POD,
    DELETE_POD,
    PATCH_POD,
    PATCH_STATUS,
    SETS,
    SetWorld,
    simulate_sets,
)
from tests.simulation.world import NAMESPACE, Body, is_manager


def test_the_guide_has_all_examples() -> None:
    assert list(MANIFESTS) == list(SCENARIOS)


@pytest.mark.parametrize("name", MANIFESTS)
def test_an_example_is_valid(name: str) -> None:
    body = copy.deepcopy(MANIFESTS[name])
    body["metadata"]["namespace"] = NAMESPACE
    assert validate_statefulset(default_statefulset(body)) == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_example_does_what_the_guide_says(name: str) -> None:
    async def scenario(world: SetWorld) -> None:
        if name == "from-ten":
            # The oracles know no feature gates unless they are told.
            told = StatefulSets(is_manager, start_ordinal=True)
            checkers = world.checks.suite.checkers
            world.checks.suite.checkers = [told if isinstance(c, StatefulSets) else c for c in checkers]
        await world.started()
        body = {**MANIFESTS[name], "metadata": {"name": name, "namespace": NAMESPACE}}
        world.server.create(SETS, body, actor="user")
        await SCENARIOS[name](world, name)

    simulate_sets(scenario, gates=tuple((gate, True) for gate in GATES.get(name, ())), rest=60.0)


# What the guide says is not accepted.


def _rolling(spec: Body) -> Body:
    found: Body = spec.setdefault("updateStrategy", {}).setdefault("rollingUpdate", {})
    return found


REFUSED: Final[dict[str, tuple[str, Callable[[Body], Any], str]]] = {
    "labels": ("web", lambda s: s["template"]["metadata"].update(labels={"app": "x"}), "does not match"),
    "two-at-a-time": ("web", lambda s: _rolling(s).update(maxUnavailable=2), "Parallel"),
    "two-created": ("web", lambda s: s.update(scaleStrategy={"maxUnavailable": 2}), "Parallel"),
    "none-at-a-time": ("wide", lambda s: _rolling(s).update(maxUnavailable=0), "less than 1"),
    "min-ready": ("wide", lambda s: _rolling(s).update(minReadySeconds=301), "300"),
    "on-delete": ("by-hand", lambda s: _rolling(s).update(partition=1), "RollingUpdate"),
    "priorities": ("by-weight", lambda s: s.update(podManagementPolicy="OrderedReady"), "Parallel"),
    "weight": (
        "by-weight",
        lambda s: _rolling(s)["unorderedUpdate"]["priorityStrategy"]["weightPriority"][0].update(weight=101),
        "weight",
    ),
    "start": ("from-ten", lambda s: s["ordinals"].update(start=-1), "greater than or"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_guide_excludes_is_refused(name: str) -> None:
    base, change, why = REFUSED[name]
    body = copy.deepcopy(MANIFESTS[base])
    body["metadata"] = {"name": name, "namespace": NAMESPACE}
    change(body["spec"])
    assert any(why in str(error) for error in validate_statefulset(default_statefulset(body)))

    async def scenario(world: SetWorld) -> None:
        with pytest.raises(Failure) as refused:
            world.server.create(SETS, body, actor="user")
        assert refused.value.code == 422
        assert why in str(refused.value)

    simulate_sets(scenario, rest=None)


@pytest.mark.parametrize("field", ["selector", "serviceName", "podManagementPolicy"])
def test_what_cannot_be_changed_is_refused(field: str) -> None:
    other = {"selector": {"matchLabels": {"app": "x"}}, "serviceName": "x", "podManagementPolicy": "Parallel"}

    async def scenario(world: SetWorld) -> None:
        world.server.create(SETS, {**MANIFESTS["web"], "metadata": {"name": "web"}}, actor="user")
        with pytest.raises(Failure, match="immutable"):
            world.edit_set("web", **{field: other[field]})

    simulate_sets(scenario, rest=None)


def test_without_the_gate_an_update_is_two_writes_and_the_pod_serves_until_its_container_stops() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        world.create_set("web", replicas=2, gated=False, rolling={"podUpdatePolicy": "InPlaceIfPossible"})
        await world.settled("web")
        before = faces(world, "web")
        mark = await update(world, "web")
        await world.settled("web")
        assert faces(world, "web") == before
        counts = world.counts(since=mark)
        assert counts[PATCH_POD] == 2 * 2, "for each the image, and the label that says it is Normal again"
        assert PATCH_STATUS not in counts, "nobody takes it out of service"

    simulate_sets(scenario, rest=60.0)


def test_every_field_of_the_spec_has_an_example() -> None:
    def alike(path: str) -> str:
        return re.sub(r"^lifecycle\.\w+\.", "lifecycle.HOOK.", path)  # the hooks have one type

    shown = {alike(path) for m in MANIFESTS.values() for path in _paths(m["spec"])}
    missing = {alike(path) for path in _fields(StatefulSetSpec)} - shown
    # Read by nobody, here or there; the guide says so.
    ignored = {
        f"updateStrategy.rollingUpdate.inPlaceUpdateStrategy.imagePreDownload{w}"
        for w in ("Parallelism", "TimeoutSeconds", "MinUpdatedReadyPods")
    }
    assert missing == ignored
    assert "`imagePreDownload*`" in TEXT


def _paths(value: Any, at: str = "") -> set[str]:
    if isinstance(value, list):
        return {at} | {p for item in value for p in _paths(item, at)}
    if not isinstance(value, dict) or at in ("template", "volumeClaimTemplates"):
        return {at}
    return {at} | {p for key, item in value.items() for p in _paths(item, f"{at}.{key}".lstrip("."))}


def _fields(struct: type[msgspec.Struct], at: str = "") -> list[str]:
    found: list[str] = []
    for field in msgspec.structs.fields(struct):
        path = f"{at}.{field.encode_name}".lstrip(".")
        # How labels are selected is Kubernetes' own; one form each is enough.
        inner = [] if field.encode_name in ("selector", "matchSelector") else _structs(field.type)
        found += [p for one in inner for p in _fields(one, path)] or [path]
    return found


def _structs(kind: Any) -> list[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [found for part in getattr(kind, "__args__", ()) for found in _structs(part)]


def _reasons_of_the_code() -> set[str]:
    files = [*(ROOT / "kruise/controllers/statefulset").glob("*.py"), ROOT / "kruise/cli/seen_statefulset.py"]
    names = {
        node.attr
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }
    return {str(Reason[name]) for name in names}


def test_every_reason_is_explained() -> None:
    section = TEXT.partition("## Reasons")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert len(told) == len(set(told))
    assert set(told) == _reasons_of_the_code()


def test_every_link_inside_the_guide_has_its_heading() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    }
    links = re.findall(r"\(#([a-z-]+)\)", TEXT)
    assert links
    assert set(links) <= headings


# The migration by hand.


def _core_set(world: SetWorld) -> Body:
    """Make what the StatefulSet controller of Kubernetes leaves behind when its set is deleted with orphans."""
    template: dict[str, Any] = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "containers": [{"name": "main", "image": "registry.example.com/shop/web:1", "resources": {}}],
            "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
        },
    }
    data = revision_data(template)
    name = controller_revision_name("web", controller_revision_hash(data, 0))
    revision = {
        "metadata": {"name": name, "labels": {"app": "web", "controller.kubernetes.io/hash": name.rpartition("-")[2]}},
        "revision": 1,
        "data": orjson.loads(data),
    }
    world.server.create(str(REVISIONS), revision, actor="kube-controller-manager")
    for ordinal in range(3):
        pod = f"web-{ordinal}"
        labels = {"app": "web", "controller-revision-hash": name, "statefulset.kubernetes.io/pod-name": pod}
        labels["apps.kubernetes.io/pod-index"] = str(ordinal)
        claim = {
            "metadata": {"name": f"data-{pod}", "labels": {"app": "web"}},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "fast",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
        volume = {"name": "data", "persistentVolumeClaim": {"claimName": f"data-{pod}"}}
        world.server.create("persistentvolumeclaims", claim, actor="kube-controller-manager")
        spec = {**template["spec"], "hostname": pod, "subdomain": "web", "volumes": [volume]}
        body = {"metadata": {"name": pod, "labels": labels}, "spec": spec}
        world.server.create("pods", body, actor="kube-controller-manager")
    return template


def test_a_statefulset_is_taken_over_without_a_restart() -> None:
    async def scenario(world: SetWorld) -> None:
        template = _core_set(world)
        await world.until(lambda: len(faces_when_running(world)) == 3)
        before = faces(world, "web")
        names = [r["metadata"]["name"] for r in world.server.list(str(REVISIONS), NAMESPACE)]
        claims = {c["metadata"]["uid"] for c in world.server.list("persistentvolumeclaims", NAMESPACE)}
        await world.started()
        mark = world.mark()
        claim = copy.deepcopy(MANIFESTS["store"]["spec"]["volumeClaimTemplates"][0])
        spec = {
            "replicas": 3,
            "serviceName": "web",
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
            "volumeClaimTemplates": [claim],
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"podUpdatePolicy": "ReCreate"}},
        }
        world.server.create(SETS, {"metadata": {"name": "web"}, "spec": spec}, actor="user")
        await world.settled("web")
        await world.sleep(30)
        assert faces(world, "web") == before
        assert [p["status"]["containerStatuses"][0]["restartCount"] for p in world.members("web")] == [0, 0, 0]
        assert [r["metadata"]["name"] for r in world.server.list(str(REVISIONS), NAMESPACE)] == names
        assert {c["metadata"]["uid"] for c in world.server.list("persistentvolumeclaims", NAMESPACE)} == claims
        counts = world.counts(since=mark)
        assert CREATE_POD not in counts
        assert DELETE_POD not in counts
        assert (await status(world, "web"))[:2] == ([], 0)
        owners = [p["metadata"]["ownerReferences"][0]["apiVersion"] for p in world.members("web")]
        assert owners == ["apps.kruise.io/v1beta1"] * 3

    simulate_sets(scenario, rest=60.0)


def faces_when_running(world: SetWorld) -> list[Body]:
    return [p for p in world.members("web") if (p.get("status") or {}).get("phase") == "Running"]
