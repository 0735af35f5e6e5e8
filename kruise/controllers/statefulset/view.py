"""What is observed of one Advanced StatefulSet: its pods and claims by ordinal, and the sets that a plan reads.

The signatures; the reconciler builds against them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kruise.apis.core import Claim, Pod, StorageClass
from kruise.apis.statefulset import StatefulSet
from kruise.controllers.common.revisions import Chosen, Revision
from kruise.controllers.statefulset.settings import DEFAULT_SETTINGS, Settings
from kruise.runtime.objects import Key, Unreadable

__all__ = ["View"]


class View:
    """The observed state of one set. Tell it every change; ask :func:`plan` with it."""

    def __init__(
        self, sts: StatefulSet, chosen: Chosen, revisions: Mapping[str, Revision], settings: Settings = DEFAULT_SETTINGS
    ) -> None:
        """*sts* as it is stored; the defaults of spec 1.4 are applied here. *revisions*: every listed one, by name."""
        raise NotImplementedError

    @classmethod
    def of(
        cls,
        sts: StatefulSet,
        chosen: Chosen,
        revisions: Mapping[str, Revision],
        pods: Iterable[Pod | Unreadable],
        claims: Iterable[Claim] = (),
        classes: Mapping[str, StorageClass] | None = None,
        *,
        settings: Settings = DEFAULT_SETTINGS,
    ) -> View:
        """Build a view from scratch; *pods* are the claimed ones."""
        raise NotImplementedError

    def set_sts(self, sts: StatefulSet, chosen: Chosen, revisions: Mapping[str, Revision]) -> None:
        """Take the present set and its revisions, after those that ``chosen.writes`` asks for were written."""

    def set_pod(self, key: Key, pod: Pod | Unreadable | None) -> None:
        """Take the present version of a pod that is claimed; ``None``: it is gone, or no pod of this set any more."""

    def set_claim(self, key: Key, claim: Claim | Unreadable | None) -> None:
        """Take the present version of any claim of the namespace; those that no ordinal could have are ignored."""

    def set_storage_classes(self, classes: Mapping[str, StorageClass]) -> None:
        """Take the storage classes of the cluster, by name."""

    def live_revisions(self) -> frozenset[str]:
        """Return the names of the revisions that must be kept: current, update, and those of all pods."""
        raise NotImplementedError

    def difference(self, other: View, now: float) -> str:
        """Return what differs between two views of one state, ``""`` when nothing does: the self-check."""
        raise NotImplementedError
