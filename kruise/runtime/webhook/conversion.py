"""Conversion reviews: objects of one version made into objects of another.

Purpose: the core of the conversion webhook of a CustomResourceDefinition, without a socket. Each kind has one version
that is the hub; every other one knows the way to it and back.

Guarantees:

* WEB6: any served version becomes any other one by way of the hub. One object that cannot be converted fails its
  request, with a message that names it, and no other request.
* The answer has the objects in the order of the request, each in the version that was asked for. Name, namespace and
  uid stay what they are, whatever a function returns; the API server would refuse anything else.
* A function gets a copy of its own, which it may change.
* What is no review is answered HTTP 400; whatever else goes wrong is an answer, and no exception.

What this does not do: it validates nothing, and it stores nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson

from kruise.runtime.errors import ConfigError
from kruise.runtime.webhook.admission import MAX_DEPTH, BadReview, Outcome, bad, too_deep

__all__ = ["ConversionFailed", "Conversions", "Convert", "convert_review"]

VERSIONS: Final = frozenset({"apiextensions.k8s.io/v1", "apiextensions.k8s.io/v1beta1"})
Convert = Callable[[dict[str, Any]], Mapping[str, Any]]
"""Makes an object of one version of an object of another. ``apiVersion`` is set for it."""
_FIXED: Final = ("name", "generateName", "namespace", "uid")


class ConversionFailed(ValueError):
    """An object cannot be converted. The text says why, and quotes no value."""


@dataclass(frozen=True, slots=True)
class _Spoke:
    to_hub: Convert
    from_hub: Convert


class Conversions:
    """The kinds whose versions can be converted."""

    def __init__(self) -> None:
        self._hubs: dict[tuple[str, str], str] = {}
        self._spokes: dict[tuple[str, str, str], _Spoke] = {}

    def hub(self, group: str, kind: str, version: str) -> None:
        """Declare which version of a kind all others are converted by. Raises ConfigError for a second one."""
        if self._hubs.setdefault((group, kind), version) != version:
            raise ConfigError(f"{kind}.{group}: {self._hubs[group, kind]} is the hub already, not {version}")

    def spoke(self, group: str, kind: str, version: str, *, to_hub: Convert, from_hub: Convert) -> None:
        """Declare how *version* of a kind becomes the hub's and back. Raises ConfigError without a hub, or twice."""
        if (group, kind) not in self._hubs:
            raise ConfigError(f"{kind}.{group} {version}: declare the hub first")
        if self._hubs[group, kind] == version or (group, kind, version) in self._spokes:
            raise ConfigError(f"{kind}.{group} {version}: is there already")
        self._spokes[group, kind, version] = _Spoke(to_hub, from_hub)

    def versions(self, group: str, kind: str) -> tuple[str, ...]:
        """Return the versions of a kind, the hub first; none for a kind that is not known."""
        hub = self._hubs.get((group, kind))
        return () if hub is None else (hub, *(v for g, k, v in self._spokes if (g, k) == (group, kind)))

    def convert(self, obj: Mapping[str, Any], api_version: str) -> dict[str, Any]:
        """Return *obj* in *api_version*. Raises ConversionFailed, and whatever a function raises."""
        kind, source = obj.get("kind"), obj.get("apiVersion")
        if not isinstance(kind, str) or not isinstance(source, str):
            raise ConversionFailed("the object has no apiVersion and kind")
        group, _, version = source.rpartition("/")
        wanted_group, _, wanted = api_version.rpartition("/")
        known = self.versions(group, kind)
        if not known:
            raise ConversionFailed(f"{kind}.{group} is not converted here")
        if wanted_group != group or version not in known or wanted not in known:
            raise ConversionFailed(f"{kind}.{group} has the versions {', '.join(known)}: not {source} to {api_version}")
        result: dict[str, Any] = orjson.loads(orjson.dumps(obj))
        for step in self._way(group, kind, version, wanted):
            result = dict(step(result))
        result["apiVersion"], result["kind"] = api_version, kind
        return _keep_identity(obj, result)

    def _way(self, group: str, kind: str, version: str, wanted: str) -> list[Convert]:
        if version == wanted:
            return []
        start, end = self._spokes.get((group, kind, version)), self._spokes.get((group, kind, wanted))
        return [*([start.to_hub] if start else []), *([end.from_hub] if end else [])]


def _keep_identity(old: Mapping[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    before = old.get("metadata")
    if isinstance(before, Mapping):
        after = new.get("metadata")
        meta = dict(after) if isinstance(after, Mapping) else dict(before)
        for name in _FIXED:
            meta.pop(name, None)
            if name in before:
                meta[name] = before[name]
        new["metadata"] = meta
    return new


class _Request(msgspec.Struct, rename={"desired": "desiredAPIVersion"}):
    uid: str = ""
    desired: str = ""
    objects: list[msgspec.Raw] = []


class _Envelope(msgspec.Struct, rename="camel"):
    api_version: str = ""
    kind: str = ""
    request: _Request | None = None


_DECODER: Final = msgspec.json.Decoder(_Envelope)


def convert_review(body: bytes, conversions: Conversions) -> Outcome:
    """Answer the ConversionReview in *body*. Never raises."""
    try:
        envelope = _DECODER.decode(body)
    except RecursionError:
        return bad(BadReview(f"values are nested deeper than {MAX_DEPTH}"))
    except UnicodeDecodeError:
        return bad(BadReview("the text is not UTF-8"))
    except msgspec.DecodeError as error:
        return bad(BadReview(str(error)))
    request = envelope.request
    if envelope.kind != "ConversionReview" or envelope.api_version not in VERSIONS:
        return bad(BadReview("want a ConversionReview of apiextensions.k8s.io/v1 or v1beta1"))
    if request is None or not request.uid or not request.desired:
        return bad(BadReview("the review has no request, or its request has no uid or desiredAPIVersion"))
    if too_deep(body):
        return bad(BadReview(f"values are nested deeper than {MAX_DEPTH}"))
    converted: list[orjson.Fragment] = []
    problem = ""
    cause: Exception | None = None
    for place, raw in enumerate(request.objects):
        obj: Any = None
        try:
            obj = orjson.loads(memoryview(raw))
            if not isinstance(obj, dict):
                raise ConversionFailed("it is no object")
            converted.append(orjson.Fragment(orjson.dumps(conversions.convert(obj, request.desired))))
        except ConversionFailed as failed:
            problem = f"{_called(obj, place)}: {failed}"
        except orjson.JSONDecodeError:  # what was not looked at so far may be no UTF-8, or hold half a surrogate
            problem = f"{_called(obj, place)}: it is no JSON"
        except Exception as raised:  # noqa: BLE001 - one bad object costs its own request, and tells no value (WEB6)
            problem = f"{_called(obj, place)}: {type(raised).__name__}"
            cause = raised
        if problem:
            break
    response: dict[str, Any] = {"uid": request.uid}
    if problem:
        response["convertedObjects"] = []
        response["result"] = {"status": "Failure", "message": problem}
    else:
        response["convertedObjects"] = converted
        response["result"] = {"status": "Success"}
    answer = orjson.dumps({"kind": "ConversionReview", "apiVersion": envelope.api_version, "response": response})
    return Outcome(200, answer, problem=problem, error=cause)


def _called(obj: Any, place: int) -> str:
    """Return how a user would name *obj*, from what can be read of it."""
    if isinstance(obj, dict):
        meta = obj.get("metadata")
        if isinstance(meta, dict) and isinstance(meta.get("name"), str):
            space = meta.get("namespace")
            return f"{obj.get('kind')} {space + '/' if isinstance(space, str) and space else ''}{meta['name']}"
    return f"object {place}"
