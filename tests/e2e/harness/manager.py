"""Manager processes: started as a user would, with the ServiceAccount's own token, and measured from outside.

Purpose: ``python -m kruise`` as a child process, its probes, metrics and debug reports, and a supervisor that starts a
process again when it ended.

Guarantees:

* Never the administrator's rights: the kubeconfig holds a token of ``kruise-system/kruise-manager`` and nothing else.
* What was started is ended by its own pid, paused or not, also when a test fails.

What this does not do: it makes no assertion about the product.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

ROOT: Final = Path(__file__).resolve().parents[3]
USER_AGENT: Final = "kruise-manager/"
_TICK: Final = os.sysconf("SC_CLK_TCK")


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def get(port: int, path: str, *, timeout: float = 5.0) -> tuple[int, str]:
    """Return status and text of a plain HTTP GET on loopback; (0, reason) when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used."""

    cpu: float
    """Seconds, user and system."""
    peak_rss: int
    """Bytes."""


class ManagerProcess:
    """One manager."""

    def __init__(
        self,
        name: str,
        directory: Path,
        kubeconfig: Path | None,
        *flags: str,
        env: Mapping[str, str] | None = None,
        loop: str = "auto",
        own_ports: bool = True,
        webhooks: bool = False,
    ) -> None:
        """Describe one. With *webhooks* it serves them on this machine, where the API server is told to call them."""
        self.name = name
        self.log = directory / f"{name}.log"
        self.health_port, self.metrics_port, self.debug_port, self.webhook_port = free_ports(4)
        self.argv = [sys.executable, "-m", "kruise", "--log-format=json"]
        self.argv += [f"--event-loop={loop}", "--shutdown-delay=0s"]
        self.argv += [f"--webhook-port={self.webhook_port}"] if webhooks else ["--disable-webhooks"]
        if own_ports:
            self.argv += [
                f"--health-probe-addr=127.0.0.1:{self.health_port}",
                f"--metrics-addr=127.0.0.1:{self.metrics_port}",
                "--enable-pprof",
                f"--pprof-addr=127.0.0.1:{self.debug_port}",
            ]
        self.argv += [*([f"--kubeconfig={kubeconfig}"] if kubeconfig else []), *flags]
        self._env = {k: v for k, v in os.environ.items() if not k.startswith(("KRUISE_", "KUBE", "POD_", "WEBHOOK_"))}
        self._env |= {"PYTHONPATH": str(ROOT), **({"WEBHOOK_HOST": "127.0.0.1"} if webhooks else {}), **(env or {})}
        self._child: subprocess.Popen[bytes] | None = None
        self._offset = 0

    # Life.

    def start(self) -> ManagerProcess:
        """Start it."""
        self._offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as out:
            self._child = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=self._env
            )
        return self

    @property
    def child(self) -> subprocess.Popen[bytes]:
        """The process. Fails before the start."""
        assert self._child is not None, f"{self.name} was not started"
        return self._child

    @property
    def pid(self) -> int:
        """The pid."""
        return self.child.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._child is not None and self._child.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self.running:
            self.child.send_signal(number)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the end; return the exit code."""
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} did not end within {timeout:g} s; its log ends:\n{self.tail()}"
            ) from None

    def stop(self, timeout: float = 40.0) -> int | None:
        """Ask it to end, and end it by force when it does not; return the exit code."""
        if not self.running:
            return None if self._child is None else self.child.returncode
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{self.name} did not stop within {timeout:g} s; its log ends:\n{self.tail()}"
            ) from None

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self.running:
            self.child.kill()
            self.child.wait(10.0)

    # What it says.

    def lines(self) -> list[dict[str, Any]]:
        """Return the structured lines of its log since the last start; others under the key ``event``."""
        found: list[dict[str, Any]] = []
        if self.log.exists():
            with self.log.open("rb") as log:
                log.seek(self._offset)
                for raw in log.read().decode(errors="replace").splitlines():
                    try:
                        line = json.loads(raw)
                    except ValueError:
                        line = None
                    found.append(line if isinstance(line, dict) else {"event": raw})
        return found

    def said(self, text: str, **values: Any) -> list[dict[str, Any]]:
        """Return the log lines that hold *text* anywhere, and *values* under their keys."""
        return [
            line
            for line in self.lines()
            if text in json.dumps(line, ensure_ascii=False) and all(line.get(k) == v for k, v in values.items())
        ]

    def tail(self, lines: int = 40) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    @property
    def identity(self) -> str:
        """How it signs the Lease; empty until it has started."""
        for line in self.lines():
            if line.get("identity"):
                return str(line["identity"])
        return ""

    def until(self, condition: Callable[[], Any], timeout: float, what: str, *, ends: bool = False) -> Any:
        """Wait until *condition* is truthy; return its value. Fails with the log when the process ends before."""
        end = time.monotonic() + timeout
        while True:
            if found := condition():
                return found
            if not ends and not self.running:
                raise AssertionError(f"{self.name} ended before: {what}; its log ends:\n{self.tail()}")
            if time.monotonic() > end:
                raise AssertionError(f"not within {timeout:g} s: {what}; the log of {self.name} ends:\n{self.tail()}")
            time.sleep(0.05)

    def wait_ready(self, timeout: float = 60.0) -> ManagerProcess:
        """Wait until /readyz says ok."""
        self.until(lambda: get(self.health_port, "/readyz")[0] == 200, timeout, "ready")
        return self

    def wait_leading(self, timeout: float = 60.0) -> ManagerProcess:
        """Wait until it leads and its workers run."""
        self.until(lambda: self.said("workers started"), timeout, "workers started")
        return self

    # What it measures.

    def metrics(self) -> dict[str, float]:
        """Return every sample of /metrics, as ``name{label="value",...}``, labels in the order of their names."""
        code, text = get(self.metrics_port, "/metrics")
        assert code == 200, f"/metrics answers {code}: {text}"
        return {
            sample.name + _labels(sample.labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def debug(self, report: str) -> str:
        """Return one debug report."""
        code, text = get(self.debug_port, f"/debug/{report}", timeout=30.0)
        assert code == 200, f"/debug/{report} answers {code}: {text}"
        return text

    def usage(self) -> Usage:
        """Return CPU and peak memory so far. Linux alone."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None, "VmHWM is there on Linux"
        return Usage((int(fields[11]) + int(fields[12])) / _TICK, int(found[1]) * 1024)


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{k}="{v}"' for k, v in sorted(labels.items())) + "}" if labels else ""


class Supervisor:
    """Starts processes again when they end, as a kubelet does."""

    def __init__(self, managers: Sequence[ManagerProcess], *, delay: float = 0.5) -> None:
        self.managers = tuple(managers)
        self.restarts: list[tuple[float, str, int]] = []
        """(monotonic time, name, exit code)."""
        self._delay = delay
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> Supervisor:
        """Start all of them, and look after them."""
        for one in self.managers:
            one.start()
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._ending.wait(0.05):
            for one in self.managers:
                if not one.running:
                    self.restarts.append((time.monotonic(), one.name, one.child.returncode))
                    if self._ending.wait(self._delay):
                        return
                    one.start()

    def stop(self) -> None:
        """Restart nothing any more, and stop all of them."""
        self._ending.set()
        self._thread.join(5.0)
        for one in self.managers:
            one.signal(signal.SIGTERM)
            one.signal(signal.SIGCONT)
        for one in self.managers:
            # Not stop(): a second SIGTERM ends a manager at once, and the next test would wait for its lease to expire.
            with contextlib.suppress(AssertionError):
                one.wait(40.0)
            one.kill()

    def by_identity(self, identity: str) -> ManagerProcess | None:
        """Return the process that signs with *identity*."""
        return next((one for one in self.managers if one.identity == identity), None)


@contextlib.contextmanager
def running(manager: ManagerProcess) -> Iterator[ManagerProcess]:
    """Start *manager*; stop it at the end, whatever happens."""
    try:
        yield manager.start()
    finally:
        try:
            manager.stop()
        finally:
            manager.kill()
