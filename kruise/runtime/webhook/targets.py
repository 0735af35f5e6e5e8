"""The configurations that send the API server to us, and what we set in them.

Purpose: whom to trust (``caBundle``), and in development where to call (``WEBHOOK_HOST``), in configurations and
CustomResourceDefinitions that are given by name.

Guarantees:

* CRT2: exactly the named objects are touched, in each of them the clientConfig of its webhooks alone, and only where
  it differs: in the configurations of admission as well as in the conversion of definitions. A patch is made on the
  version that was read.
* Without a URL a clientConfig keeps its service; with one it is called there, under the path that the service had.
* WEB7: :class:`Seen` has what the objects say now, not what they should.
* WEB9: :func:`blocks` finds a webhook that would refuse the pods of our own namespace while we are away.

What this does not do: it creates no configuration, and it changes no rule, selector or policy.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from kruise.runtime.client.client import Client, PatchKind
from kruise.runtime.errors import ApiError, Conflict, DecodeError, Forbidden, NotFound, TransportError
from kruise.runtime.objects import EMPTY_MAP, Key, Object, Resource
from kruise.runtime.webhook.patching import pointer

__all__ = ["Reach", "Seen", "Target", "TargetKind", "Targets", "blocks"]


class Configuration(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A configuration of admission webhooks."""

    webhooks: tuple[dict[str, Any], ...] = ()


class Definition(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What is read of a CustomResourceDefinition."""

    spec: dict[str, Any] = EMPTY_MAP


class Namespace(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A namespace: its labels count."""


_GROUP: Final = "admissionregistration.k8s.io"
NAMESPACES: Final = Resource("", "v1", "Namespace", "namespaces", Namespace, namespaced=False)


class TargetKind(enum.Enum):
    """What kind of object sends requests to us."""

    MUTATING = Resource(
        _GROUP, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", Configuration, namespaced=False
    )
    VALIDATING = Resource(
        _GROUP,
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        Configuration,
        namespaced=False,
    )
    CONVERSION = Resource(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        Definition,
        namespaced=False,
    )


@dataclass(frozen=True, slots=True)
class Target:
    """One object, by name."""

    kind: TargetKind
    name: str
    optional: bool = False
    """Whether it may be missing, or out of our reach: then nothing is wrong with it."""

    def __str__(self) -> str:
        return f"{self.kind.value.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Reach:
    """How the API server gets to us: a Service, or for development a URL."""

    namespace: str
    service: str
    port: int = 443
    """The port of the Service."""
    url: str = ""
    """``https://host:port``, without a path; empty for the Service."""

    def config(self, current: Mapping[str, Any], bundle: bytes) -> dict[str, Any]:
        """Return the clientConfig that *current* should be."""
        found: dict[str, Any] = {"caBundle": base64.b64encode(bundle).decode()}
        service = current.get("service")
        service = service if isinstance(service, Mapping) else {}
        url = current.get("url")
        path = service.get("path") or (urlsplit(url).path if isinstance(url, str) else "")
        if self.url:
            found["url"] = f"{self.url}{path}"
        elif service:
            found["service"] = dict(service)
        else:
            found["service"] = {"namespace": self.namespace, "name": self.service, "path": path, "port": self.port}
        return found


@dataclass(frozen=True, slots=True)
class Seen:
    """What the objects say."""

    bundles: tuple[bytes, ...] = ()
    """The different bundles that are live."""
    right: bool = False
    """Every object was read, and says what it should."""
    problems: tuple[str, ...] = ()
    """What could not be read or written."""
    readable: bool = True
    """False: we have no right to read them."""


class Targets:
    """The named objects."""

    def __init__(self, client: Client, targets: Iterable[Target], reach: Reach) -> None:
        self._client = client
        self._targets = tuple(targets)
        self._reach = reach
        self.lock: Final = asyncio.Lock()
        """Held during a look. Whoever else of this process writes one of the objects holds it as well."""

    async def look(self, bundle: bytes | None, *, write: bool) -> Seen:
        """Read all objects, and with *write* make them trust *bundle*. Returns what they say afterwards.

        Never raises for an object that is missing, refused or in somebody else's hands: that is a problem to tell.
        """
        async with self.lock:
            return await self._look(bundle, write=write)

    async def _look(self, bundle: bytes | None, *, write: bool) -> Seen:
        bundles: dict[bytes, None] = {}
        problems: list[str] = []
        right = True
        forbidden = 0
        for target in self._targets:
            try:
                live, fits = await self._one(target, bundle, write=write)
            except NotFound:
                if not target.optional:
                    problems.append(f"{target} is not there")
            except Forbidden as error:
                forbidden += 1
                if not target.optional:
                    problems.append(f"{target}: {error}")
            except (Conflict, ApiError, TransportError, DecodeError) as error:
                problems.append(f"{target}: {error}")
            else:
                bundles.update(dict.fromkeys(live))
                right = right and fits
        readable = not self._targets or forbidden < len(self._targets)
        return Seen(tuple(bundles), right and not problems, tuple(problems), readable)

    async def _one(self, target: Target, bundle: bytes | None, *, write: bool) -> tuple[list[bytes], bool]:
        resource: Resource[Any] = target.kind.value
        obj = await self._client.live.get(resource, Key("", target.name))
        places = list(_places(obj))
        if bundle is None:
            return [_bundle(config) for _, config in places], False
        operations = [
            {"op": "add", "path": path, "value": wanted}
            for path, config in places
            if (wanted := self._reach.config(config, bundle)) != config
        ]
        if operations and write:
            await self._client.patch(resource, obj, operations, kind=PatchKind.JSON)
            return [bundle], True
        return [_bundle(config) for _, config in places], not operations

    async def blocking(self, namespace: str) -> tuple[str, ...]:
        """Return why the configurations would keep pods of *namespace* from being created while we are away (WEB9)."""
        labels: Mapping[str, str] = {"kubernetes.io/metadata.name": namespace}
        # Its name is a label in every cluster; its other labels are known where we may read them.
        with contextlib.suppress(ApiError, TransportError, DecodeError):
            labels = {**(await self._client.live.get(NAMESPACES, Key("", namespace))).metadata.labels, **labels}
        found: list[str] = []
        for target in self._targets:
            if target.kind is TargetKind.CONVERSION:
                continue
            try:
                obj = await self._client.live.get(target.kind.value, Key("", target.name))
            except (ApiError, TransportError, DecodeError):
                continue
            found += [
                f"{target}: {text}"
                for webhook in _webhooks(obj)
                if (text := blocks(webhook, namespace, labels)) is not None
            ]
        return tuple(found)


def _webhooks(obj: Object) -> Sequence[Mapping[str, Any]]:
    return obj.webhooks if isinstance(obj, Configuration) else ()


def _places(obj: Object) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Yield (path, clientConfig) of each webhook of *obj*."""
    if isinstance(obj, Configuration):
        for place, webhook in enumerate(obj.webhooks):
            yield pointer("webhooks", place, "clientConfig"), webhook.get("clientConfig") or {}
    elif isinstance(obj, Definition):
        conversion = obj.spec.get("conversion") or {}
        if conversion.get("strategy") == "Webhook":
            webhook = conversion.get("webhook") or {}
            yield pointer("spec", "conversion", "webhook", "clientConfig"), webhook.get("clientConfig") or {}


def _bundle(config: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(config.get("caBundle") or "", validate=True)
    except (binascii.Error, ValueError):
        return b""


# WEB9.


def blocks(webhook: Mapping[str, Any], namespace: str, labels: Mapping[str, str]) -> str | None:
    """Say why *webhook* would refuse new pods of *namespace*, which has *labels*, while nobody answers it; or None.

    A match condition that names the namespace is taken for an exclusion: nobody but the API server evaluates it.
    """
    if webhook.get("failurePolicy", "Fail") != "Fail" or not any(map(_new_pods, webhook.get("rules") or ())):
        return None
    if not _selects(webhook.get("namespaceSelector") or {}, labels):
        return None
    if any(namespace in str(one.get("expression", "")) for one in webhook.get("matchConditions") or ()):
        return None
    return (
        f"the webhook {webhook.get('name')} has failurePolicy Fail and takes the pods of {namespace}, ours among them: "
        f"while we are away, nobody could start us. Exclude the namespace: namespaceSelector.matchExpressions "
        f"{{key: kubernetes.io/metadata.name, operator: NotIn, values: [{namespace}]}}"
    )


def _new_pods(rule: Mapping[str, Any]) -> bool:
    return (
        bool({"", "*"} & set(rule.get("apiGroups") or ()))
        and bool({"pods", "*", "*/*"} & set(rule.get("resources") or ()))
        and bool({"CREATE", "*"} & set(rule.get("operations") or ()))
        and rule.get("scope", "*") != "Cluster"
    )


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_matches(one, labels) for one in selector.get("matchExpressions") or ())


def _matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = str(expression.get("key", "")), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return True
