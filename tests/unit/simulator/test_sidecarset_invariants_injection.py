"""Oracles of the injection of sidecars: a history that each must reject, and a legal near miss (reliability 6.7)."""

from __future__ import annotations

import pytest

from kruise.runtime.objects import Key
from kruise.simulator.invariants import (
    SIDECARSETS,
    Written,
)
from kruise.simulator.invariants import sidecarset_reading as reading
from kruise.simulator.invariants.sidecarset_security import level_of, stricter
from tests.unit.simulator.sidecar_history import (
    History,
    a_pod,
    a_set,
    given,
)


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
