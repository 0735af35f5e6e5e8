"""What differs between two pod templates beyond the images of their containers.

Purpose: the rule of InPlaceOnly, in validation (spec/advanced-statefulset 1.6).

Guarantees: both sides are completed with the API's defaults and written in Go's form first, so that a field left out
equals its default and a quantity any spelling of it (section 16, row 21). Only the image of a container is an image:
neither an init container's nor a pull policy (row 15).

What this does not do: labels and annotations of the template are not looked at. Whether a pod can be updated in place
is decided elsewhere; this says what a user may write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from kruise.apis.go_encoding import canonical
from kruise.apis.podtemplate import default_pod_template

__all__ = ["first_difference"]

_IMAGE: Final = re.compile("/containers/[0-9]+/image")
_POD_SPEC: Final = "core.v1.PodSpec"


def first_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return the first difference of the pod specs that is no new image, as a JSON patch names it; ``""`` if none.

    >>> first_difference({"spec": {"containers": [{"image": "a"}]}}, {"spec": {"containers": [{"image": "b"}]}})
    ''
    >>> first_difference({"spec": {}}, {"spec": {"nodeName": "n"}})
    'add /nodeName'
    """
    specs = [canonical(default_pod_template(one)["spec"], _POD_SPEC) for one in (old, new)]
    for operation, path in _differences(specs[0], specs[1], ""):
        if operation != "replace" or not _IMAGE.fullmatch(path):
            return f"{operation} {path}"
    return ""


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, str]]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            at = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key in old and key in new:
                yield from _differences(old[key], new[key], at)
            else:
                yield ("add" if key in new else "remove"), at
    elif not (isinstance(old, list) and isinstance(new, list)):
        yield "replace", path
    elif len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(before, after, f"{path}/{index}")
    else:
        yield from (("remove", f"{path}/{index}") for index in _left(old, new))
        yield from (("add", f"{path}/{index}") for index in _left(new, old))


def _left(items: list[Any], others: list[Any]) -> Iterator[int]:
    """Yield the places of *items* that have no equal in *others*; each of *others* stands for one."""
    free = list(others)
    for index, item in enumerate(items):
        if item in free:
            free.remove(item)
        else:
            yield index
