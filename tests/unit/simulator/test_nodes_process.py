"""The process that plays nodes: how it is controlled, and its options."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kruise.runtime.errors import ConfigError
from kruise.simulator import node_objects, nodes
from kruise.simulator.behaviour import Rule
from kruise.simulator.control import Control, parse_address, served
from tests.unit.simulator.nodes_world import World, virtual

# ---- control ---------------------------------------------------------------------------------------------------------


def test_control_of_rules_pods_and_nodes() -> None:
    async def body(w: World) -> None:
        async def ask(method: str, path: str, body: Any = None, **query: str) -> tuple[int, Any]:
            return await w.control.handle(method, path, query, b"" if body is None else orjson.dumps(body))

        code, added = await ask("POST", "/nodes", {"count": 2, "labels": {"zone": "b"}})
        assert code == 200 and added["names"] == ["node-2", "node-3"]
        assert (await ask("POST", "/nodes", {"names": ["special"]}))[1]["names"] == ["special"]
        node = w.server.get("nodes", "node-3", "")
        assert node is not None and node["metadata"]["labels"]["zone"] == "b"

        w.pod("a", restartPolicy="Never")
        w.pod("b", "special", restartPolicy="Never")
        await w.phases(a="Running", b="Running")
        assert (await ask("POST", "/pods/default/a/exit", code="4"))[0] == 200
        await w.phases(a="Failed")
        assert (await ask("POST", "/pods/default/b/evict"))[0] == 200
        await w.phases(b="Failed")

        rule = {"pod": "c*", "settings": {"run-seconds": "1"}}
        assert (await ask("PUT", "/rules", [rule]))[0] == 200
        assert (await ask("POST", "/rules", {"pod": "cc", "settings": {"exit-code": "1"}}))[0] == 200
        assert [r["pod"] for r in (await ask("GET", "/rules"))[1]] == ["c*", "cc"]
        w.pod("c", restartPolicy="Never")
        w.pod("cc", restartPolicy="Never")
        await w.phases(c="Succeeded", cc="Failed")

        status = (await ask("GET", "/status"))[1]
        assert status["nodes"] == 5 and status["pods"] == {"Failed": 3, "Succeeded": 1}
        assert status["status_writes"] == 8 and status["cpu_seconds"] > 0

        for method, path, payload, wanted in (
            ("POST", "/nodes/nobody/down", None, 404),
            ("POST", "/pods/default/nobody/exit", None, 404),
            ("GET", "/nothing", None, 404),
            ("PUT", "/rules", {"pod": "x"}, 400),
            ("POST", "/rules", {"settings": {"run-seconds": "x"}}, 400),
            ("POST", "/nodes", {"count": "many"}, 400),
            ("POST", "/nodes", {"count": -1}, 400),
            ("POST", "/nodes", [1], 400),
            ("DELETE", "/nodes/nobody", None, 404),
        ):
            assert (await ask(method, path, payload))[0] == wanted, (method, path)

    virtual(body)


def test_rules_reach_pods_that_run_already() -> None:
    async def body(w: World) -> None:
        w.pod("a", restartPolicy="Never")
        await w.phases(a="Running")
        w.agent.set_rules([Rule(settings={"run-seconds": "5"})])
        await w.phases(a="Succeeded")

    virtual(body)


async def test_the_control_api_over_a_socket(tmp_path: Any) -> None:
    import aiohttp

    class Still(Control):
        def __init__(self) -> None: ...

        async def handle(self, method: str, path: str, query: Any = None, body: bytes = b"") -> tuple[int, Any]:
            return 201, {"method": method, "path": path, "query": dict(query), "body": body.decode()}

    async with served(Still(), ("127.0.0.1", 0)) as where:
        assert isinstance(where, tuple)
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{where[1]}/nodes/a/down?power=true", data=b"x") as answer,
        ):
            assert answer.status == 201
            assert await answer.json() == {
                "method": "POST",
                "path": "/nodes/a/down",
                "query": {"power": "true"},
                "body": "x",
            }
    async with served(Still(), str(tmp_path / "s")) as where:
        assert where == str(tmp_path / "s")


@pytest.mark.parametrize("text", ["0.0.0.0:80", "example.com:80", "127.0.0.1", "127.0.0.1:99999", "8.8.8.8:1", ""])
def test_the_control_api_listens_on_loopback_only(text: str) -> None:
    with pytest.raises(ConfigError, match="--control"):
        parse_address(text)


def test_addresses_of_the_control_api() -> None:
    assert parse_address("localhost:0") == ("localhost", 0)
    assert parse_address("[::1]:5") == ("::1", 5)
    assert parse_address("unix:/x") == "/x"


# ---- the process -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        (["--kubeconfig=/does/not/exist"], "/does/not/exist"),
        (["--control=0.0.0.0:1"], "--control"),
        (["--nodes=-1"], "--nodes"),
        (["--lease-seconds=0"], "--lease-seconds"),
        (["--reaction-seconds=-1"], "--reaction-seconds"),
        (["--log-level=loud"], "--log-level"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_code_2(
    argv: list[str], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nodes.main(argv) == 2
    captured = capsys.readouterr().err.splitlines()
    assert captured[-1].startswith("error: ") and names in captured[-1]


def test_rules_from_a_file(tmp_path: Any) -> None:
    path = tmp_path / "rules.json"
    path.write_text('[{"pod": "a", "settings": {"exit-code": "1"}}]')
    assert nodes.read_rules(path) == [Rule(pod="a", settings={"exit-code": "1"})]
    assert nodes.read_rules(None) == []
    for text in ("{", "{}", '[{"x": 1}]'):
        path.write_text(text)
        with pytest.raises(ConfigError):
            nodes.read_rules(path)
    with pytest.raises(ConfigError, match="missing"):
        nodes.read_rules(tmp_path / "missing")


def test_labels_of_nodes() -> None:
    args = nodes.parser().parse_args(["--label=zone=a", "--label=empty=", "--cpu=2"])
    shape = nodes.shape_of(args)
    assert shape.labels == {"zone": "a", "empty": ""} and shape.cpu == "2"
    with pytest.raises(ConfigError, match="--label"):
        nodes.shape_of(nodes.parser().parse_args(["--label=zone"]))


def test_addresses_are_distinct() -> None:
    some = [0, 1, 255, 256, 65535, 65536, 1_000_000]
    assert len({node_objects.address(n) for n in some} | {node_objects.pod_address(n) for n in some}) == 2 * len(some)
    for number in some:
        assert node_objects.pod_index(node_objects.pod_address(number)) == number
    assert node_objects.pod_index(node_objects.address(5)) is None
    assert node_objects.pod_index("fe80::1") is None
