"""What is generated is what is committed, and what is stale is named with the command that mends it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hack import manifests, verify
from hack.manifests import SOURCES


def copy_of_the_outputs(folder: Path) -> Path:
    for make in SOURCES.values():
        manifests.write(make(), folder)
    return folder


def test_nothing_that_is_committed_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main() == 0, capsys.readouterr().err


def test_stale_missing_and_left_over_files_are_named(tmp_path: Path) -> None:
    root = copy_of_the_outputs(tmp_path)
    assert list(verify.stale(root)) == []
    (root / "docs/flags.md").unlink()
    role = root / "config/rbac/manager_role.yaml"
    role.write_text(role.read_text().replace("patch", "update"))
    (root / "dist/install.yaml").write_text("")
    shutil.copy(role, role.with_name("gone_role.yaml"))
    role.with_name("by_hand.yaml").write_text("kind: Role\n")
    found = {str(path): (command, why) for path, command, why in verify.stale(root)}
    assert found.keys() == {
        "docs/flags.md",
        "config/rbac/manager_role.yaml",
        "config/rbac/gone_role.yaml",
        "dist/install.yaml",
    }
    assert found["docs/flags.md"] == ("make docs", "missing")
    assert found["dist/install.yaml"][0] == "make build-installer"
    assert found["config/rbac/gone_role.yaml"] == ("make manifests", "nobody generates it any more")
    assert "+  - patch" in found["config/rbac/manager_role.yaml"][1]


def test_verify_fails_and_says_what_to_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(verify, "stale", lambda: [(Path("docs/flags.md"), "make docs", "missing")])
    assert verify.main() == 1
    assert "docs/flags.md is stale: run `make docs` and commit the result" in capsys.readouterr().err


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    root = copy_of_the_outputs(tmp_path)
    files = SOURCES["crds"]()
    assert manifests.write(files, root) == []
    path = next(iter(files))
    (root / path).write_text("old")
    assert manifests.write(files, root) == [path]


def test_the_command_writes_what_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(manifests, "write", list)
    monkeypatch.setattr(manifests, "leftovers", lambda names: [])
    assert manifests.main(["--docs"]) == 0
    assert capsys.readouterr().out.splitlines() == ["docs/metrics.md: written", "docs/flags.md: written"]
    assert manifests.main(["--only-installer", "--image", "r/k:1"]) == 0
    assert capsys.readouterr().out.splitlines() == ["dist/install.yaml: written"]
    assert "image: r/k:1\n" in manifests.installer(image="r/k:1")[manifests.INSTALLER]
    with pytest.raises(SystemExit):
        manifests.main(["nothing"])
