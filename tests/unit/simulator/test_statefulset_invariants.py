"""Each oracle of Advanced StatefulSet: a history that it must reject, and a legal near miss (reliability 6.7)."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from kruise.runtime.clock import format_time
from kruise.runtime.objects import Key
from kruise.simulator.invariants import CLAIMS, REVISIONS, SETS, Conditional, Observed, StatefulSets, Suite, Written
from kruise.simulator.invariants import statefulset_reading as reading

T0 = 1_767_225_600.0
GATE = "InPlaceUpdateReady"
STATE = "lifecycle.apps.kruise.io/state"
REVISION = "controller-revision-hash"


def ours(actor):
    return actor.startswith("kruise")


def a_set(**spec):
    rolling = {"maxUnavailable": 1, "podUpdatePolicy": "ReCreate", "partition": 0} | spec.pop("rolling", {})
    full = {
        "replicas": 3,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": "web"}},
        "template": template("v1"),
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
    } | spec
    meta = {"name": "web", "namespace": "ns", "uid": "s1", "generation": 1}
    return {"kind": "StatefulSet", "metadata": meta, "spec": full, "status": {"currentRevision": "web-1"}}


def template(tag):
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": f"app:{tag}"}]}}


OWNER = {"apiVersion": "apps.kruise.io/v1beta1", "kind": "StatefulSet", "name": "web", "uid": "s1", "controller": True}


def a_revision(name, tag, number):
    meta = {"name": name, "namespace": "ns", "uid": f"u-{name}", "ownerReferences": [OWNER]}
    data = {"spec": {"template": {"$patch": "replace", **template(tag)}}}
    return {"kind": "ControllerRevision", "metadata": meta, "data": data, "revision": number}


def a_pod(ordinal, revision="web-1", *, image="app:v1", ready=True, gate="", labels=None, claims=(), uid="", **meta):
    conditions = [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": format_time(T0)}]
    if gate:
        conditions.append({"type": GATE, "status": gate})
    run = {"name": "main", "image": image, "imageID": f"id-{image}", "containerID": f"c-{image}", "restartCount": 0}
    volumes = [{"name": c, "persistentVolumeClaim": {"claimName": f"{c}-web-{ordinal}"}} for c in claims]
    return {
        "kind": "Pod",
        "metadata": {
            "name": f"web-{ordinal}",
            "namespace": "ns",
            "uid": uid or f"p{ordinal}",
            "labels": {"app": "web", REVISION: revision, STATE: "Normal", **(labels or {})},
            "ownerReferences": [OWNER],
            **meta,
        },
        "spec": {
            "nodeName": "n1",
            "containers": [{"name": "main", "image": image}],
            "readinessGates": [{"conditionType": GATE}] if gate else [],
            "volumes": volumes,
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions, "containerStatuses": [run]},
    }


class History:
    """A set with three pods that are up on ``web-1``; ``web-2`` is the newest revision, a minute old."""

    def __init__(self, *, slack=5.0, pods=3, updating=True, gated=False, start_ordinal=False, **spec):
        self.checker = StatefulSets(ours, slack=slack, start_ordinal=start_ordinal)
        self.suite = Suite([self.checker])
        self.rv = 10
        self.now = T0
        self.put(SETS, a_set(**spec), actor="user")
        self.put(REVISIONS, a_revision("web-1", "v1", 1))
        for ordinal in range(pods):
            self.put("pods", a_pod(ordinal, gate="True" if gated else ""), actor="kubelet")
        if updating:
            self.edit(template=template("v2"))
            self.put(REVISIONS, a_revision("web-2", "v2", 2))
        self.now += 60
        self.suite.violations.clear()

    def world(self, resource, name):
        found = self.suite.world.get(resource, Key("ns", name))
        assert found is not None, name
        return found

    def pod(self, ordinal):
        return copy.deepcopy(self.world("pods", f"web-{ordinal}"))

    def put(self, resource, obj, *, actor="kruise", verb=""):
        obj = copy.deepcopy(obj)
        key = Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        old = self.suite.world.get(resource, key)
        self.rv += 1
        obj["metadata"]["resourceVersion"] = str(self.rv)
        request = Written(actor, verb, resource, key) if verb else None
        kind = "create" if old is None else "update"
        self.suite.on_commit(Observed(self.rv, kind, resource, key, old, obj, actor, request, self.now))
        return obj

    def edit(self, *, rolling: dict[str, Any] | None = None, **spec: Any) -> None:
        """Let the user change the set."""
        owner = copy.deepcopy(self.world(SETS, "web"))
        owner["spec"] |= spec
        owner["spec"]["updateStrategy"]["rollingUpdate"] |= rolling or {}
        owner["metadata"]["generation"] += 1
        self.put(SETS, owner, actor="user")

    def kubelet(self, ordinal, **status):
        """Let the kubelet report on a pod."""
        pod = self.pod(ordinal)
        image = pod["spec"]["containers"][0]["image"]
        fresh = a_pod(ordinal, image=status.pop("image", image), ready=status.pop("ready", True))["status"]
        kept = [c for c in pod["status"]["conditions"] if c["type"] == GATE]
        pod["status"] = {**fresh, "conditions": [*fresh["conditions"], *kept], **status}
        return self.put("pods", pod, actor="kubelet")

    def delete(self, ordinal, *, actor="kruise", resource="pods", name="", gone=False):
        """Begin, or end, the deletion of a pod."""
        key = Key("ns", name or f"web-{ordinal}")
        old = self.suite.world.get(resource, key)
        self.rv += 1
        request = Written(actor, "delete", resource, key)
        new = None
        if not gone:
            new = copy.deepcopy(old)
            new["metadata"] |= {"deletionTimestamp": format_time(self.now), "resourceVersion": str(self.rv)}
        self.suite.on_commit(
            Observed(self.rv, "delete" if gone else "update", resource, key, old, new, actor, request, self.now)
        )

    def replace(self, ordinal, revision="web-2", image="app:v2"):
        """Delete a pod, and make it anew until it is up."""
        self.delete(ordinal)
        self.delete(ordinal, actor="kubelet", gone=True)
        self.put("pods", a_pod(ordinal, revision, image=image, uid=f"q{ordinal}", ready=False))
        self.kubelet(ordinal)

    def close(self, ordinal):
        """Close the gate of a pod."""
        pod = self.pod(ordinal)
        for condition in pod["status"]["conditions"]:
            condition["status"] = "False"
        return self.put("pods", pod)

    def image(self, ordinal, image="app:v2", revision="web-2"):
        """Change the image of a pod in place."""
        pod = self.pod(ordinal)
        pod["spec"]["containers"][0]["image"] = image
        pod["metadata"]["labels"] |= {REVISION: revision, STATE: "Updating"}
        return self.put("pods", pod)

    def open(self, ordinal, **annotations):
        """Open the gate of a pod."""
        pod = self.pod(ordinal)
        for condition in pod["status"]["conditions"]:
            if condition["type"] == GATE:
                condition["status"] = "True"
        pod["metadata"]["labels"][STATE] = "Normal"
        pod["metadata"]["annotations"] = annotations
        return self.put("pods", pod)

    def rest(self):
        self.suite.at_quiescence(self.now)
        return self.found()

    def found(self):
        return sorted({v.invariant for v in self.suite.violations})

    def texts(self):
        return " | ".join(str(v) for v in self.suite.violations)


# S1


def test_s1_rejects_a_pod_of_a_name_that_is_no_members_and_accepts_the_next_ordinal():
    bad, good = History(pods=2, updating=False), History(pods=2, updating=False)
    stranger = a_pod(2)
    stranger["metadata"]["name"] = "web-xyz"
    bad.put("pods", stranger)
    assert bad.found() == ["S1"]
    good.put("pods", a_pod(2))
    assert good.found() == []


@pytest.mark.parametrize("reserve", [[2], ["1-2"]])
def test_s1_rejects_a_pod_with_a_reserved_ordinal_and_accepts_one_that_was_reserved_a_moment_ago(reserve):
    history = History(pods=2, updating=False, reserveOrdinals=reserve)
    history.put("pods", a_pod(2))
    assert history.found() == ["S1"]
    history = History(pods=2, updating=False)
    history.edit(reserveOrdinals=reserve)
    history.now += 2
    history.put("pods", a_pod(2))
    assert history.found() == []


def test_s1_rejects_a_second_pod_on_one_claim_and_accepts_one_after_the_end_of_the_first():
    spec = {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]}
    for phase, found in (("Running", ["S1"]), ("Succeeded", [])):
        history = History(pods=0, updating=False, **spec)
        history.put(CLAIMS, a_claim(0))
        other = a_pod(0, claims=("data",), uid="x")
        other["metadata"] |= {"name": "guest", "ownerReferences": []}
        other["status"]["phase"] = phase
        history.put("pods", other, actor="user")
        history.put("pods", a_pod(0, claims=("data",)))
        assert history.found() == found


def test_s1_rejects_an_object_that_goes_before_its_processes_and_accepts_one_without_a_node():
    history = History(replicas=2)
    history.delete(2, gone=True)
    assert history.found() == ["S1"]
    history = History(replicas=2, pods=2)
    unbound = a_pod(2)
    del unbound["spec"]["nodeName"]
    unbound["status"] = {"phase": "Pending"}
    history.put("pods", unbound, actor="user")
    history.delete(2, gone=True)
    assert history.found() == []


def test_s1_rejects_the_loss_of_a_foreign_finalizer_and_accepts_that_of_one_from_the_template():
    history = History()
    history.put(
        "pods", {**history.pod(1), "metadata": {**history.pod(1)["metadata"], "finalizers": ["a/b"]}}, actor="u"
    )
    pod = history.pod(1)
    pod["metadata"]["finalizers"] = []
    history.put("pods", pod)
    assert history.found() == ["S1"]
    history = History()
    made = a_revision("web-1", "v1", 1)
    made["data"]["spec"]["template"]["metadata"]["finalizers"] = ["a/b"]
    history.put(REVISIONS, made, actor="user")
    history.put(
        "pods", {**history.pod(1), "metadata": {**history.pod(1)["metadata"], "finalizers": ["a/b"]}}, actor="u"
    )
    history.put("pods", pod)
    assert history.found() == []


# S2


def test_s2_rejects_a_second_pod_down_and_accepts_one_after_the_other():
    bad, good = History(), History()
    bad.delete(2)
    bad.delete(1)
    assert "attributed: 2 pods" in bad.texts()
    assert "strict: 2 pods" in bad.texts()
    assert "snapshot" not in bad.texts()  # both were allowed at the version at which pod 1 was read
    good.replace(2)
    good.delete(1)
    assert good.found() == []


def test_s2_counts_the_gate_and_accepts_as_many_as_the_budget():
    bad = History(gated=True, rolling={"podUpdatePolicy": "InPlaceIfPossible"})
    bad.close(2)
    bad.close(1)
    assert bad.found() == ["S2"]
    good = History(gated=True, rolling={"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": "67%"})
    good.close(2)
    good.close(1)
    assert good.found() == []
    good.close(0)
    assert good.found() == ["S2"]


def test_s2_counts_an_image_that_runs_not_yet_although_the_status_is_ready():
    history = History(rolling={"podUpdatePolicy": "InPlaceIfPossible"})
    history.image(2)
    history.image(1)
    assert history.found() == ["S2"]
    history = History(rolling={"podUpdatePolicy": "InPlaceIfPossible"})
    history.image(2)
    history.kubelet(2)
    history.put(
        "pods",
        {
            **history.pod(2),
            "metadata": {
                **history.pod(2)["metadata"],
                "labels": {**history.pod(2)["metadata"]["labels"], STATE: "Normal"},
            },
        },
    )
    history.image(1)
    assert history.found() == []


def test_s2_replaces_for_free_what_is_down_at_the_written_version_only():
    history = History()
    history.kubelet(1, ready=False)
    history.kubelet(2, ready=False)
    history.delete(2)
    history.delete(1)
    assert history.found() == [], history.texts()
    history = History()
    history.kubelet(2, ready=False)
    history.kubelet(1, ready=False)
    history.kubelet(1)  # it came back, and the write names this version
    history.delete(1)
    assert "snapshot" in history.texts()
    assert "attributed" not in history.texts()


def test_s2_accepts_a_disruption_that_was_right_when_the_pod_was_read():
    history = History()
    history.kubelet(0, ready=False)  # after the version of pod 2 that the write names
    history.delete(2)
    assert history.found() == []


def test_s2_x1_rejects_a_disruption_beside_a_pod_that_has_been_down_for_long():
    history = History()
    history.kubelet(0, ready=False)
    history.now += 10
    history.delete(2)
    assert "snapshot" in history.texts()
    assert "attributed" not in history.texts()


def test_s2_attributes_to_us_only_what_began_with_us():
    history = History(rolling={"maxUnavailable": 2})
    history.kubelet(0, ready=False)
    history.delete(2)
    assert history.found() == []


def test_s2_judges_by_the_budget_at_the_authorisation_and_not_for_ever():
    history = History(rolling={"maxUnavailable": 2})
    history.delete(2)
    history.edit(rolling={"maxUnavailable": 1})
    history.now += 3
    history.delete(1)
    assert history.found() == [], history.texts()
    history = History(rolling={"maxUnavailable": 2})
    history.delete(2)
    history.edit(rolling={"maxUnavailable": 1})
    history.kubelet(1)
    history.now += 30
    history.delete(1)
    assert history.found() == ["S2"]


def test_s2_counts_missing_ordinals_and_specified_deletions_but_no_scale_down():
    history = History(pods=2)
    history.kubelet(1)
    history.delete(1)
    assert "snapshot" in history.texts()
    history = History()
    for ordinal in (2, 1):
        pod = history.pod(ordinal)
        pod["metadata"]["labels"]["apps.kruise.io/specified-delete"] = "true"
        history.put("pods", pod, actor="user")
    history.delete(2)
    history.delete(1)
    assert history.found() == ["S2"]
    history = History(updating=False)
    history.edit(replicas=0)
    for ordinal in (2, 1, 0):
        history.delete(ordinal)
    assert history.found() == [], history.texts()


def test_s2_a_scale_down_that_lands_when_it_is_over_is_none_of_the_budgets():
    for seconds, found in ((2, []), (30, ["S2", "S7"])):
        history = History(updating=False)
        history.edit(replicas=1)
        history.now += 10
        history.edit(replicas=3)
        history.now += seconds
        history.delete(2)
        history.delete(1)
        assert history.found() == found, history.texts()


def test_s2_waits_for_min_ready_seconds():
    for seconds, found in ((20, ["S2"]), (40, [])):
        history = History(rolling={"minReadySeconds": 30})
        history.delete(2)
        history.delete(2, actor="kubelet", gone=True)
        fresh = a_pod(2, "web-2", image="app:v2", uid="q2")
        fresh["status"]["conditions"][0]["lastTransitionTime"] = format_time(history.now)
        history.put("pods", {**fresh, "status": {"phase": "Pending"}})
        history.put("pods", fresh, actor="kubelet")
        history.now += seconds
        history.delete(1)
        assert history.found() == found, history.texts()


# S3


def test_s3_rejects_a_pod_created_out_of_order_and_accepts_it_in_order():
    ordered = {"podManagementPolicy": "OrderedReady"}
    history = History(pods=1, updating=False, **ordered)
    history.put("pods", a_pod(2))
    assert history.found() == ["S3"]
    history = History(pods=1, updating=False, **ordered)
    history.put("pods", a_pod(1))
    assert history.found() == []
    history.kubelet(0, ready=False)
    history.now += 2
    history.put("pods", a_pod(2))
    assert history.found() == []  # pod 0 was ready a moment ago


def test_s3_rejects_a_scale_down_from_the_middle_and_accepts_it_from_the_top():
    history = History(updating=False, podManagementPolicy="OrderedReady")
    history.edit(replicas=1)
    history.now += 30
    history.delete(1)
    assert history.found() == ["S3"]
    history = History(updating=False, podManagementPolicy="OrderedReady")
    history.edit(replicas=1)
    history.now += 30
    history.delete(2)
    history.delete(2, actor="kubelet", gone=True)
    history.delete(1)
    assert history.found() == [], history.texts()


def test_s3_rejects_more_creations_than_the_scale_strategy_allows():
    spec = {"replicas": 4, "scaleStrategy": {"maxUnavailable": 2}}
    history = History(pods=0, updating=False, **spec)
    for ordinal in (0, 1):
        history.put("pods", a_pod(ordinal, ready=False))
    assert history.found() == []
    history.put("pods", a_pod(2, ready=False))
    assert history.found() == ["S3"]


def test_s3_rejects_an_update_below_the_partition_and_accepts_one_at_it():
    history = History(rolling={"partition": 2, "maxUnavailable": 3})
    history.delete(2)
    assert history.found() == []
    history.delete(1)
    assert history.found() == ["S3"]


def test_s3_counts_the_partition_in_places_and_not_in_ordinals():
    history = History(rolling={"partition": 1}, pods=5, replicas=3, reserveOrdinals=[0, 1])
    history.replace(4)
    history.now += 30
    history.replace(3)
    assert history.found() == [], history.texts()
    history.now += 30
    history.delete(2)
    assert history.found() == ["S3"]


def test_s3_rejects_an_update_from_the_bottom_and_accepts_it_from_the_top():
    history = History()
    history.delete(0)
    assert history.found() == ["S3"]
    history = History(rolling={"maxUnavailable": 2})
    history.delete(1)  # two at a time: their order among each other is free
    history.delete(2)
    assert history.found() == [], history.texts()


@pytest.mark.parametrize("change", [{"rolling": {"paused": True}}, {"updateStrategy": {"type": "OnDelete"}}])
def test_s3_rejects_an_update_while_paused_or_on_delete_and_accepts_one_that_was_under_way(change):
    for seconds, found in ((30, ["S3"]), (2, [])):
        history = History()
        if "rolling" in change:
            history.edit(rolling=change["rolling"])
        else:
            history.edit(updateStrategy={"type": "OnDelete", "rollingUpdate": {}})
        history.now += seconds
        history.delete(2)
        assert history.found() == found


def test_s3_rejects_a_new_pod_below_the_partition_on_the_new_revision():
    history = History(pods=2, rolling={"partition": 3})
    history.put("pods", a_pod(2, "web-2", image="app:v2"))
    assert history.found() == ["S3"]
    history = History(pods=2, rolling={"partition": 3})
    history.put("pods", a_pod(2, "web-1"))
    assert history.found() == []


@pytest.mark.parametrize(("ordinal", "found"), [(0, []), (2, ["S3"])])
@pytest.mark.parametrize(
    "priorities",
    [
        {"weightPriority": [{"weight": 9, "matchSelector": {"matchLabels": {"first": "yes-7"}}}]},
        {"orderPriority": [{"orderedKey": "first"}, {"orderedKey": "app"}]},
    ],
)
def test_s3_an_update_by_priorities_takes_those_with_the_highest_first(priorities, ordinal, found):
    history = History(rolling={"maxUnavailable": 1, "unorderedUpdate": {"priorityStrategy": priorities}})
    pod = copy.deepcopy(history.pod(0))
    pod["metadata"]["labels"]["first"] = "yes-7"
    history.put("pods", pod, actor="user")
    history.now += 30
    history.delete(ordinal)
    assert history.found() == found, history.texts()


def test_s3_an_unordered_update_leaves_as_many_as_the_partition_says():
    spec = {"rolling": {"partition": 2, "maxUnavailable": 3, "unorderedUpdate": {}}}
    history = History(**spec)
    history.replace(0)
    assert history.found() == []
    history.now += 30
    history.delete(1)
    assert history.found() == ["S3"]


# S4

IN_PLACE = {"podUpdatePolicy": "InPlaceIfPossible"}


def test_s4_accepts_a_whole_update_in_place():
    history = History(gated=True, rolling=IN_PLACE)
    history.close(2)
    history.image(2)
    history.kubelet(2)
    history.open(2)
    assert history.found() == [], history.texts()


def test_s4_rejects_a_new_image_while_the_gate_is_open():
    history = History(gated=True, rolling=IN_PLACE)
    history.image(2)
    assert history.found() == ["S4"]


def test_s4_rejects_a_gate_that_opens_before_the_container_runs_the_new_image():
    history = History(gated=True, rolling=IN_PLACE)
    history.close(2)
    history.image(2)
    history.open(2)
    assert history.found() == ["S4"]


def test_s4_x7_accepts_a_gate_that_opens_on_the_same_digest_under_the_new_name_and_on_a_registry_prefix():
    for image in ("app:v2", "registry.local/library/app:v2"):
        history = History(gated=True, rolling=IN_PLACE)
        history.close(2)
        history.image(2)
        history.kubelet(
            2,
            image=image,
            containerStatuses=[
                {"name": "main", "image": image, "imageID": "id-app:v1", "containerID": "c2", "restartCount": 1}
            ],
        )
        history.open(2)
        assert history.found() == [], history.texts()


def test_s4_rejects_a_gate_that_opens_with_work_left_in_the_annotations():
    left = json.dumps({"revision": "web-2", "nextContainerImages": {"side": "x:v2"}})
    for left_over in ({reading.IN_PLACE_STATE: left}, {reading.IN_PLACE_GRACE: '{"revision":"web-2"}'}):
        history = History(gated=True, rolling=IN_PLACE)
        history.close(2)
        history.image(2)
        history.kubelet(2)
        history.open(2, **left_over)
        assert history.found() == ["S4"]


def test_s4_rejects_a_foreign_condition_and_a_changed_command():
    history = History(gated=True, rolling=IN_PLACE)
    pod = history.pod(1)
    pod["status"]["conditions"].append({"type": "PodScheduled", "status": "True"})
    history.put("pods", pod)
    assert history.found() == ["S4"]
    history = History(gated=True, rolling=IN_PLACE)
    pod = history.pod(1)
    pod["spec"]["containers"][0]["command"] = ["sh"]
    history.put("pods", pod)
    assert history.found() == ["S4"]


def test_s4_accepts_resources_without_the_gate_unless_they_restart_the_container():
    for resource, policy, found in (
        ("cpu", "NotRequired", []),
        ("cpu", "RestartContainer", ["S4"]),
        ("memory", "RestartContainer", []),
    ):
        history = History(gated=True, rolling=IN_PLACE)
        pod = history.pod(2)
        pod["spec"]["containers"][0]["resizePolicy"] = [{"resourceName": resource, "restartPolicy": policy}]
        history.put("pods", pod, actor="user")
        pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}
        history.put("pods", pod)
        assert history.found() == found


def test_s4_rejects_a_deletion_under_in_place_only_and_accepts_one_that_was_asked_for():
    history = History(rolling={"podUpdatePolicy": "InPlaceOnly"})
    history.delete(2)
    assert history.found() == ["S4"]
    history = History(rolling={"podUpdatePolicy": "InPlaceOnly"})
    pod = history.pod(2)
    pod["metadata"]["labels"]["apps.kruise.io/specified-delete"] = ""
    history.put("pods", pod, actor="user")
    history.delete(2)
    assert history.found() == []


def test_s4_rejects_a_container_that_was_killed_beside_the_one_that_changed():
    def side(run, last=None):
        status = {"name": "side", "image": "s:1", "imageID": "s", "containerID": run}
        return {**status, "lastState": {"terminated": last}} if last else status

    for code, found in ((143, ["S4"]), (1, [])):
        history = History(gated=True, rolling=IN_PLACE)
        pod = history.pod(2)
        pod["spec"]["containers"].append({"name": "side", "image": "s:1"})
        pod["status"]["containerStatuses"].append(side("s-1"))
        history.put("pods", pod, actor="kubelet")
        history.close(2)
        history.image(2)
        main = a_pod(2, image="app:v2")["status"]["containerStatuses"][0]
        history.kubelet(2, containerStatuses=[main, side("s-2", {"exitCode": code, "containerID": "s-1"})])
        history.open(2)
        assert history.found() == found


def test_s4_rejects_a_pod_that_moves():
    history = History(rolling=IN_PLACE)
    history.kubelet(2, podIP="10.0.0.9")
    assert history.found() == ["S4"]


# S5

WITH_CLAIMS = {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]}
POD_REF = {"apiVersion": "v1", "kind": "Pod", "name": "web-2", "uid": "p2"}
SET_REF = {k: v for k, v in OWNER.items() if k != "controller"}


def a_claim(ordinal, *refs, size="1Gi", **meta):
    full = {"name": f"data-web-{ordinal}", "namespace": "ns", "uid": f"c{ordinal}", "ownerReferences": list(refs)}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {"kind": "PersistentVolumeClaim", "metadata": full | meta, "spec": spec}


def retention(deleted="Retain", scaled="Retain"):
    return {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}


def test_s5_rejects_the_deletion_of_a_claim():
    history = History(**WITH_CLAIMS)
    history.put(CLAIMS, a_claim(0), actor="user")
    history.delete(0, resource=CLAIMS, name="data-web-0", actor="user")
    assert history.found() == []
    history.delete(0, resource=CLAIMS, name="data-web-0", gone=True)
    assert history.found() == ["S5"]


def test_s5_x42_claims_are_created_with_their_final_owner_references():
    for refs, policy, found in (
        ((), retention(), []),
        ((SET_REF,), retention("Delete"), []),
        ((), retention("Delete"), ["S5"]),
        ((SET_REF,), retention(), ["S5"]),
    ):
        history = History(**WITH_CLAIMS, **policy)
        history.put(CLAIMS, a_claim(0, *refs))
        assert history.found() == found, (refs, policy)


def test_s5_x11_a_pod_owns_its_claim_only_when_it_is_condemned():
    policy = WITH_CLAIMS | retention(scaled="Delete")
    history = History(**policy)
    history.put(CLAIMS, a_claim(2), actor="user")
    history.put(CLAIMS, a_claim(2, POD_REF))
    assert history.found() == ["S5"]
    history = History(**policy, reserveOrdinals=[2])  # 3 replicas: 0, 1, 3
    history.put(CLAIMS, a_claim(2), actor="user")
    history.put(CLAIMS, a_claim(2, POD_REF))
    assert history.found() == [], history.texts()


def test_s5_x42_rejects_the_loss_of_a_foreign_reference():
    foreign = {"apiVersion": "v1", "kind": "ConfigMap", "name": "keeper", "uid": "k"}
    history = History(**WITH_CLAIMS, **retention("Delete"))
    history.put(CLAIMS, a_claim(2, foreign), actor="user")
    history.put(CLAIMS, a_claim(2, SET_REF))
    assert history.found() == ["S5"]
    history = History(**WITH_CLAIMS, **retention("Delete"))
    history.put(CLAIMS, a_claim(2, foreign), actor="user")
    history.put(CLAIMS, a_claim(2, foreign, SET_REF))
    assert history.found() == []


def test_s5_rejects_a_claim_that_shrinks():
    history = History(**WITH_CLAIMS)
    history.put(CLAIMS, a_claim(2, size="2Gi"), actor="user")
    history.put(CLAIMS, a_claim(2, size="3Gi"))
    assert history.found() == []
    history.put(CLAIMS, a_claim(2, size="1Gi"))
    assert history.found() == ["S5"]


def test_s5b_x41_rejects_a_pod_whose_claim_is_missing_dying_or_not_yet_collected():
    for claim, found in (
        (a_claim(2), []),
        (None, ["S5b"]),
        (a_claim(2, deletionTimestamp=format_time(T0)), ["S5b"]),
        (a_claim(2, {**POD_REF, "uid": "earlier"}), ["S5b"]),
    ):
        history = History(pods=2, updating=False, **WITH_CLAIMS)
        if claim is not None:
            history.put(CLAIMS, claim, actor="user")
        history.now += 30
        history.put("pods", a_pod(2, claims=("data",)))
        assert history.found() == found, claim


def test_s5_at_rest_looks_at_owners_and_at_claims_that_pods_wait_for():
    history = History(updating=False, pods=0, replicas=1, **WITH_CLAIMS, **retention("Delete"))
    history.put(CLAIMS, a_claim(0), actor="user")
    history.put("pods", a_pod(0, claims=("data",)), actor="user")
    assert "S5" in history.rest()
    history = History(updating=False, pods=0, replicas=1, **WITH_CLAIMS)
    waiting = a_pod(0, claims=("data",), ready=False)
    waiting["status"]["phase"] = "Pending"
    history.put("pods", waiting, actor="user")
    assert "S5b" in history.rest()


# S6


def test_s6_x38_rejects_a_second_revision_of_one_meaning_and_accepts_another_template():
    history = History()
    again = a_revision("web-3", "v2", 3)
    again["data"]["spec"]["template"]["metadata"]["creationTimestamp"] = None
    again["data"]["spec"]["template"]["spec"]["containers"][0]["resources"] = {}
    history.put(REVISIONS, again)
    assert history.found() == ["S6"]
    history = History()
    history.edit(template=template("v3"))
    history.put(REVISIONS, a_revision("web-3", "v3", 3))
    assert history.found() == []


def test_s6_rejects_a_revision_that_the_set_never_meant():
    history = History()
    history.put(REVISIONS, a_revision("web-3", "v9", 3))
    assert history.found() == ["S6"]


def test_s6_rejects_the_deletion_of_a_revision_in_use():
    history = History()
    history.delete(0, resource=REVISIONS, name="web-1", gone=True)
    assert history.found() == ["S6"]
    history = History(pods=0)
    history.put(SETS, {**history.world(SETS, "web"), "status": {"currentRevision": "web-2"}}, actor="kruise")
    history.delete(0, resource=REVISIONS, name="web-1", gone=True)
    assert history.found() == []


def test_s6_rejects_an_update_to_an_older_revision():
    history = History(gated=True, rolling=IN_PLACE)
    history.edit(template=template("v3"))
    history.put(REVISIONS, a_revision("web-3", "v3", 3))
    history.now += 30
    history.close(2)
    history.image(2)
    assert history.found() == ["S6"]


def test_s6_at_rest_the_history_has_its_limit():
    history = History(updating=False, pods=0, replicas=0, revisionHistoryLimit=0)
    history.put(REVISIONS, a_revision("web-0", "v0", 0), actor="user")
    assert "S6" in history.rest()


# S7


def test_s7_rejects_the_deletion_of_a_good_pod_and_accepts_it_where_it_is_asked_for():
    history = History(updating=False)
    history.delete(2)
    assert history.found() == ["S7"]
    history = History(updating=False)
    pod = history.pod(2)
    pod["metadata"]["labels"]["apps.kruise.io/specified-delete"] = "true"
    history.put("pods", pod, actor="user")
    history.delete(2)
    assert history.found() == []
    history = History(updating=False)
    history.edit(reserveOrdinals=[1])
    history.delete(1)
    assert history.found() == [], history.texts()


def test_s7_accepts_a_pod_that_was_of_an_old_revision_a_moment_ago():
    history = History()
    history.put(REVISIONS, a_revision("web-1", "v1", 3), actor="kruise")  # a rollback
    history.now += 2
    history.delete(2)
    assert history.found() == []
    history.delete(2, actor="kubelet", gone=True)
    history.put("pods", a_pod(2, uid="q2"))
    history.kubelet(2)
    history.now += 30
    history.delete(1)
    assert history.found() == ["S7"]


# S8


def the_status(**other):
    full = {
        "observedGeneration": 1,
        "replicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "currentReplicas": 3,
        "updatedReplicas": 3,
        "updatedReadyReplicas": 3,
        "updatedAvailableReplicas": 3,
        "currentRevision": "web-1",
        "updateRevision": "web-1",
    }
    return full | other


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({}, []),
        ({"readyReplicas": 2}, ["S8"]),
        ({"updateRevision": "web-0"}, ["S8"]),
        ({"observedGeneration": 0}, ["S8"]),
    ],
)
def test_s8_at_rest_the_status_is_a_recount(wrong, found):
    history = History(updating=False)
    history.put(SETS, {**history.world(SETS, "web"), "status": the_status(**wrong)}, actor="kruise")
    assert history.rest() == found, history.texts()


# What surrounds them.


def test_a_set_that_is_being_deleted_is_left_alone():
    history = History()
    owner = copy.deepcopy(history.world(SETS, "web"))
    owner["metadata"]["deletionTimestamp"] = format_time(T0)
    history.put(SETS, owner, actor="user")
    for ordinal in range(3):
        history.delete(ordinal, actor="generic-garbage-collector")
    assert history.rest() == []


def test_start_ordinals_count_only_with_their_gate():
    for on, found in ((False, ["S1"]), (True, [])):
        history = History(pods=0, updating=False, start_ordinal=on, ordinals={"start": 4})
        history.put("pods", a_pod(4))
        assert history.found() == found


def test_g2_a_claim_needs_no_controller():
    suite = Suite([Conditional(ours, (SETS,))])
    suite.on_request(Written("kruise", "create", CLAIMS, Key("ns", "x"), body={"metadata": {"name": "x"}}))
    suite.on_request(Written("kruise", "create", "pods", Key("ns", "x"), body={"metadata": {"name": "x"}}))
    assert [v.invariant for v in suite.violations] == ["G2"]
