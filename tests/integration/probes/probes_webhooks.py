"""Admission by webhook: who is asked, what, in which order, and what becomes of the answer."""

from __future__ import annotations

import json
from typing import Any, Final

from aiohttp import web

from tests.integration.probes.asking import TABLE, Body, World
from tests.integration.probes.hooks import allowing, patching, setting, slowly
from tests.integration.probes.registry import probe

MUTATING: Final = "mutatingwebhookconfigurations"
VALIDATING: Final = "validatingwebhookconfigurations"


def shown(requests: list[tuple[str, Body]]) -> list[Any]:
    """Return requests without what differs between servers: who asks."""
    for _, request in requests:
        assert set(request.pop("userInfo")) >= {"username", "groups"}
    return [list(one) for one in requests]


def denying(**status: Any) -> Any:
    """Return a webhook that denies with *status*; without one it says nothing more."""
    return lambda _review: {"allowed": False} | ({"status": status} if status else {})


@probe
async def webhook_configuration_gets_defaults(w: World) -> Any:
    service = {"namespace": "x", "name": "y"}
    hook = {
        "name": "a.example.com",
        "clientConfig": {"service": service},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["nothing"], "operations": ["CREATE"]}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return [(await w.make(p, w.body(p, w.ns, webhooks=[hook]))) for p in (MUTATING, VALIDATING)]


@probe
async def webhook_configuration_rules(w: World) -> Any:
    base = {
        "name": "a.example.com",
        "clientConfig": {"url": "https://127.0.0.1:9/x"},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
    service = {"namespace": "x", "name": "y"}
    changes: list[Body] = [
        {"name": ""},
        {"name": "Bad_Name"},
        {"name": "two.segments"},
        {"clientConfig": {}},
        {"clientConfig": {"url": "https://x", "service": service}},
        {"clientConfig": {"url": "http://user@host/x?y=1#z"}},
        {"clientConfig": {"url": "https:///x"}},
        {"clientConfig": {"service": {"name": "y"}}},
        {"clientConfig": {"service": {"namespace": "x"}}},
        {"clientConfig": {"service": {**service, "port": 70000}}},
        {"clientConfig": {"service": {**service, "path": "x//Y"}}},
        {"clientConfig": {"service": {**service, "path": "//"}}},
        {"sideEffects": None},
        {"sideEffects": "Some"},
        {"failurePolicy": "Perhaps"},
        {"matchPolicy": "Perhaps"},
        {"reinvocationPolicy": "Perhaps"},
        {"timeoutSeconds": 0},
        {"timeoutSeconds": 31},
        {"admissionReviewVersions": []},
        {"admissionReviewVersions": ["v2"]},
        {"admissionReviewVersions": ["v1", "v1", "V"]},
        {"rules": [{}]},
        {"rules": [{**rule, "operations": ["*", "CREATE", "PATCH"]}]},
        {"rules": [{**rule, "apiGroups": ["*", "apps"], "apiVersions": ["*", "v1"]}]},
        {"rules": [{**rule, "apiVersions": [""], "resources": [""]}]},
        {"rules": [{**rule, "resources": ["*/*", "pods"]}]},
        {"rules": [{**rule, "resources": ["*", "pods"]}]},
        {"rules": [{**rule, "resources": ["pods/*", "pods/status", "*/scale", "x/scale"]}]},
        {"rules": [{**rule, "scope": "Everywhere"}]},
        {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Maybe"}]}},
        {"objectSelector": {"matchLabels": {"-": "x"}}},
        {"matchConditions": [{"name": "", "expression": ""}, {"name": "a b", "expression": "true"}]},
        {"matchConditions": [{"name": "a", "expression": "true"}, {"name": "a", "expression": "true"}]},
    ]
    seen = []
    for number, change in enumerate(changes):
        hook = {k: v for k, v in {**base, **change}.items() if v is not None}
        answer = await w.post(MUTATING, w.body(MUTATING, f"{w.ns}-{number}", webhooks=[hook]), dryRun="All")
        seen.append(answer.refusal())
    both = w.body(VALIDATING, w.ns, webhooks=[base, base])
    seen.append((await w.post(VALIDATING, both, dryRun="All")).refusal())
    return seen


@probe
async def webhook_configuration_is_typed(w: World) -> Any:
    body = w.body(MUTATING, w.ns, webhooks=[{"name": 5}])
    unknown = {
        "name": "a.example.com",
        "clientConfig": {"url": "https://127.0.0.1:9/x", "more": 1},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "other": True,
    }
    more = w.body(MUTATING, w.ns, webhooks=[unknown])
    return [
        (await w.post(MUTATING, body, dryRun="All")).brief(),
        (await w.post(MUTATING, more, dryRun="All")).seen(),
        (await w.post(MUTATING, more, dryRun="All", fieldValidation="Strict")).brief(),
    ]


@probe
async def webhook_sees_a_create(w: World) -> Any:
    await w.register(MUTATING, w.hook("m", allowing))
    await w.register(VALIDATING, w.hook("v", allowing))
    await w.post("configmaps", w.body("configmaps", "a", data={"k": "v"}))
    await w.post("configmaps", w.body("configmaps", "", meta={"generateName": "generated-"}), fieldManager="me")
    return shown(w.asked())


@probe
async def webhook_sees_an_update(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a", data={"k": "v"}))
    await w.register(MUTATING, w.hook("m", allowing))
    await w.register(VALIDATING, w.hook("v", allowing))
    await w.put("configmaps", w.body("configmaps", "a", data={"k": "w"}))
    await w.patch("merge", "configmaps", "a", {"data": {"k": "x"}}, fieldManager="me")
    await w.patch("merge", "configmaps", "a", {"data": {"k": "x"}})
    return shown(w.asked())


@probe
async def webhook_sees_a_delete(w: World) -> Any:
    for name in ("a", "b", "c"):
        await w.make("configmaps", w.body("configmaps", name))
    await w.register(MUTATING, w.hook("m", allowing))
    await w.register(VALIDATING, w.hook("v", allowing))
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
    await w.delete("configmaps", "a", options)
    one = shown(w.asked())
    await w.delete("configmaps", "nothing")
    assert not w.asked()
    await w.ask("DELETE", w.path("configmaps", labelSelector="!kubernetes.io/x", fieldSelector="metadata.name=b"))
    return [one, shown(w.asked())]


@probe
async def webhook_sees_a_pod(w: World) -> Any:
    await w.register(MUTATING, w.hook("m", allowing, plural="pods"))
    await w.register(VALIDATING, w.hook("v", allowing, plural="pods"))
    await w.post("pods", w.pod("a"))
    return shown(w.asked())


@probe
async def webhook_sees_a_custom_object(w: World) -> Any:
    await w.register(MUTATING, w.hook("m", allowing, plural="widgets"))
    await w.register(VALIDATING, w.hook("v", allowing, plural="widgets"))
    body = w.body("widgets", "a", spec={"size": 3, "unknown": 1}, status={"phase": "Done"})
    answer = await w.post("widgets", body)
    return [answer.seen(), shown(w.asked())]


@probe
async def webhook_denies(w: World) -> Any:
    statuses: list[Body] = [
        {},
        {"message": "too small"},
        {"reason": "Forbidden"},
        {"code": 200, "status": "Success", "message": "odd"},
        {"code": 422, "reason": "Invalid", "message": "bad", "details": {"causes": [{"field": "x", "message": "y"}]}},
        {"code": 403, "reason": "Forbidden", "message": "no", "details": {"name": "a", "kind": "b", "more": 1}},
        {"code": 429, "reason": "TooManyRequests", "message": "later", "details": {"retryAfterSeconds": 7}},
    ]
    hooks = [
        w.hook(f"deny-{i}", denying(**status), objectSelector={"matchLabels": {"n": str(i)}})
        for i, status in enumerate(statuses)
    ]
    await w.register(VALIDATING, *hooks)
    return [
        (await w.post("configmaps", w.body("configmaps", f"a{i}", meta={"labels": {"n": str(i)}}))).seen()
        for i in range(len(statuses))
    ]


@probe
async def webhook_of_mutation_denies(w: World) -> Any:
    await w.register(MUTATING, w.hook("m", denying(message="no", code=409, reason="Conflict")))
    seen = (await w.post("configmaps", w.body("configmaps", "a"))).seen()
    return [seen, (await w.read("configmaps", "a")).code]


@probe
async def webhook_denies_an_update_and_a_delete(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a", data={"k": "v"}))
    await w.register(VALIDATING, w.hook("v", denying(message="no")))
    seen = [
        (await w.put("configmaps", w.body("configmaps", "a"))).seen(),
        (await w.patch("merge", "configmaps", "a", {"data": {"k": "w"}})).seen(),
        (await w.delete("configmaps", "a")).seen(),
        (await w.ask("DELETE", w.path("configmaps", fieldSelector="metadata.name=a"))).seen(),
    ]
    await w.ask("DELETE", w.path(VALIDATING, w.ns))
    return [seen, (await w.read("configmaps", "a")).obj["data"]]


@probe
async def webhook_order(w: World) -> Any:
    await w.register(MUTATING, w.hook("z2", allowing), w.hook("z1", allowing), name=f"{w.ns}-z")
    await w.register(MUTATING, w.hook("a", allowing), name=f"{w.ns}-a")
    await w.register(VALIDATING, w.hook("v", allowing), name=f"{w.ns}-v")
    await w.post("configmaps", w.body("configmaps", "x"))
    return w.called()


@probe
async def webhook_reinvocation(w: World) -> Any:
    await w.register(
        MUTATING,
        w.hook("early", allowing, reinvocationPolicy="IfNeeded"),
        w.hook("never", allowing),
        w.hook("change", setting("/data", {"x": "y"}), reinvocationPolicy="IfNeeded"),
        w.hook("same", setting("/data/x", "y"), reinvocationPolicy="IfNeeded"),
        w.hook("late", setting("/data/late", "1"), reinvocationPolicy="IfNeeded"),
    )
    answer = await w.post("configmaps", w.body("configmaps", "a"))
    return [w.called(), answer.obj["data"]]


@probe
async def webhook_sees_what_those_before_it_left(w: World) -> Any:
    await w.register(
        MUTATING,
        w.hook("one", setting("/data", {"x": "y"})),
        w.hook("two", setting("/data/z", "1")),
        w.hook("x", allowing),
    )
    await w.register(VALIDATING, w.hook("v", allowing))
    await w.post("configmaps", w.body("configmaps", "a"))
    return [(path, request["object"].get("data")) for path, request in w.asked()]


@probe
async def webhook_rules_choose(w: World) -> Any:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["*"]}
    rules: dict[str, Body] = {
        "all": rule,
        "create": {**rule, "operations": ["CREATE"]},
        "update": {**rule, "operations": ["UPDATE", "DELETE"]},
        "group": {**rule, "apiGroups": ["apps"]},
        "version": {**rule, "apiVersions": ["v2"]},
        "any": {**rule, "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]},
        "sub": {**rule, "resources": ["*/status", "configmaps/x"]},
        "both": {**rule, "resources": ["*/*"]},
        "cluster": {**rule, "resources": ["*"], "scope": "Cluster"},
        "namespaced": {**rule, "resources": ["*"], "scope": "Namespaced"},
    }
    await w.register(VALIDATING, *(w.hook(name, allowing, rules=[one]) for name, one in rules.items()))
    await w.post("configmaps", w.body("configmaps", "a"))
    made = sorted(w.called())
    await w.delete("configmaps", "a")
    return [made, sorted(w.called())]


@probe
async def webhook_selectors_choose(w: World) -> Any:
    def chosen(**labels: str) -> Body:
        return {"objectSelector": {"matchLabels": labels}}

    own = {"kubernetes.io/metadata.name": w.ns}
    await w.register(
        VALIDATING,
        w.hook("yes", allowing, **chosen(x="1")),
        w.hook("no", allowing, **chosen(x="2")),
        w.hook("absent", allowing, objectSelector={"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}),
        w.hook("team", allowing, namespaceSelector={"matchLabels": {**own, "team": "a"}}),
    )
    labelled = w.body("configmaps", "a", meta={"labels": {"x": "1"}})
    await w.post("configmaps", labelled)
    seen = [sorted(w.called())]
    await w.patch("merge", "configmaps", "a", {"metadata": {"labels": {"x": "2"}}})
    seen.append(sorted(w.called()))
    await w.patch("merge", "configmaps", "a", {"metadata": {"labels": None}})
    seen.append(sorted(w.called()))
    await w.delete("configmaps", "a")
    seen.append(sorted(w.called()))
    return seen


@probe
async def webhook_match_policy(w: World) -> Any:
    rule = {"apiGroups": ["probes.example.com"], "apiVersions": ["v1"], "resources": ["widgets"], "operations": ["*"]}
    await w.register(
        MUTATING,
        w.hook("exact", allowing, rules=[rule], matchPolicy="Exact"),
        w.hook("equivalent", setting("/spec/size", 5), rules=[rule]),
        w.hook("beta", setting("/spec/color", "red"), rules=[{**rule, "apiVersions": ["v1beta1"]}]),
    )
    await w.register(VALIDATING, w.hook("v", allowing, rules=[rule]))
    body = {**w.body("widgets", "a", spec={"size": 3}), "apiVersion": "probes.example.com/v1beta1"}
    answer = await w.ask("POST", w.path("widgets").replace("/v1/", "/v1beta1/"), body)
    asked = [(p, r["kind"], r["requestKind"], r["resource"], r["requestResource"], r["object"]) for p, r in w.asked()]
    return [answer.seen(), asked]


@probe
async def webhook_conditions(w: World) -> Any:
    def when(*expressions: str, **more: Any) -> Body:
        return {"matchConditions": [{"name": f"c{i}", "expression": e} for i, e in enumerate(expressions)], **more}

    await w.register(
        VALIDATING,
        w.hook("yes", allowing, **when("object.metadata.name == 'a'")),
        w.hook("no", allowing, **when("true", "object.metadata.name == 'b'")),
        w.hook("operation", allowing, **when("request.operation == 'CREATE' && request.namespace != 'x'")),
        w.hook("old", allowing, **when("oldObject != null")),
        w.hook("user", allowing, **when("request.userInfo.username != ''")),
        w.hook("ignored", allowing, **when("object.data.nothing == 'x'", failurePolicy="Ignore")),
        w.hook("false", allowing, **when("object.data.nothing == 'x'", "false")),
    )
    answer = await w.post("configmaps", w.body("configmaps", "a", data={"k": "v"}))
    made = sorted(w.called())
    await w.patch("merge", "configmaps", "a", {"data": {"k": "w"}})
    return [answer.code, made, sorted(w.called())]


@probe
async def webhook_condition_that_fails(w: World) -> Any:
    conditions = [{"name": "x", "expression": "object.data.nothing == 'x'"}]
    only = {"objectSelector": {"matchLabels": {"x": "y"}}}
    await w.register(VALIDATING, w.hook("v", allowing, matchConditions=conditions, **only))
    answer = await w.post("configmaps", w.body("configmaps", "a", meta={"labels": {"x": "y"}}, data={"k": "v"}))
    return [answer.brief(), w.called()]


@probe
async def webhook_that_is_dead(w: World) -> Any:
    dead = {"clientConfig": {"url": "https://127.0.0.1:1/dead"}}

    def only(label: str) -> Body:
        return {**dead, "objectSelector": {"matchLabels": {"x": label}}}

    await w.register(
        MUTATING,
        w.hook("fails", allowing, **only("fail")),
        w.hook("ignored", allowing, failurePolicy="Ignore", **only("ignore")),
    )
    await w.register(
        VALIDATING,
        w.hook("fails", allowing, **only("check")),
        w.hook("ignored", allowing, failurePolicy="Ignore", **only("ignore")),
    )
    return [
        (await w.post("configmaps", w.body("configmaps", x, meta={"labels": {"x": x}}))).seen()
        for x in ("fail", "check", "ignore")
    ]


@probe
async def webhook_that_is_not_to_be_trusted(w: World) -> Any:
    strange = w.hook("strange", allowing)
    del strange["clientConfig"]["caBundle"]
    await w.register(MUTATING, strange)
    return (await w.post("configmaps", w.body("configmaps", "a"))).seen()


@probe
async def webhook_of_a_service_that_is_not_there(w: World) -> Any:
    service = {"namespace": w.ns, "name": "nothing", "path": "/x"}
    await w.register(MUTATING, w.hook("m", allowing, clientConfig={"service": service}))
    return (await w.post("configmaps", w.body("configmaps", "a"))).seen()


@probe
async def webhook_that_is_slow(w: World) -> Any:
    def slow(_review: Body) -> Any:
        return slowly(3.0, {"allowed": True})

    await w.register(
        MUTATING,
        w.hook("ignored", slow, timeoutSeconds=1, failurePolicy="Ignore"),
        w.hook("slow", slow, timeoutSeconds=1, objectSelector={"matchLabels": {"x": "y"}}),
    )
    return [
        (await w.post("configmaps", w.body("configmaps", "a"))).code,
        (await w.post("configmaps", w.body("configmaps", "b", meta={"labels": {"x": "y"}}))).seen(),
    ]


@probe
async def webhook_that_answers_with_a_status(w: World) -> Any:
    def answering(code: int, text: str, media: str) -> Any:
        return lambda _review: web.Response(status=code, body=text.encode(), headers={"Content-Type": media})

    status = json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "a status", "code": 500})
    plain = "text/plain"
    answers = [
        *((code, "boom", plain) for code in (400, 401, 403, 404, 405, 409, 415, 418, 422, 429, 500, 502, 503, 504)),
        (500, '{"a":1}', "application/json"),
        (500, status, "application/json"),
    ]
    hooks = [
        w.hook(f"x{i}", answering(*answer), objectSelector={"matchLabels": {"n": str(i)}})
        for i, answer in enumerate(answers)
    ]
    await w.register(VALIDATING, *hooks)
    return [
        (await w.post("configmaps", w.body("configmaps", f"a{i}", meta={"labels": {"n": str(i)}}))).seen()
        for i in range(len(answers))
    ]


@probe
async def webhook_that_answers_no_review(w: World) -> Any:
    head = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}
    bodies = [
        "",
        "<html>",
        "{",
        "[]",
        '"x"',
        "{}",
        '{"kind":"AdmissionReview"}',
        json.dumps({**head, "kind": "Foo"}),
        json.dumps({**head, "apiVersion": "admission.k8s.io/v2"}),
        json.dumps({**head, "apiVersion": "v1", "kind": "Pod"}),
        json.dumps(head),
        json.dumps({**head, "response": {}}),
        json.dumps({**head, "response": {"uid": "wrong", "allowed": True}}),
        json.dumps({**head, "response": {"uid": 5, "allowed": True}}),
        json.dumps({**head, "apiVersion": "admission.k8s.io/v1beta1", "response": {"uid": "x", "allowed": True}}),
    ]

    def answering(text: str) -> Any:
        return lambda _review: web.Response(body=text.encode(), headers={"Content-Type": "application/json"})

    hooks = [
        w.hook(f"x{i}", answering(text), objectSelector={"matchLabels": {"n": str(i)}}) for i, text in enumerate(bodies)
    ]
    await w.register(VALIDATING, *hooks)
    return [
        (await w.post("configmaps", w.body("configmaps", f"a{i}", meta={"labels": {"n": str(i)}}))).seen()
        for i in range(len(bodies))
    ]


@probe
async def webhook_with_a_bad_patch(w: World) -> Any:
    patches: list[Body] = [
        patching({"op": "remove", "path": "/data/nothing"}),
        patching({"op": "replace", "path": "/nothing/x", "value": 1}),
        patching({"op": "add", "path": "/nothing/x", "value": 1}),
        patching({"op": "test", "path": "/data/k", "value": "w"}),
        patching({"op": "fly", "path": "/data/k"}),
        {"allowed": True, "patchType": "JSONPatch", "patch": "e30="},
        {"allowed": True, "patchType": "JSONPatch", "patch": "W10="},
        {"allowed": True, "patchType": "JSONPatch", "patch": "eA=="},
        {"allowed": True, "patchType": "JSONPatch", "patch": "%"},
        {**patching({"op": "add", "path": "/data/x", "value": "y"}), "patchType": "Merge"},
        {"allowed": True, "patch": "W10="},
        {"allowed": True, "patchType": "JSONPatch"},
        patching({"op": "remove", "path": "/kind"}),
        patching({"op": "add", "path": "/metadata/labels/-bad-", "value": "x"}),
        patching({"op": "add", "path": "/nothing", "value": "x"}),
        patching({"op": "replace", "path": "/metadata/name", "value": "other"}),
    ]

    def saying(patch: Body) -> Any:
        return lambda _review: patch

    hooks = [
        w.hook(f"x{i}", saying(one), failurePolicy="Ignore", objectSelector={"matchLabels": {"n": str(i)}})
        for i, one in enumerate(patches)
    ]
    await w.register(MUTATING, *hooks)
    return [
        (
            await w.post("configmaps", w.body("configmaps", f"a{i}", meta={"labels": {"n": str(i)}}, data={"k": "v"}))
        ).seen()
        for i in range(len(patches))
    ]


@probe
async def webhook_of_validation_with_a_patch(w: World) -> Any:
    await w.register(VALIDATING, w.hook("v", setting("/data", {"x": "y"})))
    return (await w.post("configmaps", w.body("configmaps", "a"))).seen()


@probe
async def webhook_patches_a_pod(w: World) -> Any:
    sidecar = {"name": "side", "image": "registry.example.com/side:v1"}
    await w.register(MUTATING, w.hook("m", setting("/spec/containers/-", sidecar), plural="pods"))
    answer = await w.post("pods", w.pod("a"))
    return answer.seen()


@probe
async def webhook_patches_a_pod_wrongly(w: World) -> Any:
    await w.register(
        MUTATING,
        w.hook(
            "type", setting("/spec/containers/0/image", 5), plural="pods", objectSelector={"matchLabels": {"x": "1"}}
        ),
        w.hook(
            "rule", setting("/spec/restartPolicy", "Maybe"), plural="pods", objectSelector={"matchLabels": {"x": "2"}}
        ),
    )
    first = (await w.post("pods", w.pod("a", meta={"labels": {"x": "1"}}))).brief()
    return [first, (await w.post("pods", w.pod("b", meta={"labels": {"x": "2"}}))).brief()]


@probe
async def webhook_patches_a_custom_object(w: World) -> Any:
    more = patching(
        {"op": "add", "path": "/spec/ports", "value": [{"name": "x"}]},
        {"op": "add", "path": "/status", "value": {"phase": "Done"}},
    )
    bad = {"objectSelector": {"matchLabels": {"x": "y"}}}
    await w.register(
        MUTATING,
        w.hook("more", lambda _: more, plural="widgets"),
        w.hook("bad", setting("/spec/size", "big"), plural="widgets", **bad),
    )
    await w.register(VALIDATING, w.hook("v", allowing, plural="widgets"))
    answer = await w.post("widgets", w.body("widgets", "a", spec={"size": 3}))
    second = await w.post("widgets", w.body("widgets", "b", meta={"labels": {"x": "y"}}, spec={"size": 3}))
    return [answer.seen(), second.seen(), [(p, r["object"]) for p, r in w.asked()]]


@probe
async def webhook_adds_a_field_that_is_unknown(w: World) -> Any:
    await w.register(MUTATING, w.hook("more", setting("/spec/unknown", 1), plural="widgets"))
    await w.register(VALIDATING, w.hook("v", allowing, plural="widgets"))
    answer = await w.post("widgets", w.body("widgets", "a", spec={"size": 3}))
    return [answer.seen(), [r["object"]["spec"] for p, r in w.asked() if p == "v"]]


@probe
async def webhook_patches_with_a_wrong_type(w: World) -> Any:
    await w.register(MUTATING, w.hook("m", setting("/data", 5)))
    return (await w.post("configmaps", w.body("configmaps", "a"))).brief()


@probe
async def webhook_warns(w: World) -> Any:
    def warning(*texts: str) -> Any:
        return lambda _review: {"allowed": True, "warnings": list(texts)}

    await w.register(MUTATING, w.hook("m", warning("one", "two")))
    await w.register(VALIDATING, w.hook("v", warning("two", 'a "quote"', "x" * 300)))
    return (await w.post("configmaps", w.body("configmaps", "a"))).seen()


@probe
async def webhook_and_a_dry_run(w: World) -> Any:
    await w.register(MUTATING, w.hook("m", setting("/data", {"x": "y"}), sideEffects="NoneOnDryRun"))
    answer = await w.post("configmaps", w.body("configmaps", "a"), dryRun="All")
    return [answer.seen(), shown(w.asked()), (await w.read("configmaps", "a")).code]


@probe
async def webhook_patches_the_update_only_where_it_differs(w: World) -> Any:
    await w.register(MUTATING, w.hook("m", setting("/data", {"x": "y"})))
    first = await w.post("configmaps", w.body("configmaps", "a"))
    second = await w.put("configmaps", w.body("configmaps", "a", data={"z": "1"}))
    return [first.seen(), second.seen()]


@probe
async def webhook_on_subresources(w: World) -> Any:
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}
    await w.make("widgets", w.body("widgets", "a", spec={"size": 3, "replicas": 1}))
    await w.make("pods", w.pod("p"))
    await w.register(MUTATING, w.hook("m", allowing, rules=[{**rule, "resources": ["widgets/*", "pods/*"]}]))
    await w.patch("merge", "widgets", "a", {"status": {"phase": "Done"}}, "status")
    await w.patch("merge", "widgets", "a", {"spec": {"replicas": 2}}, "scale")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    await w.ask("POST", w.path("pods", "p", "eviction"), eviction)
    asked = shown(w.asked())
    return [(p, {k: v for k, v in r.items() if k != "oldObject"}) for p, r in asked]


@probe
async def webhook_binds_nothing_else(w: World) -> Any:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/binding"], "operations": ["*"]}
    await w.make("pods", w.pod("p"))
    await w.register(VALIDATING, w.hook("v", denying(message="no"), rules=[rule]))
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "n"}}
    answer = await w.ask("POST", w.path("pods", "p", "binding"), binding)
    return [answer.seen(), shown(w.asked())]


@probe
async def webhook_is_not_asked_about_webhooks(w: World) -> Any:
    rule = {
        "apiGroups": ["admissionregistration.k8s.io"],
        "apiVersions": ["*"],
        "resources": ["*"],
        "operations": ["*"],
    }
    names = [{"name": "own", "expression": f"request.name.startsWith('{w.ns}')"}]
    await w.register(
        VALIDATING, w.hook("v", denying(message="no"), rules=[rule], namespaceSelector={}, matchConditions=names)
    )
    answer = await w.post(MUTATING, w.body(MUTATING, f"{w.ns}-x", webhooks=[]), dryRun="All")
    return [answer.code, w.called()]


@probe
async def webhook_of_the_first_beta(w: World) -> Any:
    await w.register(MUTATING, w.hook("m", setting("/data", {"x": "y"}), admissionReviewVersions=["v1beta1", "v1"]))
    answer = await w.post("configmaps", w.body("configmaps", "a"))
    return [answer.obj["data"], shown(w.asked())]


@probe
async def webhook_is_asked_before_names_are_taken(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a"))
    await w.register(VALIDATING, w.hook("v", allowing))
    await w.register(MUTATING, w.hook("m", allowing))
    seen = [(await w.post("configmaps", w.body("configmaps", "a"))).code, sorted(w.called())]
    seen += [(await w.post("configmaps", w.body("configmaps", "-bad-"))).code, sorted(w.called())]
    seen += [(await w.put("configmaps", w.body("configmaps", "none"))).code, sorted(w.called())]
    stale = w.body("configmaps", "a", meta={"resourceVersion": "1"})
    return [*seen, (await w.put("configmaps", stale)).code, sorted(w.called())]


@probe
async def webhook_configurations_as_a_table(w: World) -> Any:
    await w.make(MUTATING, w.body(MUTATING, w.ns, webhooks=[w.hook("m", allowing)]))
    await w.make(VALIDATING, w.body(VALIDATING, w.ns))
    seen = []
    for plural in (MUTATING, VALIDATING):
        table = (await w.get(w.path(plural, w.ns), accept=TABLE)).obj
        columns = [(c["name"], c["type"], c["priority"]) for c in table["columnDefinitions"]]
        seen.append([columns, table["rows"][0]["cells"][:2]])
    return seen


@probe
async def webhook_of_a_namespace(w: World) -> Any:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["namespaces"], "operations": ["*"]}
    team = {"matchLabels": {"team": w.ns}}
    await w.register(VALIDATING, w.hook("v", allowing, rules=[{**rule, "scope": "Cluster"}], namespaceSelector=team))
    await w.post("namespaces", w.body("namespaces", f"{w.ns}-x", meta={"labels": {"team": w.ns}}), dryRun="All")
    await w.post("namespaces", w.body("namespaces", f"{w.ns}-y", meta={"labels": {"team": "other"}}), dryRun="All")
    asked = shown([(p, {k: v for k, v in r.items() if k != "options"}) for p, r in w.asked()])
    await w.patch("merge", "namespaces", w.ns, {"metadata": {"labels": {"team": w.ns}}}, dryRun="All")
    return [asked, w.called()]


@probe
async def webhook_is_asked_about_what_changes_nothing(w: World) -> Any:
    made = await w.make("configmaps", w.body("configmaps", "a", data={"k": "v"}))
    await w.register(MUTATING, w.hook("m", allowing))
    await w.register(VALIDATING, w.hook("v", allowing))
    answer = await w.put("configmaps", made)
    return [answer.version == made["metadata"]["resourceVersion"], w.called()]


@probe
async def webhook_changes_a_status(w: World) -> Any:
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["widgets/status"], "operations": ["UPDATE"]}
    await w.make("widgets", w.body("widgets", "a", spec={"size": 3}))
    more = patching(
        {"op": "add", "path": "/status/replicas", "value": 7},
        {"op": "add", "path": "/spec/size", "value": 9},
        {"op": "add", "path": "/metadata/labels", "value": {"x": "y"}},
    )
    await w.register(MUTATING, w.hook("m", lambda _: more, rules=[rule]))
    return (await w.patch("merge", "widgets", "a", {"status": {"phase": "Done"}}, "status")).seen()


@probe
async def webhook_changes_a_scale(w: World) -> Any:
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["widgets/scale"], "operations": ["UPDATE"]}
    await w.make("widgets", w.body("widgets", "a", spec={"size": 3, "replicas": 1}))
    await w.register(MUTATING, w.hook("m", setting("/spec/replicas", 4), rules=[rule]))
    answer = await w.patch("merge", "widgets", "a", {"spec": {"replicas": 2}}, "scale")
    return [answer.seen(), (await w.read("widgets", "a")).obj["spec"]["replicas"]]


@probe
async def webhook_that_has_changed_or_gone(w: World) -> Any:
    await w.register(VALIDATING, w.hook("v", denying(message="no")))
    first = (await w.post("configmaps", w.body("configmaps", "a"))).code
    await w.delete(VALIDATING, w.ns)
    for _ in range(200):
        last = await w.post("configmaps", w.body("configmaps", "a"), dryRun="All")
        if last.code == 201:
            break
    return [first, last.code]
