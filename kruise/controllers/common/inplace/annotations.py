"""The annotations in which an in-place update keeps what it knows, and their JSON.

Guarantees:

* The older key of each annotation is read when the present one is absent, and taken away by the next write (spec
  2.1). A null in a foreign JSON reads as absent (reliability, rule 17).
* What cannot be read is one :class:`StateError`, which names the annotation and never a value.
* What is written has the bytes of OpenKruise: its order of fields, its escapes, ``creationTimestamp: null``.

What this does not do: it gives no meaning to the fields; ``spec`` and ``state`` do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from kruise.runtime.clock import format_time, parse_time
from kruise.runtime.errors import RuntimeFault

__all__ = [
    "GRACE_KEY",
    "OLD_GRACE_KEY",
    "OLD_STATE_KEY",
    "RUNTIME_META_KEY",
    "STATE_KEY",
    "StateError",
    "grace_text",
    "state_text",
    "without_grace",
    "without_old_state",
]

STATE_KEY: Final = "apps.kruise.io/inplace-update-state"
GRACE_KEY: Final = "apps.kruise.io/inplace-update-grace"
RUNTIME_META_KEY: Final = "apps.kruise.io/runtime-containers-meta"
OLD_STATE_KEY: Final = "inplace-update-state"
OLD_GRACE_KEY: Final = "inplace-update-grace"

Resources = Mapping[str, Mapping[str, str]]
"""``limits`` and ``requests``, each by resource name; an empty one is left out."""
RefMetadata = Mapping[str, Mapping[str, str]]
"""``labels`` and ``annotations`` that variables of a container show; an empty one is left out."""

T = TypeVar("T")


class StateError(RuntimeFault):
    """An annotation of an in-place update that cannot be read: update or delete the pod by hand. Names its key."""

    def __init__(self, annotation: str, problem: str) -> None:
        super().__init__(f"annotation {annotation}: {problem}")
        self.annotation = annotation
        self.problem = problem


class MetaForm(msgspec.Struct, frozen=True, gc=False):
    """An ObjectMeta of which labels and annotations are used."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class ResourcesForm(msgspec.Struct, frozen=True, gc=False):
    """Limits and requests as they stand in JSON."""

    limits: dict[str, str | int | float] = {}
    requests: dict[str, str | int | float] = {}


def state_text(annotations: Mapping[str, str]) -> str | None:
    """Return the text of the state annotation; ``None`` when the pod has none."""
    return _either(annotations, STATE_KEY, OLD_STATE_KEY)


def grace_text(annotations: Mapping[str, str]) -> str | None:
    """Return the text of the grace annotation; ``None`` when the pod has none. It may be empty."""
    return _either(annotations, GRACE_KEY, OLD_GRACE_KEY)


def _either(annotations: Mapping[str, str], key: str, old: str) -> str | None:
    text = annotations.get(key)
    return annotations.get(old) if text is None else text


def without_grace(annotations: Mapping[str, str]) -> dict[str, None]:
    """Return what a patch says to take the grace annotation away, under either key."""
    return {key: None for key in (GRACE_KEY, OLD_GRACE_KEY) if key in annotations}


def without_old_state(annotations: Mapping[str, str]) -> dict[str, None]:
    """Return what a patch says to take the state under its older key away."""
    return {OLD_STATE_KEY: None} if OLD_STATE_KEY in annotations else {}


def decode(text: str, form: type[T], annotation: str) -> T:
    """Return *text* as *form*. Raises StateError."""
    try:
        return msgspec.convert(_present(json.loads(text)), form)
    except msgspec.ValidationError as error:
        raise StateError(annotation, str(error)) from None
    except (ValueError, RecursionError):
        raise StateError(annotation, "no JSON") from None


def _present(value: Any) -> Any:
    """Drop null members, at any depth."""
    if isinstance(value, dict):
        return {key: _present(item) for key, item in value.items() if item is not None}
    return [_present(item) for item in value] if isinstance(value, list) else value


def stamp(text: str, annotation: str) -> str:
    """Return a time as it is written: UTC, whole seconds; an absent one stays ``""``. Raises StateError."""
    if not text:
        return ""
    seconds = parse_time(text)
    if seconds is None:
        raise StateError(annotation, "a time that is none")
    return format_time(seconds)


def meta_of(form: MetaForm) -> RefMetadata:
    """Return what *form* holds, without empty maps."""
    return _filled(labels=form.labels, annotations=form.annotations)


def meta_json(meta: RefMetadata) -> dict[str, Any]:
    """Return *meta* as an ObjectMeta is written."""
    out: dict[str, Any] = {"creationTimestamp": None}
    for part in ("labels", "annotations"):
        if meta.get(part):
            out[part] = in_order(meta[part])
    return out


def resources_of(form: ResourcesForm) -> Resources:
    """Return what *form* holds, without empty maps. A number is a quantity like any other."""
    return _filled(
        limits={name: str(value) for name, value in form.limits.items()},
        requests={name: str(value) for name, value in form.requests.items()},
    )


def resources_json(resources: Resources) -> dict[str, Any]:
    """Return *resources* as they are written."""
    return {part: in_order(resources[part]) for part in ("limits", "requests") if resources.get(part)}


def in_order(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return *values* sorted by key, as Go writes a map."""
    return {key: values[key] for key in sorted(values)}


def _filled(**parts: dict[str, str]) -> dict[str, dict[str, str]]:
    return {name: values for name, values in parts.items() if values}
