"""The command ``kruise``: subcommands, one line per error, exit codes."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kruise import __version__
from kruise.cli import cluster as cluster_module
from kruise.cli import main as main_module
from kruise.cli import status
from kruise.cli.cluster import add_connection_flags, connect
from kruise.runtime.errors import ConfigError, NotFound, Refused, RuntimeFault, Status

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u, namespace: team}}, {name: bare, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: u, user: {token: abc}}]
"""


def answers(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> None:
    async def run(args: argparse.Namespace) -> int:
        if isinstance(outcome, BaseException):
            raise outcome
        return int(outcome)

    monkeypatch.setattr(status, "run", run)


@pytest.mark.parametrize("code", [0, 2, 3])
def test_the_exit_code_is_that_of_the_command(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    answers(monkeypatch, code)
    assert main_module.main(["status", "bcj/x"]) == code


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("the file is odd"),
        Refused("connection refused"),
        RuntimeFault("install its CRD"),
        NotFound(Status(404, "NotFound", "not found")),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    answers(monkeypatch, error)
    assert main_module.main(["status", "bcj/x"]) == 1
    said = capsys.readouterr().err
    assert said == f"kruise status: {error}\n"


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, KeyboardInterrupt())
    assert main_module.main(["status", "bcj/x"]) == 130


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main_module.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"kruise {__version__}\n"


def test_the_module_runs_by_its_name() -> None:
    argv = [sys.executable, "-m", "kruise.cli.main", "status", "pod/x"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no kind that status knows" in done.stderr


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["status"], ["status", "bcj/x", "-o", "xml"]])
def test_a_wrong_call_says_how(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main_module.main(argv)
    assert ended.value.code == 2
    assert "usage: kruise" in capsys.readouterr().err


def test_the_entry_point_exits_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, 3)
    monkeypatch.setattr(sys, "argv", ["kruise", "status", "bcj/x"])
    with pytest.raises(SystemExit) as ended:
        main_module.run()
    assert ended.value.code == 3


def test_a_mistyped_target_needs_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert main_module.main(["status", "pod/x"]) == 1
    assert "no kind that status knows; want asts (Advanced StatefulSet), bcj" in capsys.readouterr().err


def test_an_unreadable_kubeconfig_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "none"
    assert main_module.main(["status", "bcj/x", "--kubeconfig", str(missing)]) == 1
    assert str(missing) in capsys.readouterr().err
    odd = tmp_path / "odd"
    odd.write_text("just: [text")
    assert main_module.main(["status", "bcj/x", "--kubeconfig", str(odd)]) == 1
    assert str(odd) in capsys.readouterr().err


def test_an_unreachable_server_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(KUBECONFIG)
    assert main_module.main(["status", "bcj/x", "--kubeconfig", str(file)]) == 1
    assert capsys.readouterr().err.startswith("kruise status: ")


@pytest.mark.parametrize(("context", "namespace"), [(None, "team"), ("bare", "default")])
async def test_the_namespace_is_that_of_the_context(tmp_path: Path, context: str | None, namespace: str) -> None:
    file = tmp_path / "config"
    file.write_text(KUBECONFIG)
    parser = argparse.ArgumentParser()
    add_connection_flags(parser)
    args = parser.parse_args(["--kubeconfig", str(file), *(["--context", context] if context else [])])
    async with connect(args) as found:
        assert found.namespace == namespace
        assert found.client.live is not None
    assert cluster_module.Cluster is type(found)
