"""The Dockerfile, read as text: no engine is needed to see what it promises."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Stage:
    base: str
    name: str = ""
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [rest for step, rest in self.steps if step == word]


def parse() -> tuple[dict[str, str], list[Stage]]:
    """Return the arguments before the first stage, and the stages."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.partition(" ")
        assert re.fullmatch(r"ARG|FROM|ENV|WORKDIR|COPY|RUN|LABEL|USER|EXPOSE|ENTRYPOINT", word), line
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name))
        elif stages:
            stages[-1].steps.append((word, rest))
        else:
            name, _, value = rest.partition("=")
            arguments[name] = value
    return arguments, stages


ARGUMENTS, STAGES = parse()
BUILD, FINAL = STAGES


def test_bases_are_arguments_so_that_a_release_pins_digests() -> None:
    assert [stage.base for stage in STAGES] == ["${BUILD_IMAGE}", "${RUNTIME_IMAGE}"]
    assert set(ARGUMENTS) == {"BUILD_IMAGE", "RUNTIME_IMAGE"}
    # One Debian and one Python for both, or wheels of the one would not load in the other.
    assert "3.11" in ARGUMENTS["BUILD_IMAGE"]
    assert "bookworm" in ARGUMENTS["BUILD_IMAGE"]
    assert "debian12" in ARGUMENTS["RUNTIME_IMAGE"]


def test_the_lock_is_installed_with_hashes_and_nothing_is_compiled() -> None:
    (install,) = [run for run in BUILD.all("RUN") if "pip install" in run]
    words = shlex.split(install)
    assert {"--require-hashes", "--only-binary=:all:", "--no-deps"} <= set(words)
    assert words[words.index("-r") + 1] == "requirements/runtime.lock"
    assert not re.search(r"apt|gcc|build-essential", " ".join(BUILD.all("RUN")))


def test_the_final_stage_runs_nothing_as_root() -> None:
    assert FINAL.all("RUN") == []
    assert FINAL.all("USER") == ["65532:65532"]
    assert FINAL.all("COPY") == ["--from=build /opt/kruise /opt/kruise"]
    # What `kruise-manager --version` shows.
    assert any("KRUISE_COMMIT=${REVISION}" in line for line in FINAL.all("ENV"))
    assert FINAL.all("ENTRYPOINT") == ['["/opt/kruise/bin/kruise-manager"]']


def test_the_launcher_is_isolated_and_calls_the_entry_point() -> None:
    (run,) = [run for run in BUILD.all("RUN") if "printf" in run]
    lines = shlex.split(run[run.index("printf") : run.index("> /opt/kruise/bin")])[2:]
    assert lines[0] == "#!${PYTHON} -I"
    code = "\n".join(lines[1:])
    compile(code, "kruise-manager", "exec")
    assert "from kruise.main import run" in code
    assert "kruise-manager = kruise.main:run" in (ROOT / "setup.cfg").read_text()


def test_everything_that_is_copied_is_let_through_and_is_there() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied = {rest.split()[0].rstrip("/") for rest in BUILD.all("COPY")}
    assert "*" in ignored
    assert copied == let_through
    assert all((ROOT / path).exists() for path in copied)


def test_the_lock_has_hashes_and_no_client_for_kubeconfigs() -> None:
    lock = (ROOT / "requirements/runtime.lock").read_text()
    assert lock.count("--hash=sha256:") > 10
    assert "kubernetes" not in lock
