"""codec.py, nulls.py, intern.py, scan.py: objects that fit, and objects that do not."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any, ClassVar, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.apis.core import PODS
from kruise.runtime.client.answers import read_page
from kruise.runtime.client.codec import Codec
from kruise.runtime.client.intern import Interner
from kruise.runtime.client.nulls import cleaner
from kruise.runtime.client.scan import elements, members
from kruise.runtime.client.transport import Request, Response
from kruise.runtime.errors import BadFrame, DecodeError
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, PartialObject, Resource, Unreadable

Raw = msgspec.Raw


class Condition(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    type: str = ""
    status: str = ""
    last_probe_time: str = ""


class Container(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    name: str = ""
    image: str = ""
    args: tuple[str, ...] = ()


class Spec(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    node_name: str = ""
    parallelism: int = 1
    containers: tuple[Container, ...] = ()
    selector: dict[str, str] = msgspec.field(default_factory=dict)
    template: Raw = Raw(b"{}")
    limits: dict[str, Condition] = msgspec.field(default_factory=dict)
    deadline: int | None = None


class Status(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    phase: str = ""
    conditions: tuple[Condition, ...] = ()


class Thing(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    spec: Spec = Spec()
    status: Status = Status()


THINGS = Resource("example.io", "v1", "Thing", "things", Thing, custom=True)
TYPE = {"apiVersion": "example.io/v1", "kind": "Thing"}


def thing(**parts: Any) -> bytes:
    meta = {"name": "a", "namespace": "ns", "uid": "u1", "resourceVersion": "7", **parts.pop("metadata", {})}
    return json.dumps({**TYPE, "metadata": meta, **parts}).encode()


def test_fra3_unknown_fields_are_dropped_while_decoding() -> None:
    raw = thing(metadata={"managedFields": [{"manager": "x"}]}, spec={"nodeName": "n1", "other": {"deep": [1]}})
    obj = Codec(THINGS).decode(raw)
    assert obj.spec.node_name == "n1" and obj.key == Key("ns", "a")
    assert b"managedFields" not in msgspec.json.encode(obj) and b"other" not in msgspec.json.encode(obj)


def test_fra4_another_kind_a_table_and_a_missing_type() -> None:
    codec = Codec(THINGS)
    for kind, version in (("Table", "meta.k8s.io/v1"), ("Thing", "example.io/v2"), ("Pod", "v1")):
        raw = json.dumps({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}}).encode()
        with pytest.raises(DecodeError) as caught:
            codec.decode(raw)
        assert caught.value.path == "$.kind" and kind in str(caught.value)
        assert isinstance(codec.read(raw), Unreadable)
    item = codec.decode(b'{"metadata":{"name":"a"}}')  # an item of a list has no type of its own
    assert (item.api_version, item.kind) == ("example.io/v1", "Thing")


def test_fra4_metadata_only_objects_keep_the_kind_of_their_resource() -> None:
    codec = Codec(THINGS.partial())
    raw = b'{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{"name":"a"}}'
    assert codec.decode(raw).kind == "Thing"
    assert codec.decode(thing()).kind == "Thing"  # a server that ignores the Accept header
    with pytest.raises(DecodeError):
        Codec(THINGS).decode(raw)


@pytest.mark.parametrize(
    ("raw", "path", "problem"),
    [
        (thing(spec={"parallelism": "many"}), "$.spec.parallelism", "Expected `int`, got `str`"),
        (thing(spec={"containers": {}}), "$.spec.containers", "Expected `array`, got `object`"),
        (thing(spec={"containers": [None]}), "$.spec.containers[0]", "Expected `object`, got `null`"),
        (thing(metadata={"labels": {"a": 1}}), "$.metadata.labels[...]", "Expected `str`, got `int`"),
        (thing(spec={"nodeName": "X"}).replace(b'"X"', b'"\xff"'), "$.spec.nodeName", "invalid UTF-8"),
        (
            thing(spec={"containers": [{"args": ["ok", "X"]}]}).replace(b'"X"', b'"\xc3("'),
            "$.spec.containers[0].args[1]",
            "invalid UTF-8",
        ),
        (thing(spec={"nodeName": "X"}).replace(b'"X"', b'"\\ud800"'), "$", ""),
        (thing(spec={"nodeName": "X"}).replace(b'"X"', b"[" * 5000 + b"]" * 5000), "$.spec.nodeName", ""),
        (thing(spec={"other": "X"}).replace(b'"X"', b"[" * 5000 + b"]" * 5000), "$", "nested too deeply"),
        (thing(metadata={"generation": "x", "labels": {"k": "v", "bad": 1}}), "$.metadata.generation", ""),
    ],
)
def test_fra5_what_does_not_fit_is_kept_as_metadata_with_path_and_problem(raw: bytes, path: str, problem: str) -> None:
    metrics = Metrics(process=False)
    got = Codec(THINGS, metrics=metrics).read(raw)
    assert isinstance(got, Unreadable)
    assert got.key == Key("ns", "a") and got.uid == "u1" and got.resource_version == "7" and got.kind == "Thing"
    assert got.path == path
    assert problem in got.problem and got.problem
    labels = {"group": "example.io", "version": "v1", "resource": "things"}
    assert metrics.registry.get_sample_value("kruise_informer_undecodable_total", labels) == 1


def test_fra5_bad_metadata_costs_only_the_field_that_is_bad() -> None:
    raw = thing(
        metadata={
            "labels": {"k": "v", "bad": 1},
            "finalizers": ["f", 3],
            "generation": "x",
            "ownerReferences": [{"kind": "Job", "uid": "o1", "controller": None}, 5],
            "deletionTimestamp": "2026-01-01T00:00:00Z",
        }
    )
    got = Codec(THINGS).read(raw)
    assert isinstance(got, Unreadable) and got.terminating
    assert got.metadata.labels == {"k": "v"} and got.metadata.finalizers == ("f",)
    assert [ref.uid for ref in got.metadata.owner_references] == ["o1"]
    assert got.metadata.generation == 0


def test_fra5_no_value_of_the_object_is_shown() -> None:
    class Choosy(Object, frozen=True, gc=False, kw_only=True):
        choice: Literal["a", "b"] = "a"

    got = Codec(Resource("", "v1", "Choosy", "choosies", Choosy)).read(b'{"metadata":{"name":"a"},"choice":"s3cret"}')
    assert isinstance(got, Unreadable) and got.path == "$.choice" and "s3cret" not in got.problem


@pytest.mark.parametrize("raw", [b"5", b"", b"<html>", b'{"metadata":5}', b"[]", b"null", b'{"a'])
def test_fra5_read_never_raises(raw: bytes) -> None:
    got = Codec(THINGS).read(raw)
    assert isinstance(got, Unreadable) and not got.metadata.name


@given(st.binary(max_size=60))
def test_fra5_read_never_raises_whatever_comes(junk: bytes) -> None:
    codec = Codec(THINGS)
    assert codec.read(junk) is not None
    got = codec.read(thing(spec={"nodeName": "X"}).replace(b"X", junk))
    assert isinstance(got, Thing) or got.problem


NULLS = st.recursive(st.none(), lambda x: st.dictionaries(st.sampled_from(["a", "b"]), x, max_size=2), max_leaves=4)


@given(st.data())
def test_fra10_a_null_reads_as_if_it_were_absent(data: st.DataObject) -> None:
    """Null any set of optional fields, anywhere: the object is the one without them."""
    full: dict[str, Any] = {
        "metadata": {
            "name": "a",
            "labels": {"k": "v"},
            "annotations": {"x": "y"},
            "finalizers": ["f"],
            "generation": 3,
        },
        "spec": {
            "nodeName": "n1",
            "parallelism": 3,
            "containers": [{"name": "c", "image": "i", "args": ["x"]}],
            "selector": {"s": "t"},
            "limits": {"cpu": {"type": "t"}},
            "deadline": 4,
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": "t"}]},
    }

    def walk(value: Any) -> tuple[Any, Any]:
        if isinstance(value, dict):
            nulled, without = {}, {}
            for k, v in value.items():
                if k != "name" and data.draw(st.booleans()):
                    nulled[k] = None
                else:
                    nulled[k], without[k] = walk(v)
            return nulled, without
        if isinstance(value, list) and value and isinstance(value[0], dict):
            pairs = [walk(v) for v in value]
            return [p[0] for p in pairs], [p[1] for p in pairs]
        return value, value

    nulled, without = walk(full)
    codec = Codec(THINGS)
    assert codec.decode(json.dumps(nulled).encode()) == codec.decode(json.dumps(without).encode())


def test_fra10_every_optional_field_null() -> None:
    raw = (
        b'{"metadata":{"name":"a","labels":null,"annotations":null,"finalizers":null,"ownerReferences":null,"uid":null,'
    )
    raw += b'"creationTimestamp":null,"generation":null},"spec":{"nodeName":null,"parallelism":null,"containers":null,'
    raw += b'"selector":null,"limits":null,"deadline":null},"status":{"phase":null,"conditions":null}}'
    assert Codec(THINGS).decode(raw) == Codec(THINGS).decode(b'{"metadata":{"name":"a"},"spec":{},"status":{}}')
    assert Codec(THINGS).decode(b'{"metadata":{"name":"a"},"spec":null,"status":null}').spec == Spec()


def test_fra10_the_text_of_a_raw_field_keeps_its_nulls_and_its_bytes() -> None:
    template = b'{"metadata":{"creationTimestamp":null},  "x": 1.50, "s":"\\u00e9"}'
    raw = b'{"metadata":{"name":"a","labels":null},"spec":{"template":' + template + b"}}"
    assert bytes(Codec(THINGS).decode(raw).spec.template) == template


def test_fra10_a_raw_field_that_is_null_has_its_default() -> None:
    obj = Codec(THINGS).decode(b'{"metadata":{"name":"a"},"spec":{"template":null}}')
    assert bytes(obj.spec.template) == b"{}"


def test_fra10_a_null_behind_a_wrong_value_does_not_hide_it() -> None:
    got = Codec(THINGS).read(thing(metadata={"labels": None}, spec={"selector": [], "containers": None}))
    assert isinstance(got, Unreadable) and got.path == "$.spec.selector"


def test_fra9_a_kept_raw_does_not_keep_its_page() -> None:
    text = b'{"items":[' + b",".join([thing(spec={"template": {"pad": "x" * 4000}})] * 500) + b"]}"

    class Page(msgspec.Struct):
        items: list[Raw]

    codec = Codec(THINGS)
    codec.decode(thing())
    tracemalloc.start()
    try:
        page = bytes(bytearray(text))  # a fresh buffer, as the transport gives
        kept = codec.decode(msgspec.json.decode(page, type=Page).items[250])
        del page
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(bytes(kept.spec.template)) > 4000
    assert held < 30_000, f"one object of a page of {len(text)} bytes holds {held} bytes"


def test_fra9_raws_in_maps_and_tuples_are_copied() -> None:
    class Holder(Object, frozen=True, gc=False, kw_only=True):
        one: Raw = Raw(b"{}")
        many: tuple[Raw, ...] = ()
        named: dict[str, Raw] = msgspec.field(default_factory=dict)

    text = b'{"metadata":{"name":"a"},"one":[1],"many":[[2]],"named":{"x":[3]}}'
    buffer = bytearray(text)
    got = Codec(Resource("", "v1", "Holder", "holders", Holder)).decode(memoryview(buffer))  # type: ignore[arg-type]
    for i in range(len(buffer)):
        buffer[i] = 0x20
    assert (bytes(got.one), bytes(got.many[0]), bytes(got.named["x"])) == (b"[1]", b"[2]", b"[3]")


def test_obj1_repeating_strings_are_one_object_and_names_are_not() -> None:
    codec = Codec(THINGS)
    raw = thing(
        metadata={
            "name": "name-of-one-object",
            "namespace": "namespace-one",
            "uid": "uid-of-one-object",
            "labels": {"a-label-key-longer-than-msgspec-caches-by-itself": "value-1", "pod": "x" * 60},
            "ownerReferences": [{"kind": "Job", "name": "job-1", "uid": "owner-uid"}],
        },
        spec={"nodeName": "node-1", "containers": [{"name": "main", "image": "registry/image:1"}]},
        status={"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    )
    a, b = codec.decode(raw), codec.decode(bytes(bytearray(raw)))
    assert a == b
    assert a.metadata.namespace is b.metadata.namespace
    assert a.spec.node_name is b.spec.node_name
    assert a.spec.containers[0].image is b.spec.containers[0].image
    assert a.status.conditions[0].type is b.status.conditions[0].type
    assert a.metadata.owner_references is b.metadata.owner_references
    (k1, p1), (k2, p2) = a.metadata.labels.items(), b.metadata.labels.items()
    assert k1[0] is k2[0] and k1[1] is k2[1]
    assert p1[1] is not p2[1]
    assert a.metadata.name is not b.metadata.name and a.uid is not b.uid


def test_obj1_the_pools_are_bounded_and_forgotten_at_a_relist() -> None:
    codec = Codec(THINGS)
    for i in range(5000):
        codec.decode(thing(metadata={"labels": {f"key-{i}": f"value-{i}"}}, spec={"nodeName": f"node-{i}"}))
    assert len(codec._interner) <= 2 * 1024 + 8
    codec.reset()
    assert len(codec._interner) == 0


def test_obj1_equal_tuples_of_tolerations_are_one_object_where_they_can_be_hashed() -> None:
    def spec(frozen: bool) -> type[msgspec.Struct]:
        one = msgspec.defstruct("Toleration", [("key", str, "")], frozen=frozen)
        return msgspec.defstruct("Spec", [("tolerations", tuple[one, ...], ())], frozen=True)  # type: ignore[valid-type]

    raw = b'{"tolerations":[{"key":"a"},{"key":"b"}]}'
    for shared in (True, False):
        kind = spec(frozen=shared)
        interner = Interner(kind)
        one, two = (interner.share(msgspec.json.decode(raw, type=kind)) for _ in range(2))
        assert one == two
        assert (one.tolerations is two.tolerations) is shared


def pod_of_a_set(number: int, *, image: str = "registry/image:1", memory: object = "1Gi") -> bytes:
    """A pod as the API server writes it; what the template says is equal in all of them."""
    variables = [
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "KRUISE_CONTAINER_BARRIER", "valueFrom": {"configMapKeyRef": {"key": "p_1"}}},
    ]
    resources = {"limits": {"cpu": "1", "memory": memory}, "requests": {"cpu": "1"}}
    ready = {"status": "True", "lastTransitionTime": f"2026-03-01T12:00:{number:02}Z"}
    return thing(
        metadata={"name": f"web-{number}"},
        spec={
            "readinessGates": [{"conditionType": "InPlaceUpdateReady"}],
            "nodeSelector": {"disk": "fast"},
            "containers": [{"name": "main", "image": image, "env": variables, "resources": resources}],
        },
        status={
            "conditions": [{"type": "ContainersReady", **ready}, {"type": "Ready", **ready}],
            "containerStatuses": [{"name": "main", "state": {"running": {}}, "lastState": {}, "resources": resources}],
        },
        kind="Pod",
        apiVersion="v1",
    )


def test_obj1_what_the_pods_of_one_template_have_in_common_is_one_object() -> None:
    codec = Codec(PODS)
    a, b = codec.decode(pod_of_a_set(0)), codec.decode(pod_of_a_set(1))
    assert a.spec.containers is b.spec.containers
    assert a.spec.readiness_gates is b.spec.readiness_gates
    assert a.spec.node_selector is b.spec.node_selector
    told = [pod.status.container_statuses[0] for pod in (a, b)]
    assert told[0].resources.limits is told[1].resources.limits
    assert told[0].state is told[1].state, "a running container says nothing that is kept"
    first, second = a.status.conditions
    assert first.last_transition_time is second.last_transition_time
    assert first.last_transition_time != b.status.conditions[0].last_transition_time


def test_obj1_containers_that_differ_share_their_parts() -> None:
    codec = Codec(PODS)
    a, b = codec.decode(pod_of_a_set(0)), codec.decode(pod_of_a_set(1, image="registry/image:2"))
    assert (a.spec.containers[0].image, b.spec.containers[0].image) == ("registry/image:1", "registry/image:2")
    assert a.spec.containers[0].env is b.spec.containers[0].env
    assert a.spec.containers[0].resources.requests is b.spec.containers[0].resources.requests


def test_obj1_sharing_never_exchanges_one_number_for_another() -> None:
    codec = Codec(PODS)
    limits = [
        codec.decode(pod_of_a_set(n, memory=m)).spec.containers[0].resources.limits for n, m in enumerate((1, 1.0, "1"))
    ]
    assert [repr(one["memory"]) for one in limits] == ["1", "1.0", "'1'"]


@given(st.lists(st.sampled_from([pod_of_a_set(n, image=i, memory=m) for n in (0, 1) for i in "ab" for m in (1, "1")])))
def test_obj1_what_is_shared_equals_what_was_sent(bodies: list[bytes]) -> None:
    codec = Codec(PODS)
    for body in bodies:
        assert codec.decode(body) == msgspec.json.decode(body, type=PODS.struct)


def test_obj1_a_struct_says_itself_what_repeats() -> None:
    class Odd(Object, frozen=True, gc=False, kw_only=True):
        __interned__: ClassVar[tuple[str, ...]] = ("zone",)
        zone: str = ""
        phase: str = ""

    share = Interner(Odd).share
    a, b = (share(msgspec.json.decode(b'{"zone":"zone-1","phase":"phase-1"}', type=Odd)) for _ in range(2))
    assert a.zone is b.zone and a.phase is not b.phase


def test_fra10_types_that_contain_themselves_are_understood() -> None:
    clean = cleaner(Tree)
    text = bytes(clean(b'{"name":null,"children":[{"name":"x","children":null}]}'))
    assert msgspec.json.decode(text, type=Tree) == Tree(children=(Tree(name="x"),))
    assert Interner(Tree).share(msgspec.json.decode(text, type=Tree)).children[0].name == "x"


class Tree(msgspec.Struct, frozen=True):
    name: str = ""
    children: tuple[Tree, ...] = ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4), st.sampled_from([None, 2]))
def test_fra5_members_splits_any_object(value: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False).encode()
    assert [json.loads(v) for v in members(text).values()] == list(value.values())
    listed = json.dumps(list(value.values()), indent=indent).encode()
    assert [json.loads(e) for e in elements(listed)] == list(value.values())


@pytest.mark.parametrize(
    "text", [b"", b"5", b"{", b'{"a":1', b'{"a":1}}', b'{"a":1} x', b"{1:2}", b'{"a" 1}', b"[1}", b'{"a":"']
)
def test_fra5_members_refuses_what_is_no_object(text: bytes) -> None:
    with pytest.raises(ValueError):
        members(text)


def test_obj1_an_empty_map_is_the_shared_one() -> None:
    from kruise.runtime.objects import EMPTY_MAP

    got = Codec(Resource("", "v1", "X", "xs", PartialObject)).decode(b'{"metadata":{"name":"a","labels":{}}}')
    assert got.metadata.labels is EMPTY_MAP


def page(*items: bytes, kind: str = "ThingList") -> Response:
    head = json.dumps({"kind": kind, "metadata": {"resourceVersion": "9"}})[:-1].encode()
    return Response(200, {}, head + b',"items":[' + b",".join(items) + b"]}")


@pytest.mark.parametrize("bad", [b"[" * 3000 + b"]" * 3000, b'"\\ud800"', b'"\xff"', b"nul"])
def test_fra5_a_bad_item_does_not_cost_the_others_of_its_page(bad: bytes) -> None:
    broken = thing(metadata={"name": "bad"}, spec={"nodeName": "X"}).replace(b'"X"', bad)
    read = read_page(page(thing(), broken, thing(metadata={"name": "c"})), Request("GET", "/x"))
    codec = Codec(THINGS)
    found = [codec.read(item) for item in read.items]
    assert [o.key.name for o in found] == ["a", "bad", "c"] and read.resource_version == "9"
    assert [isinstance(o, Unreadable) for o in found] == [False, True, False]


def test_fra4_a_table_is_no_empty_list() -> None:
    with pytest.raises(BadFrame, match="Table"):
        read_page(page(kind="Table"), Request("GET", "/x"))
    with pytest.raises(BadFrame):
        read_page(Response(200, {}, page(thing()).body[:-3]), Request("GET", "/x"))
