from __future__ import annotations

import pytest

from hack import fuzz
from tests.property import webhook_fuzz


def test_an_input_is_a_path_and_a_body():
    paths = ["/a", "/b"]
    assert fuzz.split(paths, fuzz.joined(paths, "/b", b"{}")) == ("/b", b"{}")
    assert fuzz.split(paths, b"") == ("/a", b"")


def test_a_search_without_a_guide_says_how_far_it_came(capsys):
    assert fuzz.main(["--plain", "--seconds", "0.2", "/mutate-pod"]) == 0
    assert "reviews were answered as they should be" in capsys.readouterr().out


def test_what_breaks_a_rule_is_kept_and_can_be_replayed(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def broken(path, body, reply):
        raise AssertionError(f"{path} is broken")

    monkeypatch.setattr(webhook_fuzz, "check", broken)
    assert fuzz.main(["--plain", "--seconds", "1"]) == 1
    (kept,) = tmp_path.iterdir()
    assert f"--replay {kept.name}" in capsys.readouterr().out
    assert fuzz.main(["--replay", str(kept)]) == 1
    assert "is broken" in capsys.readouterr().out
    monkeypatch.undo()
    assert fuzz.main(["--replay", str(kept)]) == 0


def test_an_unknown_path_is_refused(capsys):
    with pytest.raises(SystemExit):
        fuzz.main(["--plain", "/nothing"])
    assert "nobody answers at /nothing" in capsys.readouterr().err
