from __future__ import annotations

import asyncio
import json

import pytest

from kruise.runtime.client.transport import Request
from kruise.runtime.manager.http import Reply
from kruise.runtime.objects import Key
from kruise.runtime.testing import VirtualClock, run_virtual
from kruise.simulator.apiserver import Failure, Fault
from kruise.simulator.apiserver.server import MustWait
from kruise.simulator.apiserver.webhooks_config import MUTATING
from kruise.simulator.builtin import everything
from tests.unit.simulator.answering_hooks import Hooks, hook, labelling, patching
from tests.unit.simulator.stopped_clock import StoppedClock


@pytest.fixture
def hooks():
    return Hooks(StoppedClock())


def config(name="a", **meta):
    return {"metadata": {"name": name, **meta}, "data": {"k": "v"}}


def allow(_request):
    return {"allowed": True}


def refused(action, *args, **kwargs):
    with pytest.raises(Failure) as caught:
        action(*args, **kwargs)
    return caught.value


def test_tst1_a_patch_of_a_webhook_is_stored_and_answered(hooks):
    hooks.mutating(hook("one", "/one"))
    hooks.says["/one"] = labelling("by", "one")
    created = hooks.server.create("configmaps", config())
    assert created["metadata"]["labels"] == {"by": "one"}
    assert hooks.server.get("configmaps", "a")["metadata"]["labels"] == {"by": "one"}


def test_tst1_a_review_has_what_a_webhook_decides_by(hooks):
    hooks.mutating(hook("one", "/one"))
    hooks.validating(hook("two", "/two"))
    hooks.says |= {"/one": allow, "/two": allow}
    hooks.server.create("configmaps", config())
    hooks.server.patch("configmaps", "a", {"data": {"k": "w"}}, actor="somebody")
    hooks.server.delete("configmaps", "a")
    (_, made), (_, checked), (_, changed), _, (_, gone), (_, gone2) = hooks.asked
    assert "uid" not in made["object"]["metadata"]
    assert made["oldObject"] is None
    assert made["operation"] == "CREATE"
    assert made["options"] == {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}
    assert checked["object"]["metadata"]["uid"]
    assert checked["uid"] != made["uid"]
    assert changed["object"]["data"] == {"k": "w"}
    assert changed["oldObject"]["data"] == {"k": "v"}
    assert changed["userInfo"] == {"username": "somebody", "groups": ["system:masters", "system:authenticated"]}
    assert gone["object"] is None
    assert gone["oldObject"]["data"] == {"k": "w"}
    assert (gone["name"], gone["namespace"], gone["dryRun"]) == ("a", "default", False)
    assert gone2["kind"] == gone2["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert gone2["resource"] == gone2["requestResource"] == {"group": "", "version": "v1", "resource": "configmaps"}


def test_tst1_a_pod_comes_with_its_defaults_and_without_a_status(hooks):
    hooks.mutating(hook("one", "/one", plural="pods"))
    hooks.says["/one"] = labelling("by", "one")
    made = hooks.server.create(
        "pods", {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    )
    seen = hooks.asked[0][1]["object"]
    assert seen["spec"]["restartPolicy"] == "Always"
    assert seen["spec"]["containers"][0]["imagePullPolicy"] == "Always"
    assert seen["status"] == {}
    assert made["status"]["phase"] == "Pending"
    assert made["metadata"]["labels"] == {"by": "one"}


def test_tst1_a_denial_has_the_status_of_the_webhook(hooks):
    hooks.validating(hook("no", "/no"))
    status = {"code": 422, "reason": "Invalid", "message": "too small", "details": {"causes": [{"field": "spec"}]}}
    hooks.says["/no"] = lambda _: {"allowed": False, "status": status}
    failure = refused(hooks.server.create, "configmaps", config())
    assert failure.message == 'admission webhook "no.example.com" denied the request: too small'
    assert (failure.code, failure.reason) == (422, "Invalid")
    assert failure.status()["details"] == {"causes": [{"field": "spec"}]}
    hooks.says["/no"] = lambda _: {"allowed": False}
    failure = refused(hooks.server.create, "configmaps", config())
    assert failure.message == 'admission webhook "no.example.com" denied the request without explanation'
    assert failure.code == 400
    assert hooks.server.list("configmaps") == []


def test_tst1_webhooks_are_called_by_the_names_of_their_configurations(hooks):
    hooks.mutating(hook("b1", "/b1"), hook("b0", "/b0"), name="b")
    hooks.mutating(hook("a", "/a"), name="a")
    hooks.says |= dict.fromkeys(("/a", "/b0", "/b1"), allow)
    hooks.server.create("configmaps", config())
    assert hooks.paths() == ["/a", "/b1", "/b0"]


def test_tst1_a_webhook_that_asks_for_it_is_called_again_after_a_change(hooks):
    hooks.mutating(
        hook("early", "/early", reinvocationPolicy="IfNeeded"),
        hook("never", "/never"),
        hook("change", "/change"),
        hook("late", "/late", reinvocationPolicy="IfNeeded"),
    )
    hooks.says |= {"/early": allow, "/never": allow, "/change": labelling("x", "y"), "/late": allow}
    hooks.server.create("configmaps", config())
    assert hooks.paths() == ["/early", "/never", "/change", "/late", "/early"]
    hooks.server.patch("configmaps", "a", {"data": {"k": "w"}})
    assert hooks.paths() == ["/early", "/never", "/change", "/late"]  # the label is there: nothing has changed


def test_tst1_rules_selectors_and_policies_choose(hooks):
    hooks.server.patch("namespaces", "default", {"metadata": {"labels": {"team": "a"}}})
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["UPDATE"]}
    hooks.validating(
        hook("secrets", "/secrets", plural="secrets"),
        hook("update", "/update", rules=[rule]),
        hook("cluster", "/cluster", rules=[{**rule, "operations": ["*"], "scope": "Cluster"}]),
        hook("sub", "/sub", rules=[{**rule, "operations": ["*"], "resources": ["*/status"]}]),
        hook("team", "/team", namespaceSelector={"matchLabels": {"team": "a"}}),
        hook("others", "/others", namespaceSelector={"matchLabels": {"team": "b"}}),
        hook("labelled", "/labelled", objectSelector={"matchLabels": {"x": "y"}}),
    )
    for path in ("/secrets", "/update", "/cluster", "/sub", "/team", "/others", "/labelled"):
        hooks.says[path] = allow
    hooks.server.create("configmaps", config())
    assert hooks.paths() == ["/team"]
    hooks.server.patch("configmaps", "a", {"metadata": {"labels": {"x": "y"}}})
    assert hooks.paths() == ["/update", "/team", "/labelled"]
    hooks.server.patch("configmaps", "a", {"metadata": {"labels": None}})
    assert hooks.paths() == ["/update", "/team", "/labelled"]  # the old object has the label
    hooks.server.create("nodes", {"metadata": {"name": "n"}})
    assert hooks.paths() == ["/cluster"]
    hooks.server.patch("nodes", "n", {"status": {"phase": "x"}}, subresource="status")
    assert hooks.paths() == ["/sub"]


def test_tst1_a_condition_keeps_a_request_away(hooks):
    pytest.importorskip("cel")
    conditions = [{"name": "not-b", "expression": "object.metadata.name != 'b'"}]
    hooks.validating(hook("one", "/one", matchConditions=conditions))
    hooks.says["/one"] = lambda _: {"allowed": False}
    assert refused(hooks.server.create, "configmaps", config("a")).code == 400
    assert hooks.server.create("configmaps", config("b"))


def test_tst1_a_condition_that_cannot_be_evaluated_refuses_or_skips(hooks):
    pytest.importorskip("cel")
    conditions = [{"name": "x", "expression": "object.metadata.labels.x == 'y'"}]
    hooks.validating(hook("one", "/one", matchConditions=conditions))
    failure = refused(hooks.server.create, "configmaps", config())
    assert (failure.code, failure.reason) == (403, "Forbidden")
    assert "resulted in error" in failure.message
    hooks.server.patch(
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "v",
        {"webhooks": [hook("one", "/one", matchConditions=conditions, failurePolicy="Ignore")]},
    )
    assert hooks.server.create("configmaps", config())
    assert hooks.paths() == []


def test_tst1_without_the_library_a_condition_counts_as_true_and_says_so(hooks, monkeypatch):
    from kruise.simulator.apiserver import rules

    monkeypatch.setattr(rules, "_library", lambda: None)
    hooks.validating(hook("one", "/one", matchConditions=[{"name": "x", "expression": "false"}]))
    hooks.says["/one"] = allow
    hooks.server.create("configmaps", config())
    assert hooks.paths() == ["/one"]
    assert "matchConditions were not evaluated" in hooks.server.log.calls[-1].warnings[0]


def test_tst1_a_dead_webhook_refuses_or_is_ignored(hooks):
    hooks.mutating(hook("dead", "/dead", clientConfig={"url": "https://127.0.0.1:9/x"}))
    failure = refused(hooks.server.create, "configmaps", config())
    assert (failure.code, failure.reason) == (500, "InternalError")
    assert failure.message == (
        'Internal error occurred: failed calling webhook "dead.example.com": failed to call webhook: '
        'Post "https://127.0.0.1:9/x?timeout=10s": dial tcp 127.0.0.1:9: connect: connection refused'
    )
    webhooks = [hook("dead", "/dead", clientConfig={"url": "https://127.0.0.1:9/x"}, failurePolicy="Ignore")]
    hooks.server.patch(MUTATING, "m", {"webhooks": webhooks})
    assert hooks.server.create("configmaps", config())
    audit = hooks.server.log.calls[-1].audit
    assert audit["failed-open.mutation.webhook.admission.k8s.io/round_0_index_0"] == "dead.example.com"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (
            Reply(500, b"boom", "text/plain"),
            'an error on the server ("boom") has prevented the request from succeeding',
        ),
        (Reply(404, b"", "text/plain"), "the server could not find the requested resource"),
        (Reply(200, b"", "application/json"), "0-length response with status code: 200"),
        (Reply(200, b"<html>", "application/json"), "json: cannot unmarshal string into Go value"),
        (Reply(200, b"{}", "application/json"), "webhook response was absent"),
        (
            Reply(200, b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}', "application/json"),
            "webhook response was absent",
        ),
    ],
)
def test_tst1_an_answer_that_is_no_review_is_a_failed_call(hooks, reply, why):
    hooks.mutating(hook("one", "/one"))
    hooks.raw["/one"] = lambda _: reply
    failure = refused(hooks.server.create, "configmaps", config())
    assert failure.code == 500
    assert why in failure.message


@pytest.mark.parametrize(
    ("response", "why"),
    [
        ({"uid": "another", "allowed": True}, "expected response.uid="),
        ({"allowed": True, "patch": "W10="}, "webhook returned response.patch but not response.patchType"),
        ({"allowed": True, "patchType": "JSONPatch"}, "webhook returned response.patchType but not response.patch"),
        ({"allowed": True, "patch": "e30=", "patchType": "JSONPatch"}, "received undecodable patch"),
    ],
)
def test_tst1_a_response_is_held_to_the_rules(hooks, response, why):
    hooks.mutating(hook("one", "/one"))
    hooks.says["/one"] = lambda _: response
    assert why in refused(hooks.server.create, "configmaps", config()).message


def test_tst1_a_validating_webhook_changes_nothing(hooks):
    hooks.validating(hook("one", "/one"))
    hooks.says["/one"] = lambda _: patching({"op": "add", "path": "/data/x", "value": "y"})
    failure = refused(hooks.server.create, "configmaps", config())
    assert "validating webhook may not return response.patch" in failure.message


def test_tst1_a_patch_that_does_not_apply_refuses_whatever_the_policy(hooks):
    hooks.mutating(hook("one", "/one", failurePolicy="Ignore"))
    hooks.says["/one"] = lambda _: patching({"op": "remove", "path": "/data/nothing"})
    failure = refused(hooks.server.create, "configmaps", config())
    assert (failure.code, failure.reason) == (500, "InternalError")


def test_tst1_what_a_patch_breaks_is_found_afterwards(hooks):
    hooks.mutating(hook("one", "/one"))
    hooks.says["/one"] = lambda _: patching({"op": "add", "path": "/metadata/labels", "value": {"-bad-": "x"}})
    failure = refused(hooks.server.create, "configmaps", config())
    assert (failure.code, failure.reason) == (422, "Invalid")


def test_tst1_a_dry_run_asks_only_webhooks_without_side_effects(hooks):
    hooks.mutating(hook("one", "/one"))
    hooks.says["/one"] = labelling("by", "one")
    path = "/api/v1/namespaces/default/configmaps?dryRun=All"
    body = {"apiVersion": "v1", "kind": "ConfigMap", **config()}
    assert hooks.server.do("POST", path, body)["metadata"]["labels"] == {"by": "one"}
    assert hooks.asked[0][1]["dryRun"] is True
    assert hooks.asked[0][1]["options"]["dryRun"] == ["All"]
    assert hooks.server.list("configmaps") == []


def test_tst1_warnings_and_audit_annotations_are_passed_on(hooks):
    hooks.validating(hook("one", "/one"), hook("two", "/two"))
    hooks.says["/one"] = lambda _: {"allowed": True, "warnings": ["w1", "w2"], "auditAnnotations": {"k": "v"}}
    hooks.says["/two"] = lambda _: {"allowed": True, "warnings": ["w1"]}
    hooks.server.create("configmaps", config())
    call = hooks.server.log.calls[-1]
    assert call.warnings == ["w1", "w2"]
    assert call.audit == {"one.example.com/k": "v"}


def test_tst1_configurations_themselves_are_exempt(hooks):
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}
    hooks.validating(hook("all", "/all", rules=[rule]))
    hooks.says["/all"] = lambda _: {"allowed": False}
    hooks.mutating(hook("one", "/one"))
    hooks.server.delete(MUTATING, "m")
    assert hooks.paths() == []


def test_tst1_subresources_with_a_kind_of_their_own(hooks):
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}
    server = hooks.server
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template, "replicas": 1}
    server.create("deployments.apps", {"metadata": {"name": "d"}, "spec": spec})
    server.create("pods", {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    hooks.mutating(hook("all", "/all", rules=[rule]))
    hooks.says["/all"] = allow
    server.patch("deployments.apps", "d", {"spec": {"replicas": 3}}, subresource="scale")
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "n"}}
    server.do("POST", "/api/v1/namespaces/default/pods/p/binding", binding)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    server.do("POST", "/api/v1/namespaces/default/pods/p/eviction", eviction)
    seen = [(r["operation"], r["kind"]["kind"], r["resource"]["resource"], r["subResource"]) for _, r in hooks.asked]
    assert seen == [
        ("UPDATE", "Scale", "deployments", "scale"),
        ("CREATE", "Binding", "pods", "binding"),
        ("CREATE", "Eviction", "pods", "eviction"),
    ]
    assert hooks.asked[0][1]["object"]["spec"] == {"replicas": 3}
    assert hooks.asked[0][1]["oldObject"]["spec"] == {"replicas": 1}


def request(method, path, body):
    headers = {"content-type": "application/json" if method == "POST" else "application/merge-patch+json"}
    return Request(method, path, headers=headers, body=json.dumps(body).encode(), timeout=60.0)


async def in_virtual_time():
    hooks = Hooks(VirtualClock(asyncio.get_running_loop()))
    return hooks, hooks.server.transport("client")


PATH = "/api/v1/namespaces/default/configmaps"
BODY = {"apiVersion": "v1", "kind": "ConfigMap", **config()}


def test_tst2_a_slow_webhook_times_out_in_virtual_time():
    async def main():
        hooks, transport = await in_virtual_time()
        hooks.mutating(hook("slow", "/slow", timeoutSeconds=3))
        hooks.caller.faults = lambda _target, _body: Fault(delay=5.0)
        before = hooks.clock.monotonic()
        answer = await transport.request(request("POST", PATH, BODY))
        assert hooks.clock.monotonic() - before == pytest.approx(3.0)
        assert '?timeout=3s\\": context deadline exceeded' in answer.body.decode()
        assert answer.status == 500
        hooks.caller.faults = lambda _target, _body: Fault(lose=True)
        hooks.says["/slow"] = allow
        answer = await transport.request(request("POST", PATH, BODY))
        assert ": EOF" in answer.body.decode()
        assert hooks.paths() == ["/slow"]

    run_virtual(main())


def test_tst2_what_others_write_meanwhile_is_seen_before_the_commit():
    async def main():
        hooks, transport = await in_virtual_time()
        hooks.server.create("configmaps", config())
        hooks.validating(hook("slow", "/slow"))
        hooks.says["/slow"] = allow
        delays = iter((5.0, 0.0, 0.0))
        hooks.caller.faults = lambda _target, _body: Fault(delay=next(delays))
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(transport.request(request("PATCH", f"{PATH}/a", {"data": {"slow": "1"}})))
            await hooks.clock.sleep(1.0)
            tasks.create_task(transport.request(request("PATCH", f"{PATH}/a", {"data": {"fast": "1"}})))
        assert json.loads(slow.result().body)["data"] == {"k": "v", "slow": "1", "fast": "1"}
        assert [r["oldObject"]["data"] for _, r in hooks.asked] == [
            {"k": "v"},
            {"k": "v"},
            {"k": "v", "fast": "1"},
        ]

    run_virtual(main())


def test_tst2_an_object_that_is_deleted_meanwhile_is_gone():
    async def main():
        hooks, transport = await in_virtual_time()
        hooks.server.create("configmaps", config())
        rules = [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["UPDATE"]}]
        hooks.validating(hook("slow", "/slow", rules=rules))
        hooks.says["/slow"] = allow
        hooks.caller.faults = lambda _target, _body: Fault(delay=5.0)
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(transport.request(request("PATCH", f"{PATH}/a", {"data": {"slow": "1"}})))
            await hooks.clock.sleep(1.0)
            hooks.server.delete("configmaps", "a")
        assert slow.result().status == 404

    run_virtual(main())


def test_tst2_a_collection_is_deleted_although_one_of_it_goes_meanwhile():
    async def main():
        hooks, transport = await in_virtual_time()
        for name in "abc":
            hooks.server.create("configmaps", config(name))
        rules = [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["DELETE"]}]
        hooks.validating(hook("slow", "/slow", rules=rules))
        hooks.says["/slow"] = allow
        hooks.caller.faults = lambda _target, _body: Fault(delay=2.0)
        async with asyncio.TaskGroup() as tasks:
            deleted = tasks.create_task(transport.request(Request("DELETE", PATH, timeout=60.0)))
            await hooks.clock.sleep(3.0)
            hooks.server.storage.remove("configmaps", Key("default", "b"), actor="somebody")
        assert deleted.result().status == 200
        assert [item["metadata"]["name"] for item in json.loads(deleted.result().body)["items"]] == ["a", "c"]
        assert hooks.server.list("configmaps") == []

    run_virtual(main())


def test_tst1_validating_webhooks_are_asked_at_the_same_time():
    async def main():
        hooks, transport = await in_virtual_time()
        hooks.validating(hook("one", "/one"), hook("two", "/two"))
        hooks.says["/one"] = lambda _: {"allowed": False, "status": {"message": "one"}}
        hooks.says["/two"] = lambda _: {"allowed": False, "status": {"message": "two"}}
        hooks.caller.faults = lambda target, _body: Fault(delay=4.0 if target.path == "/one" else 1.0)
        answer = await transport.request(request("POST", PATH, BODY))
        assert hooks.clock.monotonic() < 5.0
        assert "denied the request: one" in answer.body.decode()
        assert hooks.paths() == ["/two", "/one"]

    run_virtual(main())


def test_tst1_a_direct_request_does_not_wait_and_leaves_nothing():
    async def main():
        hooks, _ = await in_virtual_time()
        hooks.mutating(hook("slow", "/slow"))
        hooks.says["/slow"] = labelling("by", "slow")
        hooks.caller.faults = lambda _target, _body: Fault(delay=2.0)
        with pytest.raises(MustWait) as caught:
            hooks.server.create("configmaps", config())
        assert hooks.server.list("configmaps") == []
        made = await caught.value.again()
        assert made["metadata"]["labels"] == {"by": "slow"}
        assert (await hooks.server.ask("GET", f"{PATH}/a"))["metadata"]["labels"] == {"by": "slow"}

    run_virtual(main())


@pytest.mark.parametrize("delay", [0.0, 1.5])
def test_tst1_the_actors_of_the_cluster_wait_for_webhooks_and_try_again(delay):
    async def main():
        hooks, _ = await in_virtual_time()
        server = hooks.server
        owner = server.create("configmaps", config("owner"))
        ref = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
        server.create("configmaps", config("owned", ownerReferences=[ref]))
        hooks.validating(hook("slow", "/slow", objectSelector={}))
        faults = iter([Fault(), Fault(delay=delay, status=500), Fault(delay=delay)])
        hooks.says["/slow"] = allow
        server.delete("configmaps", "owner")
        hooks.caller.faults = lambda _target, _body: next(faults, Fault(delay=delay))
        next(faults)
        collector = next(a for a in everything(server) if a.name == "generic-garbage-collector")
        task = asyncio.get_running_loop().create_task(collector.run())
        await hooks.clock.sleep(60.0)
        task.cancel()
        await asyncio.wait((task,))
        assert server.list("configmaps") == []

    run_virtual(main())
