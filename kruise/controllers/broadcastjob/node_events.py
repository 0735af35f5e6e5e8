"""Which BroadcastJobs a change of a node concerns.

Purpose: a cluster's nodes report all the time; a job is planned again only when the answer to "may a pod of it run
there" changed, or when it has a pod there.

Guarantees: a new node wakes every job that it fits; a changed node wakes the jobs for which its eligibility flipped
(spec/broadcastjob 3). Conditions and resource versions alone wake nobody; quantities are compared by value, True
conditions as sets. A job whose template cannot be read is left out here, and reported by its own reconcile.

What this does not do: it knows nothing of pods; the reconciler adds the jobs that have something on the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kruise.apis.broadcastjob import BroadcastJob
from kruise.apis.core import Node
from kruise.apis.quantity import Quantity
from kruise.controllers.broadcastjob.eligibility import fits
from kruise.controllers.broadcastjob.view import InvalidTemplateError, Template
from kruise.runtime.objects import Key

__all__ = ["TemplateCache", "affected", "same_for_pods", "same_node"]


class TemplateCache:
    """The decoded template of each job, as long as its generation stays the same."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Template | None]] = {}

    def get(self, job: BroadcastJob) -> Template | None:
        """Return the template of *job*; ``None`` when it cannot be read."""
        known = self._known.get(job.metadata.uid)
        if known is not None and known[0] == job.metadata.generation:
            return known[1]
        template: Template | None
        try:
            template = Template.read(job.spec.template)
        except InvalidTemplateError:
            template = None
        self._known[job.metadata.uid] = (job.metadata.generation, template)
        return template

    def forget(self, uid: str) -> None:
        """Drop the entry of a job that is gone."""
        self._known.pop(uid, None)

    def __len__(self) -> int:
        return len(self._known)


def affected(
    old: Node | None,
    new: Node | None,
    jobs: Iterable[BroadcastJob],
    templates: TemplateCache,
    *,
    by_scheduler: bool = True,
) -> Iterator[Key]:
    """Yield the keys of the jobs that the change from *old* to *new* concerns, in the order of *jobs*."""
    if new is None or (old is not None and same_node(old, new)):
        return
    for job in jobs:
        template = templates.get(job)
        if template is None:
            continue
        before = old is not None and _fits(template, old, by_scheduler=by_scheduler)
        if before != _fits(template, new, by_scheduler=by_scheduler):
            yield job.key


def _fits(template: Template, node: Node, *, by_scheduler: bool) -> bool:
    name = None if by_scheduler else node.metadata.name
    return fits(template.decoded.spec, template.demand, node, node_name=name) is None


def same_node(old: Node, new: Node) -> bool:
    """Tell whether nothing changed for which OpenKruise looks at a node."""
    return (
        _true_conditions(old) == _true_conditions(new)
        and old.metadata.annotations == new.metadata.annotations
        and old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        and same_for_pods(old, new)
    )


def same_for_pods(old: Node, new: Node) -> bool:
    """Tell whether every pod fits the new node exactly if it fits the old one."""
    return (
        old.spec == new.spec
        and old.metadata.uid == new.metadata.uid
        and old.metadata.labels == new.metadata.labels
        and _same_amounts(old.status.allocatable, new.status.allocatable)
    )


def _true_conditions(node: Node) -> set[str]:
    return {c.type for c in node.status.conditions if c.status == "True"}


def _same_amounts(old: Mapping[str, str | int | float], new: Mapping[str, str | int | float]) -> bool:
    if old == new:
        return True
    if old.keys() != new.keys():
        return False
    try:
        return all(Quantity.parse(str(old[name])) == Quantity.parse(str(new[name])) for name in old)
    except ValueError:
        return False  # what cannot be read is compared as it is written
