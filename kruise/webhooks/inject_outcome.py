"""What an injection is asked, and what it answers.

Guarantees: the values of :class:`NoteReason` stand in events and in the output of commands; they do not change.

What this does not do: nothing here decides anything.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import msgspec

__all__ = ["LEFT_OUT", "UNCHANGED", "InjectionRefused", "Note", "NoteReason", "Outcome", "Request"]


class InjectionRefused(ValueError):
    """The pod cannot be created like this. The message is for the user."""

    def __init__(self, message: str, culprit: str = "") -> None:
        super().__init__(message)
        self.culprit: Final = culprit
        """The set, and the container of it, on account of which; empty where it is the pod's own fault."""

    @property
    def told(self) -> str:
        """The message with its culprit: whoever creates a pod may know nothing of the sets that select it."""
        return f"{self.culprit}: {self}" if self.culprit else str(self)


class NoteReason(enum.StrEnum):
    """Why a set gives a pod nothing, or what was odd about it."""

    INJECTED = "Injected"
    EXEMPT = "PodExempt"
    NOT_ACTIVE = "PodNotActive"
    PAUSED = "InjectionPaused"
    NAMESPACE_NOT_SELECTED = "NamespaceNotSelected"
    LABELS_NOT_SELECTED = "LabelsNotSelected"
    CANARY = "ReplacedByCanary"
    CONFLICT = "ContainerConflict"
    POD_SECURITY = "PodSecurity"
    UNUSABLE = "SidecarSetUnusable"
    REPLACED = "ContainerReplaced"


LEFT_OUT: Final = frozenset({NoteReason.CONFLICT, NoteReason.POD_SECURITY})
"""The reasons for which a set that selects the pod gives it nothing."""


@dataclass(frozen=True, slots=True)
class Note:
    """One remark about one set. ``set_name`` is ``""`` for a remark about the pod."""

    set_name: str
    reason: NoteReason
    message: str


class Request(msgspec.Struct, frozen=True, gc=False):
    """What the API server says beside the pod."""

    uid: str = ""
    namespace: str = ""
    operation: str = "CREATE"
    resource: str = "pods"
    sub_resource: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """The answer. An empty patch leaves the pod as it is."""

    patch: bytes = b""
    injected: tuple[str, ...] = ()
    """The sets of which the pod gets containers, in their order."""
    notes: tuple[Note, ...] = ()


UNCHANGED: Final = Outcome()
