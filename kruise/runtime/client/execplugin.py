"""Credentials from a program, as ``client.authentication.k8s.io`` describes it.

Purpose: run the plugin that a kubeconfig names, no more often than needed.

Guarantees:

* AUT2: versions v1 and v1beta1; token and client certificate; what the plugin printed is kept until it says that it
  expires, or its certificate does, whichever comes first. However many requests wait, the plugin runs once.
* AUT3: after a 401 it runs again, once for all requests that were refused together.
* LOG4: nothing that it prints on standard output is shown, also not when it cannot be understood.

What this does not do: it does not cache on disk.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from kruise.runtime.client.auth import ClientCertificate
from kruise.runtime.clock import Clock, parse_time
from kruise.runtime.errors import ConfigError
from kruise.runtime.log import get_logger

VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
RUN_TIMEOUT: Final = 120.0
"""Seconds: long enough for a person to finish a log-in in a browser."""

log = get_logger("auth")


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """How to run a plugin: ``users[].user.exec`` of a kubeconfig."""

    api_version: str
    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    install_hint: str = ""
    interactive: bool = True
    """Whether the plugin may ask the person at the terminal (``interactiveMode`` is not ``Never``)."""
    cluster: Mapping[str, Any] | None = None
    """What ``provideClusterInfo`` passes on; ``None`` when it is not asked for."""
    directory: str = ""
    """Where a relative command is looked for: the directory of the kubeconfig."""
    source: str = ""
    """File and field, for messages."""


class _Status(msgspec.Struct, rename="camel"):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: str | None = None


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str | None = None
    kind: str | None = None
    status: _Status | None = None


class ExecCredentials:
    """What a plugin printed, for as long as it is good."""

    def __init__(self, plugin: ExecPlugin, clock: Clock) -> None:
        if plugin.api_version not in VERSIONS:
            raise ConfigError(
                f"{plugin.source}: apiVersion {plugin.api_version!r} is not supported; use one of {', '.join(VERSIONS)}"
            )
        if not plugin.command:
            raise ConfigError(f"{plugin.source}: command is missing")
        self._plugin = plugin
        self._clock = clock
        self._lock = asyncio.Lock()
        self._runs = 0
        self._headers: Mapping[str, str] = MappingProxyType({})
        self._certificate: ClientCertificate | None = None
        self._expires: float | None = None

    def _fresh(self) -> bool:
        return self._runs > 0 and (self._expires is None or self._clock.now() < self._expires)

    async def headers(self) -> Mapping[str, str]:
        """Return the headers, and run the plugin first when there is nothing that is still good."""
        if not self._fresh():
            async with self._lock:
                if not self._fresh():
                    await self._run()
        return self._headers

    async def refresh(self) -> bool:
        seen = self._runs
        async with self._lock:
            if self._runs == seen:
                await self._run()
        return True

    def certificate(self) -> ClientCertificate | None:
        return self._certificate

    async def _run(self) -> None:
        printed = await self._output()
        source = self._plugin.source
        try:
            credential = msgspec.json.decode(printed, type=_ExecCredential)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ConfigError(f"{source}: {self._plugin.command} printed no ExecCredential in JSON") from None
        if credential.api_version != self._plugin.api_version:
            raise ConfigError(
                f"{source}: {self._plugin.command} printed apiVersion {credential.api_version!r}, "
                f"the kubeconfig says {self._plugin.api_version!r}; make them equal"
            )
        status = credential.status
        if credential.kind != "ExecCredential" or status is None:
            raise ConfigError(f"{source}: {self._plugin.command} printed no ExecCredential with a status")
        pair = bool(status.client_certificate_data), bool(status.client_key_data)
        if pair[0] != pair[1]:
            raise ConfigError(f"{source}: {self._plugin.command} printed a certificate without key, or the reverse")
        if not status.token and not pair[0]:
            raise ConfigError(f"{source}: {self._plugin.command} printed neither a token nor a certificate")
        expires = None
        if status.expiration_timestamp:
            expires = parse_time(status.expiration_timestamp)
            if expires is None:
                raise ConfigError(
                    f"{source}: {self._plugin.command} printed an expirationTimestamp that is no RFC 3339"
                )
        token = (status.token or "").strip()
        self._headers = MappingProxyType({"authorization": f"Bearer {token}"} if token else {})
        if status.client_certificate_data and status.client_key_data:
            brought = ClientCertificate(status.client_certificate_data.encode(), status.client_key_data.encode())
            if brought != self._certificate:
                self._certificate = brought
            end = _end_of(brought.certificate, source)
            expires = end if expires is None else min(end, expires)
        else:
            self._certificate = None
        self._expires = expires
        self._runs += 1
        log.debug("exec plugin ran", command=self._plugin.command, expires=expires)

    def _command(self) -> str:
        command = self._plugin.command
        if os.sep in command and not os.path.isabs(command):
            command = str(Path(self._plugin.directory, command))
        found = shutil.which(command)
        if found is None:
            hint = f" {self._plugin.install_hint}" if self._plugin.install_hint else ""
            raise ConfigError(f"{self._plugin.source}: the program {command} is not to be found; install it.{hint}")
        return found

    async def _output(self) -> bytes:
        p = self._plugin
        command = self._command()
        terminal = p.interactive and sys.stdin is not None and sys.stdin.isatty()
        spec: dict[str, Any] = {"interactive": terminal}
        if p.cluster is not None:
            spec["cluster"] = p.cluster
        info = {"apiVersion": p.api_version, "kind": "ExecCredential", "spec": spec}
        process = await asyncio.create_subprocess_exec(
            command,
            *p.args,
            env={**os.environ, **p.env, "KUBERNETES_EXEC_INFO": msgspec.json.encode(info).decode()},
            stdin=None if terminal else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=None if terminal else asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(RUN_TIMEOUT):
                out, err = await process.communicate()
        except TimeoutError:
            raise ConfigError(f"{p.source}: {p.command} has not ended after {RUN_TIMEOUT:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            said = (err or b"").decode("utf-8", "replace").strip()[-500:]
            raise ConfigError(
                f"{p.source}: {p.command} ended with code {process.returncode}: {said or 'it said nothing'}"
            )
        return out


def _end_of(certificate: bytes, source: str) -> float:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()
    except ValueError as error:
        raise ConfigError(f"{source}: the plugin printed a certificate that is no PEM") from error
