"""What of the process's options the planner of StatefulSets depends on.

Purpose: one frozen value instead of lookups by name; the shell makes it once from the feature gates.

Guarantees: the defaults are those of the gates (spec/advanced-statefulset 10).

What this does not do: it cannot change while the process runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.statefulset.pods import PodGates

__all__ = ["DEFAULT_SETTINGS", "Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The gates that decide what a plan says."""

    inplace: Gates = field(default_factory=Gates)
    """What an in-place update may do; it knows the version of the API server too."""
    pods: PodGates = field(default_factory=PodGates)
    """What a new pod looks like."""
    auto_delete_claims: bool = True
    """StatefulSetAutoDeletePVC: claims have the owners that the retention policy says."""
    auto_resize_claims: bool = False
    """StatefulSetAutoResizePVCGate: a new size in a claim template is rolled out."""
    start_ordinal: bool = False
    """StatefulSetStartOrdinal: ``spec.ordinals.start`` is read."""
    preparing_as_updated: bool = False
    """PreparingUpdateAsUpdate: a pod that prepares its update counts as updated where pods are put in order."""


DEFAULT_SETTINGS = Settings()
