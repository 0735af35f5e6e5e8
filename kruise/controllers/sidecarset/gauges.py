"""What a SidecarSet shows in metrics, straight from the cache, when somebody scrapes.

Purpose: the gauges of kruise-state-metrics under their own names, without a second deployment (ecosystem 10.1).

Guarantees: computed at scrape time from the store; a set that is gone has no series. Counts and conditions are always
there; what repeats the spec, and labels, which have no bound, only when asked for. A list of containers that cannot be
read has no series.

What this does not do: no per-pod series, because their number has no bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from kruise.apis.intorstring import Scaled, sidecarset_max_unavailable, sidecarset_partition
from kruise.apis.sidecarset import NAMESPACE_NAME_LABEL, NOT_UPDATE, Sidecar, SidecarSet, sidecars
from kruise.controllers.sidecarset.match import index_keys
from kruise.runtime.cache.store import Store
from kruise.runtime.clock import parse_time
from kruise.runtime.metrics import Metrics, Sample, ScrapeFamily

__all__ = ["add_gauges"]

_OBJECT: Final = ("sidecarset",)

_Values = list[tuple[tuple[str, ...], float]]


def add_gauges(metrics: Metrics, sets: Store[SidecarSet], *, details: bool = False) -> None:
    """Register the gauges of all sets of *sets*. *details* adds those of the spec, of creation and of labels."""

    def family(name: str, text: str, value: Callable[[SidecarSet], _Values], labels: tuple[str, ...] = ()) -> None:
        found = metrics.add(ScrapeFamily(f"kruise_sidecarset_{name}", text, (*_OBJECT, *labels)))

        def samples() -> Iterable[Sample]:
            for one in sets.list():
                for extra, number in value(one):
                    yield Sample((one.metadata.name, *extra), number)

        found.add(samples)

    def count(name: str, text: str, of: Callable[[SidecarSet], int]) -> None:
        family(name, text, lambda one: [((), of(one))])

    def container(name: str, text: str, of: Callable[[Sidecar], str], label: str) -> None:
        family(name, text, lambda one: [((c.name, of(c)), 1) for c in _sidecars(one) if of(c)], ("container", label))

    count("status_replicas_matched", "Pods that have the sidecars of the set.", lambda s: s.status.matched_pods)
    count("status_replicas_updated", "Pods with the latest sidecars.", lambda s: s.status.updated_pods)
    count("status_replicas_ready", "Pods with the sidecars that are ready.", lambda s: s.status.ready_pods)
    count(
        "status_replicas_updated_ready",
        "Pods with the latest sidecars that are ready.",
        lambda s: s.status.updated_ready_pods,
    )
    count("status_observed_generation", "Generation of the set that was seen.", lambda s: s.status.observed_generation)
    family("status_condition", "Conditions of the set: 1 for the present status.", _conditions, ("condition", "status"))
    if not details:
        return
    family("created", "Creation time of the set, in seconds since the epoch.", _created)
    count("spec_metadata_generation", "Generation of the set.", lambda s: s.metadata.generation)
    family(
        "labels", "Labels of the set.", lambda s: [((k, v), 1) for k, v in s.metadata.labels.items()], ("key", "value")
    )
    family("spec_namespcace", "Namespaces that the set names as the only ones.", _namespaces, ("namespace",))
    family(
        "spec_strategy_type", "Update strategy of the set.", lambda s: _named(s.spec.update_strategy.type), ("type",)
    )
    family(
        "spec_strategy_partition",
        "Pods that an update leaves at their version; a percentage is counted out: of the matched pods, rounded up.",
        lambda s: _amount(s, sidecarset_partition(s.spec.update_strategy.partition, s.status.matched_pods)),
    )
    family(
        "spec_strategy_rollingupdate_max_unavailable",
        "Pods that an update may make unavailable; a percentage is counted out: of the matched pods, rounded up.",
        lambda s: _amount(s, sidecarset_max_unavailable(s.spec.update_strategy.max_unavailable, s.status.matched_pods)),
    )
    container("spec_containers_injectpolicy", "Where a container is injected.", lambda c: c.pod_inject_policy, "policy")
    container(
        "spec_containers_volumepolicy",
        "Whether a container sees the volumes of the pod's own ones.",
        lambda c: c.share_volume_policy.type,
        "policy",
    )
    container(
        "spec_containers_strategy_type",
        "How a container is upgraded.",
        lambda c: c.upgrade_strategy.upgrade_type,
        "type",
    )
    container(
        "spec_containers_strategy_hotupgradeemptyimage",
        "The image of the idle twin of a container.",
        lambda c: c.upgrade_strategy.hot_upgrade_empty_image,
        "image",
    )


def _sidecars(one: SidecarSet) -> Iterable[Sidecar]:
    """Return the containers, each name once: a series must not be there twice."""
    try:
        return {sidecar.name: sidecar for sidecar in sidecars(one.spec.containers)}.values()
    except msgspec.DecodeError:
        return ()


def _conditions(one: SidecarSet) -> _Values:
    return [
        ((condition.type, status.lower()), 1.0 if condition.status == status else 0.0)
        for condition in one.status.conditions
        for status in ("True", "False", "Unknown")
    ]


def _created(one: SidecarSet) -> _Values:
    stamp = parse_time(one.metadata.creation_timestamp)
    return [] if stamp is None else [((), stamp)]


def _named(name: str) -> _Values:
    return [((name,), 1.0)] if name else []


def _amount(one: SidecarSet, found: Scaled) -> _Values:
    """Return no number where no update is made, or none can be read."""
    applies = one.spec.update_strategy.type != NOT_UPDATE and not found.error
    return [((), float(found.value))] if applies else []


def _namespaces(one: SidecarSet) -> _Values:
    chosen = one.spec.namespace_selector
    if chosen is None:
        return []
    plain = msgspec.to_builtins(chosen)
    named = NAMESPACE_NAME_LABEL in (plain.get("matchLabels") or {}) or any(
        term.get("key") == NAMESPACE_NAME_LABEL and term.get("operator") == "In"
        for term in plain.get("matchExpressions") or ()
    )
    return [((name,), 1.0) for name in index_keys(plain)] if named else []
