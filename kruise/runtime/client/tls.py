"""TLS towards the API server, with certificates that change while we run.

Purpose: one ``ssl.SSLContext`` that always stands for the present CA, client certificate and key.

Guarantees:

* TRA6: files are looked at once a second. A change makes a new context for new connections; connections that are up
  keep theirs and live on. A pair that does not fit, or a file that is half written, keeps the context of before until
  the next look.
* LOG4: key material that comes as data touches the disk only in a private directory, and only while it is loaded.

What this does not do: it opens no connection, and it checks no expiry.
"""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from typing import Final

from kruise.runtime.client.auth import CertificateSource, ClientCertificate, ClusterConfig, Stamp, file_stamp
from kruise.runtime.clock import Clock
from kruise.runtime.errors import ConfigError
from kruise.runtime.log import get_logger

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the files."""

log = get_logger("tls")

_Seen = tuple[tuple[Stamp | None, ...], ClientCertificate | None]


class TlsContexts:
    """The TLS context of one cluster. Raises ConfigError at once when it cannot be made."""

    def __init__(self, config: ClusterConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        credentials = config.credentials
        self._source = credentials if isinstance(credentials, CertificateSource) else None
        self._files = tuple(f for f in (config.ca_file, config.client_cert_file, config.client_key_file) if f)
        self._complained: _Seen | None = None
        self._seen = self._look()
        self._looked_at = clock.monotonic()
        self._context = self._build(self._seen[1])
        if config.insecure:
            log.warning("the certificate of the api server is not checked", host=config.host)

    def _look(self) -> _Seen:
        return tuple(file_stamp(f) for f in self._files), self._source.certificate() if self._source else None

    def current(self) -> ssl.SSLContext:
        """Return the context for new connections."""
        now = self._clock.monotonic()
        if now - self._looked_at >= LOOK_EVERY or (
            self._source is not None and self._source.certificate() is not self._seen[1]
        ):
            self.reload()
        return self._context

    def reload(self) -> bool:
        """Look at the files now; return whether the context is a new one."""
        self._looked_at = self._clock.monotonic()
        seen = self._look()
        if seen == self._seen:
            return False
        try:
            context = self._build(seen[1])
        except ConfigError as error:
            # Rotation replaces two files one after the other: between them they do not fit. Look again soon.
            if seen != self._complained:
                self._complained = seen
                log.warning("new certificates are unusable, keeping those of before", problem=str(error))
            return False
        self._seen = seen
        self._context = context
        log.info("certificates reloaded", files=list(self._files))
        return True

    def _build(self, brought: ClientCertificate | None) -> ssl.SSLContext:
        c = self._config
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if c.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            self._load_authorities(context)
        if brought is not None:
            _load_pair(context, brought.certificate, brought.key, "the certificate that the exec plugin printed")
        elif c.client_cert_data or c.client_cert_file:
            certificate = c.client_cert_data or _read(c.client_cert_file, "client-certificate")
            key = c.client_key_data or (_read(c.client_key_file, "client-key") if c.client_key_file else b"")
            what = c.client_cert_file or "client-certificate-data"
            if not key:
                raise ConfigError(f"{what}: a client certificate needs its key; set client-key or client-key-data")
            _load_pair(context, certificate, key, what)
        return context

    def _load_authorities(self, context: ssl.SSLContext) -> None:
        c = self._config
        if not (c.ca_data or c.ca_file):
            context.load_default_certs()
            return
        where = "certificate-authority-data" if c.ca_data else c.ca_file
        data = c.ca_data or _read(c.ca_file, "certificate-authority")
        try:
            context.load_verify_locations(cadata=data.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
            raise ConfigError(f"{where}: holds no usable CA certificate in PEM form ({error})") from error


def _read(path: str, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{what} {path}: cannot be read: {error.strerror or error}") from error


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes, what: str) -> None:
    # The ssl module takes a pair from files only. One file holds both, so that what is checked as a pair is the pair.
    with tempfile.TemporaryDirectory(prefix="kruise-tls-") as directory:
        path = Path(directory) / "pair.pem"
        path.touch(mode=0o600)
        path.write_bytes(certificate + b"\n" + key)
        try:
            context.load_cert_chain(path, password=_no_password)
        except (ssl.SSLError, ValueError, OSError) as error:
            raise ConfigError(f"{what}: certificate and key are no usable pair ({error})") from error


def _no_password() -> str:
    raise ValueError("the key is encrypted; use one without a password")
