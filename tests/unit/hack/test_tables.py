"""The comparison of tables with the sources of Kubernetes: what is stale fails, what has no source does not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hack import tables, verify


def raising(error: BaseException) -> tables.Check:
    def check(_root: Path) -> int:
        raise error

    return check


def test_a_table_without_its_source_is_not_compared_and_says_why() -> None:
    found = tables.compare(
        {
            "fresh": lambda _root: 0,
            "stale": lambda _root: 1,
            "module": raising(SystemExit("gen: k8s.io/api@v9 is missing")),
            "go": raising(FileNotFoundError("go")),
            "server": raising(subprocess.CalledProcessError(1, "kubectl", stderr="warning\nconnection refused\n")),
            "silent": raising(subprocess.CalledProcessError(1, "kubectl")),
        }
    )
    assert list(found) == [
        ("fresh", True, ""),
        ("stale", False, ""),
        ("module", None, "gen: k8s.io/api@v9 is missing"),
        ("go", None, "go"),
        ("server", None, "connection refused"),
        ("silent", None, "Command 'kubectl' returned non-zero exit status 1."),
    ]


def test_a_machine_without_go_and_cluster_compares_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert {name: fresh for name, fresh, _ in tables.compare(root=tmp_path)} == dict.fromkeys(tables.TABLES)


def test_a_cluster_without_kubectl_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / tables.KUBECONFIG).parent.mkdir()
    (tmp_path / tables.KUBECONFIG).touch()
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(tables, "find", lambda: None)
    ((_, fresh, why),) = tables.compare({"core_fields.json": tables.TABLES["core_fields.json"]}, tmp_path)
    assert fresh is None
    assert why == "there is no kubectl on this machine"


def test_a_stale_table_fails_the_verification(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify, "stale", list)
    found = [("a.json", True, ""), ("b.json", None, "there is no Go on this machine")]
    monkeypatch.setattr(tables, "compare", lambda: found)
    assert verify.main() == 0
    assert capsys.readouterr().err == "b.json is not compared with its source: there is no Go on this machine\n"
    found.append(("c.json", False, ""))
    assert verify.main() == 1
