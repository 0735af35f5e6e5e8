"""The pure rooms of the API server: selectors, patches, deletion, schemas, pods."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kruise.runtime.clock import Random
from kruise.simulator.apiserver import ApiServer, Failure
from kruise.simulator.apiserver.patch import json_patch, merge
from kruise.simulator.apiserver.resources import version_priority
from kruise.simulator.apiserver.selectors import field_selector, label_selector
from kruise.simulator.apiserver.strategic import strategic_merge
from kruise.simulator.apiserver.table_pods import age
from tests.unit.simulator.stopped_clock import StoppedClock

STRATEGIC = "application/strategic-merge-patch+json"


@pytest.fixture
def server():
    return ApiServer(StoppedClock(), Random(1))


def refused(code, action, *args, **kwargs):
    with pytest.raises(Failure) as caught:
        action(*args, **kwargs)
    assert caught.value.code == code, caught.value
    return caught.value


# Selectors


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("a", {"a": ""}, True),
        ("a", {}, False),
        ("!a", {}, True),
        ("!a", {"a": "x"}, False),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("a!=b", {"a": "b"}, False),
        ("a in (b, c)", {"a": "c"}, True),
        ("a in (b,c)", {}, False),
        ("a notin (b,c)", {}, True),
        ("a notin (b,c)", {"a": "b"}, False),
        ("a>3", {"a": "4"}, True),
        ("a<3", {"a": "x"}, False),
        ("a=b,c,!d", {"a": "b", "c": "1"}, True),
        ("a=b,c,!d", {"a": "b", "c": "1", "d": ""}, False),
        ("x.io/a-b=", {"x.io/a-b": ""}, True),
        ("a in (),b", {"a": "", "b": ""}, True),
    ],
)
def test_tst1_label_selectors(text, labels, expected):
    assert label_selector(text)(labels) is expected


@pytest.mark.parametrize("text", ["a=b=c", "=b", "a in b", "a>x", "a,,b", "-a", "a in (b", "a=" + "x" * 64])
def test_tst1_malformed_label_selectors_are_400(text):
    refused(400, label_selector, text)


def test_tst1_field_selectors():
    pod = {"metadata": {"name": "a"}, "spec": {"nodeName": "n", "hostNetwork": True}}
    known = ("spec.nodeName", "spec.hostNetwork", "status.phase")
    for text, expected in (
        ("spec.nodeName=n", True),
        ("spec.nodeName==n,metadata.name!=a", False),
        ("spec.nodeName!=", True),
        ("status.phase=", True),
        ("spec.hostNetwork=true", True),
    ):
        assert field_selector(text, known)(pod) is expected, text
    assert field_selector("", known) is None and label_selector("") is None
    refused(400, field_selector, "spec.other=x", known)
    refused(400, field_selector, "nothing", known)


# Patches

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["x", "y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(JSON, JSON)
def test_tst1_a_merge_patch_changes_nothing_in_place_and_twice_is_once(target, patch):
    before = copy.deepcopy(target)
    once = merge(target, patch)
    assert target == before
    assert merge(once, patch) == once


def test_tst1_merge_patch_of_the_standard():
    cases = [
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        (["a"], ["c"], ["c"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ]
    for target, patch, expected in cases:
        assert merge(target, patch) == expected


def test_tst1_json_patch_operations():
    doc = {"a": {"b": [1, 2]}, "c~/d": 1}
    operations = [
        {"op": "test", "path": "/a/b/0", "value": 1},
        {"op": "add", "path": "/a/b/-", "value": 3},
        {"op": "add", "path": "/a/b/0", "value": 0},
        {"op": "replace", "path": "/c~0~1d", "value": 2},
        {"op": "copy", "from": "/a/b", "path": "/e"},
        {"op": "move", "from": "/a", "path": "/f"},
        {"op": "remove", "path": "/e/0"},
    ]
    assert json_patch(doc, operations) == {"c~/d": 2, "e": [1, 2, 3], "f": {"b": [0, 1, 2, 3]}}
    assert doc == {"a": {"b": [1, 2]}, "c~/d": 1}


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ({"op": "test", "path": "/a", "value": 2}, 422),
        ({"op": "remove", "path": "/b"}, 422),
        ({"op": "replace", "path": "/l/9", "value": 1}, 422),
        ({"op": "add", "path": "/a/b", "value": 1}, 422),
        ({"op": "add", "path": "/l/9", "value": 1}, 422),
        ({"op": "odd", "path": "/a"}, 422),
        ({"op": "add", "path": "a", "value": 1}, 400),
        ({"op": "add", "path": "/a"}, 400),
        ({"path": 3}, 400),
    ],
)
def test_tst1_json_patches_that_fail(operation, code):
    refused(code, json_patch, {"a": 1, "l": []}, [operation])
    refused(400, json_patch, {}, {"op": "add"})


def test_tst1_strategic_merge_merges_lists_by_their_keys():
    pod = {
        "metadata": {"finalizers": ["a", "b"], "ownerReferences": [{"uid": "1"}, {"uid": "2"}]},
        "spec": {
            "containers": [
                {"name": "c", "image": "i:1", "env": [{"name": "A", "value": "1"}], "args": ["x"]},
                {"name": "d", "image": "j:1"},
            ],
            "tolerations": [{"key": "t"}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
        "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "x"}]},
    }
    patch = {
        "metadata": {
            "finalizers": ["c"],
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "ownerReferences": [{"$patch": "delete", "uid": "1"}],
        },
        "spec": {
            "containers": [{"name": "c", "image": "i:2", "env": [{"name": "B", "value": "2"}], "args": ["y"]}],
            "tolerations": [{"key": "u"}],
            "volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}],
        },
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "reason": None}, {"type": "New", "status": "True"}]
        },
    }
    before = copy.deepcopy(pod)
    after = strategic_merge(pod, patch)
    assert pod == before
    assert sorted(after["metadata"]["finalizers"]) == ["b", "c"]
    assert after["metadata"]["ownerReferences"] == [{"uid": "2"}]
    first, second = after["spec"]["containers"]
    assert first == {
        "name": "c",
        "image": "i:2",
        "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}],
        "args": ["y"],
    }
    assert second == {"name": "d", "image": "j:1"}
    assert after["spec"]["tolerations"] == [{"key": "u"}]
    assert after["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/"}}]
    assert after["status"]["conditions"] == [{"type": "Ready", "status": "True"}, {"type": "New", "status": "True"}]


def test_tst1_strategic_directives():
    pod = {"spec": {"containers": [{"name": "a"}, {"name": "b"}]}, "metadata": {"labels": {"x": "1"}}}
    assert strategic_merge(pod, {"metadata": {"labels": {"$patch": "replace", "y": "2"}}})["metadata"]["labels"] == {
        "y": "2"
    }
    replaced = strategic_merge(pod, {"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}})
    assert replaced["spec"]["containers"] == [{"name": "c"}]
    ordered = strategic_merge(
        pod,
        {
            "spec": {
                "$setElementOrder/containers": [{"name": "b"}, {"name": "n"}, {"name": "a"}],
                "containers": [{"name": "n"}],
            }
        },
    )
    assert [c["name"] for c in ordered["spec"]["containers"]] == ["b", "n", "a"]
    template = {"spec": {"template": {"spec": {"initContainers": [{"name": "i", "image": "1"}]}}}}
    patch = {"spec": {"template": {"spec": {"initContainers": [{"name": "i", "args": ["x"]}]}}}}
    patched = strategic_merge(template, patch, "apps.v1.Deployment")
    assert patched["spec"]["template"]["spec"]["initContainers"] == [{"name": "i", "image": "1", "args": ["x"]}]
    refused(500, strategic_merge, pod, {"spec": {"containers": [{"image": "x"}]}})
    refused(500, strategic_merge, pod, {"metadata": {"$patch": "odd"}})
    refused(400, strategic_merge, pod, [])


# Pods and deletion


def pod(name="a", **spec):
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i:1"}], **spec}}


def bind(server, name="a", node="n"):
    binding = {"apiVersion": "v1", "kind": "Binding", "target": {"name": node}}
    server.do("POST", f"/api/v1/namespaces/default/pods/{name}/binding", binding)


def test_tst1_a_new_pod_has_the_usual_defaults(server):
    created = server.create("pods", pod(containers=[{"name": "c", "image": "i"}, {"name": "d", "image": "i@sha256:0"}]))
    spec = created["spec"]
    assert [c["imagePullPolicy"] for c in spec["containers"]] == ["Always", "IfNotPresent"]
    assert (spec["restartPolicy"], spec["terminationGracePeriodSeconds"]) == ("Always", 30)
    assert {t["key"] for t in spec["tolerations"]} == {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
    assert created["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    refused(422, server.create, "pods", {"metadata": {"name": "b"}, "spec": {"containers": []}})
    refused(422, server.create, "pods", pod("b", containers=[{"name": "c", "image": "x"}, {"name": "c", "image": "x"}]))


def test_tst1_what_an_update_of_a_pod_may_change(server):
    body = pod(activeDeadlineSeconds=100)
    body["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "500m"}}
    server.create("pods", body)
    image = {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}
    assert server.patch("pods", "a", image, content_type=STRATEGIC)["metadata"]["generation"] == 2
    server.patch("pods", "a", {"spec": {"activeDeadlineSeconds": 50}})
    refused(422, server.patch, "pods", "a", {"spec": {"activeDeadlineSeconds": 60}})
    tolerations = server.get("pods", "a")["spec"]["tolerations"]
    server.patch("pods", "a", {"spec": {"tolerations": [*tolerations, {"key": "x", "operator": "Exists"}]}})
    refused(422, server.patch, "pods", "a", {"spec": {"tolerations": []}})
    refused(422, server.patch, "pods", "a", {"spec": {"nodeName": "n"}})
    resources = {"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]}}
    refused(422, server.patch, "pods", "a", resources, content_type=STRATEGIC)
    resized = server.patch("pods", "a", resources, subresource="resize", content_type=STRATEGIC)
    wanted = {"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}}
    assert resized["spec"]["containers"][0]["resources"] == wanted
    other = {"spec": {"containers": [{"name": "c", "resources": {"$patch": "replace"}}]}}
    refused(422, server.patch, "pods", "a", other, subresource="resize", content_type=STRATEGIC)
    assert resized["spec"]["containers"][0]["image"] == "i:2"


def test_tst1_a_pod_without_a_node_goes_at_once_and_one_with_a_node_gets_its_grace(server):
    server.create("pods", pod())
    rv = server.storage.rv
    server.delete("pods", "a")
    assert [c.type for c in server.commits(after=rv)] == ["MODIFIED", "DELETED"]
    server.create("pods", pod())
    bind(server)
    marked = server.delete("pods", "a")["metadata"]
    assert (marked["deletionGracePeriodSeconds"], marked["deletionTimestamp"]) == (30, "2026-01-01T00:00:30Z")
    assert marked["generation"] == 2


def test_tst1_the_grace_of_a_pod_can_only_shrink(server):
    server.create("pods", pod())
    bind(server)
    server.delete("pods", "a")
    rv = server.storage.rv
    server.delete("pods", "a", gracePeriodSeconds=60)
    server.delete("pods", "a")
    assert server.storage.rv == rv
    assert server.log.calls[-1].changed is False
    shorter = server.delete("pods", "a", gracePeriodSeconds=5)["metadata"]
    assert (shorter["deletionGracePeriodSeconds"], shorter["deletionTimestamp"]) == (5, "2026-01-01T00:00:05Z")
    server.delete("pods", "a", gracePeriodSeconds=0)
    assert server.get("pods", "a") is None


def test_tst1_an_ended_pod_goes_at_once(server):
    server.create("pods", pod())
    bind(server)
    server.patch("pods", "a", {"status": {"phase": "Succeeded"}}, subresource="status")
    server.delete("pods", "a")
    assert server.get("pods", "a") is None


def test_tst1_finalizers_hold_and_none_can_be_added_meanwhile(server):
    body = {"metadata": {"name": "c", "finalizers": ["x.io/a", "x.io/b"]}}
    server.create("configmaps", body)
    held = server.delete("configmaps", "c")
    assert held["metadata"]["deletionTimestamp"] and server.get("configmaps", "c")
    refused(422, server.patch, "configmaps", "c", {"metadata": {"finalizers": ["x.io/a", "x.io/c"]}})
    server.patch("configmaps", "c", {"metadata": {"finalizers": ["x.io/a"]}})
    rv = server.storage.rv
    server.patch("configmaps", "c", {"metadata": {"finalizers": None}})
    assert [c.type for c in server.commits(after=rv)] == ["DELETED"]
    assert server.get("configmaps", "c") is None


def test_tst1_a_pod_with_a_finalizer_waits_for_kubelet_and_finalizer(server):
    server.create("pods", {**pod(), "metadata": {"name": "a", "finalizers": ["x.io/a"]}})
    bind(server)
    server.delete("pods", "a")
    server.patch("pods", "a", {"metadata": {"finalizers": None}})
    assert server.get("pods", "a")["metadata"]["deletionGracePeriodSeconds"] == 30
    server.delete("pods", "a", gracePeriodSeconds=0)
    assert server.get("pods", "a") is None


def test_tst1_deletion_options_that_make_no_sense(server):
    server.create("configmaps", {"metadata": {"name": "c"}})
    refused(422, server.delete, "configmaps", "c", propagationPolicy="Odd")
    refused(400, server.delete, "configmaps", "c", gracePeriodSeconds="x")


def test_tst1_delete_collection_follows_its_selector(server):
    for i in range(4):
        server.create("configmaps", {"metadata": {"name": f"c{i}", "labels": {"odd": str(i % 2)}}})
    server.do("DELETE", "/api/v1/namespaces/default/configmaps?labelSelector=odd%3D1")
    assert [c["metadata"]["name"] for c in server.list("configmaps", "default")] == ["c0", "c2"]


def test_tst1_eviction_deletes(server):
    server.create("pods", pod())
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}
    assert server.do("POST", "/api/v1/namespaces/default/pods/a/eviction", eviction)["status"] == "Success"
    assert server.get("pods", "a") is None


def test_tst1_claims_may_only_grow_where_their_class_lets_them(server):
    for name, grows in (("fast", True), ("stiff", False)):
        storage = {"metadata": {"name": name}, "provisioner": "x", "allowVolumeExpansion": grows}
        server.create("storageclasses.storage.k8s.io", storage)
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}
        claim = {"metadata": {"name": name}, "spec": {**spec, "storageClassName": name}}
        server.create("persistentvolumeclaims", claim)
        grown, shrunk = ({"spec": {"resources": {"requests": {"storage": size}}}} for size in ("3Gi", "1Gi"))
        refused(422, server.patch, "persistentvolumeclaims", name, grown)
        server.patch("persistentvolumeclaims", name, {"spec": {"volumeName": "v"}})
        status = {"status": {"phase": "Bound", "capacity": {"storage": "2Gi"}}}
        server.patch("persistentvolumeclaims", name, status, subresource="status")
        if grows:
            server.patch("persistentvolumeclaims", name, grown)
        else:
            refused(403, server.patch, "persistentvolumeclaims", name, grown)
        refused(422, server.patch, "persistentvolumeclaims", name, shrunk)
        refused(422, server.patch, "persistentvolumeclaims", name, {"spec": {"volumeName": "w"}})


# Custom kinds

CRD = {
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "shortNames": ["wd"]},
        "versions": [
            {
                "name": version,
                "served": True,
                "storage": version == "v1",
                "subresources": {"status": {}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["mode"],
                                "properties": {
                                    "size": {"type": "integer", "default": 3, "minimum": 1, "maximum": 9},
                                    "mode": {"type": "string", "enum": ["fast", "slow"]},
                                    "limit": {
                                        "x-kubernetes-int-or-string": True,
                                        "anyOf": [{"type": "integer"}, {"type": "string"}],
                                    },
                                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                    "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                                    "list": {
                                        "type": "array",
                                        "maxItems": 2,
                                        "items": {"type": "string", "pattern": "^a"},
                                    },
                                },
                            },
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
            for version in ("v1", "v1beta1")
        ],
    },
}
WIDGETS = "widgets.example.com"


@pytest.fixture
def widgets(server):
    server.create("customresourcedefinitions.apiextensions.k8s.io", CRD)
    return server


def test_tst1_a_definition_is_served_at_once_in_all_versions(widgets):
    crd = widgets.get("customresourcedefinitions.apiextensions.k8s.io", WIDGETS)
    assert {c["type"] for c in crd["status"]["conditions"]} == {"NamesAccepted", "Established"}
    widgets.create(WIDGETS, {"metadata": {"name": "w"}, "spec": {"mode": "fast"}})
    old = widgets.do("GET", "/apis/example.com/v1beta1/namespaces/default/widgets/w")
    assert old["apiVersion"] == "example.com/v1beta1" and old["spec"] == {"mode": "fast", "size": 3}
    table = widgets.do("GET", "/apis/example.com/v1/widgets", accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert table["rows"][0]["cells"] == ["w", 3]


def test_tst1_unknown_fields_are_pruned_and_defaults_filled_in(widgets):
    spec = {"mode": "slow", "odd": 1, "free": {"kept": {"x": 1}}, "tags": {"k": "v"}}
    created = widgets.create(WIDGETS, {"metadata": {"name": "w"}, "spec": spec, "extra": 1})
    assert created["spec"] == {"mode": "slow", "size": 3, "free": {"kept": {"x": 1}}, "tags": {"k": "v"}}
    assert "extra" not in created
    rv = widgets.storage.rv
    widgets.patch(WIDGETS, "w", {"spec": {"odd": 2}})
    assert widgets.storage.rv == rv


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "spec.mode"),
        ({"mode": "odd"}, "spec.mode"),
        ({"mode": "fast", "size": 0}, "spec.size"),
        ({"mode": "fast", "size": 10}, "spec.size"),
        ({"mode": "fast", "size": "3"}, "spec.size"),
        ({"mode": "fast", "size": True}, "spec.size"),
        ({"mode": "fast", "limit": 1.5}, "spec.limit"),
        ({"mode": "fast", "tags": {"k": 1}}, "spec.tags.k"),
        ({"mode": "fast", "list": ["a", "b"]}, "spec.list[1]"),
        ({"mode": "fast", "list": ["a", "a", "a"]}, "spec.list"),
    ],
)
def test_tst1_the_schema_is_checked_with_the_path_of_the_field(widgets, spec, field):
    error = refused(422, widgets.create, WIDGETS, {"metadata": {"name": "w"}, "spec": spec})
    assert {c["field"] for c in error.details["causes"]} - {"<nil>"} == {field}
    widgets.create(WIDGETS, {"metadata": {"name": "ok"}, "spec": {"mode": "fast", "limit": "10%"}})
    refused(422, widgets.patch, WIDGETS, "ok", {"spec": {"mode": None}})


def test_tst1_a_deleted_definition_takes_its_objects_along(widgets):
    widgets.create(WIDGETS, {"metadata": {"name": "w"}, "spec": {"mode": "fast"}})
    widgets.delete("customresourcedefinitions.apiextensions.k8s.io", WIDGETS)
    refused(404, widgets.do, "GET", "/apis/example.com/v1/widgets")
    widgets.create("customresourcedefinitions.apiextensions.k8s.io", CRD)
    assert widgets.list(WIDGETS) == []


def test_tst1_versions_are_ordered_as_kubernetes_does():
    given = ["v1alpha1", "foo1", "v10", "v2", "v1beta2", "v11beta2", "v1"]
    assert sorted(given, key=version_priority) == ["v10", "v2", "v1", "v11beta2", "v1beta2", "v1alpha1", "foo1"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (3600, "60m"),
        (4 * 3600, "4h"),
        (86400, "24h"),
        (9 * 86400, "9d"),
    ],
)
def test_ages_read_as_in_kubectl(seconds, text):
    assert age(seconds) == text
