"""``kruise inject-check -f``: whatever stands in a manifest, there is an answer, or an error that names it."""

from __future__ import annotations

import copy
import json
from typing import Any, Final

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kruise.apis.sidecarset import SidecarSet
from kruise.cli.documents import Document, ManifestError, sort_out
from kruise.cli.inject_check import _applied, _Asked, _flaws
from kruise.cli.preview import preview, text_of
from kruise.cli.seen_sets import World
from kruise.runtime.client.nulls import decode_as

Json = dict[str, Any]
NOW: Final = "2026-01-01T00:00:00Z"
SET: Final[Json] = {
    "apiVersion": "apps.kruise.io/v1beta1",
    "kind": "SidecarSet",
    "metadata": {"name": "mesh"},
    "spec": {
        "selector": {"matchLabels": {"app": "a"}},
        "containers": [
            {
                "name": "proxy",
                "image": "p:1",
                "shareVolumePolicy": {"type": "enabled"},
                "transferEnv": [{"sourceContainerName": "main", "envName": "A"}],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            }
        ],
        "initContainers": [{"name": "setup", "image": "s:1"}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    },
}
POD: Final[Json] = {
    "metadata": {"labels": {"app": "a"}, "annotations": {"x": "y"}},
    "spec": {
        "containers": [
            {
                "name": "main",
                "image": "i",
                "env": [{"name": "A", "value": "b"}],
                "volumeMounts": [{"name": "d", "mountPath": "/d", "subPathExpr": "$(A)"}],
            }
        ],
        "initContainers": [{"name": "first", "image": "i"}],
        "volumes": [{"name": "d", "emptyDir": {}}],
    },
}
DEPLOYMENT: Final[Json] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"template": POD},
}
CLAIMS: Final[Json] = {**DEPLOYMENT, "kind": "StatefulSet"} | {
    "spec": {"template": POD, "volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {"accessModes": ["x"]}}]}
}
VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(found for key, item in inner for found in places(item, (*at, key)))]


@st.composite
def changed(draw: st.DrawFn, base: Json) -> Any:
    """*base* with one value replaced, removed, or joined by another one."""
    found = copy.deepcopy(base)
    path = draw(st.sampled_from([place for place in places(base) if place]))
    holder: Any = found
    for key in path[:-1]:
        holder = holder[key]
    if isinstance(holder, dict) and draw(st.booleans()):
        value = holder.pop(path[-1])
        holder[draw(st.text(max_size=6) | st.just(f"{path[-1]}x"))] = value
    else:
        holder[path[-1]] = draw(VALUES)
    return found


def ask(*bodies: Any) -> None:
    """Do what the command does with these documents, without a cluster."""
    mesh = decode_as(SidecarSet, json.dumps(SET).encode())
    found = sort_out(Document("f.yaml", number, body) for number, body in enumerate(bodies, 1))
    world = _applied(World({"mesh": mesh}, {}, {"shop": {}, "default": {}}, (), "kruise-system"), found)
    snapshot = world.snapshot()
    for source in found.pods:
        seen = preview(source.pod, "shop", world, snapshot, now=NOW, sort_by_name=False, live=False)
        assert {row.name for row in seen.rows} >= {"mesh"}
        list(_flaws(_Asked("t", source.pod, "shop", source=source)))
        assert text_of(seen.before)
        assert yaml.safe_load("\n".join(text_of(seen.after))) is not None


def answered(*bodies: Any) -> None:
    try:
        ask(*bodies)
    except ManifestError as error:
        told = str(error)
    else:
        return
    assert told.startswith("f.yaml, document ")


@settings(max_examples=300)
@given(body=changed(DEPLOYMENT))
def test_any_workload_has_an_answer(body: Any) -> None:
    answered(body)


@settings(max_examples=300)
@given(body=changed(CLAIMS))
def test_any_set_of_pods_has_an_answer(body: Any) -> None:
    answered(body)


@settings(max_examples=300)
@given(body=changed({"apiVersion": "v1", "kind": "Pod", **POD}))
def test_any_pod_has_an_answer(body: Any) -> None:
    answered(body)


@settings(max_examples=300)
@given(body=changed(SET))
def test_any_set_has_an_answer(body: Any) -> None:
    answered(body, DEPLOYMENT)


def test_the_bases_of_these_are_fine() -> None:
    ask(SET, DEPLOYMENT, {"apiVersion": "v1", "kind": "Pod", **POD})
