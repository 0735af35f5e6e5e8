from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kruise.runtime.objects import Key
from kruise.simulator.apiserver.storage import Compacted, Storage


def obj(value=0):
    return {"metadata": {"uid": "u"}, "value": value}


def test_the_history_has_every_commit_with_what_was_before():
    storage = Storage()
    key = Key("ns", "a")
    storage.put("pods", key, obj(1), actor="x", request=7)
    storage.put("pods", key, obj(2), actor="y")
    storage.remove("pods", key, actor="z")
    assert [(c.rv, c.type, c.actor, c.request) for c in storage.commits] == [
        (2, "ADDED", "x", 7),
        (3, "MODIFIED", "y", -1),
        (4, "DELETED", "z", -1),
    ]
    assert storage.commits[1].previous is storage.commits[0].new
    assert storage.commits[2].new.obj["value"] == 2
    assert storage.commits[2].new.obj["metadata"]["resourceVersion"] == "4"
    assert storage.commits[1].new.obj["metadata"]["resourceVersion"] == "3"


def test_a_snapshot_does_not_see_later_commits():
    storage = Storage()
    for name in "cab":
        storage.put("pods", Key("ns", name), obj(), actor="")
    then = storage.rv
    storage.remove("pods", Key("ns", "a"), actor="")
    storage.put("pods", Key("ns", "d"), obj(), actor="")
    snapshot = storage.snapshot("pods", then)
    assert [k.name for k in snapshot.keys] == ["a", "b", "c"]
    assert [k.name for k in storage.snapshot("pods").keys] == ["b", "c", "d"]
    assert storage.snapshot("pods", then) is snapshot


def test_below_the_floor_nothing_can_be_read():
    storage = Storage(history=2)
    for i in range(6):
        storage.put("pods", Key("ns", f"p{i}"), obj(), actor="")
    assert storage.floor == storage.rv - 2
    assert len(storage.snapshot("pods", storage.floor).keys) == 4
    with pytest.raises(Compacted):
        storage.snapshot("pods", storage.floor - 1)
    assert len(storage.commits) == 6


def test_without_retain_the_memory_of_the_past_is_bounded():
    storage = Storage(history=10, retain=False)
    for i in range(1000):
        storage.put("pods", Key("ns", "p"), obj(i), actor="")
    assert len(storage.commits) <= 20
    assert storage.table("pods").after(storage.rv - 3) == 997


def test_an_object_is_encoded_once_per_form():
    storage = Storage()
    record = storage.put("pods", Key("ns", "a"), obj(), actor="")
    calls = []

    def render(body):
        calls.append(1)
        return body

    assert record.wire("v1", render) is record.wire("v1", render)
    assert len(calls) == 1
    assert orjson.loads(record.wire("v1", render))["value"] == 0


def test_a_span_is_exactly_the_namespace():
    storage = Storage()
    for namespace in ("a", "a-b", "ab", "b"):
        storage.put("pods", Key(namespace, "x"), obj(), actor="")
    snapshot = storage.snapshot("pods")
    for namespace in ("a", "a-b", "ab", "b"):
        low, high = snapshot.span(namespace)
        assert [k.namespace for k in snapshot.keys[low:high]] == [namespace]
    assert snapshot.span("c") == (4, 4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_every_old_state_can_be_read_again(steps):
    storage = Storage()
    states = {storage.rv: {}}
    model = {}
    for i, (name, put) in enumerate(steps):
        key = Key("ns", str(name))
        if put:
            storage.put("pods", key, obj(i), actor="")
            model[key] = i
        elif key in model:
            storage.remove("pods", key, actor="")
            del model[key]
        states[storage.rv] = dict(model)
    for rv, state in states.items():
        snapshot = storage.snapshot("pods", rv)
        assert {k: snapshot.records[k].obj["value"] for k in snapshot.keys} == state
        assert snapshot.keys == sorted(state)
