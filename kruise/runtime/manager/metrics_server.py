"""The server of ``/metrics``, plain or secure.

Purpose: put the registry of one manager on a port, and keep out who may not read it.

Guarantees:

* MET5: it listens on ``:8080`` unless told otherwise, ``0`` turns it off; ``secure`` means TLS, with the pair of a
  folder that somebody else keeps, or else self-signed.
* MET6: a secure server answers nobody whom ``authz.py`` does not let pass, also on extra paths.
* MET7: :meth:`MetricsServer.handle` adds paths, before and while it runs.
* The secure server is ready when its certificate is valid (HEA2).

What this does not do: it never serves a secret, and it does not push.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import ConfigError
from kruise.runtime.log import get_logger
from kruise.runtime.manager.authz import Authorizer
from kruise.runtime.manager.certs import ServingCertificate
from kruise.runtime.manager.http import Call, Handler, HttpServer, Reply, parse_address
from kruise.runtime.metrics import CONTENT_TYPE, Metrics

FLAG: Final = "--metrics-addr"

log = get_logger("metrics")


@dataclass(frozen=True, slots=True)
class MetricsOptions:
    """How metrics are served."""

    address: str = ":8080"
    """Defaults to ``:8080``, as OpenKruise; ``0`` turns the server off."""
    secure: bool = False
    """Defaults to plain HTTP, for scraping on one's own machine. The shipped manifests always set it."""
    cert_path: str = ""
    """The folder of the certificate and key. Defaults to none: self-signed."""
    cert_name: str = "tls.crt"
    """Defaults to the name in a Secret of cert-manager."""
    cert_key: str = "tls.key"
    """Defaults to the name in a Secret of cert-manager."""

    def __post_init__(self) -> None:
        parse_address(self.address, FLAG)
        if self.cert_path and not self.secure:
            raise ConfigError(f"--metrics-cert-path={self.cert_path}: has no effect without --metrics-secure")


class MetricsServer:
    """Serves one registry. Run ``server``, which is None when it is off, and ``certificate``, where there is one."""

    def __init__(self, metrics: Metrics, options: MetricsOptions, rest: Rest, *, clock: Clock, rng: Random) -> None:
        self._metrics = metrics
        metrics.on_source_error = _tell
        address = parse_address(options.address, FLAG)
        secure = address is not None and options.secure
        self._authorizer = Authorizer(rest, clock=clock, rng=rng) if secure else None
        self.certificate: Final = _certificate(options, clock, metrics) if secure else None
        tls = self.certificate.context if self.certificate is not None else None
        self.server: Final = HttpServer("metrics", address, flag=FLAG, tls=tls) if address is not None else None
        self.handle("/metrics", self._scrape)

    def handle(self, path: str, handler: Handler) -> None:
        """Serve *path* as well (MET7), behind the same authorisation. Raises ConfigError when it is taken."""
        if self.server is not None:
            self.server.route(path, self._authorizer.guard(handler) if self._authorizer is not None else handler)

    async def _scrape(self, _call: Call) -> Reply:
        return Reply(200, self._metrics.render(), CONTENT_TYPE)


def _tell(metric: str, error: Exception) -> None:
    log.error("a metric has no samples of one of its sources", metric=metric, exc_info=error)


def _certificate(options: MetricsOptions, clock: Clock, metrics: Metrics) -> ServingCertificate:
    if options.cert_path:
        folder = Path(options.cert_path)
        return ServingCertificate.from_files(
            "metrics",
            folder / options.cert_name,
            folder / options.cert_key,
            flag="--metrics-cert-path",
            clock=clock,
            metrics=metrics,
        )
    hosts = [socket.gethostname(), "localhost", "127.0.0.1", "::1"]
    return ServingCertificate.in_memory("metrics", hosts, clock=clock, metrics=metrics)
