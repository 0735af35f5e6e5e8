"""What a SidecarSet asks of its pods, read once for each version of the set.

Purpose: pods are judged by the thousand; selectors, container names and hashes are worked out before.

Guarantees: a frame never raises: what cannot be used in a set (a selector with an unknown operator, a list of
containers of a wrong shape) is its ``problem``, and such a set matches nothing and changes nothing (X29, X13). A null
or an empty selector matches no pod (spec/sidecarset 7.3).

What this does not do: it knows no pod.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from kruise.apis.selectors import EVERYTHING, NOTHING, Selector, SelectorError, convert_fast
from kruise.apis.sidecarset import NOT_UPDATE, Sidecar, SidecarSet, sidecars
from kruise.apis.statefulset import LabelSelector
from kruise.controllers.sidecarset.match import Matcher

__all__ = ["Frame", "Target", "matcher_of"]


@dataclass(frozen=True, slots=True)
class Target:
    """A sidecar that is upgraded in place: one container, or two twins."""

    name: str
    image: str
    hot: bool
    empty: str
    """The image of the idle twin."""
    names: tuple[str, ...] = field(init=False)
    """The names of its containers in a pod."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", (f"{self.name}-1", f"{self.name}-2") if self.hot else (self.name,))

    def twin_of(self, container: str) -> str:
        """Return the other one of the twins."""
        return self.names[1] if container == self.names[0] else self.names[0]


@dataclass(frozen=True, slots=True)
class Frame:
    """One version of a set."""

    set: SidecarSet
    targets: tuple[Target, ...]
    """Its ``spec.containers``, in their order."""
    natives: tuple[str, ...]
    """The names of its native sidecars among the init containers."""
    pod_names: frozenset[str]
    """The names of the targets' containers in a pod."""
    sidecar_list: tuple[str, ...]
    """What the hash annotation notes: targets and native sidecars by their base names, sorted."""
    matcher: Matcher
    chosen: Selector
    """Which of its pods are to be upgraded."""
    problem: str = ""

    @classmethod
    def of(cls, one: SidecarSet) -> Frame:
        """Read *one*."""
        problems: list[str] = []
        spec = one.spec
        containers = _sidecars(spec.containers, "spec.containers", problems)
        natives = [c for c in _sidecars(spec.init_containers, "spec.initContainers", problems) if c.native]
        targets = tuple(
            Target(c.name, c.image, c.hot, c.upgrade_strategy.hot_upgrade_empty_image if c.hot else "")
            for c in containers
        )
        matcher = _matcher(one, problems)
        chosen = EVERYTHING
        if spec.update_strategy.selector is not None:
            chosen = _chosen(spec.update_strategy.selector)
        return cls(
            set=one,
            targets=targets,
            natives=tuple(c.name for c in natives),
            pod_names=frozenset(name for target in targets for name in target.names),
            sidecar_list=tuple(sorted({t.name for t in targets} | {c.name for c in natives})),
            matcher=_NOBODY if problems else matcher,
            chosen=chosen,
            problem="; ".join(problems),
        )

    @property
    def name(self) -> str:
        """The name of the set."""
        return self.set.metadata.name

    @property
    def updates(self) -> bool:
        """Whether running pods are upgraded at all."""
        return self.set.spec.update_strategy.type != NOT_UPDATE

    @property
    def paused(self) -> bool:
        """Whether upgrades are paused."""
        return self.set.spec.update_strategy.paused

    @property
    def hot(self) -> tuple[Target, ...]:
        """The targets with twins."""
        return tuple(target for target in self.targets if target.hot)


def _sidecars(raw: msgspec.Raw, path: str, problems: list[str]) -> tuple[Sidecar, ...]:
    try:
        return sidecars(raw)
    except msgspec.DecodeError as error:
        problems.append(f"{path}: {error}")
        return ()


def matcher_of(one: SidecarSet) -> Matcher:
    """Return the two selectors of *one*. Raises SelectorError for an operator that does not exist."""
    names = {"selector": one.spec.selector, "namespaceSelector": one.spec.namespace_selector}
    plain: dict[str, Any] = {name: msgspec.to_builtins(value) for name, value in names.items() if value is not None}
    return Matcher.of(plain)


def _matcher(one: SidecarSet, problems: list[str]) -> Matcher:
    try:
        return matcher_of(one)
    except SelectorError as error:
        problems.append(f"spec.selector or spec.namespaceSelector: {error}")
        return _NOBODY


def _chosen(selector: LabelSelector) -> Selector:
    """Return the selector of the update strategy; a broken one selects nothing (spec 8.1)."""
    plain: dict[str, Any] = msgspec.to_builtins(selector)
    try:
        return convert_fast(plain)
    except SelectorError:
        return NOTHING


_NOBODY: Final = Matcher(None, None)
