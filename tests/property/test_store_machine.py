"""The store against a plain dict: whatever happens, in whatever order (STO1, STO3 to STO7)."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kruise.runtime.cache.index import Index
from kruise.runtime.cache.store import Change, Store
from kruise.runtime.objects import Key, Unreadable
from tests.unit.cache.fake_server import PODS, Pod
from tests.unit.cache.test_store import StillClock, bad, pod

NAMES = st.sampled_from(["a", "b", "c", "d"])
OWNERS = st.sampled_from(["", "o1", "o2"])
NODES = st.sampled_from([None, "n1", "n2"])
SIZES = st.integers(0, 4)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store: Store[Pod] = Store(PODS, clock=StillClock())
        self.store.add_index(Index("size", self.size))
        self.model: dict[Key, Pod | Unreadable] = {}
        self.told: dict[Key, Pod | Unreadable] = {}
        self.version = 10
        self.wanted: dict[int, int] = {}
        self.fired: list[int] = []
        self.applied = 0

    @staticmethod
    def size(p: Pod) -> list[int]:
        assert p.spec is not None
        if p.spec.size == 4:
            raise ValueError("four")
        return [p.spec.size]

    def make(self, name: str, uid: int, owner: str, node: str | None, size: int) -> Pod | Unreadable:
        if size == 3:
            return bad(name, self.version, owner=owner, uid=f"{name}{uid}")
        return pod(name, self.version, uid=f"{name}{uid}", owner=owner, node_name=node, size=size)

    def tell(self, changes: Any) -> None:
        for change in changes:
            assert isinstance(change, Change)
            key = change.key
            if change.old is None:
                assert key not in self.told, "an addition of what is there"
                self.told[key] = change.new
            elif change.new is None:
                assert self.told.pop(key).uid == change.old.uid, "a deletion of another incarnation"
            else:
                assert self.told[key] is change.old and change.old.uid == change.new.uid
                self.told[key] = change.new

    @rule(name=NAMES, uid=st.integers(0, 2), owner=OWNERS, node=NODES, size=SIZES)
    def put(self, name: str, uid: int, owner: str, node: str | None, size: int) -> None:
        self.version += 1
        obj = self.make(name, uid, owner, node, size)
        self.tell(self.store.put(obj))
        self.model[obj.key] = obj
        self.store.advance(str(self.version))
        self.applied = self.version

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def put_older(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        known = self.model[key]
        older = pod(key.name, int(known.resource_version) - 1, uid=known.uid)
        before = self.store.stale
        assert self.store.put(older) == () and self.store.stale == before + 1

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        self.version += 1
        known = self.model.pop(key)
        self.tell(self.store.remove(pod(key.name, self.version, uid=known.uid)))
        self.store.advance(str(self.version))
        self.applied = self.version

    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        self.version += 1
        kept = data.draw(st.sets(st.sampled_from(sorted(self.model)))) if self.model else set()
        made = data.draw(st.lists(st.tuples(NAMES, st.integers(0, 2), OWNERS, NODES, SIZES), max_size=3))
        staging = self.store.staging()
        content = {key: self.model[key] for key in sorted(kept)}
        for args in made:
            obj = self.make(*args)
            content[obj.key] = obj
        for obj in content.values():
            staging.add(obj)
        changes = self.store.replace(staging, str(self.version))
        gone = [c.new is None for c in changes]
        assert gone == sorted(gone, reverse=True), "deletions first"
        self.tell(changes)
        self.model = content
        self.applied = self.version

    @rule(ahead=st.integers(-3, 5))
    def wait(self, ahead: int) -> None:
        number = len(self.wanted)
        self.wanted[number] = max(1, self.version + ahead)
        self.store.on_version(str(self.wanted[number]), lambda: self.fired.append(number))

    @rule()
    def bookmark(self) -> None:
        self.version += 1
        self.store.advance(str(self.version))
        self.applied = self.version

    def is_unreadable(self, obj: Pod | Unreadable) -> bool:
        return isinstance(obj, Unreadable) or (obj.spec is not None and obj.spec.size == 4)

    @invariant()
    def content_is_the_models(self) -> None:
        good = {k: o for k, o in self.model.items() if not self.is_unreadable(o)}
        assert {o.key: (o.uid, o.resource_version) for o in self.store.list()} == {
            k: (o.uid, o.resource_version) for k, o in good.items()
        }
        assert {o.key for o in self.store.unreadable()} == self.model.keys() - good.keys()
        assert len(self.store) == len(self.model)
        assert all(self.store.raw(k) is not None for k in self.model)

    @invariant()
    def what_was_told_is_the_content(self) -> None:
        assert self.told == {o.key: o for o in (*self.store.list(), *self.store.unreadable())}

    @invariant()
    def every_index_equals_a_full_scan(self) -> None:
        objects = self.store.list()

        def scan(test: Any) -> set[Key]:
            return {o.key for o in objects if test(o)}

        def found(name: str, value: Any) -> set[Key]:
            return {o.key for o in self.store.by_index(name, value)}

        for owner in ("o1", "o2"):
            assert found("owner", owner) == scan(
                lambda o, owner=owner: [r.uid for r in o.metadata.owner_references] == [owner]
            )
            assert {o.key for o in self.store.unreadable_by_index("owner", owner)} == {
                o.key for o in self.store.unreadable() if [r.uid for r in o.metadata.owner_references] == [owner]
            }
        for node in ("n1", "n2"):
            assert found("node", node) == scan(lambda o, node=node: o.spec.node_name == node)
            both = {o.key for o in self.store.select(("node", node), ("owner", "o1"))}
            assert both == found("node", node) & found("owner", "o1")
        for size in range(5):
            assert found("size", size) == scan(lambda o, size=size: o.spec.size == size)
        assert found("namespace", "default") == scan(lambda o: True)
        for table in self.store._indexes.tables():
            assert all(table.values()), "an empty value takes memory"

    @invariant()
    def waiters_fire_once_and_when_due(self) -> None:
        due = {number for number, want in self.wanted.items() if want <= self.applied}
        assert sorted(self.fired) == sorted(due)


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_sto1_sto4_sto5_sto6_sto7_the_store_is_a_dict_with_indexes = StoreMachine.TestCase
