"""The feature gates and facts of the cluster that decide how a pod is updated in place.

Guarantees: a version of the API server that cannot be read counts as older than 1.32 (spec/advanced-statefulset 7.3);
without a node daemon nothing waits for one (section 16, row 17).

What this does not do: it reads no flags; whoever builds a controller fills it in from the process's gates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = ["Gates"]

_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)(?:\.\d+)?")
_RESIZE_SINCE: Final = (1, 32)


@dataclass(frozen=True, slots=True)
class Gates:
    """What is turned on, and which API server answers."""

    env_from_metadata: bool = True
    """InPlaceUpdateEnvFromMetadata."""
    vertical_scaling: bool = False
    """InPlaceWorkloadVerticalScaling."""
    merged_status_patch: bool = True
    """MergedPodStatusPatch: metadata of a pod changes in the same patch as its status."""
    label_only_with_hooks: bool = False
    """LifecycleLabelOnlyWithHooks."""
    recreate_on_claim_change: bool = False
    """RecreatePodWhenChangeVCTInCloneSetGate: revisions that name different claim templates are never in place."""
    daemon: bool = False
    """Whether a node daemon writes what runs into the annotations of pods."""
    server_version: str = ""
    """``gitVersion`` of the API server: ``v1.37.2``."""

    @property
    def restarts_for_metadata(self) -> bool:
        """Whether a changed label or annotation restarts the containers whose variables show it."""
        return self.env_from_metadata and self.daemon

    @property
    def resizes_apart(self) -> bool:
        """Whether resources change through ``pods/resize``; before 1.32 they change with the pod."""
        return self.vertical_scaling and _at_least(self.server_version, _RESIZE_SINCE)


@lru_cache(maxsize=16)
def _at_least(version: str, wanted: tuple[int, int]) -> bool:
    found = _VERSION.match(version)
    return found is not None and (int(found[1]), int(found[2])) >= wanted
