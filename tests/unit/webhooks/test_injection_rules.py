"""Injection: what no golden case shows. Scope, conflicts, Pod Security, draws, odd pods, the reasons given."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kruise.apis.core import ControllerRevision
from kruise.apis.sidecarset import HASH_ANNOTATION, INJECTED_LIST_ANNOTATION, SidecarSet
from kruise.runtime.webhook.patching import apply_patch
from kruise.webhooks.inject import explain, inject
from kruise.webhooks.inject_outcome import InjectionRefused, Note, NoteReason, Outcome, Request
from kruise.webhooks.inject_snapshot import InjectionIndex, Snapshot, make_snapshot

NOW = "2024-11-23T10:11:12Z"
REQUEST = Request(uid="u-1", namespace="prod")
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SAFE = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}

Json = dict[str, Any]


def pod(**spec: Any) -> Json:
    spec.setdefault("containers", [{"name": "web", "image": "web:1"}])
    return {"metadata": {"name": "p", "labels": {"app": "shop"}}, "spec": spec}


def sidecar(name: str = "envoy", **fields: Any) -> Json:
    return {
        "name": name,
        "image": f"{name}:1",
        "podInjectPolicy": "BeforeAppContainer",
        "upgradeStrategy": {"upgradeType": "ColdUpgrade"},
        "shareVolumePolicy": {"type": "disabled"},
        **fields,
    }


def make_set(name: str = "mesh", *containers: Json, status: Json | None = None, **spec: Any) -> SidecarSet:
    body = {
        "metadata": {"name": name, "annotations": {HASH_ANNOTATION: f"h-{name}"}},
        "spec": {"selector": {"matchLabels": {"app": "shop"}}, "containers": list(containers), **spec},
        "status": status or {},
    }
    return msgspec.json.decode(msgspec.json.encode(body), type=SidecarSet)


def revision(name: str, image: str) -> ControllerRevision:
    body = {
        "metadata": {
            "name": name,
            "labels": {"kruise.io/sidecarset-name": "mesh"},
            "annotations": {HASH_ANNOTATION: f"h-{name}", "kruise.io/sidecarset-hash-without-image": f"n-{name}"},
        },
        "data": {"spec": {"$patch": "replace", "containers": [sidecar(image=image)]}},
        "revision": 1,
    }
    return msgspec.json.decode(msgspec.json.encode(body), type=ControllerRevision)


def world(*sets: SidecarSet, labels: dict[str, str] | None = None, revisions: Any = ()) -> Snapshot:
    return make_snapshot(sets, {"prod": labels or {}}, revisions)


def after(given: Json, outcome: Outcome) -> Json:
    result: Json = apply_patch(given, msgspec.json.decode(outcome.patch or b"[]"))
    return result


def names(given: Json, field: str = "containers") -> list[str]:
    return [container["name"] for container in given["spec"].get(field) or []]


# ---- scope -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["kube-system", "kube-public", "kube-node-lease", "kruise-system"])
def test_c3_the_namespaces_of_the_system_are_left_alone(namespace: str) -> None:
    outcome = inject(pod(), Request(namespace=namespace), world(make_set("mesh", sidecar())), now=NOW)
    assert outcome.patch == b"" and outcome.notes[0].reason is NoteReason.EXEMPT


def test_c3_the_namespace_of_the_request_counts_when_the_pod_names_none() -> None:
    name = "kubernetes.io/metadata.name"
    here = make_set("mesh", sidecar(), namespaceSelector={"matchLabels": {name: "prod"}})
    snapshot = world(here, labels={name: "prod"})
    assert inject(pod(), REQUEST, snapshot, now=NOW).injected == ("mesh",)
    assert inject(pod(), Request(namespace="x"), snapshot, now=NOW).patch == b"", "another namespace"


def test_c3_a_pod_that_says_no_is_left_alone() -> None:
    given = pod()
    given["metadata"]["labels"]["apps.kruise.io/sidecarset-injection"] = "disabled"
    assert inject(given, REQUEST, world(make_set("mesh", sidecar())), now=NOW).patch == b""
    given["metadata"]["labels"]["apps.kruise.io/sidecarset-injection"] = "enabled"
    assert inject(given, REQUEST, world(make_set("mesh", sidecar())), now=NOW).patch


def test_c3_a_mirror_pod_is_left_alone() -> None:
    given = pod()
    given["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "abc"}
    assert inject(given, REQUEST, world(make_set("mesh", sidecar())), now=NOW).patch == b""


# ---- one provider ----------------------------------------------------------------------------------------------------


def test_c4_x30_two_sets_with_one_container_name_give_the_first() -> None:
    snapshot = world(make_set("one", sidecar(image="a:1")), make_set("two", sidecar(image="b:1"), sidecar("extra")))
    outcome = inject(pod(), REQUEST, snapshot, now=NOW)
    result = after(pod(), outcome)
    assert names(result) == ["envoy", "web"] and result["spec"]["containers"][0]["image"] == "a:1"
    assert outcome.injected == ("one",)
    assert result["metadata"]["annotations"][INJECTED_LIST_ANNOTATION] == "one"
    assert outcome.notes == (Note("two", NoteReason.CONFLICT, "SidecarSet one already provides the container envoy"),)


def test_c4_a_twin_is_a_name_as_well() -> None:
    hot = {"upgradeType": "HotUpgrade", "hotUpgradeEmptyImage": "empty:1"}
    snapshot = world(make_set("one", sidecar(upgradeStrategy=hot)), make_set("two", sidecar("envoy-2")))
    assert inject(pod(), REQUEST, snapshot, now=NOW).injected == ("one",)


def test_c4_a_container_never_stands_beside_an_init_container_of_its_name() -> None:
    given = pod(initContainers=[{"name": "envoy", "image": "i"}])
    outcome = inject(given, REQUEST, world(make_set("mesh", sidecar())), now=NOW)
    assert outcome.patch == b"" and outcome.notes[0].message == "the pod has an init container called envoy"


def test_c4_two_volumes_of_one_name_are_a_conflict_unless_they_are_equal() -> None:
    mounting = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    memory = [{"name": "v", "emptyDir": {"medium": "Memory"}}]
    one = make_set("one", sidecar("a", **mounting), volumes=[{"name": "v", "emptyDir": {}}])
    two = make_set("two", sidecar("b", **mounting), volumes=memory)
    assert inject(pod(), REQUEST, world(one, two), now=NOW).injected == ("one",)
    alike = make_set("two", sidecar("b", **mounting), volumes=[{"name": "v", "emptyDir": {}}])
    outcome = inject(pod(), REQUEST, world(one, alike), now=NOW)
    assert outcome.injected == ("one", "two") and names(after(pod(), outcome), "volumes") == ["v"]
    given = pod(volumes=[{"name": "v", "hostPath": {"path": "/own"}}])
    outcome = inject(given, REQUEST, world(one, two), now=NOW)
    assert outcome.injected == ("one", "two") and after(given, outcome)["spec"]["volumes"] == given["spec"]["volumes"]


def test_c4_taking_the_place_of_an_own_container_is_noted_once() -> None:
    given = pod(containers=[{"name": "envoy", "image": "own"}, {"name": "web", "image": "w"}])
    outcome = inject(given, REQUEST, world(make_set("mesh", sidecar())), now=NOW)
    assert [note.reason for note in outcome.notes] == [NoteReason.REPLACED]
    again = inject(after(given, outcome), REQUEST, world(make_set("mesh", sidecar())), now="2030-01-01T00:00:00Z")
    assert again == Outcome(b"", ("mesh",), ())


# ---- Pod Security ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "fields", "left_out"),
    [
        ("restricted", {}, "runAsNonRoot"),
        ("restricted", {"securityContext": SAFE}, ""),
        ("restricted", {"securityContext": {**SAFE, "runAsUser": 0}}, "runAsUser 0"),
        ("restricted", {"securityContext": {**SAFE, "allowPrivilegeEscalation": None}}, "allowPrivilegeEscalation"),
        ("restricted", {"securityContext": {**SAFE, "capabilities": {"drop": ["CHOWN"]}}}, "capabilities"),
        ("restricted", {"securityContext": {**SAFE, "seccompProfile": None}}, "seccompProfile"),
        ("baseline", {}, ""),
        ("baseline", {"securityContext": {"privileged": True}}, "privileged"),
        ("baseline", {"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}, "capabilities.add NET_ADMIN"),
        ("baseline", {"ports": [{"containerPort": 1, "hostPort": 1}]}, "hostPort"),
        ("baseline", {"securityContext": {"procMount": "Unmasked"}}, "procMount"),
        ("baseline", {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "seccompProfile Unconfined"),
        ("baseline", {"securityContext": {"seLinuxOptions": {"user": "u"}}}, "seLinuxOptions"),
        ("baseline", {"securityContext": {"windowsOptions": {"hostProcess": True}}}, "hostProcess"),
        ("privileged", {"securityContext": {"privileged": True}}, ""),
    ],
)
def test_c9_a_set_that_the_namespace_would_refuse_is_left_out(level: str, fields: Json, left_out: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": level}
    snapshot = world(
        make_set("bad", sidecar(**fields)), make_set("good", sidecar("ok", securityContext=SAFE)), labels=labels
    )
    outcome = inject(pod(), REQUEST, snapshot, now=NOW)
    assert "good" in outcome.injected
    assert ("bad" in outcome.injected) is (left_out == "")
    if left_out:
        assert outcome.notes[0].reason is NoteReason.POD_SECURITY and left_out in outcome.notes[0].message


@pytest.mark.parametrize(
    ("level", "kind", "fine"),
    [
        ("baseline", "hostPath", False),
        ("baseline", "nfs", True),
        ("restricted", "nfs", False),
        ("restricted", "secret", True),
    ],
)
def test_c9_volumes_are_judged(level: str, kind: str, fine: bool) -> None:
    item = make_set(
        "mesh",
        sidecar(securityContext=SAFE, volumeMounts=[{"name": "v", "mountPath": "/v"}]),
        volumes=[{"name": "v", kind: {}}],
    )
    snapshot = world(item, labels={"pod-security.kubernetes.io/enforce": level})
    assert bool(inject(pod(), REQUEST, snapshot, now=NOW).injected) is fine


def test_c9_what_the_pod_hands_down_counts() -> None:
    bare = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    snapshot = world(make_set("mesh", sidecar(securityContext=bare)), labels=RESTRICTED)
    handed = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert not inject(pod(), REQUEST, snapshot, now=NOW).injected
    assert inject(pod(securityContext=handed), REQUEST, snapshot, now=NOW).injected
    windows = world(make_set("mesh", sidecar()), labels=RESTRICTED)
    assert inject(pod(securityContext=handed, os={"name": "windows"}), REQUEST, windows, now=NOW).injected


# ---- revisions -------------------------------------------------------------------------------------------------------


def partial(partition: Any) -> Snapshot:
    item = make_set(
        "mesh",
        sidecar(image="new:1"),
        status={"latestRevision": "r2"},
        injectionStrategy={"revision": {"revisionName": "r1", "policy": "Partial"}},
        updateStrategy={"partition": partition},
    )
    return world(item, revisions=[revision("r1", "old:1")])


def image(uid: str, snapshot: Snapshot, given: Json | None = None) -> str:
    given = given or pod()
    result = after(given, inject(given, Request(uid=uid, namespace="prod"), snapshot, now=NOW))
    return str(next(c["image"] for c in result["spec"]["containers"] if c["name"] == "envoy"))


def test_c2_the_draw_comes_from_the_uid_of_the_request_and_keeps_the_share() -> None:
    snapshot = partial("30%")
    drawn = [image(f"uid-{n}", snapshot) for n in range(1000)]
    assert drawn == [image(f"uid-{n}", snapshot) for n in range(1000)]
    assert 240 < drawn.count("old:1") < 360


@pytest.mark.parametrize(("partition", "wanted"), [("0%", {"new:1"}), ("100%", {"old:1"}), (5, {"new:1"})])
def test_c2_the_ends_of_the_partition(partition: Any, wanted: set[str]) -> None:
    assert {image(f"uid-{n}", partial(partition)) for n in range(50)} == wanted


def test_c2_a_pod_that_tells_its_revision_keeps_it_under_another_uid() -> None:
    snapshot = partial("50%")
    for n in range(20):
        first = after(pod(), inject(pod(), Request(uid=f"a-{n}", namespace="prod"), snapshot, now=NOW))
        for m in range(10):
            outcome = inject(first, Request(uid=f"b-{m}", namespace="prod"), snapshot, now=NOW)
            assert outcome.patch == b""


def test_a_missing_revision_refuses_the_pod_only_where_it_is_needed() -> None:
    strategy = {"revision": {"revisionName": "ghost", "policy": "Partial"}}
    item = make_set("mesh", sidecar(), injectionStrategy=strategy, updateStrategy={"partition": 0})
    assert inject(pod(), REQUEST, world(item), now=NOW).injected == ("mesh",)
    always = make_set("mesh", sidecar(), injectionStrategy={"revision": {"revisionName": "ghost"}})
    with pytest.raises(InjectionRefused, match='"ghost" not found'):
        inject(pod(), REQUEST, world(always), now=NOW)


def test_a_revision_without_a_spec_refuses_with_its_name() -> None:
    always = make_set("mesh", sidecar(), injectionStrategy={"revision": {"revisionName": "r1"}})
    broken = msgspec.structs.replace(revision("r1", "x"), data=msgspec.Raw(b"[1]"))
    with pytest.raises(InjectionRefused, match='"r1" cannot be used'):
        inject(pod(), REQUEST, world(always, revisions=[broken]), now=NOW)


# ---- odd pods and sets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [b"", b"null", b"[]", b"{}", b'{"spec":1}', b'{"spec":{"containers":{}}}', b"\xff", b'{"metadata":[],"spec":{}}'],
)
def test_c8_what_is_no_pod_is_refused_in_words(given: bytes) -> None:
    with pytest.raises(InjectionRefused, match="cannot be read"):
        inject(given, REQUEST, world(make_set("mesh", sidecar())), now=NOW)


def test_x31_nulls_read_as_absent() -> None:
    nothing = {"containers": None, "initContainers": None, "volumes": None, "imagePullSecrets": None}
    given: Json = {"metadata": {"labels": {"app": "shop"}, "annotations": None}, "spec": nothing, "status": None}
    shared = sidecar(
        shareVolumePolicy={"type": "enabled"},
        volumeMounts=[{"name": "ghost", "mountPath": "/g"}],
        transferEnv=[{"sourceContainerName": "web", "envName": "A"}],
    )
    result = after(given, inject(given, REQUEST, world(make_set("mesh", shared)), now=NOW))
    assert names(result) == ["envoy"] and result["spec"]["volumes"] is None


def test_x31_nulls_in_a_set_read_as_absent() -> None:
    odd = sidecar(restartPolicy=None, transferEnv=None, env=None, shareVolumeDevicePolicy=None, resourcesPolicy=None)
    snapshot = world(make_set("mesh", odd, initContainers=None, volumes=None, imagePullSecrets=None))
    assert inject(pod(), REQUEST, snapshot, now=NOW).injected == ("mesh",)
    policy = {"targetContainersMode": None, "targetContainersNameRegex": None, "resourcesExpr": None}
    computed = world(make_set("mesh", sidecar(resourcesPolicy=policy, podInjectPolicy=None)))
    assert inject(pod(), REQUEST, computed, now=NOW).injected == ("mesh",)


def test_a_pod_without_metadata_or_annotations_gets_them() -> None:
    everything = make_set("mesh", sidecar(), selector={"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]})
    given: Json = {"spec": {"containers": [{"name": "web"}]}}
    result = after(given, inject(given, REQUEST, world(everything), now=NOW))
    assert result["metadata"]["annotations"][INJECTED_LIST_ANNOTATION] == "mesh"


def test_c8_a_set_that_cannot_be_used_stops_no_other_one() -> None:
    broken = make_set("broken", sidecar(), selector={"matchExpressions": [{"key": "a", "operator": "Near"}]})
    odd = msgspec.structs.replace(
        make_set("odd"), spec=msgspec.structs.replace(make_set("odd").spec, containers=msgspec.Raw(b'[{"env":7}]'))
    )
    snapshot = world(broken, odd, make_set("mesh", sidecar()))
    assert inject(pod(), REQUEST, snapshot, now=NOW).injected == ("mesh",)
    assert set(snapshot.unusable) == {"broken", "odd"} and "Near" in snapshot.unusable["broken"]


def test_plain_hashes_of_an_old_manager_are_written_anew() -> None:
    given = pod()
    given["metadata"]["annotations"] = {HASH_ANNOTATION: '{"older":"h0"}'}
    result = after(given, inject(given, REQUEST, world(make_set("mesh", sidecar())), now=NOW))
    entries = msgspec.json.decode(result["metadata"]["annotations"][HASH_ANNOTATION])
    older = {"updateTimestamp": None, "hash": "h0", "sidecarSetName": "older", "sidecarList": None}
    assert entries["older"] == older and entries["mesh"]["hash"] == "h-mesh"


@pytest.mark.parametrize("text", ["garbage", "[1]", '{"a":1}', '{"a":"h","b":{"hash":"x"}}'])
def test_an_unreadable_hash_annotation_refuses_the_pod(text: str) -> None:
    given = pod()
    given["metadata"]["annotations"] = {HASH_ANNOTATION: text}
    with pytest.raises(InjectionRefused, match=r"pod\(prod/p\) invalid annotations\[kruise.io/sidecarset-hash\]"):
        inject(given, REQUEST, world(make_set("mesh", sidecar())), now=NOW)


@pytest.mark.parametrize("value", ["plain text", "null", '{"n": null, "b": 1}', '"text"', '[{"x":null}]'])
@pytest.mark.parametrize("containers", [[], [sidecar()]])
def test_c2_a_value_that_was_set_is_not_merged_into_again(value: str, containers: list[Json]) -> None:
    patches = [{"annotations": {"k": value}, "patchPolicy": "MergePatchJson"}]
    snapshot = world(make_set("mesh", *containers, patchPodMetadata=patches))
    once = after(pod(), inject(pod(), REQUEST, snapshot, now=NOW))
    assert once["metadata"]["annotations"]["k"] == value
    assert inject(once, REQUEST, snapshot, now=NOW).patch == b""


def test_a_merge_into_what_the_pod_has_is_not_judged_by_what_it_has_not() -> None:
    given = pod()
    given["metadata"]["annotations"] = {"k": '{"a":1}'}
    patches = [
        {"annotations": {"k": "plain text"}, "patchPolicy": "Retain"},
        {"annotations": {"k": '{"b":2}'}, "patchPolicy": "MergePatchJson"},
    ]
    result = after(given, inject(given, REQUEST, world(make_set("mesh", patchPodMetadata=patches)), now=NOW))
    assert result["metadata"]["annotations"] == {"k": '{"a":1,"b":2}'}


def test_c2_another_revision_of_the_set_writes_its_own_time() -> None:
    first = after(pod(), inject(pod(), REQUEST, world(make_set("mesh", sidecar())), now=NOW))
    newer = make_set("mesh", sidecar(image="envoy:2"), status={"latestRevision": "r2"})
    result = after(first, inject(first, REQUEST, world(newer), now="2025-01-01T00:00:00Z"))
    entry = msgspec.json.decode(result["metadata"]["annotations"][HASH_ANNOTATION])["mesh"]
    assert entry["updateTimestamp"] == "2025-01-01T00:00:00Z" and entry["controllerRevision"] == "r2"
    assert names(result) == ["envoy", "web"] and result["spec"]["containers"][0]["image"] == "envoy:2"


# ---- reasons ---------------------------------------------------------------------------------------------------------


def test_every_set_gets_a_reason() -> None:
    elsewhere = make_set("d-elsewhere", sidecar("d"), namespaceSelector={"matchLabels": {"tier": "gold"}})
    base = make_set("f-base", sidecar("f"))
    canary = make_set("g-canary", sidecar("f"))
    marks = {"apps.kruise.io/sidecarset-canary": "true", "apps.kruise.io/sidecarset-base": "f-base"}
    canary = msgspec.structs.replace(canary, metadata=msgspec.structs.replace(canary.metadata, annotations=marks))
    snapshot = world(
        make_set("a-fits", sidecar("a")),
        make_set("b-clashes", sidecar("a")),
        make_set("c-paused", sidecar("c"), injectionStrategy={"paused": True}),
        elsewhere,
        make_set("e-other", sidecar("e"), selector={"matchLabels": {"app": "x"}}),
        base,
        canary,
        make_set("h-broken", selector={"matchExpressions": [{"key": "a", "operator": "Near"}]}),
    )
    found = {note.set_name: note.reason for note in explain(pod(), REQUEST, snapshot, now=NOW)}
    assert found == {
        "a-fits": NoteReason.INJECTED,
        "b-clashes": NoteReason.CONFLICT,
        "c-paused": NoteReason.PAUSED,
        "d-elsewhere": NoteReason.NAMESPACE_NOT_SELECTED,
        "e-other": NoteReason.LABELS_NOT_SELECTED,
        "f-base": NoteReason.CANARY,
        "g-canary": NoteReason.INJECTED,
        "h-broken": NoteReason.UNUSABLE,
    }
    finished = {**pod(), "status": {"phase": "Succeeded"}}
    assert explain(finished, REQUEST, snapshot, now=NOW)[1].reason is NoteReason.NOT_ACTIVE


# ---- the index -------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_one_state_and_stays_so() -> None:
    index = InjectionIndex()
    index.set_namespace("prod", {"tier": "gold"})
    index.set_sidecarset("mesh", make_set("mesh", sidecar(), namespaceSelector={"matchLabels": {"tier": "gold"}}))
    before = index.snapshot
    assert index.snapshot is before
    index.set_namespace("prod", {"tier": "tin"})
    assert inject(pod(), REQUEST, before, now=NOW).injected == ("mesh",)
    assert inject(pod(), REQUEST, index.snapshot, now=NOW).patch == b""
    index.set_namespace("prod", None)
    index.set_sidecarset("mesh", None)
    assert index.snapshot.sets == () and index.snapshot.namespaces == {}


def test_c2_sets_stand_in_the_order_of_their_names_however_they_came() -> None:
    results = []
    for order in (("a", "b", "c"), ("c", "b", "a")):
        index = InjectionIndex()
        index.set_namespace("prod", {})
        for name in order:
            index.set_sidecarset(name, make_set(name, sidecar(f"{name}-x")))
        results.append(inject(pod(), REQUEST, index.snapshot, now=NOW))
    assert results[0] == results[1] and results[0].injected == ("a", "b", "c")


def test_a_status_write_serialises_nothing_anew() -> None:
    index = InjectionIndex()
    index.set_sidecarset("mesh", make_set("mesh", sidecar()))
    first = index.snapshot.sets[0].current
    index.set_sidecarset("mesh", make_set("mesh", sidecar(), status={"latestRevision": "r9"}))
    second = index.snapshot.sets[0].current
    assert second.parts is first.parts and second.revision == "r9"


def test_a_revision_that_appears_and_goes_is_followed() -> None:
    index = InjectionIndex()
    index.set_namespace("prod", {})
    index.set_sidecarset("mesh", make_set("mesh", sidecar(), injectionStrategy={"revision": {"revisionName": "r1"}}))
    with pytest.raises(InjectionRefused):
        inject(pod(), REQUEST, index.snapshot, now=NOW)
    index.set_revision("r1", revision("r1", "old:1"))
    assert image("u", index.snapshot) == "old:1"
    index.set_revision("r1", revision("r1", "older:1"))
    assert image("u", index.snapshot) == "older:1"
    index.set_revision("r1", None)
    with pytest.raises(InjectionRefused):
        inject(pod(), REQUEST, index.snapshot, now=NOW)


def test_an_unreadable_set_is_listed() -> None:
    index = InjectionIndex()
    index.set_sidecarset("mesh", make_set("mesh", sidecar()))
    index.set_unreadable("mesh", "spec.containers: no list")
    assert index.snapshot.sets == () and index.snapshot.unusable == {"mesh": "spec.containers: no list"}
