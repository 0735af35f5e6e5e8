"""Conversion by webhook: objects of a custom kind in the version that somebody wants.

Purpose: what ``spec.conversion.strategy: Webhook`` of a CustomResourceDefinition asks for.

Guarantees:

* TST1: everything that needs another version goes in one ConversionReview; what has it already is not sent. The answer
  is held to the server's rules: uid, number, version and kind of the objects, name, namespace and uid, and everything
  in ``metadata`` but labels and annotations stays what it was. A conversion that fails is 500 with the server's text.

What this does not do: it keeps nothing; a :class:`~kruise.simulator.apiserver.storage.Record` does, for lists and
watches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from kruise.apis import labels
from kruise.apis.fielderrors import aggregate, go_quote
from kruise.runtime.clock import Random, new_uuid
from kruise.simulator.apiserver.failure import Failure, bare, internal
from kruise.simulator.apiserver.resources import ResourceType
from kruise.simulator.apiserver.storage import Record
from kruise.simulator.apiserver.webhooks import LONGEST, Caller, CallFailed, ask, target_of

Body = dict[str, Any]

GROUP: Final = "apiextensions.k8s.io"


class Converter:
    """The conversion webhook of one definition."""

    def __init__(self, conversion: Body, caller: Callable[[], Caller], rng: Random) -> None:
        """*conversion* is ``spec.conversion``; *caller* gives the one to call with now."""
        hook = conversion["webhook"]
        self._target = target_of(hook["clientConfig"])
        self._versions: tuple[str, ...] = tuple(hook.get("conversionReviewVersions") or ())
        self._caller = caller
        self._rng = rng

    async def convert(self, objects: Sequence[Body], api_version: str) -> list[Body]:
        """Return *objects* in *api_version*, in their order. Raises Failure 500."""
        wrong = [obj for obj in objects if obj["apiVersion"] != api_version]
        if not wrong:
            return list(objects)
        converted = iter(await self._asked(wrong, api_version))
        return [obj if obj["apiVersion"] == api_version else next(converted) for obj in objects]

    async def _asked(self, objects: list[Body], api_version: str) -> list[Body]:
        version = next((v for v in self._versions if v in ("v1", "v1beta1")), "")
        if not version:
            raise bare(500, "no supported conversion review versions")
        head = f"conversion webhook for {objects[0]['apiVersion']}, Kind={objects[0]['kind']}"
        uid = new_uuid(self._rng)
        request: Body = {"uid": uid, "desiredAPIVersion": api_version, "objects": [_sent(o) for o in objects]}
        empty: Body = {"uid": "", "convertedObjects": None, "result": {"metadata": {}}}
        body = {
            "kind": "ConversionReview",
            "apiVersion": f"{GROUP}/{version}",
            "request": request,
            "response": empty,
        }
        try:
            answer = await ask(self._caller(), self._target, body, LONGEST)
            found = _objects(answer, version, uid)
        except CallFailed as error:
            raise bare(500, f"{head} failed: {error}") from None
        if len(found) != len(objects):
            raise bare(500, f"{head} returned {len(found)} objects, expected {len(objects)}")
        return [_checked(old, new, api_version, head) for old, new in zip(objects, found, strict=True)]


def _sent(obj: Body) -> Body:
    """Return *obj* as the store holds it: the version is not part of what is stored."""
    return {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}}


def _objects(answer: Body, version: str, uid: str) -> list[Any]:
    wanted = f"{GROUP}/{version}"
    kind, given = str(answer.get("kind") or ""), str(answer.get("apiVersion") or "")
    if version == "v1" and not (kind and given):
        raise CallFailed(
            f"expected webhook response of {wanted}, Kind=ConversionReview, got {given or '/'}, Kind={kind}"
        )
    if kind != "ConversionReview" or not given.startswith(f"{GROUP}/"):
        raise CallFailed(f'no kind "{kind}" is registered for version "{given}" in scheme "pkg/runtime/scheme.go:111"')
    if version == "v1" and given != wanted:
        raise CallFailed(
            f"expected webhook response of {wanted}, Kind=ConversionReview, got {given}, Kind=ConversionReview"
        )
    response = answer.get("response")
    if not isinstance(response, dict):
        raise CallFailed("no response provided")
    if version == "v1" and response.get("uid") != uid:
        raise CallFailed(f"expected response.uid={go_quote(uid)}, got {go_quote(str(response.get('uid') or ''))}")
    result = response.get("result")
    result = result if isinstance(result, dict) else {}
    if result.get("status") != "Success":
        text = f"response.result.status was '{result.get('status') or ''}', not 'Success'"
        raise CallFailed(str(result.get("message") or text))
    found = response.get("convertedObjects")
    return found if isinstance(found, list) else []


def _checked(old: Body, new: Any, api_version: str, head: str) -> Body:
    """Return *new* with the metadata of *old*. Raises Failure 500."""
    what = f"{head} returned invalid object"
    if not isinstance(new, dict):
        raise bare(500, f"{what}: it is no object")
    if new.get("apiVersion") != api_version:
        text = f"invalid groupVersion (expected {api_version}, received {new.get('apiVersion') or ''})"
        raise bare(500, f"{what} at index 0: {text}")
    if new.get("kind") != old["kind"]:
        text = f"invalid kind (expected {old['kind']}, received {new.get('kind') or ''})"
        raise bare(500, f"{what} at index 0: {text}")
    meta = new.get("metadata")
    mine = meta if isinstance(meta, dict) else {}
    for name, called in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        expected, got = old["metadata"].get(name) or "", mine.get(name) or ""
        if expected != got:
            raise bare(500, f"{what}: must have the same {called}: {expected} != {got}")
    return {**new, "metadata": _restored(old["metadata"], meta, f"{head} returned invalid metadata")}


def _restored(old: Body, new: Any, what: str) -> Body:
    if new is None:
        raise bare(500, f"{what}: missing metadata in converted object")
    if not isinstance(new, dict):
        raise bare(500, f"{what}: invalid metadata of type {_go(new)} in converted object")
    kept = dict(old)
    for name in ("labels", "annotations"):
        given = new.get(name)
        if given is None:
            kept.pop(name, None)
            continue
        if not isinstance(given, dict):
            raise bare(500, f"{what}: invalid metadata.{name} of type {_go(given)} in converted object")
        for key, value in given.items():
            if not isinstance(value, str):
                text = f"metadata.{name}[{key}] must be a string, but is {_go(value)} in converted object"
                raise bare(500, f"{what}: {text}")
        if given != (old.get(name) or {}):
            check = labels.validate_labels if name == "labels" else labels.validate_annotations
            errors = check(given, "metadata.labels" if name == "labels" else "metadata.annotation")
            if errors:
                raise bare(500, f"{what}: {aggregate(errors)}")
        kept[name] = given
    return kept


def _go(value: Any) -> str:
    names = {dict: "map[string]interface {}", list: "[]interface {}", str: "string", bool: "bool", float: "float64"}
    return names.get(type(value), "int64")


def undecodable(failure: Failure, record: Record) -> Failure:
    """Return what a write says when the conversion of what is stored has failed."""
    return bare(500, f"object not decodable revision={record.rv}: {failure.message}")


def corrupt(failure: Failure, record: Record, info: ResourceType) -> Failure:
    """Return what a read says when the conversion has failed."""
    meta = record.obj["metadata"]
    key = "/".join(part for part in (info.group, info.plural, meta.get("namespace"), meta["name"]) if part)
    why = undecodable(failure, record).message
    return internal(
        f"StorageError: corrupt object, Code: 7, Key: /{key}, ResourceVersion: 0, AdditionalErrorMsg: {why}"
    )


async def read_back(record: Record, info: ResourceType, version: str) -> Record:
    """Return *record* with its object in *version*, asking a webhook each time. Raises Failure."""
    if info.converter is None:
        return record
    try:
        return Record(await info.read_in(record.obj, version), record.rv)
    except Failure as failure:
        raise corrupt(failure, record, info) from None


async def shown(records: Sequence[Record], info: ResourceType, version: str) -> list[Record]:
    """Return *records* so that each has its object in *version*, converted once per version of the object."""
    converter, wanted = info.converter, info.api_version(version)
    if converter is None:
        return list(records)
    key = (converter, wanted)
    missing = [r for r in records if r.obj["apiVersion"] != wanted and key not in r.forms]
    if missing:
        made = await converter.convert([r.obj for r in missing], wanted)
        for record, obj in zip(missing, made, strict=True):
            record.forms[key] = Record(obj, record.rv)
    return [r if r.obj["apiVersion"] == wanted else r.forms[key] for r in records]


def at_hand(record: Record, info: ResourceType, version: str) -> Record | None:
    """Return what :func:`shown` would for one record, if nobody has to be asked for it."""
    wanted = info.api_version(version)
    if info.converter is None or record.obj["apiVersion"] == wanted:
        return record
    return record.forms.get((info.converter, wanted))
