"""Keeps the certificate of the webhooks: made, stored, published, served, renewed.

Purpose: the loop that joins the keyring of ``certs.py`` with its store and with the configurations. It runs in every
replica; all of them serve what the store has.

Guarantees:

* CRT2: the first pass makes what is missing; then one a minute repairs whatever has drifted.
* CRT3: a bundle is published before a leaf that needs it is served. A new authority signs only when all
  configurations have had it for the overlap; a replica takes a leaf of another authority under the same condition,
  unless what it serves is about to end.
* CRT4: every write is conditional. After the first set-up only the leader writes; all others read and reload.
* CRT6: a set-up that does not succeed in time ends with a ConfigError that says what is missing. Until then it says in
  the log what it waits for, as soon as it is known, and again when it is another thing: nothing else starts before it.
* X34: what somebody breaks by hand is put back from memory while there is something good in it; meanwhile the last
  good pair is served. A keyring of somebody else is taken over, and its bundle keeps the authorities of before.
* A replica with an address of its own takes over from another one when it listens itself. One that is called
  elsewhere again and again has a rival: it says so, gives way, and tries again once in ten minutes.
* WEB9: a set-up that would block the pods of our own namespace is refused, with the reason.

What this does not do: with certificates from outside nothing of this runs; :func:`from_outside` only reads (CRT5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import ApiError, ConfigError, Conflict, DecodeError, TransportError, UnknownOutcome
from kruise.runtime.log import get_logger
from kruise.runtime.manager.certs import Pair, ServingCertificate
from kruise.runtime.metrics import Metrics
from kruise.runtime.webhook.certs import DAY, CertificateRules, Keyring, UnusableKeyring, signers_of, successor
from kruise.runtime.webhook.stores import Store
from kruise.runtime.webhook.targets import Seen, Targets

__all__ = ["CertificateKeeper", "from_outside"]

log = get_logger("certs")

EVERY: Final = 60.0
"""Seconds between two passes."""
TAKES: Final = 3
"""How often in a row we let ourselves be called again before we give way."""
TAKES_AGAIN: Final = 10
"""In how many passes we try once afterwards: whoever called them away may be gone."""
RETRY: Final = 1.0
"""Seconds between two tries of the first set-up."""
_RACED: Final = "another replica wrote at the same time"
_WAY_OUT: Final = "install what is missing, or start with --disable-webhooks"
_FAILURES: Final = (ApiError, TransportError, UnknownOutcome, DecodeError, OSError, UnusableKeyring)


class CertificateKeeper:
    """The keyring of one replica. Give :meth:`certificate` to the server, and run :meth:`run`."""

    name: Final = "webhook certificates"

    def __init__(
        self,
        store: Store,
        targets: Targets,
        rules: CertificateRules,
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        leading: Callable[[], bool],
        namespace: str = "",
        initialize_timeout: float = 60.0,
        every: float = EVERY,
        client_ca: str = "",
    ) -> None:
        """Make a keeper; nothing is read yet.

        *leading* says whether this replica may write after its first set-up. *namespace* is the one of our own pods,
        which no configuration may block (WEB9); without it nothing is checked.
        """
        self.rules: Final = rules
        self.seen = Seen()
        """What the configurations said at the last look."""
        self._store = store
        self._targets = targets
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._leading = leading
        self._namespace = namespace
        self._initialize_timeout = initialize_timeout
        self._every = every
        self._client_ca = client_ca
        self._ring: Keyring | None = None
        self._pair: Pair | None = None
        self._since: dict[bytes, float] = {}
        self._serving: ServingCertificate | None = None
        self._ready = asyncio.Event()
        self._told: tuple[str, ...] = ()
        self._listening: Callable[[], Awaitable[None]] | None = None
        self._away = False
        """Everybody trusts us, and somebody else is called."""
        self._times_away = 0

    def serves(self, listening: Callable[[], Awaitable[None]]) -> None:
        """Take over from another replica once *listening* returns: until then its address stays."""
        self._listening = listening

    # What others ask.

    async def certificate(self) -> ServingCertificate:
        """Wait for the first set-up, and return what a server listens with. Can be cancelled."""
        await self._ready.wait()
        assert self._serving is not None
        return self._serving

    async def ready(self) -> None:
        """Wait until the first set-up is done."""
        await self._ready.wait()

    def check(self) -> str | None:
        """Say what is wrong with the certificate; a check for ``/readyz`` (HEA2)."""
        return "there is no certificate yet" if self._serving is None else self._serving.check()

    def bundles(self) -> tuple[bytes, ...]:
        """Return the bundles that are live in the configurations."""
        return self.seen.bundles

    def called(self) -> str | None:
        """Say that the first set-up leaves another replica in our place yet, or None; a check for ``/readyz``."""
        waits = self._away and self._listening is not None
        return "the configurations lead to another replica until this one listens" if waits else None

    @property
    def pair(self) -> Pair | None:
        """What is served; ``None`` before the first set-up."""
        return self._pair

    # The loop.

    async def run(self) -> None:
        """Set up, then repair and renew until cancelled. Raises ConfigError when the set-up fails (CRT6)."""
        await self.set_up()
        if self._listening is not None:
            await self._listening()
            self._listening = None
            if self._away:
                await self._try(first=True)
        while True:
            await self._clock.sleep(self._every * self._rng.uniform(0.9, 1.1))
            await self.look()

    async def set_up(self) -> None:
        """Do passes until all is as it should be. Raises ConfigError after the time for it, and for WEB9."""
        end = self._clock.monotonic() + self._initialize_timeout
        while not self._ready.is_set():
            problem = await self._try(first=True)
            if problem is None and self._serving is not None:
                break
            self._waits(problem)
            if self._clock.monotonic() + RETRY > end:
                raise ConfigError(
                    f"--webhook-initialize-timeout={self._initialize_timeout:g}s: the webhooks could not be set up in "
                    f"time: {problem or _RACED}; {_WAY_OUT}"
                )
            await self._clock.sleep(RETRY)
        if self._namespace and (blocking := await self._targets.blocking(self._namespace)):
            raise ConfigError("; ".join(blocking))
        self._ready.set()

    def _waits(self, problem: str | None) -> None:
        """Say once what the first set-up waits for; a lost race is settled by the next try, and no news."""
        told = (problem,) if problem and problem != _RACED else self._told
        if told != self._told:
            log.warning("waiting for what the webhooks need", problem=problem, solution=_WAY_OUT)
        self._told = told

    async def look(self) -> None:
        """Do one pass. A failure is told once, and is no reason to end."""
        problem = await self._try(first=False)
        told = (problem,) if problem else ()
        if told and told != self._told:
            log.warning("the webhooks are not set up as they should be", problem=problem)
        self._told = told

    async def _try(self, *, first: bool) -> str | None:
        """Do one pass; return what is wrong."""
        try:
            return await self._pass(first=first)
        except Conflict:
            return _RACED
        except _FAILURES as error:
            return f"{self._store.where}: {error}"

    async def _pass(self, *, first: bool) -> str | None:
        may_write = first or self._leading()
        held = await self._store.read()
        stored, broken = None, ""
        try:
            stored = Keyring.read(held.data) if held.data else None
        except UnusableKeyring as error:
            broken = str(error)
        if broken:
            self._metrics.certificate_errors.inc()
            log.warning("what is stored is no keyring", place=self._store.where, problem=broken)
        wanted = self._wanted(stored, may_write=may_write)
        if wanted is not None and may_write and (stored is None or wanted.data() != stored.data()):
            await self._store.write(held, wanted.data())
            stored = wanted
        ring = stored or self._ring
        if ring is None:
            return broken or f"{self._store.where} is empty"
        await self._publish(ring, write=may_write)
        self._take(ring)
        fine = self.seen.right or self._away or not may_write
        return "; ".join(self.seen.problems) or (None if fine else "a bundle is not right")

    def _wanted(self, stored: Keyring | None, *, may_write: bool) -> Keyring | None:
        """Return what should be stored."""
        if not may_write:
            return None
        now = self._clock.now()
        ring = stored or self._ring  # what was good a minute ago is put back
        if stored is not None and self._ring is not None and self._ring.signer.certificate not in stored.bundle:
            ring = replace(stored, bundle=tuple(dict.fromkeys((*stored.bundle, *self._ring.bundle))))
        upcoming = ring.upcoming if ring is not None else None
        published = upcoming is not None and self._known_for(upcoming.certificate) >= self.rules.overlap
        ring, news = successor(ring, self.rules, now=now, published=published)
        for one in news:
            log.info("the keyring changes", place=self._store.where, change=one)
        return ring

    async def _publish(self, ring: Keyring, *, write: bool) -> None:
        """Let the configurations trust *ring*, and note since when they trust each of its authorities."""
        self.seen = await self._targets.look(ring.pem, write=False)
        self._away = not self.seen.right and not self.seen.problems and self.seen.bundles == (ring.pem,)
        if self.seen.right:
            self._times_away = 0
        elif write and self._takes():
            self.seen = await self._targets.look(ring.pem, write=True)
            self._away = False
        now = self._clock.monotonic()
        for one in ring.bundle:
            if self.seen.readable and not (self.seen.bundles and all(one in live for live in self.seen.bundles)):
                self._since.pop(one, None)
            else:
                self._since.setdefault(one, now)
        self._since = {one: since for one, since in self._since.items() if one in ring.bundle}

    def _takes(self) -> bool:
        """Tell whether the configurations are to be written, where others may have written an address of theirs."""
        if not self._away:
            self._times_away = 0
            return True
        if self._listening is not None:
            return False
        self._times_away += 1
        if self._times_away == TAKES + 1:
            log.error(
                "the webhooks lead to another manager again and again: it is left in peace",
                hint="it has the same certificate and another WEBHOOK_HOST or WEBHOOK_PORT; stop one of the two",
            )
        return self._times_away <= TAKES or (self._times_away - TAKES) % TAKES_AGAIN == 0

    def _known_for(self, authority: bytes) -> float:
        """Return for how many seconds all configurations are known to trust *authority*."""
        since = self._since.get(authority)
        return -1.0 if since is None else self._clock.monotonic() - since

    def _take(self, ring: Keyring) -> None:
        """Serve the leaf of *ring*, as soon as everybody trusts its authority."""
        serving = self._pair
        if serving is not None and serving.certificate != ring.leaf.certificate:
            known = max((self._known_for(one) for one in signers_of(ring)), default=-1.0)
            same = self._ring is not None and self._ring.signer.certificate == ring.signer.certificate
            if not same and known < self.rules.overlap and serving.ends - self._clock.now() > DAY:
                return  # the next pass takes it
        self._ring, self._pair = ring, ring.leaf
        if self._serving is None:
            self._serving = ServingCertificate(
                "webhooks",
                self._source,
                self._stamp,
                clock=self._clock,
                metrics=self._metrics,
                renews=False,
                client_ca=self._client_ca,
            )
        else:
            self._serving.refresh()

    def _source(self) -> Pair:
        assert self._pair is not None
        return self._pair

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        return ((hash(self._pair.certificate), hash(self._pair.key), 0),) if self._pair is not None else ()


async def from_outside(
    certificate: Path,
    key: Path,
    *,
    clock: Clock,
    metrics: Metrics,
    timeout: float = 60.0,
    client_ca: str = "",
    flag: str = "--webhook-cert-path",
) -> ServingCertificate:
    """Return the pair of two files that somebody else writes; wait for them for *timeout* seconds (CRT5, CRT6).

    Raises ConfigError, which names *flag*, when there is no usable pair then. Can be cancelled.
    """
    end = clock.monotonic() + timeout
    while True:
        try:
            return ServingCertificate.from_files(
                "webhooks", certificate, key, flag=flag, clock=clock, metrics=metrics, client_ca=client_ca
            )
        except ConfigError:
            if clock.monotonic() + RETRY > end:
                raise
        await clock.sleep(RETRY)
