"""Runs the real kubectl, and makes what it prints comparable.

Purpose: a transcript is a list of command lines with what they printed. Two servers are compared by their transcripts,
apart from names, times and addresses that a run gives.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_RULES: Final = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uid>"),
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}"), "<time>"),
    (re.compile(r'"?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"?'), "<time>"),
    (re.compile(r'(resourceVersion"?: ?)"\d+"'), r"\1<version>"),
    (re.compile(r"(containerd://)[0-9a-f]{64}"), r"\1<id>"),
    (re.compile(r"(sha256:)[0-9a-f]{64}"), r"\1<id>"),
    (re.compile(r"\b10\.\d+\.\d+\.\d+\b"), "<ip>"),
    (re.compile(r"(?<![\w.-])(\d+d)?(\d+h)?(\d+m)?\d+(s|m|h|d)(?= ago|\s|$)"), "<age>"),
    (re.compile(r"https://127\.0\.0\.1:\d+"), "<server>"),
    (re.compile(r"Resource Version:\s+\d+"), "Resource Version:  <version>"),
    (re.compile(r"/tmp/(LIVE|MERGED)-\d+"), r"<\1>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [+-]\d{4}"), "<time>"),
    # What kubectl's own goroutines log depends on which one ends first.
    (re.compile(r"^[IWE]\d{4} \d\d:\d\d:.*\n", re.MULTILINE), ""),
    # A real server adds Go's dump of both specs to the refusal of a change in a pod.
    (re.compile(r"(if it was previously negative\)\n)(?:[@ +-].*\n|\n)+"), r"\1"),
    (re.compile(r"[ \t]{2,}"), "  "),
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
)


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl for one server and one namespace."""

    binary: Path
    kubeconfig: Path
    namespace: str

    def _command(self, line: str) -> list[str]:
        cache = f"--cache-dir={self.kubeconfig.parent / 'kubectl-cache'}"
        return [
            str(self.binary),
            cache,
            f"--namespace={self.namespace}",
            *shlex.split(line.replace("$NS", self.namespace)),
        ]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "KUBECTL_EXTERNAL_DIFF": "diff -u"}

    async def run(self, line: str, text: str = "") -> str:
        """Run one command line; return what it printed and, unless it is 0, its exit code."""
        process = await asyncio.create_subprocess_exec(
            *self._command(line),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment(),
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate(text.replace("$NS", self.namespace).encode())
        code = "" if not process.returncode else f"exit code {process.returncode}\n"
        return self.normal(out.decode() + err.decode()) + code

    def normal(self, text: str) -> str:
        """Return *text* without what differs from run to run."""
        text = text.replace(self.namespace, "<ns>")
        for pattern, symbol in _RULES:
            text = pattern.sub(symbol, text)
        return text

    @asynccontextmanager
    async def following(self, line: str) -> AsyncIterator[list[str]]:
        """Run a command that does not end; give the list to which its lines are added."""
        process = await asyncio.create_subprocess_exec(
            *self._command(line), stdout=asyncio.subprocess.PIPE, env=self._environment()
        )
        lines: list[str] = []

        async def read() -> None:
            assert process.stdout is not None
            while raw := await process.stdout.readline():
                lines.append(self.normal(raw.decode()))

        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read())
            try:
                yield lines
            finally:
                process.terminate()
                await process.wait()
                await reading


async def until_lines(lines: list[str], count: int, seconds: float = 15.0) -> None:
    """Wait until *lines* has *count* of them."""
    async with asyncio.timeout(seconds):
        while len(lines) < count:
            await asyncio.sleep(0.02)
