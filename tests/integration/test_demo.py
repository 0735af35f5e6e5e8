"""``kruise demo`` as a process: it prints the quickstart of the README, and claims nothing that did not happen."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kruise import app
from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.apis.sidecarset import SIDECARSETS
from kruise.apis.statefulset import STATEFULSETS
from kruise.cli import demo_counts, demo_set, demo_show, demo_sidecar
from kruise.cli.main import main
from kruise.runtime import Client, HttpTransport, Key, Metrics, Random, Rest, SystemClock, load_kubeconfig
from kruise.runtime.errors import ConfigError
from kruise.runtime.manager import manager as manager_module
from kruise.webhooks import setup as webhooks_setup

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-c", "from kruise.cli.main import run; run()", "demo")
FASTER = ("--speed", "4")

VARIES = (
    (re.compile(r"^ *\d+\.\d s  ", re.MULTILINE), "T s  "),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"sweep-[a-z0-9]{10}"), "sweep-XXXXXXXXXX"),
    (re.compile(r"web-[bcdfghjklmnpqrstvwxz2456789]{6,10}\b"), "web-REVISION"),
    (re.compile(r"logs-[bcdfghjklmnpqrstvwxz2456789]{6,10}\b"), "logs-REVISION"),
    (re.compile(r"10\.\d+\.\d+\.\d+ *"), "10.X "),
    (re.compile(r"(on|web-\d|shop-\d|^\d +) +node-\d", re.MULTILINE), r"\1 node-X"),
    (re.compile(r"in \d+\.\d s"), "in T s"),
    (re.compile(r"after \d+\.\d s"), "after T s"),
    (re.compile(r"ErrImagePull: .*?(?= \(and| {2}|$)|ImagePullBackOff: .*?(?= \(and| {2}|$)", re.MULTILINE), "PULL"),
)


def normalised(transcript: str) -> list[str]:
    """Take out what differs between two runs: times, ports, names of pods, counts with a bound, and the order in which
    independent things happen within a scene."""
    for pattern, word in VARIES:
        transcript = pattern.sub(word, transcript)
    lines: list[str] = []
    timed: list[str] = []
    for line in transcript.splitlines():
        if line.startswith("T s  "):
            timed.append(line)
            continue
        lines += sorted(timed)
        timed = []
        lines.append(re.sub(r" +[0-9.]+   at (most|least) [0-9.]+", r" N at \1 N", line))
    return [re.sub(r" {2,}", "  ", line) for line in lines + sorted(timed)]


def quickstart() -> str:
    """Return what the README says that ``make demo`` prints."""
    found = re.search(r"^\$ make demo\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None, "the README does not show `make demo`"
    return found[1]


@contextmanager
def started(tmp_path: Path, *args: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """Run the demo with a folder for temporary files of its own, and see that nothing is left in it."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "PYTHONWARNINGS": "error"}
    env["TERM"] = "xterm-256color"
    env.pop("KUBECONFIG", None)
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen((*COMMAND, *args), cwd=tmp_path, env=env, text=True, **{**streams, **more})
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
    assert list(temporary.iterdir()) == []


def test_the_transcript_is_the_quickstart_of_the_readme(tmp_path: Path) -> None:
    with started(tmp_path, *FASTER) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, ""), out
    assert normalised(out) == normalised(quickstart())


def test_scenes_come_in_their_order_also_with_many_nodes(tmp_path: Path) -> None:
    with started(tmp_path, *FASTER, "--nodes", "30") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, ""), out
    assert "31 nodes, 30 succeeded, 1 failed" in out
    assert "never more than 10 pods at once" in out
    assert re.search(r"^ +pods created +31 +31 ", out, re.MULTILINE)
    assert re.search(r"^ +writes to updated pods +24 +24 ", out, re.MULTILINE)
    assert re.search(r"^ +writes to inject them +0 +0 ", out, re.MULTILINE)
    assert re.search(r"^ +writes to upgraded pods +8 +8 ", out, re.MULTILINE)
    scenes = ["joins while", "A pod fails", "is completed", "$ kruise status bcj", "An Advanced StatefulSet"]
    scenes += ["A new image", "A bad image", "$ kruise status asts", "repairs it", "joins every new pod"]
    scenes += ["A new sidecar", "$ kruise status scs", "pods created", "To keep one"]
    assert [out.index(s) for s in scenes] == sorted(out.index(s) for s in scenes)


def test_three_nodes_are_enough(tmp_path: Path) -> None:
    with started(tmp_path, *FASTER, "--nodes", "3") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, ""), out
    assert "4 nodes, 3 succeeded, 1 failed" in out
    assert "the same 3 pods, on the same nodes, same IPs" in out
    assert re.search(r"^ +writes to upgraded pods +6 +6 ", out, re.MULTILINE)


def test_on_a_terminal_there_is_a_table_and_the_same_lines(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    seen = b""
    try:
        with started(tmp_path, *FASTER, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            try:
                while chunk := os.read(ours, 65536):
                    seen += chunk
            except OSError:
                pass  # what Linux says when the other side of a terminal is gone
            assert process.wait(20) == 0
    finally:
        os.close(ours)
    text = seen.decode().replace("\r\n", "\n")
    assert "BroadcastJob sweep: running" in text
    assert "failed, exit code 3" in text
    assert "StatefulSet web: Updating" in text
    assert "InPlaceUpdateReady" not in text
    assert "SidecarSet logs" in text
    assert "matched 4   updated 4   ready 4" in text
    for line in ("s  node-5: pod succeeded", "5       PodSucceeded   node-0, node-1, node-2"):
        assert line in text
    assert text.rstrip().endswith("kruise demo --keep)")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h"), "the cursor is given back"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_before_the_end_stops_cleanly(tmp_path: Path, number: int) -> None:
    with started(tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "node-0: pod runs" in line:
                break
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - began < 8
    assert (process.returncode, err) == (130, "")
    assert "completed" not in out


def test_a_reader_that_goes_away_ends_it_without_a_traceback(tmp_path: Path) -> None:
    with started(tmp_path, *FASTER) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 1
        process.stdout = None


async def test_keep_leaves_the_cluster_to_kubectl_until_ctrl_c(tmp_path: Path) -> None:
    with started(tmp_path, *FASTER, "--keep") as process:
        out = await asyncio.to_thread(_until, process, "Ctrl-C here ends it.")
        found = re.search(r"export KUBECONFIG=(\S+)", out)
        again = re.search(r"kubectl create -f (\S+)", out)
        assert found is not None
        assert again is not None
        assert await asyncio.to_thread(Path(again[1]).is_file)
        clock, metrics = SystemClock(), Metrics(process=False)
        config = await load_kubeconfig(clock, path=found[1])
        async with HttpTransport(config, clock=clock) as transport:
            live = Client(
                Rest(transport, clock=clock, rng=Random(1), metrics=metrics), metrics=metrics, clock=clock
            ).live
            job = await live.get(BROADCASTJOBS, Key("default", "sweep"))
            sts = await live.get(STATEFULSETS, Key("default", "web"))
            scs = await live.get(SIDECARSETS, Key("", "logs"))
        assert job.status.phase == "completed"
        assert sts.status.updated_ready_replicas == 5
        assert scs.status.updated_ready_pods == 4
        process.send_signal(signal.SIGINT)
        rest, err = await asyncio.to_thread(process.communicate, timeout=30)
    assert (process.returncode, rest, err) == (0, "", "")


def _until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"the demo ended: {seen}")


# In this process, where a part of it can be broken.


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_show, "PATIENCE", 1.0)
    monkeypatch.setattr(manager_module, "freeze_heap", lambda: None)  # the heap of the tests is not ours to freeze


def left_behind() -> set[str]:
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("kruise-demo-")}


@pytest.mark.usefixtures("in_process")
def test_without_a_controller_nothing_is_claimed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "setup_broadcastjob", lambda *_, **__: None)
    before = left_behind()
    assert main(["demo", "--speed", "8", "--nodes", "3"]) == 1
    out = capsys.readouterr().out
    assert "NOT SEEN: two pods that end" in out
    assert "succeeded" not in out
    assert left_behind() == before


@pytest.mark.usefixtures("in_process")
def test_without_the_controller_of_sets_none_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "setup_statefulset", lambda *_, **__: None)
    before = left_behind()
    assert main(["demo", "--speed", "8", "--nodes", "3"]) == 1
    out = capsys.readouterr().out
    assert "3 succeeded, 1 failed" in out
    assert "NOT SEEN: 3 pods that are ready" in out
    assert "in service" not in out
    assert left_behind() == before


@pytest.mark.usefixtures("in_process")
def test_without_webhooks_nothing_is_claimed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(webhooks_setup, "setup", lambda *_, **__: None)
    before = left_behind()
    assert main(["demo", "--speed", "8", "--nodes", "3"]) == 1
    out = capsys.readouterr().out
    assert "NOT SEEN: webhooks that the API server can call" in out
    assert "is created" not in out
    assert left_behind() == before


@pytest.mark.usefixtures("in_process")
def test_a_pod_that_nobody_injects_into_is_not_called_injected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = demo_sidecar.sidecarset_body

    def elsewhere(name: str) -> Any:
        body = real(name)
        body["spec"]["selector"] = {"matchLabels": {"app": "another"}}
        return body

    monkeypatch.setattr(demo_sidecar, "sidecarset_body", elsewhere)
    monkeypatch.setattr(demo_show, "PATIENCE", 10.0)
    assert main(["demo", "--speed", "8", "--nodes", "3"]) == 1
    out = capsys.readouterr().out
    assert "NOT SEEN: containers of shop-0 as it is stored: ['app'], must be ['app', 'log-agent']" in out
    assert "stored with" not in out


@pytest.mark.usefixtures("in_process")
def test_without_the_controller_of_sidecars_none_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "setup_sidecarset", lambda *_, **__: None)
    monkeypatch.setattr(demo_show, "PATIENCE", 5.0)
    assert main(["demo", "--speed", "8", "--nodes", "3"]) == 1
    out = capsys.readouterr().out
    assert "NOT SEEN: a SidecarSet that the manager has seen" in out
    assert "shop-0" not in out


@pytest.mark.usefixtures("in_process")
def test_a_set_that_is_recreated_instead_is_not_called_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = demo_set.set_body

    def recreated(*args: Any, **named: Any) -> Any:
        body = real(*args, **named)
        body["spec"]["updateStrategy"]["rollingUpdate"]["podUpdatePolicy"] = "ReCreate"
        return body

    monkeypatch.setattr(demo_set, "set_body", recreated)
    monkeypatch.setattr(demo_show, "PATIENCE", 10.0)
    assert main(["demo", "--speed", "8", "--nodes", "3"]) == 1
    out = capsys.readouterr().out
    assert "NOT SEEN: uid, node and IP" in out
    assert "is updated in" not in out


@pytest.mark.usefixtures("in_process")
def test_a_manager_that_cannot_start_is_an_error_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConfigError("--broken: on purpose")

    monkeypatch.setattr(app, "build", refuse)
    before = left_behind()
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == "kruise demo: --broken: on purpose\n"
    assert left_behind() == before


@pytest.mark.usefixtures("in_process")
def test_a_number_that_is_wrong_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = demo_counts.job_figures

    def strict(calls: Any, job: Any) -> Any:
        return real(calls, demo_counts.Job(job.nodes + 1, job.running))

    monkeypatch.setattr(demo_counts, "job_figures", strict)
    monkeypatch.setattr(demo_show, "PATIENCE", 10.0)
    assert main(["demo", "--speed", "8", "--nodes", "3"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^ +pods created +4 +5 .* WRONG$", out, re.MULTILINE)
    assert "NOT as it should be" in out
