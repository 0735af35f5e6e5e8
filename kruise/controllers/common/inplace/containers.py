"""What is asked of the containers of a pod during an update in place: order of launch, images, resources.

Guarantees: rule 26 of the reliability rules, X7, X9: two references are compared by what they mean (``nginx`` is
``docker.io/library/nginx:latest``), two imageIDs by their digest, two quantities by their value, and what is absent
equals what is empty.

What this does not do: it reads no annotation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from kruise.apis.core import Container, ContainerStatus, Pod, ResourceRequirements
from kruise.apis.podtemplate.images import ImageReference, parse_image
from kruise.apis.quantity import Quantity, QuantityError

__all__ = [
    "launch_priority",
    "same_image",
    "same_image_id",
    "same_quantity",
    "same_resources",
    "spec_containers",
    "status_containers",
]

BARRIER: Final = "KRUISE_CONTAINER_BARRIER"
_PREFIX: Final = len("p_")
_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_BITS: Final = 1 << 63


def spec_containers(pod: Pod) -> dict[str, Container]:
    """Return the containers of a pod by name, in their order; init containers are not among them."""
    return {container.name: container for container in pod.spec.containers}


def status_containers(pod: Pod) -> dict[str, ContainerStatus]:
    """Return what is reported of the containers of a pod, by name."""
    return {status.name: status for status in pod.status.container_statuses}


def launch_priority(container: Container) -> int | None:
    """Return how early the container starts, or ``None`` when it takes no part in an order.

    The number stands behind ``p_`` in the key that the barrier variable shows. One that is none counts as 0, a variable
    that shows no ConfigMap as absent.
    """
    for variable in container.env:
        if variable.name == BARRIER:
            key = variable.value_from.config_map_key_ref if variable.value_from else None
            return None if key is None else _integer(key.key[_PREFIX:])
    return None


def _integer(text: str) -> int:
    number = int(text) if _INTEGER.fullmatch(text) else 0
    return number if -_BITS <= number < _BITS else 0


@lru_cache(maxsize=1024)
def _parsed(reference: str) -> ImageReference | None:
    return parse_image(reference)


def same_image(a: str, b: str) -> bool:
    """Tell whether two references name the same image.

    >>> same_image("nginx", "docker.io/library/nginx:latest")
    True
    """
    if a == b:
        return True
    left, right = _parsed(a), _parsed(b)
    if left is None or right is None or left.name != right.name:
        return False
    if left.digest and right.digest:
        return left.digest == right.digest
    return left.digest == right.digest and left.tag == right.tag


def same_image_id(a: str, b: str) -> bool:
    """Tell whether two imageIDs are of one content, however they are prefixed.

    >>> same_image_id("docker-pullable://nginx@sha256:1", "docker.io/library/nginx@sha256:1")
    True
    """
    return a == b or _digest(a) == _digest(b)


def _digest(image_id: str) -> str:
    return image_id.rpartition("://")[2].rpartition("@")[2]


def runs_digest_of(reference: str, image_id: str) -> bool:
    """Tell whether *image_id* is the digest that *reference* asks for."""
    parsed = _parsed(reference)
    return parsed is not None and bool(parsed.digest) and parsed.digest == _digest(image_id)


def same_quantity(a: Any, b: Any) -> bool:
    """Tell whether two quantities are equal; a text that is no quantity equals itself."""
    if a is None or b is None or a == b:
        return bool(a == b)
    return _amount(a) == _amount(b)


@lru_cache(maxsize=1024)
def _amount(value: str | float) -> Quantity | str:
    try:
        return Quantity.from_json(value)
    except QuantityError:
        return str(value)


def same_resources(spec: ResourceRequirements, status: ResourceRequirements | None) -> bool:
    """Tell whether the limits and requests of a status are those of the spec; nothing equals an empty map."""
    limits, requests = (status.limits, status.requests) if status is not None else ({}, {})
    return _same_amounts(spec.limits, limits) and _same_amounts(spec.requests, requests)


def _same_amounts(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.keys() == b.keys() and all(same_quantity(a[name], b[name]) for name in a)
