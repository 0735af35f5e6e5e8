"""Install, uninstall, deploy and undeploy without kubectl: ``python -m hack.install install``.

Purpose: the targets of the Makefile, with kubebuilder's meanings, against the cluster of the current kubeconfig.

Guarantees:

* ``install`` and ``deploy`` refuse, before they write anything, when a stored object breaks a rule of the new
  definitions, and name the object and the field.
* ``uninstall`` refuses while objects of our kinds exist: deleting a definition deletes them all. ``--force``, or
  ``FORCE=1`` in the environment, does it anyway.
* ``undeploy`` takes the manager away; the definitions, and with them the objects, stay while there are objects, unless
  it is forced.
* What is gone already is no error; what is there already is brought to the state of the manifests.

What this does not do: it deletes no object of a user by itself, and waits for no pod.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from hack.install_check import Breach, breaches
from hack.kustomize import KustomizeError, Manifest, render
from kruise import __version__
from kruise.runtime import log
from kruise.runtime.client.http import HttpTransport
from kruise.runtime.client.kubeconfig import load_config
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Clock, SystemClock, system_random
from kruise.runtime.errors import ApiError, ConfigError, NotFound, RuntimeFault, TransportError
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Object, Resource

ROOT: Final = Path(__file__).resolve().parents[1]
LOCAL: Final = ROOT / "config" / "local"
WITH_WEBHOOKS: Final = ROOT / "config" / "local-webhooks"
DEFAULT: Final = ROOT / "config" / "default"
MANAGER: Final = "kruise-install"
"""Owner of the fields that are applied."""
ESTABLISHED: Final = 30.0
"""Seconds for a definition to be served."""
SHOWN: Final = 20
"""Broken objects that are named."""


def _kind(group: str, version: str, kind: str, plural: str, *, namespaced: bool = False) -> Resource[Object]:
    return Resource(group, version, kind, plural, Object, namespaced)


DEFINITIONS: Final = _kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
_RBAC: Final = "rbac.authorization.k8s.io"
_WEBHOOKS: Final = "admissionregistration.k8s.io"
KINDS: Final[Mapping[str, Resource[Object]]] = {
    one.kind: one
    for one in (
        DEFINITIONS,
        _kind("", "v1", "Namespace", "namespaces"),
        _kind("", "v1", "ServiceAccount", "serviceaccounts", namespaced=True),
        _kind("", "v1", "Service", "services", namespaced=True),
        _kind(_RBAC, "v1", "ClusterRole", "clusterroles"),
        _kind(_RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings"),
        _kind(_RBAC, "v1", "Role", "roles", namespaced=True),
        _kind(_RBAC, "v1", "RoleBinding", "rolebindings", namespaced=True),
        _kind("apps", "v1", "Deployment", "deployments", namespaced=True),
        _kind("", "v1", "Secret", "secrets", namespaced=True),
        _kind(_WEBHOOKS, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
        _kind(_WEBHOOKS, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
        _kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", namespaced=True),
        _kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", namespaced=True),
        _kind("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors", namespaced=True),
        _kind("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules", namespaced=True),
    )
}
"""Every kind that a kustomization of ours may hold."""


class Refused(Exception):
    """It would do harm; nothing was changed. The text says what to do."""


class Installer:
    """The commands, on one cluster."""

    def __init__(self, rest: Rest, clock: Clock, say: Callable[[str], None] = print) -> None:
        self._rest = rest
        self._clock = clock
        self._say = say

    async def install(self, manifests: Iterable[Manifest]) -> None:
        """Bring *manifests* into the cluster, definitions first. Raises Refused."""
        wanted = list(manifests)
        definitions = [one for one in wanted if one["kind"] == DEFINITIONS.kind]
        await self._check(definitions)
        for one in definitions:
            await self._define(one)
        for one in definitions:
            await self._established(one["metadata"]["name"])
        for one in wanted:
            if one["kind"] != DEFINITIONS.kind:
                await self._apply(one)

    async def uninstall(self, manifests: Iterable[Manifest], *, force: bool) -> None:
        """Delete *manifests*, in the opposite order. Raises Refused while objects of ours exist, unless forced.

        A namespace stays: it may hold what we did not make.
        """
        doomed = [one for one in manifests if one["kind"] != "Namespace"]
        for one in doomed:
            if one["kind"] == DEFINITIONS.kind and not force and (names := await self._objects(one)):
                raise Refused(
                    f"{len(names)} {one['spec']['names']['plural']} exist ({_some(names)}): deleting "
                    f"{one['metadata']['name']} deletes them all. Delete them first, or run it again with FORCE=1"
                )
        await self._delete(doomed)

    async def undeploy(self, manifests: Iterable[Manifest], *, force: bool) -> None:
        """Delete *manifests*; a definition stays while it has objects, unless forced."""
        doomed = []
        for one in manifests:
            if one["kind"] == DEFINITIONS.kind and not force and (names := await self._objects(one)):
                self._say(
                    f"{one['metadata']['name']} stays: {len(names)} objects exist ({_some(names)}); FORCE=1 deletes all"
                )
                continue
            doomed.append(one)
        await self._delete(doomed)

    # Definitions.

    async def _check(self, definitions: Iterable[Manifest]) -> None:
        found: list[Breach] = []
        for one in definitions:
            name = one["metadata"]["name"]
            live = await self._get(DEFINITIONS, "", name)
            if live is None:
                continue
            ours = {version["name"] for version in one["spec"]["versions"]}
            if lost := sorted(set((live.get("status") or {}).get("storedVersions") or ()) - ours):
                raise Refused(
                    f"{name}: objects may be stored as {', '.join(lost)}, which is not served any more. Migrate them "
                    f"to {', '.join(sorted(ours))} and take it out of status.storedVersions"
                )
            schema = next(v for v in one["spec"]["versions"] if v["storage"])["schema"]["openAPIV3Schema"]
            async for stored in self._stored(live):
                found += breaches(name, schema, stored)
        if found:
            places = dict.fromkeys((b.resource, b.namespace, b.name) for b in found)
            lines = [str(b) for b in found[:SHOWN]]
            if len(found) > SHOWN:
                lines.append(f"and {len(found) - SHOWN} more")
            raise Refused(
                f"{len(places)} stored objects break the rules of the new definitions; nothing was changed. Mend or "
                "delete them, and run it again:\n  " + "\n  ".join(lines)
            )

    async def _define(self, one: Manifest) -> None:
        await self._replace(one, _trusting)

    async def _replace(self, one: Manifest, keeping: Callable[[Manifest, Manifest], Manifest]) -> None:
        """Replace an object as a whole: what other owners left in it (a webhook of theirs, say) must go.

        *keeping* puts into it what the manager has written there: whom the API server trusts, and where it calls.
        """
        resource, name, meta = _resource(one), one["metadata"]["name"], one["metadata"]
        label = _label(one)
        for _ in range(5):
            live = await self._get(resource, "", name)
            try:
                if live is None:
                    await self._send("create", "POST", resource, one)
                    self._say(f"{label} created")
                    return
                kept = live["metadata"]
                for key in ("labels", "annotations"):
                    kept[key] = (kept.get(key) or {}) | meta.get(key, {})
                changed = await self._send(
                    "update", "PUT", resource, {**keeping(one, live), "metadata": kept}, name=name
                )
            except ApiError as error:
                if error.status.code == 409:
                    continue
                raise
            same = changed["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
            self._say(f"{label} {'unchanged' if same else 'configured'}")
            return
        raise Refused(f"{label}: somebody else keeps writing it")

    async def _established(self, name: str) -> None:
        end = self._clock.monotonic() + ESTABLISHED
        while True:
            live = await self._get(DEFINITIONS, "", name) or {}
            conditions = {c["type"]: c for c in (live.get("status") or {}).get("conditions") or ()}
            if conditions.get("Established", {}).get("status") == "True":
                return
            if conditions.get("NamesAccepted", {}).get("status") == "False":
                raise Refused(f"customresourcedefinition {name}: {conditions['NamesAccepted'].get('message')}")
            if self._clock.monotonic() > end:
                raise Refused(f"customresourcedefinition {name}: not served after {ESTABLISHED:.0f} s")
            await self._clock.sleep(0.1)

    async def _stored(self, live: Manifest) -> AsyncIterator[Manifest]:
        """Yield every object of a definition, in the version in which it is stored."""
        spec = live["spec"]
        version = next((v for v in spec["versions"] if v["storage"] and v["served"]), None)
        version = version or next((v for v in spec["versions"] if v["served"]), None)
        if version is None:
            return
        resource = _kind(
            spec["group"],
            version["name"],
            spec["names"]["kind"],
            spec["names"]["plural"],
            namespaced=spec["scope"] == "Namespaced",
        )
        try:
            async for page in self._rest.pages(resource):
                for raw in page.items:
                    yield orjson.loads(bytes(raw))
        except NotFound:
            return  # defined, and not served yet or any more: nobody can have read or written an object

    async def _objects(self, definition: Manifest) -> list[str]:
        live = await self._get(DEFINITIONS, "", definition["metadata"]["name"])
        if live is None:
            return []
        found = []
        async for stored in self._stored(live):
            meta = stored["metadata"]
            found.append("/".join(filter(None, (meta.get("namespace", ""), meta["name"]))))
        return found

    # Any other object.

    async def _apply(self, one: Manifest) -> None:
        resource, meta = _resource(one), one["metadata"]
        if resource.group == _WEBHOOKS:
            await self._replace(one, _calling)
            return
        name, namespace = meta["name"], meta.get("namespace", "")
        before = await self._get(resource, namespace, name)
        after = await self._send(
            "patch",
            "PATCH",
            resource,
            one,
            namespace=namespace,
            name=name,
            query={"fieldManager": MANAGER, "force": "true"},
            content_type="application/apply-patch+yaml",
        )
        said = "created"
        if before is not None:
            same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
            said = "unchanged" if same else "configured"
        self._say(f"{_label(one)} {said}")

    async def _delete(self, manifests: Sequence[Manifest]) -> None:
        for one in reversed(manifests):
            resource, meta = _resource(one), one["metadata"]
            try:
                await self._rest.call(
                    "delete",
                    "DELETE",
                    resource,
                    namespace=meta.get("namespace", ""),
                    name=meta["name"],
                    body=orjson.dumps({"propagationPolicy": "Background"}),
                )
            except NotFound:
                self._say(f"{_label(one)} not there")
            else:
                self._say(f"{_label(one)} deleted")

    async def _get(self, resource: Resource[Object], namespace: str, name: str) -> Manifest | None:
        try:
            answer = await self._rest.call("get", "GET", resource, namespace=namespace, name=name)
        except NotFound:
            return None
        return _decoded(answer.body)

    async def _send(
        self, verb: str, method: str, resource: Resource[Object], body: Manifest, **options: Any
    ) -> Manifest:
        answer = await self._rest.call(verb, method, resource, body=orjson.dumps(body), **options)
        return _decoded(answer.body)


def _trusting(one: Manifest, live: Manifest) -> Manifest:
    """Return the definition *one* with what the manager wrote into the conversion of *live*, if a webhook does both."""
    wanted, known = (copy.deepcopy(d["spec"].get("conversion") or {}) for d in (one, live))
    if wanted.get("strategy") != "Webhook":
        return one
    wanted["webhook"]["clientConfig"] = _client(wanted["webhook"], known.get("webhook") or {})
    return {**one, "spec": {**one["spec"], "conversion": wanted}}


def _calling(one: Manifest, live: Manifest) -> Manifest:
    """Return the webhooks of *one* with what the manager wrote into those of the same names in *live*."""
    if "webhooks" not in one:  # they are the manager's alone
        return {**one, "webhooks": live["webhooks"]} if live.get("webhooks") else one
    known = {hook["name"]: hook for hook in live.get("webhooks") or ()}
    hooks = [{**hook, "clientConfig": _client(hook, known.get(hook["name"], {}))} for hook in one["webhooks"]]
    return {**one, "webhooks": hooks}


def _client(wanted: Manifest, live: Manifest) -> Manifest:
    """Return the clientConfig of *live* when it calls us, outside the cluster or by our Service; else of *wanted*."""
    ours: Manifest = wanted["clientConfig"]
    found: Manifest = live.get("clientConfig") or {}
    return found if "url" in found or found.get("service") == ours["service"] else ours


def _decoded(body: bytes) -> Manifest:
    found: Manifest = orjson.loads(body)
    return found


def _resource(one: Manifest) -> Resource[Object]:
    resource = KINDS.get(one["kind"])
    if resource is None or resource.api_version != one["apiVersion"]:
        raise ConfigError(f"{one['apiVersion']} {one['kind']}: not a kind that is installed here")
    return resource


def _label(one: Manifest) -> str:
    meta = one["metadata"]
    return f"{one['kind'].lower()} {'/'.join(filter(None, (meta.get('namespace', ''), meta['name'])))}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


async def _run(args: argparse.Namespace) -> None:
    clock = SystemClock()
    config = await load_config(clock, kubeconfig=args.kubeconfig, context=args.context)
    async with HttpTransport(config, clock=clock) as transport:
        rest = Rest(
            transport,
            clock=clock,
            rng=system_random(),
            metrics=Metrics(process=False),
            user_agent=f"{MANAGER}/{__version__}",
        )
        installer = Installer(rest, clock)
        if args.command == "install":
            await installer.install(render(WITH_WEBHOOKS if args.webhooks else LOCAL))
        elif args.command == "uninstall":
            await installer.uninstall(render(WITH_WEBHOOKS), force=args.force)
        elif args.command == "deploy":
            await installer.install(render(DEFAULT, image=args.image))
        else:
            await installer.undeploy(render(DEFAULT), force=args.force)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hack.install", description="bring us into a cluster, or out of it")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("install", "the definitions of our kinds"),
        ("uninstall", "take the definitions away"),
        ("deploy", "the definitions, the rights and the manager"),
        ("undeploy", "take the manager away"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--kubeconfig", default=None, help="path of a kubeconfig; default: KUBECONFIG")
        command.add_argument("--context", default=None, help="context of the kubeconfig")
        if name == "install":
            command.add_argument("--webhooks", action="store_true", help="and what calls a manager outside the cluster")
        if name == "deploy":
            command.add_argument("--image", default="", help="image of the manager")
        if name.startswith("un"):
            forced = os.environ.get("FORCE", "") not in ("", "0")
            command.add_argument("--force", action="store_true", default=forced, help="also with all objects")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    log.configure(level="warning")
    args = _parser().parse_args(argv)
    try:
        asyncio.run(_run(args))
    except (Refused, KustomizeError, ConfigError, ApiError, TransportError, RuntimeFault) as error:
        print(f"{args.command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
