"""Calls our own webhooks as the API server would.

Purpose: a replica is ready when a client that trusts what the live configurations trust gets an answer from it.

Guarantees:

* WEB7: each try opens a connection of its own, verifies the certificate with every bundle that is live, under the
  name that the API server uses, and asks for an answer over HTTP. A certificate that a configuration does not trust
  makes the replica not ready. A configuration without a bundle leaves it to the authorities of the system, and any
  certificate in a bundle is an anchor, as with the API server.
* A try that fails is repeated once with what the configurations say now, where somebody can tell (*refresh*).
* HEA3: the check for ``/readyz`` tells the last result, and waits for nothing. A result that is old is none.

What this does not do: it goes to this process, not through the Service or the network of the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from kruise.runtime.clock import Clock
from kruise.runtime.manager.http import Address
from kruise.runtime.webhook.server import HEALTH_PATH

__all__ = ["Dialer"]

EVERY: Final = 10.0
REFRESH: Final = 60.0
"""Seconds after which the bundles are read again while all is well."""
PATIENCE: Final = 5.0
"""Seconds for one try."""
_LOOPBACK: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where it listens, not where we do


class Dialer:
    """Dials one server. Run :meth:`run`, and add :meth:`check` to ``/readyz``."""

    name: Final = "webhook dial"

    def __init__(
        self,
        bound: Callable[[], Address | None],
        bundles: Callable[[], Sequence[bytes]],
        host: str,
        *,
        clock: Clock,
        every: float = EVERY,
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Dial what *bound* says, trust what *bundles* says, and expect the name *host*.

        *refresh* reads the bundles again where nobody else does.
        """
        self._bound = bound
        self._bundles = bundles
        self._host = host
        self._clock = clock
        self._every = every
        self._refresh = refresh
        self._refreshed: float | None = None
        self._problem: str | None = "it has not been tried yet"
        self._at = clock.monotonic()
        self._contexts: dict[bytes, ssl.SSLContext] = {}

    def check(self) -> str | None:
        """Say why the API server would get no answer from us, or None."""
        age = self._clock.monotonic() - self._at
        if age > 3 * (self._every + PATIENCE):
            return f"the last try was {age:.0f} s ago"
        return self._problem

    async def run(self) -> None:
        """Try again and again, until cancelled."""
        while True:
            await self.dial()
            await self._clock.sleep(self._every if self._problem is None else min(1.0, self._every))

    async def dial(self) -> str | None:
        """Try once, and return what is wrong."""
        before = self._refreshed
        if self._refresh is not None and (before is None or self._clock.monotonic() - before >= REFRESH):
            await self._read_again()
        problem = await self._try()
        if problem is not None and self._refresh is not None and self._refreshed == before:
            await self._read_again()
            problem = await self._try()
        self._problem, self._at = problem, self._clock.monotonic()
        return problem

    async def _read_again(self) -> None:
        assert self._refresh is not None
        await self._refresh()
        self._refreshed = self._clock.monotonic()

    async def _try(self) -> str | None:
        bound, bundles = self._bound(), tuple(self._bundles())
        if bound is None:
            return "the webhooks do not listen"
        if not bundles:
            return "no configuration calls the webhooks"
        self._contexts = {bundle: context for bundle, context in self._contexts.items() if bundle in bundles}
        for bundle in bundles:
            if problem := await self._one(bound, bundle):
                return problem
        return None

    async def _one(self, bound: Address, bundle: bytes) -> str | None:
        try:
            context = self._contexts.get(bundle) or ssl.create_default_context(cadata=bundle.decode("ascii") or None)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            self._contexts[bundle] = context
            async with asyncio.timeout(PATIENCE):
                return await self._ask(bound, context)
        except TimeoutError:
            return f"the webhooks gave no answer for {PATIENCE:g} s"
        except ssl.SSLCertVerificationError as error:
            return f"a live configuration does not trust the certificate that is served: {error.verify_message}"
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            return f"the webhooks cannot be reached: {type(error).__name__}: {error}"

    async def _ask(self, bound: Address, context: ssl.SSLContext) -> str | None:
        reader, writer = await asyncio.open_connection(
            _LOOPBACK.get(bound.host, bound.host), bound.port, ssl=context, server_hostname=self._host
        )
        try:
            writer.write(f"GET {HEALTH_PATH} HTTP/1.1\r\nhost: {self._host}\r\nconnection: close\r\n\r\n".encode())
            line = (await reader.readuntil(b"\r\n")).decode("latin-1").split()
            return None if line[1:2] == ["200"] else f"the webhooks answered {' '.join(line[1:])}"
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
