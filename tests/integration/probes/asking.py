"""What a probe asks with: a small HTTP client, names of its own, and answers as plain values.

Purpose: a probe is written once and asked of any API server, so it knows no server: only paths, bodies and answers.

Guarantees:

* TST7: nothing of the project's own client is used, because that client is one of the things which the embedded server
  tests. Each probe works in a namespace of its own; cluster-scoped objects carry the namespace's name.

What this does not do: no retries. An answer is what came first, except while a fresh namespace gets its ServiceAccount.
"""

from __future__ import annotations

import asyncio
import io
import json
import ssl
import urllib.parse
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.integration.probes.hooks import READY, HookServer, Says, allowing

Body = dict[str, Any]

GROUP: Final = "probes.example.com"
TYPES: Final = {
    "": "application/json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL: Final = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
PARTIAL_LIST: Final = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

KINDS: Final[dict[str, tuple[str, str, bool]]] = {
    "pods": ("v1", "Pod", True),
    "nodes": ("v1", "Node", False),
    "namespaces": ("v1", "Namespace", False),
    "configmaps": ("v1", "ConfigMap", True),
    "secrets": ("v1", "Secret", True),
    "services": ("v1", "Service", True),
    "serviceaccounts": ("v1", "ServiceAccount", True),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim", True),
    "persistentvolumes": ("v1", "PersistentVolume", False),
    "resourcequotas": ("v1", "ResourceQuota", True),
    "coreevents": ("v1", "Event", True),
    "events": ("events.k8s.io/v1", "Event", True),
    "statefulsets": ("apps/v1", "StatefulSet", True),
    "deployments": ("apps/v1", "Deployment", True),
    "replicasets": ("apps/v1", "ReplicaSet", True),
    "daemonsets": ("apps/v1", "DaemonSet", True),
    "jobs": ("batch/v1", "Job", True),
    "controllerrevisions": ("apps/v1", "ControllerRevision", True),
    "leases": ("coordination.k8s.io/v1", "Lease", True),
    "poddisruptionbudgets": ("policy/v1", "PodDisruptionBudget", True),
    "priorityclasses": ("scheduling.k8s.io/v1", "PriorityClass", False),
    "storageclasses": ("storage.k8s.io/v1", "StorageClass", False),
    "mutatingwebhookconfigurations": ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", False),
    "validatingwebhookconfigurations": ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", False),
    "customresourcedefinitions": ("apiextensions.k8s.io/v1", "CustomResourceDefinition", False),
    "broadcastjobs": ("apps.kruise.io/v1beta1", "BroadcastJob", True),
    "advancedstatefulsets": ("apps.kruise.io/v1beta1", "StatefulSet", True),
    "widgets": (f"{GROUP}/v1", "Widget", True),
    "gadgets": (f"{GROUP}/v1", "Gadget", True),
    "rules": (f"{GROUP}/v1", "Rule", True),
    "globes": (f"{GROUP}/v1", "Globe", False),
}
_PLURALS: Final = {"coreevents": "events", "advancedstatefulsets": "statefulsets"}
"""What stands in paths, where two groups share a word."""


@dataclass(frozen=True, slots=True)
class Target:
    """One API server: where it listens and who asks."""

    name: str
    """``embedded``, or the version of a real one."""
    url: str
    tls: ssl.SSLContext | None = None
    headers: dict[str, str] = field(default_factory=dict)
    ends: bool = False
    """Whether the server ends with the run, so that nothing needs to be taken away."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: the code, the decoded body, the warnings."""

    code: int
    body: Any
    warnings: tuple[str, ...] = ()
    content_type: str = ""

    @property
    def obj(self) -> Body:
        """The body, for an answer that must be a success."""
        assert 200 <= self.code < 300, f"{self.code}: {self.body}"
        assert isinstance(self.body, dict)
        return self.body

    @property
    def version(self) -> str:
        """``metadata.resourceVersion`` of the body."""
        return str(self.obj["metadata"]["resourceVersion"])

    @property
    def names(self) -> list[str]:
        """The names of the items of a list."""
        return [item["metadata"]["name"] for item in self.obj["items"]]

    def brief(self) -> Body:
        """The code and, of a failure, reason and causes: for answers whose text comes from Go's decoders."""
        if self.code < 400 or not isinstance(self.body, dict):
            return {"code": self.code}
        details = self.body.get("details") or {}
        causes = sorted((c.get("reason", ""), c.get("field", "")) for c in details.get("causes") or ())
        return {"code": self.code, "reason": self.body.get("reason"), "causes": causes}

    def seen(self) -> Body:
        """Everything: the code, the body, the warnings."""
        return {"code": self.code, "body": self.body} | ({"warnings": list(self.warnings)} if self.warnings else {})

    def refusal(self) -> Body:
        """A refusal with its text; a success with its code only."""
        if self.code < 400:
            return {"code": self.code}
        return self.seen()


class Watching:
    """An open watch: its events, one by one."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.code = response.status
        self._response = response

    async def next(self, seconds: float = 10.0) -> Body | None:
        """Return the next event; ``None`` when the stream ended."""
        async with asyncio.timeout(seconds):
            line = await self._response.content.readline()
        event: Body | None = json.loads(line) if line.strip() else None
        return event

    async def take(self, count: int) -> list[Body]:
        """Return the next *count* events, bookmarks left out."""
        events: list[Body] = []
        while len(events) < count:
            event = await self.next()
            assert event is not None, f"the watch ended after {events}"
            if event["type"] != "BOOKMARK":
                events.append(event)
        return events

    async def rest(self) -> list[Body]:
        """Return all events until the stream ends."""
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events


def brief_events(events: list[Body]) -> list[tuple[str, str, str]]:
    """Return type, name and version of each event."""
    return [
        (e["type"], e["object"]["metadata"].get("name", ""), "rv:" + e["object"]["metadata"]["resourceVersion"])
        for e in events
    ]


class World:
    """What one probe has: a server, a namespace, and ways to ask."""

    def __init__(
        self, target: Target, session: aiohttp.ClientSession, namespace: str, hooks: HookServer | None = None
    ) -> None:
        self.target = target
        self.ns = namespace
        self._hooks = hooks
        self._session = session
        self._open: list[aiohttp.ClientResponse] = []
        self._left: list[str] = []

    # Paths and bodies

    def path(self, plural: str, name: str = "", sub: str = "", /, *, ns: str | None = None, **query: Any) -> str:
        """Return the path of a collection, an object or a subresource; *query* becomes its query."""
        api_version, _kind, namespaced = KINDS[plural]
        parts = ["/api/v1" if api_version == "v1" else f"/apis/{api_version}"]
        if namespaced and ns != "":
            parts += ["namespaces", ns or self.ns]
        parts += [part for part in (_PLURALS.get(plural, plural), name, sub) if part]
        text = urllib.parse.urlencode({k.replace("_", "-") if k == "x" else k: v for k, v in query.items()})
        return "/".join(parts) + (f"?{text}" if text else "")

    def body(self, plural: str, name: str, /, *, meta: Body | None = None, **fields: Any) -> Body:
        """Return an object."""
        api_version, kind, _ = KINDS[plural]
        metadata = ({"name": name} if name else {}) | (meta or {})
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}

    def pod(self, name: str, /, *, meta: Body | None = None, status: Body | None = None, **spec: Any) -> Body:
        """Return a pod that no scheduler touches."""
        base: Body = {
            "containers": [{"name": "main", "image": "registry.example.com/app:v1"}],
            "schedulerName": "nobody",
            "automountServiceAccountToken": False,
        }
        more = {} if status is None else {"status": status}
        return self.body("pods", name, meta=meta, spec={**base, **spec}, **more)

    # Requests

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        kind: str = "",
        /,
        *,
        accept: str = "",
        content_type: str = "",
        headers: Body | None = None,
    ) -> Answer:
        """Send one request. *kind* names a kind of patch; *body* may be text."""
        sent = {"Content-Type": content_type or TYPES[kind], **self.target.headers, **(headers or {})}
        if accept:
            sent["Accept"] = accept
        text = body if body is None or isinstance(body, str) else json.dumps(body)
        data = None if text is None else io.BytesIO(text.encode())
        async with self._session.request(
            method, self.target.url + path, data=data, headers=sent, ssl=self.target.tls or True
        ) as response:
            raw = await response.read()
            try:
                decoded = json.loads(raw)
            except ValueError:
                decoded = raw.decode(errors="replace")
            warnings = tuple(response.headers.getall("Warning", []))
            return Answer(response.status, decoded, warnings, response.headers.get("Content-Type", ""))

    async def get(self, path: str, /, **more: Any) -> Answer:
        """GET."""
        return await self.ask("GET", path, **more)

    async def post(self, plural: str, body: Body, /, **query: Any) -> Answer:
        """POST to a collection."""
        return await self.ask("POST", self.path(plural, **query), body)

    async def make(self, plural: str, body: Body, /) -> Body:
        """Create an object for the set-up of a probe."""
        answer = await self.post(plural, body)
        assert answer.code == 201, f"{answer.code}: {answer.body}"
        if not KINDS[plural][2]:
            self._left.append(self.path(plural, answer.obj["metadata"]["name"]))
        return answer.obj

    async def put(self, plural: str, body: Body, sub: str = "", /, **query: Any) -> Answer:
        """PUT an object at its own name."""
        return await self.ask("PUT", self.path(plural, body["metadata"]["name"], sub, **query), body)

    async def patch(self, kind: str, plural: str, name: str, patch: Any, sub: str = "", /, **query: Any) -> Answer:
        """PATCH an object."""
        return await self.ask("PATCH", self.path(plural, name, sub, **query), patch, kind)

    async def read(self, plural: str, name: str, /) -> Answer:
        """GET one object."""
        return await self.get(self.path(plural, name))

    async def delete(self, plural: str, name: str, options: Body | None = None, /, **query: Any) -> Answer:
        """DELETE one object."""
        return await self.ask("DELETE", self.path(plural, name, **query), options)

    async def watch(self, path: str, /, *, accept: str = "") -> Watching:
        """Open a watch; *path* names everything but ``watch``."""
        url = self.target.url + path + ("&" if "?" in path else "?") + "watch=1"
        headers = {**self.target.headers, **({"Accept": accept} if accept else {})}
        response = await self._session.get(url, headers=headers, ssl=self.target.tls or True)
        self._open.append(response)
        return Watching(response)

    async def until(self, plural: str, name: str, fits: Any, /, *, seconds: float = 30.0) -> Body:
        """Return the object as soon as ``fits(object)``; for what actors of the cluster do."""
        async with asyncio.timeout(seconds):
            while True:
                answer = await self.read(plural, name)
                if answer.code == 200 and fits(answer.obj):
                    return answer.obj
                await asyncio.sleep(0.02)

    async def gone(self, plural: str, name: str, /, *, seconds: float = 30.0) -> bool:
        """Wait until the object is gone."""
        async with asyncio.timeout(seconds):
            while (await self.read(plural, name)).code != 404:
                await asyncio.sleep(0.02)
        return True

    # Webhooks

    @property
    def hooks(self) -> HookServer:
        """What answers the webhooks of probes."""
        assert self._hooks is not None, "the runner has started it"
        return self._hooks

    def hook(self, name: str, says: Says, /, *, plural: str = "configmaps", **more: Any) -> Body:
        """Return a webhook that is called with what concerns *plural* in the namespace; *more* replaces its fields."""
        group = KINDS[plural][0].rpartition("/")[0]
        rule = {
            "apiGroups": [group],
            "apiVersions": ["*"],
            "resources": [_PLURALS.get(plural, plural)],
            "operations": ["CREATE", "UPDATE", "DELETE"],
        }
        return {
            "name": f"{name}.probes.example.com",
            "clientConfig": self.hooks.say(f"/{self.ns}/{name}", says),
            "rules": [rule],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.ns}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **more,
        }

    async def register(self, plural: str, *hooks: Body, name: str = "") -> Body:
        """Register webhooks, and wait until they are called."""
        number = len(self._left)
        ready = self.hook(f"ready-{number}", allowing, objectSelector={"matchLabels": {READY: "true"}})
        body = self.body(plural, name or self.ns, webhooks=[ready, *hooks])
        made = await self.make(plural, body)
        marker = self.body("configmaps", READY, meta={"labels": {READY: "true"}})
        async with asyncio.timeout(30):
            while not any(path == f"/{self.ns}/ready-{number}" for path, _ in self.hooks.asked):
                await self.post("configmaps", marker, dryRun="All")
                await asyncio.sleep(0.02)
        self.hooks.take(f"/{self.ns}/")
        return made

    def asked(self) -> list[tuple[str, Body]]:
        """Return which webhooks of this probe were asked what, and forget it."""
        return self.hooks.take(f"/{self.ns}/")

    def called(self) -> list[str]:
        """Return which webhooks of this probe were asked, and forget it."""
        return [path for path, _ in self.asked()]

    # Around a probe

    async def open(self) -> None:
        """Make the namespace, and wait until pods can be created in it."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.ns}}
        answer = await self.ask("POST", "/api/v1/namespaces", body)
        assert answer.code == 201, answer.body
        await self.until("serviceaccounts", "default", lambda _: True)

    async def close(self) -> None:
        """End the watches, take finalizers off, and delete what is in no namespace; the runner deletes those."""
        for response in self._open:
            response.close()
        for path in self._left:
            await self.ask("PATCH", path, {"metadata": {"finalizers": None}}, "merge")
            await self.ask("DELETE", path, {"gracePeriodSeconds": 0})
        for plural in ("configmaps", "pods", "widgets", "gadgets"):
            for item in (await self.get(self.path(plural))).body.get("items") or ():
                if item["metadata"].get("finalizers"):
                    name = item["metadata"]["name"]
                    await self.patch("merge", plural, name, {"metadata": {"finalizers": None}})
