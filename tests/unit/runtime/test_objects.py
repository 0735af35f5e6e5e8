"""objects.py: keys, resource versions, owners."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.runtime.objects import (
    Key,
    ObjectMeta,
    OwnerReference,
    PartialObject,
    Resource,
    compare_versions,
    own,
    owned_by,
    thaw,
    version_at_least,
)

JOBS: Resource[PartialObject] = Resource("apps.kruise.io", "v1beta1", "BroadcastJob", "broadcastjobs", PartialObject)
NODES: Resource[PartialObject] = Resource("", "v1", "Node", "nodes", PartialObject, namespaced=False)

versions = st.integers(min_value=1, max_value=10**40).map(str)


def test_obj1_key_of_a_cluster_scoped_object_has_no_leading_slash() -> None:
    assert str(Key("", "n1")) == "n1"
    assert str(Key("default", "a")) == "default/a"
    assert PartialObject(metadata=ObjectMeta(name="n1")).key == ("", "n1")


def test_obj2_cached_objects_refuse_assignment_and_thaw_gives_a_copy() -> None:
    obj = PartialObject(metadata=ObjectMeta(name="a", labels={"x": "1"}))
    with pytest.raises(AttributeError):
        obj.metadata.name = "b"  # type: ignore[misc]
    copy = thaw(obj)
    copy["metadata"]["labels"]["x"] = "2"
    assert obj.metadata.labels == {"x": "1"}
    assert "resourceVersion" in copy["metadata"]


def test_obj2_the_shared_empty_map_cannot_be_written_to() -> None:
    meta = msgspec.json.decode(b'{"name":"a"}', type=ObjectMeta)
    for write in (
        lambda: meta.labels.__setitem__("a", "b"),
        lambda: meta.labels.update(a="b"),
        lambda: meta.annotations.setdefault("a", "b"),
        lambda: meta.annotations.__ior__({"a": "b"}),
    ):
        with pytest.raises(TypeError, match="frozen"):
            write()
    assert meta.labels == {} and ObjectMeta().annotations == {}
    assert thaw(meta)["labels"] == {}


@given(versions, versions, versions)
def test_obj4_comparison_is_a_total_order_on_valid_versions(a: str, b: str, c: str) -> None:
    ab, ba = compare_versions(a, b), compare_versions(b, a)
    assert ab is not None and ba == -ab
    assert (ab > 0) == (int(a) > int(b)) and (ab == 0) == (a == b)
    if version_at_least(a, b) and version_at_least(b, c):
        assert version_at_least(a, c)


@pytest.mark.parametrize("bad", ["0", "", "007", "abc", "-1", "1.0", "٣"])
def test_obj4_invalid_versions_compare_by_equality_alone(bad: str) -> None:
    assert compare_versions(bad, "5") is None
    assert not version_at_least(bad, "5")
    assert version_at_least(bad, bad)


def test_obj5_a_second_controller_is_refused() -> None:
    job = PartialObject(metadata=ObjectMeta(name="job", uid="u1"))
    other = PartialObject(metadata=ObjectMeta(name="other", uid="u2"))
    pod = own({"kind": "Pod", "metadata": {"name": "p"}}, JOBS, job)
    assert pod["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "apps.kruise.io/v1beta1",
            "kind": "BroadcastJob",
            "name": "job",
            "uid": "u1",
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    assert own(pod, JOBS, job) == pod
    with pytest.raises(ValueError, match="already has the controller BroadcastJob/job"):
        own(pod, JOBS, other)


@pytest.mark.parametrize(
    ("ref", "mine"),
    [
        (OwnerReference(api_version="apps.kruise.io/v1alpha1", kind="BroadcastJob", uid="u1", controller=True), True),
        (OwnerReference(api_version="apps.kruise.io/v9", kind="BroadcastJob", uid="u1", controller=True), True),
        (OwnerReference(api_version="batch/v1", kind="BroadcastJob", uid="u1", controller=True), False),
        (OwnerReference(api_version="apps.kruise.io/v1beta1", kind="Job", uid="u1", controller=True), False),
        (OwnerReference(api_version="apps.kruise.io/v1beta1", kind="BroadcastJob", uid="u2", controller=True), False),
        (OwnerReference(api_version="apps.kruise.io/v1beta1", kind="BroadcastJob", uid="u1"), False),
    ],
)
def test_obj6_owner_matches_by_group_kind_and_uid_whatever_the_version(ref: OwnerReference, mine: bool) -> None:
    assert owned_by(ObjectMeta(owner_references=(ref,)), JOBS, "u1") is mine


def test_obj9_owner_and_meta_wire_names() -> None:
    meta = msgspec.json.decode(
        b'{"name":"a","resourceVersion":"7","deletionGracePeriodSeconds":30,'
        b'"ownerReferences":[{"apiVersion":"v1","kind":"K","name":"n","uid":"u","blockOwnerDeletion":true}],"managedFields":[1]}',
        type=ObjectMeta,
    )
    assert meta.resource_version == "7"
    assert meta.deletion_grace_period_seconds == 30
    assert meta.owner_references[0].block_owner_deletion


def test_resource_paths() -> None:
    assert JOBS.path() == "/apis/apps.kruise.io/v1beta1/broadcastjobs"
    assert JOBS.path("ns", "a", "status") == "/apis/apps.kruise.io/v1beta1/namespaces/ns/broadcastjobs/a/status"
    assert NODES.path("ignored", "n1") == "/api/v1/nodes/n1"
    assert str(JOBS) == "broadcastjobs.apps.kruise.io"
    assert str(NODES) == "nodes"
    assert JOBS.partial() == JOBS
    assert JOBS.partial().metadata_only
