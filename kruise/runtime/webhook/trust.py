"""What the live configurations trust, for a replica that does not write them.

Purpose: with a certificate of somebody else (CRT5) a replica is ready by the same rule as with one of its own: a client
that trusts what the API server trusts gets an answer from it (WEB7).

Guarantees:

* Nothing is written. The objects are read when :meth:`LiveTrust.refresh` is called: once a minute while all is well,
  and before a problem is told, so that a bundle that was replaced together with the certificate makes nobody unready.
* While the API server gives no answer, what was read last stays.
* Without the right to read them, the chain that is served is taken for trusted, and this is said once. What is then
  known is that the server answers, under the right name, with a certificate that has begun and not ended.

What this does not do: it waits for nobody to write a bundle, and repairs none.
"""

from __future__ import annotations

from collections.abc import Callable

from kruise.runtime.log import get_logger
from kruise.runtime.webhook.targets import Targets

__all__ = ["LiveTrust"]

log = get_logger("webhook.trust")


class LiveTrust:
    """The bundles of the configurations, as last read."""

    def __init__(self, targets: Targets, served: Callable[[], bytes]) -> None:
        """Read *targets*. *served* returns the chain (PEM) that is served, empty while there is none."""
        self._targets = targets
        self._served = served
        self._live: tuple[bytes, ...] = ()
        self._readable = True

    def bundles(self) -> tuple[bytes, ...]:
        """Return the bundles that a client of ours has to be able to trust."""
        if self._readable:
            return self._live
        chain = self._served()
        return (chain,) if chain else ()

    async def refresh(self) -> None:
        """Read the configurations. Never raises for what the API server answers."""
        seen = await self._targets.look(None, write=False)
        if not seen.readable and self._readable:
            log.warning(
                "the webhook configurations may not be read: whether they trust the certificate is not known",
                problem="; ".join(seen.problems),
                hint="allow get on them by name, as config/rbac/webhook_certificates_role.yaml does",
            )
        self._readable = seen.readable
        if seen.bundles or not seen.problems:
            self._live = seen.bundles
