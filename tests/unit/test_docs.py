"""The documents: links that lead somewhere, commands that exist, manifests that are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kruise.apis.broadcastjob_rules import default_broadcastjob, validate_broadcastjob

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
MAKE = re.compile(r"`make ([a-z][a-z0-9-]*)|^\$ make ([a-z][a-z0-9-]*)", re.MULTILINE)
TARGET = re.compile(r"^([a-z][a-z0-9-]*):", re.MULTILINE)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_every_relative_link_leads_to_a_file(path: Path) -> None:
    targets = [t for t in LINK.findall(path.read_text()) if "://" not in t]
    assert not [t for t in targets if not (path.parent / t).exists()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_every_make_target_exists(path: Path) -> None:
    asked = {a or b for a, b in MAKE.findall(path.read_text())}
    assert asked <= set(TARGET.findall((ROOT / "Makefile").read_text()))


def test_the_job_of_the_readme_is_valid() -> None:
    (manifest,) = re.findall(r"<<END\n(.*?)\nEND\n", (ROOT / "README.md").read_text(), re.DOTALL)
    job = yaml.safe_load(manifest)
    assert job["kind"] == "BroadcastJob"
    job["metadata"]["namespace"] = "default"
    assert validate_broadcastjob(default_broadcastjob(job)) == []


def test_the_readme_warns_that_work_may_run_twice() -> None:
    text = (ROOT / "README.md").read_text()
    assert "not exactly-once" in text
    assert "a second time" in text


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/designs/*.md")), ids=_name)
def test_every_design_note_has_its_example(path: Path) -> None:
    text = path.read_text()
    assert re.search(r"^## Example\n\n\S", text, re.MULTILINE)
    assert path.name == "template.md" or text.startswith(f"# {path.name[:3]}: ")
