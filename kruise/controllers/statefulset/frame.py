"""What a view knows of the set itself: everything that is the same for all its pods.

Purpose: range, claim templates, ranking and revisions are made once for each spec, not once for each event.

Guarantees: a spec with a wrong field still gives a frame; ``problem`` names the field, and the plan goes no further
than what the field does not touch (G8).

What this does not do: it knows no pods.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from kruise.apis.intorstring import Scaled, statefulset_max_unavailable, statefulset_scale_max_unavailable
from kruise.apis.ordinals import OrdinalRange, ordinal_range, parse_reserved
from kruise.apis.selectors import SelectorError, display
from kruise.apis.statefulset import (
    ON_POD_ROLLING_UPDATE,
    ORDERED_READY,
    ROLLING_UPDATE,
    Lifecycle,
    RollingUpdate,
    StatefulSet,
)
from kruise.controllers.common.revisions import Chosen
from kruise.controllers.statefulset.claims import ClaimTemplate, ClaimTemplateError, claim_templates
from kruise.controllers.statefulset.order import Ranking, first_candidate, ranking
from kruise.controllers.statefulset.settings import Settings

__all__ = ["Frame", "make_frame"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One version of a set, ready to be asked."""

    sts: StatefulSet
    chosen: Chosen
    settings: Settings
    ordinals: OrdinalRange
    templates: tuple[ClaimTemplate, ...]
    rolling: RollingUpdate
    """The rolling update, its defaults where the set has none (spec 1.4)."""
    ranking: Ranking
    floor: int
    """The lowest ordinal that an ordered update may touch."""
    budget: Scaled
    """maxUnavailable of the update."""
    throttle: Scaled | None
    """maxUnavailable of the scale strategy."""
    resizes: bool
    """Whether new sizes of claims are rolled out."""
    selector: str
    """The selector as people read it."""
    problem: str = ""
    """What is wrong with the claim templates or the priorities: no pod is created or updated while it stands."""

    @property
    def update_name(self) -> str:
        """The name of the update revision."""
        return self.chosen.update.name

    @property
    def current_name(self) -> str:
        """The name of the current revision."""
        return self.chosen.current.name

    @property
    def ordered(self) -> bool:
        """Whether pods wait for each other: OrderedReady, the default."""
        return self.sts.spec.pod_management_policy in (ORDERED_READY, "")

    @property
    def rolls(self) -> bool:
        """Whether the strategy is RollingUpdate, the default."""
        return self.sts.spec.update_strategy.type in (ROLLING_UPDATE, "")

    @property
    def unordered(self) -> bool:
        """Whether priorities, not ordinals, say which pod is updated first."""
        return self.rolling.unordered_update is not None

    @property
    def lifecycle(self) -> Lifecycle | None:
        """The hooks of the set."""
        return self.sts.spec.lifecycle

    @property
    def min_ready(self) -> int:
        """For how many seconds a pod must be ready to be available."""
        return self.rolling.min_ready_seconds


def make_frame(sts: StatefulSet, chosen: Chosen, settings: Settings) -> Frame:
    """Read *sts*. Nothing raises: a wrong field becomes the frame's problem."""
    spec = sts.spec
    rolling = spec.update_strategy.rolling_update or RollingUpdate()
    start = spec.ordinals.start if spec.ordinals is not None and settings.start_ordinal else 0
    ordinals = ordinal_range(spec.replicas, start, parse_reserved(spec.reserve_ordinals))
    problems: list[str] = []
    try:
        templates = claim_templates(sts)
    except ClaimTemplateError as error:
        templates = ()
        problems.append(str(error))
    try:
        order = ranking(rolling.unordered_update)
    except SelectorError as error:
        order = ranking(None)
        problems.append(f"spec.updateStrategy.rollingUpdate.unorderedUpdate: {error}")
    throttle = spec.scale_strategy.max_unavailable if spec.scale_strategy is not None else None
    return Frame(
        sts=sts,
        chosen=chosen,
        settings=settings,
        ordinals=ordinals,
        templates=templates,
        rolling=rolling,
        ranking=order,
        floor=first_candidate(ordinals, rolling.partition),
        budget=statefulset_max_unavailable(rolling.max_unavailable, spec.replicas),
        throttle=statefulset_scale_max_unavailable(throttle, spec.replicas),
        resizes=settings.auto_resize_claims and spec.volume_claim_update_strategy.type == ON_POD_ROLLING_UPDATE,
        selector="" if spec.selector is None else display(msgspec.to_builtins(spec.selector)),
        problem="; ".join(problems),
    )
