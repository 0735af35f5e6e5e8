"""What is observed of one SidecarSet: the pods that it selects, and the ordered sets that a plan asks.

Purpose: a pod event costs the same with 10 and with 10,000 pods: the view judges that one pod again and moves it
between a few sorted lists; planner and status ask only these (performance 4.4). Which sets a pod concerns at all is
told by ``index``.

Guarantees:

* What a view says depends on the present set, pods, namespaces and canaries only, never on the order of events: one
  that was told every change equals one that is built from scratch (a property test; :meth:`View.difference`).
* A set whose spec cannot be used selects nothing. A pod that cannot be decoded is counted, and never upgraded.

What this does not do: it reads no cache and no clock, and it decides nothing.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, TypeVar

from kruise.apis.core import Pod
from kruise.apis.sidecarset import SidecarSet
from kruise.controllers.sidecarset import slots as m
from kruise.controllers.sidecarset.frame import Frame
from kruise.controllers.sidecarset.order import Rank, ranking
from kruise.controllers.sidecarset.slots import NO_RANK, Slot, Surroundings, judge, selected
from kruise.runtime.objects import Key, Unreadable

__all__ = ["View"]

_LISTED: Final = (
    m.UNREADABLE, m.BUSY, m.STARTED, m.IMMUTABLE, m.FLIP, m.REPAIR, m.MARK_NO, m.MARK_YES, m.MISSED, m.LACKING,
)  # fmt: skip
"""The marks whose pods a plan or a status names."""
_TOLD: Final = m.BUSY | m.STARTED
"""The marks of pods of which a status tells what they wait for: any news may change that."""

Place = tuple[Rank, Key]
T = TypeVar("T")


class View:
    """The observed state of one set. Tell it every change; ask ``plan`` with it."""

    def __init__(
        self, one: SidecarSet, *, revision: str = "", own_namespace: str = "", canaries: Collection[str] = ()
    ) -> None:
        """Begin with no pods. *revision* is the name of the latest ControllerRevision."""
        self.frame = Frame.of(one)
        self.revision = revision
        """The name of the revision that upgraded pods get; the one that the caller chose."""
        self._around = Surroundings(own_namespace, frozenset(canaries))
        self._rank = ranking(one.spec.update_strategy.priority_strategy)
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._slots: dict[Key, Slot] = {}
        self._strangers: dict[Key, Pod | Unreadable] = {}
        """Pods that the labels select, in namespaces that are not."""
        self._counts = [0] * m.BITS
        self._listed: dict[int, list[Key]] = {mark: [] for mark in _LISTED}
        self._waiting: list[Place] = []
        self._waiting_down = 0
        self._revisions: Counter[str] = Counter()
        self._scatter_keys = _scatter_keys(one)
        self._labels: Counter[tuple[str, str]] = Counter()

    @classmethod
    def of(
        cls,
        one: SidecarSet,
        pods: Iterable[Pod | Unreadable],
        namespaces: Mapping[str, Mapping[str, str]],
        *,
        revision: str = "",
        own_namespace: str = "",
        canaries: Collection[str] = (),
    ) -> View:
        """Build a view from scratch. *namespaces* are labels by name."""
        view = cls(one, revision=revision, own_namespace=own_namespace, canaries=canaries)
        for name, labels in namespaces.items():
            view.set_namespace(name, labels)
        for pod in pods:
            view.set_pod(pod.key, pod)
        return view

    # What a plan asks.

    def count(self, mark: int) -> int:
        """Return how many pods have *mark*."""
        return self._counts[mark.bit_length() - 1]

    def listed(self, mark: int) -> list[Key]:
        """Return the pods with *mark*, by namespace and name: the view's own list, not to be changed."""
        return self._listed[mark]

    def get(self, key: Key) -> Slot | None:
        """Return what is known of a selected pod."""
        return self._slots.get(key)

    def pod(self, key: Key) -> Pod:
        """Return a pod that can be acted on."""
        pod = self._slots[key].pod
        assert isinstance(pod, Pod)
        return pod

    @property
    def waiting(self) -> list[Place]:
        """The pods that may be upgraded, with their ranks, first ones first: not to be changed."""
        return self._waiting

    @property
    def waiting_down(self) -> int:
        """How many of the waiting pods do not work anyway."""
        return self._waiting_down

    def slots(self) -> Iterator[Slot]:
        """Yield every selected pod, by namespace and name."""
        for key in sorted(self._slots):
            yield self._slots[key]

    def strangers(self) -> Iterator[tuple[Key, Pod | Unreadable]]:
        """Yield the pods that the labels select, in namespaces that are not, by namespace and name."""
        yield from sorted(self._strangers.items(), key=lambda item: item[0])

    def labelled(self, key: str, value: str) -> int:
        """Return how many matched pods have this label; of keys that the scatter strategy names."""
        return self._labels[key, value]

    def revisions_in_use(self) -> frozenset[str]:
        """Return the names of the revisions that matched pods were injected from."""
        return frozenset(self._revisions)

    def has_stake(self, pod: Pod | Unreadable) -> bool:
        """Tell whether the labels of the set select the pod, wherever it is."""
        return self.frame.matcher.selects_labels(pod.metadata.labels)

    # What a view is told.

    def set_set(self, one: SidecarSet) -> bool:
        """Take a newer version of the set. True asks the caller to tell all pods of the cluster again."""
        old = self.frame.set
        if old is one:
            return False
        same_selector = old.spec.selector == one.spec.selector
        if old.spec == one.spec and old.metadata.annotations == one.metadata.annotations:
            self.frame = Frame.of(one)  # hashes and spec are as before, so every pod is what it was
            return False
        pods = [(slot.key, slot.pod) for slot in self._slots.values()] + list(self._strangers.items())
        for slot in list(self._slots.values()):
            self._leave(slot)
        self._slots.clear()
        self._strangers.clear()
        self.frame = Frame.of(one)
        self._rank = ranking(one.spec.update_strategy.priority_strategy)
        self._scatter_keys = _scatter_keys(one)
        for key, pod in pods:
            self.set_pod(key, pod)
        return not same_selector

    def set_canaries(self, names: Collection[str]) -> None:
        """Take the names of the canaries of this set."""
        if frozenset(names) != self._around.canaries:
            self._around = Surroundings(self._around.own_namespace, frozenset(names))
            for slot in list(self._slots.values()):
                self._leave(slot)
                self._enter(slot)

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> bool:
        """Take the labels of a namespace; ``None`` when it is gone. Returns whether pods of it changed."""
        old = self._namespaces.get(name)
        if labels is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = labels
        matcher = self.frame.matcher
        if matcher.selects_namespace(old) == matcher.selects_namespace(labels):
            return False
        moved = [(key, slot.pod) for key, slot in self._slots.items() if key.namespace == name]
        moved += [(key, pod) for key, pod in self._strangers.items() if key.namespace == name]
        for key, _ in moved:
            self.set_pod(key, None)
        for key, pod in moved:
            self.set_pod(key, pod)
        return bool(moved)

    def set_pod(self, key: Key, pod: Pod | Unreadable | None) -> bool:
        """Take the present version of the pod *key*; ``None`` when it is gone. Returns whether anything follows."""
        slot = self._slots.get(key)
        if slot is not None and slot.pod is pod:
            return False
        if pod is None or not self.frame.matcher.selects_labels(pod.metadata.labels):
            self._strangers.pop(key, None)
        elif not selected(self.frame, pod, self._namespaces):
            self._strangers[key] = pod
        else:
            self._strangers.pop(key, None)
            if slot is None:
                self._slots[key] = slot = Slot(key, pod)
                self._enter(slot)
                return slot.marks != 0
            return self._replace(slot, pod)
        if slot is None:
            return False
        self._leave(slot)
        del self._slots[key]
        return slot.marks != 0

    # Inside.

    def _replace(self, slot: Slot, pod: Pod | Unreadable) -> bool:
        before = (slot.marks, slot.rank, slot.revision, slot.pod.metadata.uid)
        relabelled = slot.pod.metadata.labels != pod.metadata.labels
        self._leave(slot)
        slot.pod = pod
        self._enter(slot)
        if before != (slot.marks, slot.rank, slot.revision, pod.metadata.uid) or slot.has(_TOLD):
            return True
        chosen = self.frame.set.spec.update_strategy.selector is not None
        return relabelled and slot.has(m.MATCHED) and (chosen or bool(self._scatter_keys))

    def _enter(self, slot: Slot) -> None:
        """Count *slot* as it is now."""
        slot.marks, slot.revision = judge(self.frame, slot.pod, self._around)
        slot.rank = NO_RANK
        self._tally(slot, 1)
        for mark in _LISTED:
            if slot.marks & mark:
                insort(self._listed[mark], slot.key)
        if slot.has(m.WAITING):
            assert isinstance(slot.pod, Pod)
            slot.rank = self._rank(slot.pod)
            insort(self._waiting, (slot.rank, slot.key))
            self._waiting_down += not slot.has(m.UP)

    def _leave(self, slot: Slot) -> None:
        """Take back what :meth:`_enter` counted; to be called before anything of *slot* changes."""
        self._tally(slot, -1)
        for mark in _LISTED:
            if slot.marks & mark:
                keys = self._listed[mark]
                del keys[bisect_left(keys, slot.key)]
        if slot.has(m.WAITING):
            del self._waiting[bisect_left(self._waiting, (slot.rank, slot.key))]
            self._waiting_down -= not slot.has(m.UP)

    def _tally(self, slot: Slot, by: int) -> None:
        marks = slot.marks
        while marks:
            low = marks & -marks
            self._counts[low.bit_length() - 1] += by
            marks ^= low
        if not slot.has(m.MATCHED):
            return
        if slot.revision:
            _add(self._revisions, slot.revision, by)
        labels = slot.pod.metadata.labels
        for key in self._scatter_keys:
            if key in labels:
                _add(self._labels, (key, labels[key]), by)

    def difference(self, other: View) -> str:
        """Say in what this view differs from one that was built anew; ``""`` when it does not."""
        mine, theirs = self._contents(), other._contents()
        return next((f"{name}: {mine[name]} != {theirs[name]}" for name in mine if mine[name] != theirs[name]), "")

    def _contents(self) -> dict[str, object]:
        return {
            "slots": {key: (slot.marks, slot.rank, slot.revision) for key, slot in self._slots.items()},
            "strangers": sorted(self._strangers),
            "counts": self._counts,
            "listed": self._listed,
            "waiting": self._waiting,
            "waiting down": self._waiting_down,
            "revisions": self._revisions,
            "labels": self._labels,
        }


def _add(counter: Counter[T], item: T, by: int) -> None:
    """Count *item*; what is not there any more is not kept."""
    counter[item] += by
    if not counter[item]:
        del counter[item]


def _scatter_keys(one: SidecarSet) -> tuple[str, ...]:
    return tuple(dict.fromkeys(term.key for term in one.spec.update_strategy.scatter_strategy))
