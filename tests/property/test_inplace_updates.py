"""Updates in place, one overtaking the other, and metadata that is nobody's but the user's.

Checked: however updates follow each other, in grace periods and between batches, a pod ends with exactly the images,
labels and annotations of the last template, is complete then and not before, and keeps what others wrote; what is
written into annotations reads back as it was.
"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kruise.controllers.common.inplace.annotations import GRACE_KEY, STATE_KEY, grace_text
from kruise.controllers.common.inplace.complete import completion, containers_done, ready_for_next
from kruise.controllers.common.inplace.containers import same_image
from kruise.controllers.common.inplace.metadata import applicable, compose, metadata_patch
from kruise.controllers.common.inplace.overlap import begin
from kruise.controllers.common.inplace.patch import apply_spec, held, next_spec
from kruise.controllers.common.inplace.spec import UpdateSpec, update_spec
from kruise.controllers.common.inplace.state import Batch, State, parse, state_of
from kruise.simulator.apiserver.strategic import strategic_merge
from tests.unit.controllers.inplace_pods import (
    GATES,
    NOW,
    container,
    data,
    images,
    restarted,
    running,
    template,
    typed,
    written,
)

JSON = dict[str, Any]

KEYS = st.sampled_from(["a", "b", "x.io/c"])
MAPS = st.dictionaries(KEYS, st.sampled_from(["1", "2", "<é>"]), max_size=3)
NAMES = st.lists(st.sampled_from(["f/a", "f/b", "f/c"]), unique=True, max_size=3)
PLACES = st.lists(st.sampled_from([None, 1, 2]), min_size=1, max_size=3)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[JSON], list[tuple[int, list[str]]]]:
    """Templates of one set, and for each step its grace period and what happens before the next."""
    places = draw(PLACES)
    count = draw(st.integers(2, 5))
    bodies = []
    for _ in range(count):
        tags = [draw(st.sampled_from(["1", "2", "latest"])) for _ in places]
        containers = [
            container(f"c{i}", f"img{i}:{tag}", place=p) for i, (p, tag) in enumerate(zip(places, tags, strict=True))
        ]
        labels = {"app": "web", **draw(MAPS)}
        annotations = draw(MAPS)
        bodies.append(template(*containers, **({"annotations": annotations} if annotations else {}), labels=labels))
    turns = st.lists(st.sampled_from(["refresh", "kubelet", "late kubelet"]), max_size=4)
    steps = [(draw(st.sampled_from([0, 0, 30])), draw(turns)) for _ in range(count - 1)]
    return bodies, steps


def continued(pod: JSON, turn: str, before: JSON) -> JSON:
    """Return the pod after one thing that happens by itself: a kubelet's work, or what a refresh would do.

    A late kubelet does what the pod *before* asked of it: it has not seen the last write.
    """
    annotations = pod["metadata"].get("annotations", {})
    if turn == "kubelet":
        return restarted(pod)
    if turn == "late kubelet":
        return {**pod, "status": restarted(before)["status"]}
    text = grace_text(annotations)
    state = state_of(annotations)
    assert state is not None
    if text is not None:
        step = apply_spec(typed(pod), UpdateSpec.from_json(text), state, now=NOW, gates=GATES)
        return written(pod, *step.writes("grace"))
    spec = next_spec(state)
    if spec is None or not containers_done(typed(pod), state, GATES).done or not ready_for_next(typed(pod), state).done:
        return pod
    return written(pod, *apply_spec(typed(pod), spec, state, now=NOW, gates=GATES).writes("batch"))


def started(pod: JSON, old: JSON, new: JSON, revision: str, grace: int) -> JSON:
    spec = update_spec(data(old), data(new), revision=revision, gates=GATES, grace_seconds=grace)
    assert isinstance(spec, UpdateSpec)
    first = begin(typed(pod), spec, now=NOW, gates=GATES)
    label = {"controller-revision-hash": revision}
    if grace:
        body = {"metadata": {"labels": label, "annotations": held(typed(pod), first.spec, first.state)}}
        return {**strategic_merge(copy.deepcopy(pod), body), "status": pod["status"]}
    step = apply_spec(typed(pod), first.spec, first.state, now=NOW, gates=GATES)
    return written(pod, *step.writes("start", labels=label))


@given(histories())
def test_row_9_no_update_is_lost_when_the_next_overtakes_it(
    history: tuple[list[JSON], list[tuple[int, list[str]]]],
) -> None:
    bodies, steps = history
    pod = running(bodies[0])
    pod["metadata"].setdefault("annotations", {})["cni.io/mine"] = "kept"
    pod["metadata"]["labels"]["foreign"] = "kept"
    for i, (grace, turns) in enumerate(steps):
        before = pod
        pod = started(pod, bodies[i], bodies[i + 1], f"r{i + 1}", grace)
        for turn in turns:
            if turn == "refresh":
                before = pod
            pod = continued(pod, turn, before)
    wanted = bodies[-1]
    for turn in ["refresh", "kubelet"] * 10:
        if completion(typed(pod), GATES).done:
            running_images = {one["name"]: one["image"] for one in pod["status"]["containerStatuses"]}
            assert running_images == images(pod), "S4: complete is what runs"
            break
        pod = continued(pod, turn, pod)
    else:
        raise AssertionError("L1: the update never ends")
    assert images(pod) == {one["name"]: one["image"] for one in wanted["spec"]["containers"]}
    annotations = {k: v for k, v in pod["metadata"]["annotations"].items() if k not in (STATE_KEY, GRACE_KEY)}
    assert annotations == {"cni.io/mine": "kept", **wanted["metadata"].get("annotations", {})}
    label = {"controller-revision-hash": f"r{len(steps)}", "foreign": "kept"}
    assert pod["metadata"]["labels"] == {**wanted["metadata"]["labels"], **label}


@st.composite
def metadata(draw: st.DrawFn) -> JSON:
    parts = {"labels": draw(MAPS), "annotations": draw(MAPS), "finalizers": draw(NAMES)}
    return {name: value for name, value in parts.items() if value}


@given(metadata(), metadata(), metadata())
def test_x14_a_patch_of_metadata_touches_the_templates_keys_alone(a: JSON, b: JSON, c: JSON) -> None:
    foreign = {"labels": {"foreign": "1"}, "annotations": {"foreign": "2"}, "finalizers": ["foreign/f"]}

    def with_foreign(meta: JSON) -> JSON:
        return {
            "labels": {**foreign["labels"], **meta.get("labels", {})},
            "annotations": {**foreign["annotations"], **meta.get("annotations", {})},
            "finalizers": {*foreign["finalizers"], *meta.get("finalizers", [])},
        }

    def patched(start: JSON, patch: str) -> JSON:
        pod = {"metadata": {**with_foreign(start), "finalizers": sorted(with_foreign(start)["finalizers"])}}
        have = {"labels": pod["metadata"]["labels"], "annotations": pod["metadata"]["annotations"]}
        found = strategic_merge(pod, {"metadata": applicable(patch, have)})["metadata"]
        return {**found, "finalizers": set(found["finalizers"])}

    first, then = metadata_patch(a, b, {}), metadata_patch(b, c, {})
    assert patched(a, first) == with_foreign(b)
    assert patched(a, compose(first, then, {})) == with_foreign(c)
    assert metadata_patch(a, a, {}) == "{}"


TEXTS = st.text(alphabet="ab<&\u2028é/:", max_size=4)
RESOURCES = st.dictionaries(
    st.sampled_from(["limits", "requests"]), st.dictionaries(KEYS, TEXTS, min_size=1, max_size=2), min_size=1
)
REFS = st.dictionaries(st.sampled_from(["labels", "annotations"]), st.dictionaries(KEYS, TEXTS, min_size=1, max_size=2))
STAMPS = st.sampled_from(["", "2026-03-01T12:00:00Z"])
STATES = st.builds(
    State,
    revision=TEXTS,
    updated_at=STAMPS,
    last_images=st.none() | st.dictionaries(KEYS, TEXTS, max_size=2),
    env_from_metadata=st.booleans(),
    resources=st.booleans(),
    images=st.booleans(),
    next_images=st.dictionaries(KEYS, TEXTS, max_size=2),
    next_metadata=st.dictionaries(KEYS, REFS, max_size=2),
    next_resources=st.dictionaries(KEYS, RESOURCES, max_size=2),
    required_ready=st.none() | st.lists(TEXTS, max_size=2).map(tuple),
    batches=st.lists(st.builds(Batch, STAMPS, st.lists(TEXTS, max_size=2).map(tuple)), max_size=2).map(tuple),
    superseded=st.dictionaries(KEYS, st.lists(TEXTS, max_size=2).map(tuple), max_size=2),
)
SPECS = st.builds(
    UpdateSpec,
    revision=TEXTS,
    images=st.dictionaries(KEYS, TEXTS, max_size=2),
    metadata=st.dictionaries(KEYS, REFS, max_size=2),
    resources=st.dictionaries(KEYS, RESOURCES, max_size=2),
    metadata_patch=st.none() | TEXTS.filter(bool),
    env_from_metadata=st.booleans(),
    grace_seconds=st.integers(0, 300),
)


@given(STATES)
def test_a_state_reads_back_as_it_was_written(state: State) -> None:
    assert parse(state.encode()) == state


@given(SPECS)
def test_a_spec_reads_back_as_it_was_written(spec: UpdateSpec) -> None:
    assert UpdateSpec.from_json(spec.to_json()) == spec


REFERENCES = st.sampled_from(
    [
        "nginx",
        "nginx:latest",
        "docker.io/library/nginx",
        "docker.io/nginx:latest",
        "nginx:1",
        "library/nginx:1",
        "r:5/n",
        "r:5/n:latest",
    ]
)


@given(REFERENCES, REFERENCES, REFERENCES)
def test_x9_naming_the_same_image_is_an_equivalence(a: str, b: str, c: str) -> None:
    assert same_image(a, a)
    assert same_image(a, b) == same_image(b, a)
    assert not (same_image(a, b) and same_image(b, c)) or same_image(a, c)
