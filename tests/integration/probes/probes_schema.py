"""Probes of custom kinds: defaults, pruning, checks, rules; and of unknown fields."""

from __future__ import annotations

from typing import Any

from tests.integration.probes.asking import GROUP, World
from tests.integration.probes.probes_metadata import widget
from tests.integration.probes.registry import probe


async def tried(w: World, *specs: dict[str, Any]) -> list[Any]:
    """Return what becomes of widgets with these specs."""
    seen = []
    for i, spec in enumerate(specs):
        answer = await w.post("widgets", w.body("widgets", f"w{i}", spec=spec))
        seen.append(answer.obj["spec"] if answer.code == 201 else answer.seen())
    return seen


@probe
async def schema_defaults(w: World) -> Any:
    return await tried(
        w,
        {"size": 1},
        {"size": 1, "nested": {"depth": 1}},
        {"size": 1, "nested": {"note": None, "plain": None}},
        {"size": 1, "color": None},
        {"size": 1, "ports": [{"name": "a"}, {"name": "b", "port": 1}]},
    )


@probe
async def schema_prunes_unknown_fields(w: World) -> Any:
    body = {
        **w.body("widgets", "a", spec={"size": 1, "odd": 1, "nested": {"odd": 2}, "ports": [{"name": "x", "odd": 1}]}),
        "odd": {},
    }
    return (await w.post("widgets", body)).seen()


@probe
async def schema_keeps_what_it_preserves(w: World) -> Any:
    template = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "odd": 1}, "spec": {"odd": 1}}
    return await tried(w, {"size": 1, "free": {"odd": {"deep": [1, {"x": None}]}, "known": 1}, "template": template})


@probe
async def schema_checks_embedded_objects(w: World) -> Any:
    return await tried(
        w,
        {"size": 1, "template": {"spec": {}}},
        {"size": 1, "template": {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": 7}}},
    )


@probe
async def schema_checks_types(w: World) -> Any:
    return await tried(
        w,
        {"size": "x"},
        {"size": 1.5},
        {"size": 1, "on": "yes"},
        {"size": 1, "color": 5},
        {"size": 1, "tags": "x"},
        {"size": 1, "nested": []},
        {"size": 1, "options": {"a": "b"}},
        {"size": 2.0},
    )


@probe
async def schema_checks_required_fields(w: World) -> Any:
    seen = await tried(w, {}, {"size": None}, {"size": 1, "ports": [{"port": 5}]})
    return [*seen, (await w.post("widgets", w.body("widgets", "x"))).seen()]


@probe
async def schema_checks_numbers(w: World) -> Any:
    return await tried(
        w,
        {"size": 0},
        {"size": 101},
        {"size": 3_000_000_000},
        {"size": 1, "share": 0},
        {"size": 1, "many": 7},
        {"size": 1, "many": 10},
    )


@probe
async def schema_checks_strings(w: World) -> Any:
    return await tried(
        w,
        {"size": 1, "name": "ABC"},
        {"size": 1, "name": "x"},
        {"size": 1, "name": "abcdefghi"},
        {"size": 1, "color": "blue"},
        {"size": 1, "when": "yesterday"},
        {"size": 1, "when": "2024-01-01T00:00:00Z"},
    )


@probe
async def schema_checks_lists_and_maps(w: World) -> Any:
    return await tried(
        w,
        {"size": 1, "tags": []},
        {"size": 1, "tags": ["a", "b", "c", "d"]},
        {"size": 1, "tags": ["toolong"]},
        {"size": 1, "marks": ["a", "a"]},
        {"size": 1, "ports": [{"name": "a"}, {"name": "a"}]},
        {"size": 1, "options": {"a": 10}},
        {"size": 1, "nested": {"depth": 1, "note": "a", "plain": "b"}},
    )


@probe
async def schema_checks_int_or_string(w: World) -> Any:
    return await tried(
        w,
        {"size": 1, "limit": 5},
        {"size": 1, "limit": "50%"},
        {"size": 1, "limit": True},
        {"size": 1, "limit": 99999999999},
        {"size": 1, "limit": {}},
    )


@probe
async def schema_checks_choices(w: World) -> Any:
    return await tried(
        w, {"size": 1, "choice": {"a": 1}}, {"size": 1, "choice": {}}, {"size": 1, "choice": {"a": 1, "b": 2}}
    )


@probe
async def schema_reports_everything_at_once(w: World) -> Any:
    return await tried(w, {"size": 0, "name": "A", "color": "blue", "tags": []})


@probe
async def schema_checks_patches_and_puts(w: World) -> Any:
    made = await w.make("widgets", widget(w, "a"))
    made["spec"]["size"] = 0
    return [
        (await w.patch("merge", "widgets", "a", {"spec": {"size": 0}})).seen(),
        (await w.patch("merge", "widgets", "a", {"spec": {"size": None}})).seen(),
        (await w.patch("json", "widgets", "a", [{"op": "add", "path": "/spec/odd", "value": 1}])).code,
        (await w.put("widgets", made)).seen(),
        (await w.patch("merge", "widgets", "a", {"spec": {"color": None}})).obj["spec"],
    ]


@probe
async def schema_of_metadata_is_the_servers(w: World) -> Any:
    bodies = [
        w.body("widgets", "a", meta={"labels": {"a": 1}}, spec={"size": 1}),
        w.body("widgets", "a", meta={"labels": "x"}, spec={"size": 1}),
        w.body("widgets", "Bad_Name", spec={"size": 1}),
        w.body("widgets", "a", meta={"finalizers": "x"}, spec={"size": 1}),
    ]
    return [(await w.post("widgets", b)).brief() for b in bodies]


@probe
async def rules_of_cel_at_creation(w: World) -> Any:
    specs: list[dict[str, Any]] = [
        {"low": 1, "high": 2},
        {"low": 3, "high": 2},
        {"high": 1000},
        {"items": [{"name": "a", "value": 1}, {"name": "b", "value": 0}]},
        {"percent": 5},
        {"percent": "5%"},
        {"percent": "five"},
        {"percent": -1},
        {"fixed": "a"},
    ]
    seen = []
    for i, spec in enumerate(specs):
        seen.append((await w.post("rules", w.body("rules", f"r{i}", spec=spec))).refusal())
    return seen


@probe
async def rules_of_cel_at_change(w: World) -> Any:
    await w.make("rules", w.body("rules", "a", spec={"fixed": "a", "low": 1}))
    patches = (
        {"spec": {"fixed": "b"}},
        {"spec": {"fixed": None}},
        {"spec": {"low": 2}},
        {"spec": {"low": 9, "high": 3}},
        {"status": {"note": "x"}},
    )
    seen = [(await w.patch("merge", "rules", "a", p)).refusal() for p in patches]
    return [*seen, (await w.patch("merge", "rules", "a", {"status": {"note": "x"}}, "status")).code]


@probe
async def broadcast_job_rules(w: World) -> Any:
    template = {
        "spec": {"containers": [{"name": "main", "image": "registry.example.com/app:v1"}], "restartPolicy": "Never"}
    }
    specs: list[dict[str, Any]] = [
        {"template": template},
        {"template": template, "parallelism": 2, "completionPolicy": {"type": "Never"}},
        {"template": template, "parallelism": -1},
        {"template": template, "parallelism": "50%"},
        {"template": template, "parallelism": "half"},
        {"template": template, "failurePolicy": {"type": "Odd"}},
        {},
    ]
    seen = []
    for i, spec in enumerate(specs):
        answer = await w.post("broadcastjobs", w.body("broadcastjobs", f"j{i}", spec=spec))
        seen.append(
            {k: v for k, v in answer.obj["spec"].items() if k != "template"} if answer.code == 201 else answer.seen()
        )
    return [*seen, (await w.post("broadcastjobs", w.body("broadcastjobs", "with.dot", spec=specs[0]))).seen()]


@probe
async def broadcast_job_status_and_generation(w: World) -> Any:
    template = {
        "spec": {"containers": [{"name": "main", "image": "registry.example.com/app:v1"}], "restartPolicy": "Never"}
    }
    made = await w.make("broadcastjobs", w.body("broadcastjobs", "a", spec={"template": template, "paused": True}))
    status = {
        "desired": 3,
        "active": 1,
        "conditions": [{"type": "Complete", "status": "True", "lastProbeTime": None, "lastTransitionTime": None}],
    }
    patch = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "status": status}
    changed = await w.patch("merge", "broadcastjobs", "a", patch, "status")
    return [changed.code, changed.obj.get("status") if changed.code == 200 else changed.seen()]


@probe
async def versions_of_a_kind(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    other = f"/apis/{GROUP}/v1beta1/namespaces/{w.ns}/widgets"
    read = await w.get(f"{other}/a")
    body = {**widget(w, "b"), "apiVersion": f"{GROUP}/v1beta1"}
    made = await w.ask("POST", other, body)
    listed = await w.get(other)
    wrong = await w.ask("POST", other, widget(w, "c"))
    return [
        read.seen(),
        made.seen(),
        [i["apiVersion"] for i in listed.obj["items"]],
        (await w.read("widgets", "b")).obj["apiVersion"],
        wrong.seen(),
    ]


@probe
async def versions_of_a_kind_in_a_watch(w: World) -> Any:
    watch = await w.watch(f"/apis/{GROUP}/v1beta1/namespaces/{w.ns}/widgets")
    await w.make("widgets", widget(w, "a"))
    return await watch.take(1)


@probe
async def cluster_scoped_custom_objects(w: World) -> Any:
    name = f"globe-{w.ns}"
    made = await w.make("globes", w.body("globes", name, spec={"size": 3}))
    in_namespace = await w.get(f"/apis/{GROUP}/v1/namespaces/{w.ns}/globes")
    ns = await w.ask("POST", w.path("globes"), w.body("globes", f"{name}-2", meta={"namespace": w.ns}))
    return [made, in_namespace.code, ns.brief()]


@probe
async def definitions_are_established(w: World) -> Any:
    crd = (await w.read("customresourcedefinitions", f"widgets.{GROUP}")).obj
    status = crd["status"]
    return [
        sorted((c["type"], c["status"], c["reason"], c["message"]) for c in status["conditions"]),
        status["acceptedNames"],
        status["storedVersions"],
        crd["spec"]["names"],
        crd["spec"].get("conversion"),
    ]


@probe
async def definitions_come_and_go(w: World) -> Any:
    group = f"{w.ns}.example.com"
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    }
    made = await w.make("customresourcedefinitions", crd)
    done = await w.until(
        "customresourcedefinitions",
        f"things.{group}",
        lambda o: len((o.get("status") or {}).get("conditions") or ()) >= 2,
    )
    path = f"/apis/{group}/v1/namespaces/{w.ns}/things"
    for _ in range(200):
        answer = await w.ask(
            "POST", path, {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "a"}, "x": 1}
        )
        if answer.code != 404:
            break
    await w.delete("customresourcedefinitions", f"things.{group}")
    await w.gone("customresourcedefinitions", f"things.{group}")
    for _ in range(200):
        after = await w.get(path)
        if after.code == 404:
            break
    return [made["spec"], done["spec"]["names"], answer.seen(), after.code]


@probe
async def definitions_that_are_refused(w: World) -> Any:
    group = f"{w.ns}.example.com"

    def crd(name: str = f"things.{group}", schema: Any = None, **spec: Any) -> dict[str, Any]:
        version = {
            "name": "v1",
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": schema or {"type": "object"}},
        }
        base = {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [version],
        }
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": name},
            "spec": {**base, **spec},
        }

    bodies = [
        crd(name="other"),
        crd(scope="Galaxy"),
        crd(versions=[]),
        crd(schema={"type": "object", "properties": {"spec": {}}}),
        crd(group=""),
    ]
    return [(await w.post("customresourcedefinitions", b)).brief()["code"] for b in bodies]


@probe
async def unknown_fields_by_validation_level(w: World) -> Any:
    seen = []
    for level in ("Strict", "Warn", "Ignore"):
        body = w.body("widgets", f"a-{level.lower()}", spec={"size": 1, "odd": 1, "nested": {"more": 2}})
        answer = await w.post("widgets", body, fieldValidation=level)
        seen.append([answer.refusal(), answer.warnings])
    return seen


@probe
async def unknown_fields_of_built_in_kinds(w: World) -> Any:
    seen = []
    for level in ("Strict", "Warn", "Ignore"):
        body = w.pod(f"a-{level.lower()}", odd=1)
        body["spec"]["containers"][0]["more"] = 1
        body["extra"] = {}
        answer = await w.post("pods", body, fieldValidation=level)
        seen.append([answer.refusal(), answer.warnings])
    return seen


@probe
async def unknown_fields_without_a_level(w: World) -> Any:
    body = w.body("configmaps", "a", odd=1)
    answer = await w.post("configmaps", body)
    custom = await w.post("widgets", widget(w, "a", odd=1))
    return [answer.refusal(), answer.warnings, custom.refusal(), custom.warnings]


@probe
async def unknown_fields_in_patches(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    await w.make("configmaps", w.body("configmaps", "a"))
    seen = []
    for plural, patch in (("widgets", {"spec": {"odd": 1}}), ("configmaps", {"odd": 1})):
        for kind in ("merge", "strategic", "json"):
            if plural == "widgets" and kind == "strategic":
                continue
            body = [{"op": "add", "path": "/odd", "value": 1}] if kind == "json" else patch
            for level in ("Strict", "Warn"):
                answer = await w.patch(kind, plural, "a", body, fieldValidation=level)
                seen.append([plural, kind, level, answer.brief(), answer.warnings])
    return seen


@probe
async def unknown_validation_levels(w: World) -> Any:
    return (await w.post("configmaps", w.body("configmaps", "a"), fieldValidation="Odd")).seen()


@probe
async def fields_that_come_twice(w: World) -> Any:
    text = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"1","k":"2"}}'
    warn = await w.ask("POST", w.path("configmaps"), text)
    strict = await w.ask("POST", w.path("configmaps", fieldValidation="Strict"), text.replace('"a"', '"b"'))
    return [warn.seen(), strict.seen()]
