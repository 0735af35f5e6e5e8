"""Serving certificates that change while connections live.

Purpose: a TLS context for our servers whose certificate comes from files that somebody else rotates, or is made in
memory.

Guarantees:

* CRT1: a new pair serves new connections at once; those that are up keep theirs. A pair is loaded and checked as a
  whole before it is taken: while certificate and key do not fit each other, the last good pair stays. Files are looked
  at every 10 s, by their modification times.
* CRT5: with files, nothing is ever written, and nothing generated. The seconds until the end are a metric.
* MET5: without files a self-signed pair is made in memory. It lives 90 days, is renewed 30 days before its end, and
  never touches a disk where the system has memory files.
* TLS is 1.2 or newer; ALPN offers ``http/1.1`` alone.

What this does not do: it signs for nobody else, and no client can verify a self-signed pair: it hides what is sent, and
proves nothing.
"""

from __future__ import annotations

import datetime
import os
import ssl
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kruise.runtime.clock import UTC, Clock
from kruise.runtime.errors import ConfigError
from kruise.runtime.log import get_logger
from kruise.runtime.metrics import Metrics, Sample

log = get_logger("certs")

LOOK_EVERY: Final = 10.0
"""Seconds between two looks at the files."""
LIFETIME: Final = 90 * 86_400.0
"""Seconds for which a pair that we make is valid."""
RENEW_BEFORE: Final = 30 * 86_400.0
"""Seconds before its end at which we make the next one."""
_BACKDATED: Final = 3600.0

_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain and its key, in PEM, and when the first certificate ends (seconds since the epoch)."""

    certificate: bytes
    key: bytes
    ends: float

    def __repr__(self) -> str:
        return f"Pair(ends={self.ends})"


def self_signed(names: Iterable[str], *, now: float, lifetime: float = LIFETIME) -> Pair:
    """Return a new pair for *names* (host names and IP addresses). *now* is wall time in seconds."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509 import oid

    def general(name: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            return x509.DNSName(name)

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(oid.NameOID.COMMON_NAME, "kruise-manager")])
    ends = now + lifetime
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.fromtimestamp(now - _BACKDATED, UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(ends, UTC))
        .add_extension(x509.SubjectAlternativeName([general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        float(int(ends)),
    )


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Give *content* a path for as long as it is loaded: in memory where the system can, else in a private file."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("pair", os.MFD_CLOEXEC)
        try:
            os.write(fd, content)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.name


def _context(pair: Pair, client_ca: str = "") -> ssl.SSLContext:
    """Return a context that serves *pair*. Raises ssl.SSLError when its parts do not fit each other.

    With *client_ca* (PEM) clients may show a certificate, which must be of it; who must, decides who handles requests.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with _as_file(pair.certificate) as certificate, _as_file(pair.key) as key:
        context.load_cert_chain(certificate, key)
    if client_ca:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=client_ca)
    return context


class ServingCertificate:
    """The certificate of a server, and the context to listen with. A Runnable: :meth:`run` keeps it fresh.

    Make it with :meth:`from_files` or :meth:`in_memory`.
    """

    def __init__(
        self,
        name: str,
        source: Callable[[], Pair],
        stamp: Callable[[], _Stamp],
        *,
        clock: Clock,
        metrics: Metrics,
        renews: bool,
        client_ca: str = "",
    ) -> None:
        self.name: Final = name
        self._source = source
        self._stamp = stamp
        self._clock = clock
        self._metrics = metrics
        self._renews = renews
        self._client_ca = client_ca
        self._seen = stamp()
        self._complained: object = None
        metrics.certificate_reads.inc()
        self.pair = source()
        self._current = _context(self.pair, client_ca)
        self.context: Final = _context(self.pair, client_ca)
        """Listen with this one. It hands each new connection to the context of the present pair."""
        # Loading a second pair into a live context is no swap: OpenSSL keeps one per type of key, so that an RSA
        # certificate would go on being served after its successor with an elliptic curve key.
        self.context.sni_callback = self._choose
        self._stop_metric = metrics.certificate_expiry.add(lambda: [Sample((), self.seconds_left())])

    @classmethod
    def from_files(
        cls,
        name: str,
        certificate: Path,
        key: Path,
        *,
        flag: str,
        clock: Clock,
        metrics: Metrics,
        client_ca: str = "",
    ) -> ServingCertificate:
        """Serve the pair in two PEM files, which somebody else writes (CRT5).

        Raises ConfigError, which names *flag*, when there is no usable pair at the start.
        """

        def source() -> Pair:
            chain = certificate.read_bytes()
            return Pair(chain, key.read_bytes(), ends_of(chain))

        def stamp() -> _Stamp:
            return tuple(_file_stamp(path) for path in (certificate, key))

        try:
            return cls(name, source, stamp, clock=clock, metrics=metrics, renews=False, client_ca=client_ca)
        except (OSError, ValueError) as error:
            metrics.certificate_errors.inc()
            raise ConfigError(
                f"{flag}={certificate.parent}: {certificate.name} and {key.name} are no usable pair: {error}"
            ) from error

    @classmethod
    def in_memory(cls, name: str, hosts: Iterable[str], *, clock: Clock, metrics: Metrics) -> ServingCertificate:
        """Serve a self-signed pair for *hosts*."""
        names = tuple(dict.fromkeys(hosts))
        return cls(name, lambda: self_signed(names, now=clock.now()), tuple, clock=clock, metrics=metrics, renews=True)

    def _choose(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def seconds_left(self) -> float:
        """Return the seconds until the certificate ends; negative after it."""
        return self.pair.ends - self._clock.now()

    def check(self) -> str | None:
        """Say what is wrong when the certificate has ended; a check for ``/readyz`` (HEA2)."""
        left = self.seconds_left()
        return None if left > 0 else f"the certificate ended {-left:.0f} s ago"

    def refresh(self) -> bool:
        """Look once; return True when there is a new pair. A pair that is not usable is logged once and skipped."""
        if self._renews:
            if self.seconds_left() > RENEW_BEFORE:
                return False
            seen = self._seen
        else:
            seen = self._stamp()
            if seen == self._seen:
                return False
        self._metrics.certificate_reads.inc()
        try:
            pair = self._source()
            context = _context(pair, self._client_ca)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self._metrics.certificate_errors.inc()
            if self._complained != seen:  # a volume that is being written looks like this for a moment
                self._complained = seen
                log.warning("the new certificate is not usable, the last one stays", server=self.name, error=str(error))
            return False
        self.pair, self._current, self._seen = pair, context, seen
        log.info("serving a new certificate", server=self.name, seconds_left=round(self.seconds_left()))
        return True

    async def run(self) -> None:
        """Keep the certificate fresh until cancelled."""
        try:
            while True:
                await self._clock.sleep(LOOK_EVERY)
                self.refresh()
        finally:
            self._stop_metric()


def _file_stamp(path: Path) -> tuple[int, int, int]:
    """Return what changes when a file does, also when it is a link of a mounted Secret; zeros while it is absent."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def ends_of(chain: bytes) -> float:
    """Return when the first certificate of *chain* ends. Raises ValueError when there is none."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(chain).not_valid_after_utc.timestamp()
