"""Each oracle of SidecarSets: a history that it must reject, and a legal near miss (reliability 6.7)."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from kruise.runtime.clock import format_time
from kruise.runtime.objects import Key
from kruise.simulator.invariants import (
    SIDECARSETS,
    Observed,
    Ownership,
    SidecarSets,
    Suite,
    Written,
    standard_checkers,
    writes_for_a_set,
)
from kruise.simulator.invariants import sidecarset_reading as reading
from kruise.simulator.invariants.sidecarset_security import level_of, stricter

T0 = 1_767_225_600.0
CONTROLLER = "sidecarset-controller"
EMPTY = "empty:1"


def ours(actor):
    return actor.startswith("kruise")


def a_set(name="mesh", tag="v1", *, without="w1", hot=False, **spec):
    sidecar = {"name": "side", "image": f"side:{tag}"}
    if hot:
        sidecar["upgradeStrategy"] = {"upgradeType": "HotUpgrade", "hotUpgradeEmptyImage": EMPTY}
    strategy = {"type": "RollingUpdate", "maxUnavailable": 1, "partition": 0} | spec.pop("strategy", {})
    full = {"selector": {"matchLabels": {"app": "web"}}, "containers": [sidecar], "updateStrategy": strategy} | spec
    return {
        "kind": "SidecarSet",
        "metadata": {
            "name": name,
            "uid": f"u-{name}",
            "generation": 1,
            "creationTimestamp": format_time(T0),
            "annotations": {reading.HASH: f"h-{tag}", reading.WITHOUT_IMAGE: without},
        },
        "spec": full,
    }


def entries(value, *names):
    return json.dumps({name: {"hash": value, "sidecarSetName": name} for name in names}, separators=(",", ":"))


def a_pod(number=0, tag="v1", *, without="w1", namespace="ns", ready=True, hot=False, sets=("mesh",), **labels):
    images = {"main": "app:v1", "side": f"side:{tag}"}
    if hot:
        images = {"main": "app:v1", "side-1": f"side:{tag}", "side-2": EMPTY}
    notes = {
        reading.HASH: entries(f"h-{tag}", *sets),
        reading.WITHOUT_IMAGE: entries(without, *sets),
        reading.LISTED: ",".join(sets),
    }
    if hot:
        notes[reading.WORKING] = json.dumps({"side": "side-1"})
    marker = [{"name": "IS_INJECTED", "value": "true"}]
    containers = [
        {"name": name, "image": image, **({} if name == "main" else {"env": marker})} for name, image in images.items()
    ]
    if not sets:
        notes, containers = {}, containers[:1]
    pod = {
        "kind": "Pod",
        "metadata": {
            "name": f"web-{number}",
            "namespace": namespace,
            "uid": f"p{number}",
            "labels": {"app": "web", **labels},
            "annotations": notes,
            "creationTimestamp": format_time(T0 + 30),
        },
        "spec": {"nodeName": "n1", "containers": containers},
    }
    return report(pod, ready=ready)


def report(pod, *, ready=True):
    """Return a pod with what its kubelet says."""
    conditions = [c for c in (pod.get("status") or {}).get("conditions") or () if c["type"] != "Ready"]
    statuses = [
        {
            "name": c["name"],
            "image": c["image"],
            "imageID": f"id-{c['image']}",
            "containerID": c["image"],
            "ready": ready,
        }
        for c in pod["spec"]["containers"]
    ]
    conditions.append({"type": "Ready", "status": "True" if ready else "False"})
    return {**pod, "status": {"phase": "Running", "conditions": conditions, "containerStatuses": statuses}}


class History:
    """A set, and three pods that were injected from it; with *updating*, a second version, a minute old."""

    def __init__(self, *, slack=5.0, pods=3, updating=True, hot=False, labels=(), **spec):
        self.checker = SidecarSets(ours, slack=slack)
        self.suite = Suite([self.checker, Ownership(ours, (SIDECARSETS,), ("pods",), exempt=writes_for_a_set(ours))])
        self.rv = 10
        self.now = T0
        self.hot = hot
        for name in ("ns", "kube-system"):
            self.put("namespaces", {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}})
        self.put(SIDECARSETS, a_set(hot=hot, **spec), actor="user")
        self.now += 60
        for number in range(pods):
            more = labels[number] if labels else {}
            self.put("pods", a_pod(number, hot=hot, **more), actor="user")
        if updating:
            self.publish("v2")
        self.now += 60
        self.suite.violations.clear()

    def world(self, resource, name, namespace="ns"):
        found = self.suite.world.get(resource, Key("" if resource == SIDECARSETS else namespace, name))
        assert found is not None, name
        return copy.deepcopy(found)

    def pod(self, number):
        return self.world("pods", f"web-{number}")

    def put(self, resource, obj, *, actor="kruise", given: Any = None, verb="", controller=""):
        obj = copy.deepcopy(obj)
        key = Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        old = self.suite.world.get(resource, key)
        self.rv += 1
        obj["metadata"]["resourceVersion"] = str(self.rv)
        request = None
        if given is not None or controller or verb:
            request = Written(actor, verb or "patch", resource, key, body=given, controller=controller, time=self.now)
        kind = "create" if old is None else "update"
        self.suite.on_commit(Observed(self.rv, kind, resource, key, old, obj, actor, request, self.now))
        return obj

    def write(self, pod):
        """Let our controller write a pod."""
        return self.put("pods", pod, controller=CONTROLLER)

    def publish(self, tag="", *, strategy=None, without="w1", **spec):
        """Let the user change the set; admission writes the hashes."""
        owner = self.world(SIDECARSETS, "mesh")
        owner["spec"] |= spec
        owner["spec"]["updateStrategy"] |= strategy or {}
        if tag:
            owner["spec"]["containers"][0]["image"] = f"side:{tag}"
            owner["metadata"]["annotations"] = {reading.HASH: f"h-{tag}", reading.WITHOUT_IMAGE: without}
        owner["metadata"]["generation"] += 1
        self.put(SIDECARSETS, owner, actor="user")

    def upgraded(self, number, tag="v2", image=""):
        """Return a pod as our controller upgrades it."""
        pod = self.pod(number)
        name = "side-2" if self.hot else "side"
        status = next(s for s in pod["status"]["containerStatuses"] if s["name"] == name)
        state = {"mesh": {"lastContainerStatuses": {name: {"imageID": status["imageID"]}}}}
        next(c for c in pod["spec"]["containers"] if c["name"] == name)["image"] = image or f"side:{tag}"
        notes = {reading.HASH: entries(f"h-{tag}", "mesh"), reading.STATE: json.dumps(state)}
        if self.hot:
            notes[reading.WORKING] = json.dumps({"side": "side-2"})
        pod["metadata"]["annotations"] |= notes
        return pod

    def upgrade(self, number, tag="v2"):
        self.write(self.upgraded(number, tag))

    def kubelet(self, number, *, ready=True):
        self.put("pods", report(self.pod(number), ready=ready), actor="kubelet")

    def finish(self, number):
        """Let an upgrade end."""
        self.kubelet(number, ready=False)
        self.kubelet(number)

    def create(self, pod, given):
        self.put("pods", pod, actor="user", verb="create", given=given)

    def status(self, **counts):
        owner = self.world(SIDECARSETS, "mesh")
        conditions = counts.pop("conditions", [])
        names = ("matchedPods", "updatedPods", "readyPods", "updatedReadyPods")
        owner["status"] = {
            "observedGeneration": owner["metadata"]["generation"],
            **dict.fromkeys(names, 0),
            **counts,
            "conditions": conditions,
        }
        self.put(SIDECARSETS, owner)

    def rest(self):
        self.suite.at_quiescence(self.now)
        return self.found()

    def found(self):
        return sorted({v.invariant for v in self.suite.violations})

    def texts(self):
        return " | ".join(str(v) for v in self.suite.violations)


def given(pod):
    """Return what the user asked for."""
    own = [c for c in pod["spec"]["containers"] if c["name"] == "main"]
    meta = copy.deepcopy({k: pod["metadata"][k] for k in ("name", "namespace", "labels")})
    return {"metadata": meta, "spec": {"containers": copy.deepcopy(own)}}


# C1


def test_c1_accepts_an_upgrade_and_the_restart_of_the_sidecar():
    history = History()
    history.upgrade(0)
    history.finish(0)
    assert history.found() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda pod: pod["spec"]["containers"][0].update(image="app:v2"),
        lambda pod: pod["spec"]["containers"][1].update(env=[]),
        lambda pod: pod["spec"]["containers"].reverse(),
        lambda pod: pod["metadata"]["labels"].update(more="yes"),
        lambda pod: pod["metadata"]["annotations"].update(note="yes"),
        lambda pod: pod["spec"].update(tolerations=[{"operator": "Exists"}]),
        lambda pod: pod["status"]["conditions"].append({"type": "Foreign", "status": "True"}),
    ],
)
def test_c1_rejects_a_write_beyond_the_sidecar(change):
    history = History()
    pod = history.upgraded(0)
    change(pod)
    history.write(pod)
    assert history.found() == ["C1"]


def test_c1_accepts_an_annotation_of_patch_pod_metadata():
    history = History(patchPodMetadata=[{"annotations": {"note": "yes"}, "patchPolicy": "Overwrite"}])
    pod = history.upgraded(0)
    pod["metadata"]["annotations"]["note"] = "yes"
    history.write(pod)
    assert history.found() == []


@pytest.mark.parametrize(("code", "found"), [(143, ["C1"]), (1, [])])
def test_c1_rejects_that_an_upgrade_kills_the_application_and_accepts_that_it_dies(code, found):
    history = History()
    history.upgrade(0)
    pod = report(history.pod(0), ready=False)
    app = pod["status"]["containerStatuses"][0]
    app |= {"lastState": {"terminated": {"exitCode": code, "containerID": app["containerID"]}}, "containerID": "new"}
    history.put("pods", pod, actor="kubelet")
    assert history.found() == found


def test_c1_rejects_another_application_at_creation_and_accepts_what_a_server_fills_in():
    history = History(updating=False)
    pod = a_pod(7)
    asked = given(pod)
    pod["spec"]["containers"][0]["imagePullPolicy"] = "IfNotPresent"
    pod["spec"] |= {"serviceAccountName": "default", "restartPolicy": "Always", "securityContext": {}}
    history.create(pod, asked)
    assert history.found() == []
    for change in (
        lambda pod: pod["spec"]["containers"][0].update(image="app:other"),
        lambda pod: pod["spec"].update(hostNetwork=True),
        lambda pod: pod["spec"]["containers"].pop(0),
        lambda pod: pod["metadata"]["labels"].update(app="shop"),
    ):
        history = History(updating=False)
        pod = a_pod(7)
        asked = given(pod)
        change(pod)
        history.create(pod, asked)
        assert history.found() == ["C1"]


def test_c1_rejects_volumes_before_those_of_the_user_and_accepts_them_after():
    for volumes, found in ((["own", "side"], []), (["side", "own"], ["C1"]), (["side"], ["C1"])):
        history = History(updating=False)
        pod = a_pod(7)
        asked = given(pod)
        asked["spec"]["volumes"] = [{"name": "own", "emptyDir": {}}]
        pod["spec"]["volumes"] = [{"name": name, "emptyDir": {}} for name in volumes]
        history.create(pod, asked)
        assert history.found() == found


# C3


@pytest.mark.parametrize("where", ["kube-system", "kruise-system", "kube-public"])
def test_c3_rejects_a_sidecar_in_a_namespace_of_the_system(where):
    history = History(updating=False)
    pod = a_pod(7, namespace=where)
    history.create(pod, given(pod))
    assert history.found() == ["C3"]


def test_c3_rejects_a_sidecar_in_a_pod_that_declines_and_accepts_it_in_another():
    key, value = reading.EXCLUDED
    for label, found in ((value, ["C3"]), ("enabled", [])):
        history = History(updating=False)
        pod = a_pod(7)
        pod["metadata"]["labels"][key] = label
        history.create(pod, given(pod))
        assert history.found() == found


# C4


def test_c4_rejects_two_providers_of_a_container_and_accepts_two_sets_with_their_own():
    for tag, sets, found in (("v1", ("mesh", "twin"), ["C4"]), ("v1", ("mesh",), [])):
        history = History(updating=False)
        history.put(SIDECARSETS, a_set("twin", tag), actor="user")
        pod = a_pod(7, sets=sets)
        history.create(pod, given(pod))
        assert history.found() == found


def test_c4_rejects_two_volumes_of_a_name():
    history = History(updating=False)
    pod = a_pod(7)
    asked = given(pod)
    pod["spec"]["volumes"] = [{"name": "side", "emptyDir": {}}] * 2
    history.create(pod, asked)
    assert history.found() == ["C4"]


# C5


def test_c5_rejects_a_second_pod_on_its_way_and_accepts_one_after_the_other():
    bad, good = History(), History()
    bad.upgrade(0)
    bad.upgrade(1)
    assert "attributed: 2 pods" in bad.texts()
    assert "snapshot" in bad.texts()
    good.upgrade(0)
    good.finish(0)
    good.upgrade(1)
    assert good.found() == []


def test_c5_counts_an_upgrade_of_which_the_kubelet_has_not_spoken_and_accepts_a_larger_budget():
    history = History(strategy={"maxUnavailable": "50%"})
    history.upgrade(0)
    history.upgrade(1)
    assert history.found() == []
    history.kubelet(0, ready=False)
    history.upgrade(2)
    assert history.found() == ["C5"]


def test_c5_takes_a_pod_that_is_down_for_free():
    history = History()
    history.kubelet(1, ready=False)
    history.upgrade(0)
    history.upgrade(1)
    assert history.found() == []


def test_c5_accepts_what_was_right_a_moment_ago_and_rejects_it_later():
    for wait, found in ((2, []), (20, ["C5"])):
        history = History(strategy={"maxUnavailable": 2})
        history.upgrade(0)
        history.kubelet(0, ready=False)
        history.publish(strategy={"maxUnavailable": 1})
        history.now += wait
        history.upgrade(1)
        assert history.found() == found


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        ({"paused": True}, "paused"),
        ({"type": "NotUpdate"}, "NotUpdate"),
        ({"selector": {"matchLabels": {"canary": "yes"}}}, "selector"),
        ({"partition": 3}, "partition"),
        ({"partition": "100%"}, "partition"),
    ],
)
def test_c5_rejects_an_upgrade_that_the_strategy_holds_back_and_accepts_it_before(strategy, text):
    history = History()
    history.publish(strategy=strategy)
    history.now += 60
    history.upgrade(0)
    assert history.found() == ["C5"]
    assert text in history.texts()
    history = History()
    history.publish(strategy=strategy)
    history.upgrade(0)
    assert history.found() == []


def test_c5_keeps_as_many_as_the_partition_says():
    history = History(strategy={"partition": 2})
    history.upgrade(0)
    history.finish(0)
    assert history.found() == []
    history.upgrade(1)
    assert history.found() == ["C5"]


def test_c5_a_percentage_below_all_never_keeps_all_of_several_pods():
    owner = a_set(strategy={"partition": "99%", "maxUnavailable": "5%"})
    assert (reading.partition(owner, 5), reading.budget(owner, 5)) == (4, 1)
    assert reading.partition(a_set(strategy={"partition": "1%"}), 5) == 1


def test_c5_rejects_another_order_than_by_priority_and_accepts_it_where_the_first_cannot_be_written():
    term = {"weight": 10, "matchSelector": {"matchLabels": {"first": "yes"}}}
    strategy = {"priorityStrategy": {"weightPriority": [term]}}
    labels = [{}, {"first": "yes"}, {}]
    bad = History(strategy=strategy, labels=labels)
    bad.upgrade(0)
    assert bad.found() == ["C5"]
    good = History(strategy=strategy, labels=labels)
    good.suite.on_request(Written("kruise", "patch", "pods", Key("ns", "web-1"), code=422, time=good.now))
    good.upgrade(0)
    assert good.found() == []


def test_c5_by_order_the_larger_number_comes_first():
    strategy = {"priorityStrategy": {"orderPriority": [{"orderedKey": "no"}]}}
    for number, found in ((0, ["C5"]), (2, [])):
        history = History(strategy=strategy, labels=[{"no": "a1"}, {"no": "a2"}, {"no": "a10"}])
        history.upgrade(number)
        assert history.found() == found


def test_c5_the_end_of_a_hot_upgrade_is_exempt():
    history = History(hot=True)
    history.upgrade(0)
    history.finish(0)
    pod = history.pod(0)
    pod["spec"]["containers"][1]["image"] = EMPTY
    history.publish(strategy={"paused": True})
    history.now += 60
    history.write(pod)
    assert history.found() == []


# C6


def test_c6_rejects_a_hash_without_its_images_and_a_version_that_is_nobodys():
    history = History()
    history.write(history.upgraded(0, image="side:v1"))
    assert history.found() == ["C6"]
    history = History()
    history.write(history.upgraded(0, tag="v9"))
    assert history.found() == ["C6"]


def test_c6_rejects_that_the_serving_twin_is_touched():
    history = History(hot=True)
    pod = history.upgraded(0)
    pod["spec"]["containers"][1]["image"] = EMPTY
    history.write(pod)
    assert "the only serving twin side-1 is changed" in history.texts()
    history = History(hot=True)
    history.upgrade(0)
    history.finish(0)
    pod = history.pod(0)
    for container in pod["spec"]["containers"][1:]:
        container["image"] = EMPTY
    history.write(pod)
    assert "both twins of side are emptied" in history.texts()


def test_c6_rejects_that_a_twin_is_emptied_before_the_other_one_works_and_accepts_it_afterwards():
    for ready, found in ((False, ["C6"]), (True, [])):
        history = History(hot=True)
        history.upgrade(0)
        history.kubelet(0, ready=ready)
        pod = history.pod(0)
        pod["spec"]["containers"][1]["image"] = EMPTY
        history.write(pod)
        assert history.found() == found


def test_c6_at_creation_and_at_rest():
    history = History(updating=False)
    pod = a_pod(7)
    asked = given(pod)
    pod["spec"]["containers"][1]["image"] = "side:v9"
    history.create(pod, asked)
    assert history.found() == ["C6"]
    history = History(updating=False)
    history.status(matchedPods=3, updatedPods=3, readyPods=3, updatedReadyPods=3)
    assert history.rest() == []
    pod = history.pod(0)
    pod["spec"]["containers"][1]["image"] = "side:v9"
    history.put("pods", report(pod), actor="somebody")
    assert history.rest() == ["C6"]


# C7


def test_c7_rejects_an_upgrade_of_more_than_images_and_accepts_the_mark():
    mark = {"type": reading.UPGRADABLE, "status": "False", "message": '{"mesh":false}'}
    history = History(updating=False)
    history.publish("v2", without="w2")
    history.now += 60
    history.upgrade(0)
    assert history.found() == ["C5", "C7"]  # nor does it wait for anything
    history = History(updating=False)
    history.publish("v2", without="w2")
    history.status(matchedPods=3, readyPods=3)
    assert history.rest() == ["C7"]
    history.suite.violations.clear()
    for number in range(3):
        pod = history.pod(number)
        pod["status"]["conditions"].append(mark)
        history.write(pod)
    assert history.rest() == []


# C9


RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def test_c9_rejects_a_sidecar_that_its_namespace_refuses_and_accepts_one_where_the_pod_was_bad_already():
    for own, side, found in ((RESTRICTED, {}, ["C9"]), (RESTRICTED, RESTRICTED, []), ({}, {}, [])):
        history = History(updating=False)
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        history.put("namespaces", {"metadata": {"name": "ns", "labels": labels}})
        pod = a_pod(7)
        pod["spec"]["containers"][0]["securityContext"] = own
        asked = given(pod)
        pod["spec"]["containers"][1]["securityContext"] = side
        history.create(pod, asked)
        assert history.found() == found


def test_c9_levels():
    pod = a_pod()
    assert level_of(pod) == "baseline"
    pod["spec"]["hostNetwork"] = True
    assert level_of(pod) == "privileged"
    assert stricter("restricted", "baseline")
    assert not stricter("anything", "privileged")


# C10


def test_c10_rejects_a_write_for_a_set_that_is_gone_and_accepts_one_that_was_on_its_way():
    for wait, found in ((1, []), (60, ["C1", "C10"])):
        history = History()
        owner = history.world(SIDECARSETS, "mesh")
        history.rv += 1
        key = Key("", "mesh")
        history.suite.on_commit(
            Observed(history.rv, "delete", SIDECARSETS, key, owner, None, "user", None, history.now)
        )
        history.now += wait
        history.upgrade(0)
        assert history.found() == found


# C11 and the status


def test_c11_rejects_a_missed_pod_that_no_status_names_and_accepts_one_that_is_named():
    history = History(updating=False)
    history.put("pods", a_pod(7, sets=()), actor="user")
    full = {"matchedPods": 3, "updatedPods": 3, "readyPods": 3, "updatedReadyPods": 3}
    history.status(**full)
    assert history.rest() == ["C11"]
    history.suite.violations.clear()
    said = {"type": "Injected", "status": "False", "reason": "NotInjected", "message": "1 pods: ns/web-7"}
    history.status(**full, conditions=[said])
    assert history.rest() == []


def test_c11_rejects_that_a_webhook_keeps_a_pod_of_the_system_out():
    for namespace, found in (("kube-system", ["C11"]), ("kruise-system", ["C11"]), ("ns", [])):
        history = History()
        key = Key(namespace, "dns")
        text = 'Internal error occurred: failed calling webhook "mpod.kb.io": connection refused'
        history.suite.on_request(Written("user", "create", "pods", key, code=500, message=text))
        assert history.found() == found


def test_g7_rejects_counts_that_the_pods_do_not_have():
    history = History(updating=False)
    history.status(matchedPods=3, updatedPods=3, readyPods=3, updatedReadyPods=2)
    assert history.rest() == ["G7"]


def test_g1_a_pod_of_somebody_else_is_written_for_a_set_that_is_noted_in_it_only():
    history = History()
    history.upgrade(0)
    assert history.found() == []
    stranger = a_pod(8, sets=())
    history.put("pods", stranger, actor="user")
    stranger["metadata"]["annotations"] = {reading.HASH: entries("h-v2", "mesh")}
    history.put("pods", stranger, controller=CONTROLLER)
    assert "G1" in history.found()


def test_the_oracles_of_sidecarsets_look_on_in_every_test_that_runs_the_manager():
    assert any(isinstance(checker, SidecarSets) for checker in standard_checkers(ours))
