"""Defaults and conversion of SidecarSet, as pure functions on plain JSON, and the same defaults in memory.

Guarantees:

* Defaulting (spec/sidecarset 4.1) never removes a field that it does not know (X35), writes what OpenKruise's webhook
  writes, and always overwrites both hash annotations with those of the completed set.
* Conversion (13): a v1alpha1 ``namespace`` becomes a namespaceSelector and stays one; the custom version moves between
  its label and its field. Everything else is copied.
* :func:`effective` gives a controller without webhooks the set that it would get with them.

What this does not do: it judges nothing (``sidecarset_validation``), calls no API and serves no webhook.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kruise.apis.core_fields import type_errors
from kruise.apis.group import GROUP
from kruise.apis.plain import wide_numbers, without_nulls
from kruise.apis.podtemplate import default_pod_template
from kruise.apis.sidecarset import (
    AFTER_APP_CONTAINER,
    BEFORE_APP_CONTAINER,
    COLD_UPGRADE,
    CUSTOM_VERSION_LABEL,
    DEFAULT_HISTORY_LIMIT,
    HASH_ANNOTATION,
    HASH_WITHOUT_IMAGE_ANNOTATION,
    NAMESPACE_NAME_LABEL,
    PATCH_RETAIN,
    POLICY_ALWAYS,
    ROLLING_UPDATE,
    SHARE_DISABLED,
    SIDECARSETS,
    SidecarSet,
    SidecarSetSpec,
    sidecars,
)
from kruise.apis.sidecarset_hash import sidecarset_hashes

__all__ = [
    "ONLY_IN_V1BETA1",
    "convert_sidecarset",
    "decode_problem",
    "default_sidecarset",
    "effective",
    "version_of",
]

V1ALPHA1: Final = "v1alpha1"
V1BETA1: Final = "v1beta1"

ONLY_IN_V1BETA1: Final[Mapping[type[msgspec.Struct], frozenset[str]]] = {SidecarSetSpec: frozenset({"customVersion"})}
"""The field that v1alpha1 does not have, by its name on the wire: there it is a label."""

_CONTAINERS: Final = "[core.v1.Container]"
_VOLUMES: Final = "[core.v1.Volume]"


def version_of(obj: Mapping[str, Any]) -> str:
    """Return the version in which *obj* is written; one without an apiVersion counts as v1beta1."""
    api_version = obj.get("apiVersion")
    return api_version.rpartition("/")[2] if isinstance(api_version, str) and api_version else V1BETA1


# ---- defaults --------------------------------------------------------------------------------------------------------


def default_sidecarset(obj: Mapping[str, Any], *, template_defaults: bool = True) -> dict[str, Any]:
    """Return *obj*, plain JSON of either version, with its defaults and its hashes; the input stays as it is.

    ``template_defaults=False`` is the gate TemplateNoDefaults: what belongs to the core API in containers and volumes
    is then left alone.
    """
    out = dict(obj)
    spec: dict[str, Any] = dict(out.get("spec") or {})
    out["spec"] = spec
    _default_spec(spec)
    for key, position in (("initContainers", AFTER_APP_CONTAINER), ("containers", BEFORE_APP_CONTAINER)):
        if isinstance(listed := spec.get(key), list):
            completed = _core_defaults(listed) if template_defaults else listed
            spec[key] = [_default_sidecar(one, position) for one in completed]
    if template_defaults and isinstance(volumes := spec.get("volumes"), list):
        spec["volumes"] = default_pod_template({"spec": {"volumes": volumes}})["spec"]["volumes"]
    whole, without_images = sidecarset_hashes(spec)
    metadata = dict(out.get("metadata") or {})
    hashes = {HASH_ANNOTATION: whole, HASH_WITHOUT_IMAGE_ANNOTATION: without_images}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **hashes}
    out["metadata"] = metadata
    return out


def _default_spec(spec: dict[str, Any]) -> None:
    strategy = dict(spec.get("updateStrategy") or {})
    strategy["type"] = strategy.get("type") or ROLLING_UPDATE
    for name, value in (("partition", 0), ("maxUnavailable", 1)):
        if strategy.get(name) is None:
            strategy[name] = value
    spec["updateStrategy"] = strategy
    if spec.get("revisionHistoryLimit") is None:
        spec["revisionHistoryLimit"] = DEFAULT_HISTORY_LIMIT
    if isinstance(patches := spec.get("patchPodMetadata"), list):
        spec["patchPodMetadata"] = [_filled(one, "patchPolicy", PATCH_RETAIN) for one in patches]
    injection = spec.get("injectionStrategy")
    if isinstance(injection, dict) and injection.get("revision") is not None:
        revision = _filled(injection["revision"], "policy", POLICY_ALWAYS)
        spec["injectionStrategy"] = {**injection, "revision": revision}


def _filled(holder: Any, name: str, value: str) -> Any:
    """Return *holder* with *name*; null reads as an empty object, as Go reads it."""
    if holder is None:
        holder = {}
    return {**holder, name: holder.get(name) or value} if isinstance(holder, dict) else holder


def _core_defaults(containers: list[Any]) -> list[Any]:
    """Return *containers* with the defaults of the core API, but for startup probes, which OpenKruise leaves alone."""
    bare = [
        {k: v for k, v in one.items() if k != "startupProbe"} if isinstance(one, dict) else one for one in containers
    ]
    # As init containers: their pull policy follows the tag of the image.
    completed = default_pod_template({"spec": {"initContainers": bare}})["spec"]["initContainers"]
    return [
        {**done, "startupProbe": copy.deepcopy(given["startupProbe"])}
        if isinstance(given, dict) and "startupProbe" in given
        else done
        for given, done in zip(containers, completed, strict=True)
    ]


def _default_sidecar(container: Any, position: str) -> Any:
    """Return a sidecar with the defaults of what is not core. A device policy has none: it would change hashes."""
    out = _filled(container, "podInjectPolicy", position)
    if not isinstance(out, dict):
        return out
    out["upgradeStrategy"] = _filled(out.get("upgradeStrategy"), "upgradeType", COLD_UPGRADE)
    out["shareVolumePolicy"] = _filled(out.get("shareVolumePolicy"), "type", SHARE_DISABLED)
    if isinstance(transfers := out.get("transferEnv"), list):
        out["transferEnv"] = [_default_transfer(one) for one in transfers]
    return out


def _default_transfer(entry: Any) -> Any:
    source = entry.get("sourceContainerNameFrom") if isinstance(entry, dict) else None
    if not isinstance(source, dict) or source.get("fieldRef") is None:
        return entry
    return {**entry, "sourceContainerNameFrom": {**source, "fieldRef": _filled(source["fieldRef"], "apiVersion", "v1")}}


# ---- conversion ------------------------------------------------------------------------------------------------------


def convert_sidecarset(obj: Mapping[str, Any], to_version: str) -> dict[str, Any]:
    """Return *obj* as *to_version* (``v1alpha1`` or ``v1beta1``).

    Raises ValueError for another version.
    """
    if to_version not in (V1ALPHA1, V1BETA1):
        raise ValueError(f"SidecarSet has the versions v1alpha1 and v1beta1, not {to_version!r}")
    out = dict(obj)
    if version_of(obj) != to_version and isinstance(spec := out.get("spec"), Mapping):
        out["metadata"], out["spec"] = (_to_beta if to_version == V1BETA1 else _to_alpha)(out.get("metadata"), spec)
    out["apiVersion"] = f"{GROUP}/{to_version}"
    return out


def _to_beta(metadata: Any, spec: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    # A field that a version does not have may not gain a meaning on the way: it goes.
    after = {key: value for key, value in spec.items() if key not in ("namespace", "customVersion")}
    if namespace := spec.get("namespace"):
        after["namespaceSelector"] = {"matchLabels": {NAMESPACE_NAME_LABEL: namespace}}
    labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
    if not isinstance(labels, Mapping) or CUSTOM_VERSION_LABEL not in labels:
        return metadata, after
    if version := labels[CUSTOM_VERSION_LABEL]:
        after["customVersion"] = version
    return _labelled(metadata, {key: value for key, value in labels.items() if key != CUSTOM_VERSION_LABEL}), after


def _to_alpha(metadata: Any, spec: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    after = {key: value for key, value in spec.items() if key not in ("namespace", "customVersion")}
    version = spec.get("customVersion")
    if not version:
        return metadata, after
    known = metadata or {}
    return _labelled(known, {**(known.get("labels") or {}), CUSTOM_VERSION_LABEL: version}), after


def _labelled(metadata: Mapping[str, Any], labels: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in metadata.items() if key != "labels"}
    return {**rest, "labels": labels} if labels else rest


def decode_problem(obj: Mapping[str, Any], version: str) -> str:
    """Return why *obj* is no SidecarSet of *version*, naming the field; ``""`` when it is one.

    What an API server refuses before any rule is asked: wrong types, numbers of more than 32 bits, malformed
    quantities.
    """
    if obj.get("apiVersion") != f"{GROUP}/{version}" or obj.get("kind") != SIDECARSETS.kind:
        return f"apiVersion and kind: want {GROUP}/{version} {SIDECARSETS.kind}"
    bare = without_nulls(obj)
    alone = bare.get("spec")
    if version == V1ALPHA1 and isinstance(alone, Mapping) and not isinstance(alone.get("namespace", ""), str):
        return "spec.namespace: want a string"
    try:
        known = msgspec.json.decode(msgspec.json.encode(convert_sidecarset(bare, V1BETA1)), type=SidecarSet)
    except (msgspec.MsgspecError, AttributeError) as error:
        return str(error)
    for name, raw in (("initContainers", known.spec.init_containers), ("containers", known.spec.containers)):
        try:
            sidecars(raw)
        except msgspec.MsgspecError as error:
            text, _, path = str(error).partition(" - at `$")
            return f"{text} - at `$.spec.{name}{path or '`'}"
    spec = obj.get("spec") or {}
    outside = {key: value for key, value in spec.items() if key not in ("containers", "initContainers", "volumes")}
    if wide := next(wide_numbers(outside, "spec"), ""):
        return f"{wide}: want a number of 32 bits"
    for key, kind in (("initContainers", _CONTAINERS), ("containers", _CONTAINERS), ("volumes", _VOLUMES)):
        if wrong := type_errors(spec.get(key), kind, f"spec.{key}"):
            return str(wrong[0])
    return ""


# ---- in memory -------------------------------------------------------------------------------------------------------


def effective(scs: SidecarSet) -> SidecarSet:
    """Return *scs* as the controller and the injection read it: *scs* itself when nothing is missing.

    An empty selector selects nothing (spec 7.3); one revision at least is kept (6.3).
    """
    spec = scs.spec
    changed: dict[str, Any] = {}
    if not spec.update_strategy.type:
        changed["update_strategy"] = msgspec.structs.replace(spec.update_strategy, type=ROLLING_UPDATE)
    limit = DEFAULT_HISTORY_LIMIT if spec.revision_history_limit is None else max(1, spec.revision_history_limit)
    if limit != spec.revision_history_limit:
        changed["revision_history_limit"] = limit
    selector = spec.selector
    if selector is not None and not selector.match_labels and not selector.match_expressions:
        changed["selector"] = None
    return msgspec.structs.replace(scs, spec=msgspec.structs.replace(spec, **changed)) if changed else scs
