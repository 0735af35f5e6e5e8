"""What the HTTP front shows besides objects: tables, OpenAPI, protobuf bodies, warnings, access."""

from __future__ import annotations

import asyncio
import json
import ssl
import stat

import aiohttp
import orjson
import pytest

from kruise.runtime.clock import Random, SystemClock
from kruise.simulator.apiserver import ApiServer, proto, typed
from kruise.simulator.apiserver.access import Access, make_certificates
from kruise.simulator.apiserver.failure import Failure
from kruise.simulator.apiserver.http import HttpFront
from kruise.simulator.apiserver.rules import SKIPPED, Rules
from kruise.simulator.apiserver.table_pods import age, pod_cells
from kruise.simulator.apiserver.tables import json_path
from kruise.simulator.embedded import EmbeddedCluster


@pytest.fixture
def server():
    return ApiServer(SystemClock(), Random(1))


def varint(number):
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def unknown(api_version, kind, raw):
    meta = field(1, api_version.encode()) + field(2, kind.encode())
    return b"k8s\x00" + field(1, meta) + field(2, raw)


def test_tst1_a_protobuf_body_is_read_with_inlined_fields_pointers_and_special_types():
    container = field(1, b"main") + field(2, b"i:1") + field(5, b"")
    limits = field(1, field(1, b"cpu") + field(2, field(1, b"500m")))
    container += field(8, limits)
    volume = field(1, b"v") + field(2, field(2, b""))
    spec = field(2, container) + field(1, volume) + field(4, 0)
    template = field(1, field(11, field(1, b"app") + field(2, b"x"))) + field(2, spec)
    deployment = field(1, field(1, b"d") + field(8, b"")) + field(2, field(1, 0) + field(3, template) + field(5, 0))
    read = proto.decode(unknown("apps/v1", "Deployment", deployment))
    assert read["metadata"] == {"name": "d"}
    assert read["spec"]["replicas"] == 0  # a pointer: the zero was written
    assert "minReadySeconds" not in read["spec"]  # none: Go writes it always
    inner = read["spec"]["template"]
    assert inner["metadata"] == {"labels": {"app": "x"}}
    assert inner["spec"]["terminationGracePeriodSeconds"] == 0
    assert inner["spec"]["containers"] == [{"name": "main", "image": "i:1", "resources": {"limits": {"cpu": "500m"}}}]
    assert inner["spec"]["volumes"][0]["name"] == "v"


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{}", 400), (b"k8s\x00\x12\x7f", 400), (unknown("x.example.com/v1", "Odd", b""), 415)],
)
def test_tst1_protobuf_that_cannot_be_read(body, code):
    with pytest.raises(Failure) as refused:
        proto.decode(body)
    assert refused.value.code == code


def test_tst1_a_negative_number_and_a_time_in_protobuf():
    raw = field(1, (1 << 64) - 5)
    assert proto.decode(unknown("v1", "DeleteOptions", raw))["gracePeriodSeconds"] == -5
    lease = field(1, field(1, b"l")) + field(2, field(4, field(1, 1_700_000_000) + field(2, 123_456_000)))
    assert proto.decode(unknown("coordination.k8s.io/v1", "Lease", lease))["spec"]["renewTime"] == (
        "2023-11-14T22:13:20.123456Z"
    )


def test_tst1_built_in_kinds_are_read_by_the_table_of_fields(server):
    info = server.registry.named("pods")
    unknown_fields: list[str] = []
    spec = {"containers": [{"name": "c", "odd": 1, "resources": {"limits": {"cpu": "1000m"}}}], "more": 2}
    read = typed.read({"apiVersion": "v1", "kind": "Pod", "spec": spec, "x": 1}, info, unknown_fields)
    assert unknown_fields == ["spec.containers[0].odd", "spec.more", "x"]
    assert read["spec"]["containers"] == [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]
    with pytest.raises(typed.TypeProblem, match=r"spec.nodeName of type string"):
        typed.read({"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": 1}}, info, [])


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.size", [3]),
        (".spec.list[*]", ["a", "b"]),
        (".spec.list[1]", ["b"]),
        (".spec.list[7]", []),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".metadata.annotations.example\\.com/x", ["y"]),
        (".metadata.annotations['example.com/x']", ["y"]),
        (".spec.none.deep", []),
    ],
)
def test_tst1_columns_read_json_paths(path, found):
    obj = {
        "metadata": {"annotations": {"example.com/x": "y"}},
        "spec": {"size": 3, "list": ["a", "b"]},
        "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]},
    }
    assert list(json_path(obj, path)) == found


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (-1, "0s"), (-5, "<invalid>"), (125, "2m5s"), (7200, "120m"), (30000, "8h"), (86400 * 900, "2y170d")],
)
def test_tst1_ages_are_told_as_kubectl_tells_them(seconds, shown):
    assert age(seconds) == shown


def test_tst1_the_row_of_a_pod_tells_the_last_restart():
    ended = {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:00Z"}}
    status = {
        "phase": "Running",
        "containerStatuses": [
            {"name": "c", "ready": True, "restartCount": 2, "state": {"running": {}}, "lastState": ended}
        ],
    }
    row = pod_cells({"metadata": {"name": "a"}, "spec": {"containers": [{}]}, "status": status}, 1_767_225_660.0)
    assert row[:4] == ["a", "1/1", "Running", "2 (60s ago)"]


def test_tst1_every_kind_has_an_openapi_document(server):
    index = server.do("GET", "/openapi/v3")["paths"]
    for path in index:
        document = server.do("GET", f"/openapi/v3/{path}")
        text = orjson.dumps(document).decode()
        for target in {part.partition('"')[0] for part in text.split('"$ref":"')[1:]}:
            name = target.removeprefix("#/components/schemas/")
            assert name in document["components"]["schemas"], f"{path} names {name}"
    second = server.do("GET", "/openapi/v2")
    assert second["definitions"]["io.k8s.api.core.v1.Pod"]["properties"]["spec"] == {
        "$ref": "#/definitions/io.k8s.api.core.v1.PodSpec"
    }
    with pytest.raises(Failure):
        server.do("GET", "/openapi/v3/apis/none/v1")


def test_tst1_cel_is_evaluated_or_said_not_to_be(monkeypatch):
    schema = {"x-kubernetes-validations": [{"rule": "self.a < 3", "message": "too large"}]}
    assert [c.message for c in Rules(schema).check({"a": 5}, None, [], [])] == ["Invalid value: too large"]
    warnings: list[str] = []
    assert Rules({"x-kubernetes-validations": [{"rule": "isURL(self.a)"}]}).check({"a": "x"}, None, [], warnings) == []
    assert "cannot run the rule" in warnings[0]
    monkeypatch.setattr("kruise.simulator.apiserver.rules._library", lambda: None)
    warnings.clear()
    assert Rules(schema).check({"a": 5}, None, [], warnings) == []
    assert warnings == [SKIPPED]


PODS = "/api/v1/namespaces/default/configmaps"


async def test_tst1_warnings_are_headers():
    server = ApiServer(SystemClock(), Random(1))
    body = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"1","k":"2"},"odd":1}'
    async with HttpFront(server) as front, aiohttp.ClientSession(front.url) as http:
        headers = {"content-type": "application/json"}
        async with http.post(PODS, data=body, headers=headers) as answer:
            assert answer.status == 201
            assert answer.headers.getall("Warning") == [
                '299 - "unknown field \\"odd\\""',
                '299 - "duplicate field \\"data.k\\""',
            ]
        async with http.post(f"{PODS}?fieldValidation=Strict", data=body, headers=headers) as answer:
            assert answer.status == 400
            assert "strict decoding error" in (await answer.json())["message"]


async def test_tst1_https_with_a_token(tmp_path):
    cluster = EmbeddedCluster(SystemClock(), Random(1), token="secret")
    async with cluster:
        path = cluster.write_kubeconfig(tmp_path / "kubeconfig", "here")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        config = json.loads(path.read_text())
        assert config["contexts"][0]["context"]["namespace"] == "here"
        assert cluster.certificates is not None
        tls = ssl.create_default_context(cadata=cluster.certificates.authority.decode())
        async with aiohttp.ClientSession(cluster.url) as http:
            for headers, code in (
                ({}, 401),
                ({"authorization": "Bearer no"}, 401),
                ({"authorization": "Bearer secret"}, 200),
            ):
                async with http.get("/api/v1/pods", ssl=tls, headers=headers) as answer:
                    assert answer.status == code
        await asyncio.sleep(0)


def test_tst1_access_without_tokens_takes_everybody():
    assert Access().check({}) == "system:anonymous"
    assert Access().check({"authorization": "Bearer x"}) == "system:admin"
    with pytest.raises(Failure):
        Access(anonymous=False).check({})
    assert b"BEGIN CERTIFICATE" in make_certificates(now=1_767_225_600.0).authority
