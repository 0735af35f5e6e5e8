"""Webhooks over real HTTPS: a :class:`~kruise.simulator.apiserver.webhooks.Caller` for the server behind a port.

Purpose: the embedded API server calls a webhook as a real one does, with the authority of its ``caBundle``.

Guarantees:

* TST1: the certificate must be signed by the bundle and name the host; the deadline is a query parameter, too. What
  goes wrong is told in the words of Go's network library.
* A Service is reached where its object says: ``externalName`` of one that has it, its ``clusterIP`` otherwise.

What this does not do: no client certificate, and no proxy.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Generator
from typing import Any, Final

import aiohttp
from yarl import URL

from kruise.runtime.errors import Refused, Reset, Timeout, TransportError
from kruise.simulator.apiserver.webhooks import Answer, Target

Body = dict[str, Any]
FindService = Callable[[str, str], Body | None]
"""Returns the Service object by namespace and name."""

_KEPT: Final = 64
_BIGGEST: Final = 16 << 20
_VERIFY: Final = {
    10: "certificate has expired or is not yet valid",
    18: "certificate signed by unknown authority",
    19: "certificate signed by unknown authority",
    20: "certificate signed by unknown authority",
    21: "certificate signed by unknown authority",
}


class _Turn:
    """Gives the loop one turn."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class HttpsCaller:
    """Calls webhooks. A Caller; own it with ``async with`` or :meth:`close`."""

    def __init__(self, find: FindService = lambda _namespace, _name: None) -> None:
        self._find = find
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[bytes, ssl.SSLContext] = {}

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __call__(self, target: Target, body: bytes, seconds: float) -> Answer:
        await _Turn()  # a direct request cannot wait, and finds that out before anything is sent
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=True)
        try:
            async with asyncio.timeout(seconds):
                return await self._post(self._session, target, body, seconds)
        except TimeoutError:
            raise Timeout("context deadline exceeded") from None

    async def _post(self, session: aiohttp.ClientSession, target: Target, body: bytes, seconds: float) -> Answer:
        url = URL(f"{self._where(target)}?timeout={seconds:g}s")
        name = f"{target.name}.{target.namespace}.svc" if target.service else None
        headers = {"Content-Type": "application/json", "Accept": "application/json, */*"}
        try:
            async with session.post(
                url, data=body, headers=headers, ssl=self._context(target.bundle), server_hostname=name
            ) as response:
                read = await response.content.read(_BIGGEST)
                while more := await response.content.read(_BIGGEST):
                    read += more
                    if len(read) > _BIGGEST:
                        raise TransportError("http: response body too large")
                return Answer(response.status, read, response.headers.get("Content-Type", ""))
        except aiohttp.ClientConnectorCertificateError as error:
            raise TransportError(_certificate(error.certificate_error)) from None
        except aiohttp.ClientConnectorError as error:
            raise _unreachable(url, error) from None
        except aiohttp.ServerDisconnectedError:
            raise Reset("EOF") from None
        except aiohttp.ClientPayloadError:
            raise Reset("unexpected EOF") from None
        except (aiohttp.ClientError, OSError) as error:
            raise TransportError(str(error)) from None

    def _where(self, target: Target) -> str:
        if not target.service:
            return target.url
        found = self._find(target.namespace, target.name)
        if found is None:
            raise TransportError(f'service "{target.name}" not found', sent=False)
        spec = found.get("spec") or {}
        host = spec.get("externalName") if spec.get("type") == "ExternalName" else spec.get("clusterIP")
        if not host or host == "None":
            raise TransportError(f'no endpoints available for service "{target.name}"', sent=False)
        return f"https://{host}:{target.port}{target.path}"

    def _context(self, bundle: bytes) -> ssl.SSLContext:
        context = self._contexts.get(bundle)
        if context is None:
            if len(self._contexts) >= _KEPT:
                self._contexts.clear()
            try:
                context = ssl.create_default_context(cadata=bundle.decode() if bundle.strip() else None)
            except (ssl.SSLError, UnicodeDecodeError):
                raise TransportError("unable to load root certificates: unable to parse bytes as PEM block") from None
            self._contexts[bundle] = context
        return context


def _unreachable(url: URL, error: aiohttp.ClientConnectorError) -> TransportError:
    where = f"dial tcp {url.host}:{url.port}"
    cause = error.os_error
    if isinstance(cause, ConnectionRefusedError):
        return Refused(f"{where}: connect: connection refused")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Refused(f"dial tcp: lookup {url.host}: no such host")
    return TransportError(f"{where}: connect: {(cause.strerror or str(cause)).lower()}", sent=False)


def _certificate(error: Exception) -> str:
    head = "tls: failed to verify certificate: x509: "
    code = getattr(error, "verify_code", 0)
    if code in (62, 64):
        return f"{head}certificate is not valid for the name: {getattr(error, 'verify_message', error)}"
    return head + _VERIFY.get(code, str(getattr(error, "verify_message", error)))
