"""Conversion by webhook: objects in a version in which they are not stored.

Each probe has a kind of its own: a real server converts for its caches as well, and a conversion that fails would hold
up the probes of others.
"""

from __future__ import annotations

import asyncio
import copy
from typing import Any, Final

from aiohttp import web

from tests.integration.probes.asking import Answer, Body, World
from tests.integration.probes.hooks import Says, allowing
from tests.integration.probes.registry import probe

_CRDS: Final = "customresourcedefinitions"
_SPECS: Final = {"v1": "size", "v2": "length"}
"""What the field is called in each version."""


def renaming(review: Body) -> Body:
    """Convert: ``size`` of v1 is ``length`` of v2."""
    request = review["request"]
    version = request["desiredAPIVersion"].rpartition("/")[2]
    return {"convertedObjects": [renamed(o, version) for o in request["objects"]], "result": {"status": "Success"}}


def renamed(obj: Body, version: str) -> Body:
    """Return *obj* in *version*."""
    new = copy.deepcopy(obj)
    group, _, old = obj["apiVersion"].partition("/")
    new["apiVersion"] = f"{group}/{version}"
    spec = new.get("spec") or {}
    if _SPECS[old] in spec:
        spec[_SPECS[version]] = spec.pop(_SPECS[old])
    return new


def editing(edit: Any) -> Says:
    """Convert, and let *edit* change each result whose object has the label ``bad``."""

    def says(review: Body) -> Body:
        said = renaming(review)
        for one in said["convertedObjects"]:
            if "bad" in (one["metadata"].get("labels") or {}):
                edit(one)
        return said

    return says


def schema(field: str) -> Body:
    """Return the schema of one version."""
    spec = {"type": "object", "properties": {field: {"type": "integer", "maximum": 9}, "note": {"type": "string"}}}
    status = {"type": "object", "properties": {"seen": {"type": "integer"}}}
    return {"type": "object", "properties": {"spec": spec, "status": status}}


class Gizmos:
    """A kind in two versions, stored in v1, with a conversion webhook."""

    def __init__(self, world: World, says: Says = renaming) -> None:
        self.world = world
        self.group = f"{world.ns}.example.com"
        self.says = says

    def definition(self, **conversion: Any) -> Body:
        """Return its definition; *conversion* replaces the webhook."""
        config = self.world.hooks.say(f"/{self.world.ns}/convert", self._say)
        hook = {"clientConfig": config, "conversionReviewVersions": ["v1"]}
        versions = [
            {
                "name": name,
                "served": True,
                "storage": name == "v1",
                "schema": {"openAPIV3Schema": schema(field)},
                "subresources": {"status": {}},
            }
            for name, field in _SPECS.items()
        ]
        spec = {
            "group": self.group,
            "scope": "Namespaced",
            "names": {"plural": "gizmos", "kind": "Gizmo", "singular": "gizmo", "listKind": "GizmoList"},
            "versions": versions,
            "conversion": conversion or {"strategy": "Webhook", "webhook": hook},
        }
        return self.world.body(_CRDS, f"gizmos.{self.group}", spec=spec)

    def _say(self, review: Body) -> Any:
        return self.says(review)

    def path(self, version: str, name: str = "", query: str = "") -> str:
        """Return a path."""
        end = f"/{name}" if name else ""
        return f"/apis/{self.group}/{version}/namespaces/{self.world.ns}/gizmos{end}{query}"

    async def install(self) -> None:
        """Serve the kind, and wait until it is."""
        await self.world.make(_CRDS, self.definition())
        async with asyncio.timeout(30):
            for version in _SPECS:
                while (await self.world.get(self.path(version))).code != 200:
                    await asyncio.sleep(0.05)
        self.world.asked()

    def body(self, version: str, name: str, meta: Body | None = None, **spec: Any) -> Body:
        """Return an object."""
        metadata = {"name": name, **(meta or {})}
        return {"apiVersion": f"{self.group}/{version}", "kind": "Gizmo", "metadata": metadata, "spec": spec}

    async def make(self, version: str, name: str, meta: Body | None = None, **spec: Any) -> Answer:
        """Create an object."""
        return await self.world.ask("POST", self.path(version), self.body(version, name, meta, **spec))

    async def read(self, version: str, name: str) -> Answer:
        """Read an object."""
        return await self.world.get(self.path(version, name))

    async def patch(self, version: str, name: str, patch: Body, sub: str = "") -> Answer:
        """Patch an object."""
        return await self.world.ask("PATCH", self.path(version, name) + sub, patch, "merge")


async def installed(w: World, says: Says = renaming) -> Gizmos:
    """Return a kind that is served; its conversions are right until it is."""
    kind = Gizmos(w)
    await kind.install()
    kind.says = says
    return kind


@probe
async def conversion_of_a_read(w: World) -> Any:
    kind = await installed(w)
    await kind.make("v1", "a", size=3, note="n")
    return [(await kind.read("v1", "a")).seen(), (await kind.read("v2", "a")).seen()]


@probe
async def conversion_of_a_write(w: World) -> Any:
    kind = await installed(w)
    made = await kind.make("v2", "a", length=3, more=1)
    patched = await kind.patch("v2", "a", {"spec": {"length": 5}})
    return [made.seen(), patched.seen(), (await kind.read("v1", "a")).seen()]


@probe
async def conversion_of_a_status(w: World) -> Any:
    kind = await installed(w)
    await kind.make("v2", "a", length=3)
    patched = await kind.patch("v2", "a", {"status": {"seen": 1}, "spec": {"length": 4}}, "/status")
    return [patched.seen(), (await kind.read("v1", "a")).seen()]


@probe
async def conversion_checks_the_version_of_the_request(w: World) -> Any:
    kind = await installed(w)
    return [(await kind.make("v2", "a", length=30)).seen(), (await kind.make("v1", "b", size=30)).seen()]


@probe
async def conversion_of_a_list(w: World) -> Any:
    kind = await installed(w)
    await kind.make("v1", "a", size=1)
    await kind.make("v2", "b", length=2)
    await asyncio.sleep(0.3)
    return [(await w.get(kind.path(version))).seen() for version in ("v1", "v2")]


@probe
async def conversion_of_a_watch(w: World) -> Any:
    kind = await installed(w)
    await kind.make("v1", "a", size=1)
    await asyncio.sleep(0.3)
    watch = await w.watch(kind.path("v2", query="?resourceVersion=0"))
    first = await watch.take(1)
    await kind.patch("v1", "a", {"spec": {"size": 2}})
    await kind.make("v2", "b", length=7)
    await w.ask("DELETE", kind.path("v1", "a"))
    return [first, await watch.take(3)]


@probe
async def conversion_of_a_delete(w: World) -> Any:
    kind = await installed(w)
    await kind.make("v1", "a", {"finalizers": ["probes.example.com/x"]}, size=1)
    deleted = await w.ask("DELETE", kind.path("v2", "a"))
    gone = await kind.patch("v2", "a", {"metadata": {"finalizers": None}})
    return [deleted.seen(), gone.seen(), (await kind.read("v1", "a")).code]


@probe
async def conversion_may_change_labels_and_annotations_only(w: World) -> Any:
    def edit(obj: Body) -> None:
        obj["metadata"]["labels"]["more"] = "x"
        obj["metadata"]["annotations"] = {"a": "b"}
        obj["metadata"]["finalizers"] = ["probes.example.com/x"]
        obj["metadata"]["generation"] = 77

    kind = await installed(w, editing(edit))
    await kind.make("v1", "a", {"labels": {"bad": "x"}}, size=1)
    return (await kind.read("v2", "a")).seen()


@probe
async def conversion_that_changes_the_object(w: World) -> Any:
    edits: list[Any] = [
        lambda o: o["metadata"].update(name="other"),
        lambda o: o["metadata"].update(uid="x"),
        lambda o: o["metadata"].update(namespace="x"),
        lambda o: o.update(kind="Other"),
        lambda o: o.update(apiVersion="x/v1"),
        lambda o: o["metadata"].update(labels={"-": "x"}),
        lambda o: o["metadata"].update(labels={"x": 5}),
        lambda o: o["metadata"].update(annotations="x"),
    ]
    kind = await installed(w)
    await kind.make("v1", "a", {"labels": {"bad": "x"}}, size=1)
    seen = []
    for edit in edits:
        kind.says = editing(edit)
        seen.append((await kind.read("v2", "a")).seen())
    return seen


@probe
async def conversion_that_fails(w: World) -> Any:
    def result(**fields: Any) -> Says:
        return lambda _review: fields

    def raw(text: str, status: int = 200) -> Says:
        media = {"Content-Type": "application/json" if status == 200 else "text/plain"}
        return lambda _review: web.Response(status=status, body=text.encode(), headers=media)

    failed = {"status": "Failure", "message": "no such unit"}
    answers: list[Says] = [
        result(result=failed),
        result(result={"status": "Failure"}),
        result(result={}),
        result(result={"status": "Success"}, convertedObjects=[]),
        result(uid="wrong", result={"status": "Success"}),
        raw("boom", 500),
        raw("gone", 404),
        raw("<html>"),
        raw("{}"),
        raw('{"kind":"ConversionReview","apiVersion":"apiextensions.k8s.io/v1"}'),
        raw('{"kind":"Foo","apiVersion":"apiextensions.k8s.io/v1"}'),
    ]
    kind = await installed(w)
    await kind.make("v1", "a", size=1)
    seen = []
    for says in answers:
        kind.says = says
        seen.append((await kind.read("v2", "a")).seen())
    return seen


@probe
async def conversion_that_fails_a_list(w: World) -> Any:
    kind = await installed(w, lambda _: {"result": {"status": "Failure", "message": "no"}})
    await kind.make("v1", "a", size=1)
    await asyncio.sleep(0.3)
    exact = await w.get(kind.path("v2", query="?limit=500"))
    return [exact.code]


@probe
async def conversion_that_fails_a_write(w: World) -> Any:
    kind = await installed(w, lambda _: {"result": {"status": "Failure", "message": "no"}})
    made = await kind.make("v2", "a", length=3)
    none = await kind.read("v1", "a")
    await kind.make("v1", "b", size=1)
    patched = await kind.patch("v2", "b", {"spec": {"length": 2}})
    deleted = await w.ask("DELETE", kind.path("v2", "b"))
    return [made.seen(), none.code, patched.seen(), deleted.seen(), (await kind.read("v1", "b")).code]


@probe
async def conversion_of_a_version_that_is_not_there(w: World) -> Any:
    kind = await installed(w)
    await kind.make("v1", "a", size=1)
    return [(await kind.read("v3", "a")).seen(), (await kind.make("v3", "b", size=1)).seen()]


@probe
async def conversion_asks_for_what_it_needs(w: World) -> Any:
    kind = await installed(w)
    await kind.make("v1", "a", size=1)
    w.asked()
    await kind.read("v1", "a")
    none = [r for _, r in w.asked() if r["desiredAPIVersion"].endswith("/v1")]
    await kind.read("v2", "a")
    request = next(r for _, r in w.asked() if r["desiredAPIVersion"].endswith("/v2"))
    assert request.pop("uid")
    return [none, request]


@probe
async def conversion_definition_rules(w: World) -> Any:
    kind = Gizmos(w)
    url = {"url": "https://127.0.0.1:9/x"}
    conversions: list[Body] = [
        {"strategy": "Perhaps"},
        {"strategy": "Webhook"},
        {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"]}},
        {"strategy": "Webhook", "webhook": {"clientConfig": url, "conversionReviewVersions": ["v7"]}},
        {"strategy": "Webhook", "webhook": {"clientConfig": {}, "conversionReviewVersions": ["v1"]}},
        {"strategy": "None", "webhook": {"clientConfig": url, "conversionReviewVersions": ["v1"]}},
        {"strategy": "Webhook", "webhook": {"clientConfig": {"url": "http://x"}, "conversionReviewVersions": ["v1"]}},
    ]
    return [(await w.post(_CRDS, kind.definition(**c), dryRun="All")).refusal() for c in conversions]


@probe
async def conversion_and_admission(w: World) -> Any:
    kind = await installed(w)
    rule = {"apiGroups": [kind.group], "apiVersions": ["v2"], "resources": ["gizmos"], "operations": ["*"]}
    await w.register("mutatingwebhookconfigurations", w.hook("m", allowing, rules=[rule]))
    await w.register("validatingwebhookconfigurations", w.hook("v", allowing, rules=[{**rule, "apiVersions": ["v1"]}]))
    await kind.make("v1", "a", size=1)
    await kind.patch("v2", "a", {"spec": {"length": 2}})
    asked = [(p, r) for p, r in w.asked() if p != "convert"]
    names = ("kind", "requestKind", "object", "oldObject")
    return [(p, {name: r[name] for name in names}) for p, r in asked if "kind" in r]
