"""Conversion between the served versions of the three kinds, behind ``/convert``.

Purpose: v1beta1, which is stored, is the hub; v1alpha1 is the spoke of each kind.

Guarantees: the rules are those of spec/sidecarset 13, spec/advanced-statefulset 1.8 and spec/broadcastjob 1. What
v1alpha1 does not have is lost on the way to it, and what it alone has keeps its meaning on the way from it.

What this does not do: BroadcastJob needs no webhook, since its versions have the same fields; it is answered for a
definition that asks nevertheless.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.apis.broadcastjob_rules import convert_broadcastjob
from kruise.apis.sidecarset import SIDECARSETS
from kruise.apis.sidecarset_rules import convert_sidecarset
from kruise.apis.statefulset import STATEFULSETS
from kruise.apis.statefulset_rules import convert_statefulset
from kruise.runtime.objects import Resource
from kruise.runtime.webhook.conversion import Conversions, Convert

__all__ = ["CONVERTED", "PATH", "conversions"]

PATH: Final = "/convert"
HUB: Final = "v1beta1"
SPOKE: Final = "v1alpha1"
CONVERTED: Final = (SIDECARSETS, STATEFULSETS)
"""The kinds whose versions differ: their definitions convert by webhook."""

_WAYS: Final[Mapping[Resource[Any], Callable[[dict[str, Any], str], dict[str, Any]]]] = {
    STATEFULSETS: convert_statefulset,
    SIDECARSETS: convert_sidecarset,
    BROADCASTJOBS: convert_broadcastjob,
}


def conversions() -> Conversions:
    """Return the ways between all versions."""
    found = Conversions()
    for resource, convert in _WAYS.items():
        found.hub(resource.group, resource.kind, HUB)
        found.spoke(resource.group, resource.kind, SPOKE, to_hub=_to(HUB, convert), from_hub=_to(SPOKE, convert))
    return found


def _to(version: str, convert: Callable[[dict[str, Any], str], dict[str, Any]]) -> Convert:
    return lambda obj: convert(obj, version)
