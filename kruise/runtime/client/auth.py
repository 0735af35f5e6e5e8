"""Who we are, towards the API server, and where that server is.

Purpose: credentials that survive rotation, for a process in a cluster and for one outside.

Guarantees:

* AUT1: a token file is read again when it changes, and every 60 s in any case; white space around the token is cut off;
  a file that is empty, missing or no token keeps the token of before. Host and CA never change with it.
* AUT3: :meth:`Credentials.refresh` is what the transport calls after a 401, before its only retry.
* AUT4: nothing here imports a generated client library.
* LOG4: no credential shows in a ``repr`` or in an error text.

What this does not do: kubeconfigs are read in ``kubeconfig.py``; certificates are loaded in ``tls.py``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

from kruise.runtime.clock import Clock
from kruise.runtime.errors import ConfigError
from kruise.runtime.log import get_logger

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REREAD_AFTER: Final = 60.0
"""Seconds after which a token file is read again even if nothing shows that it changed."""
_LARGEST_TOKEN: Final = 1 << 20

log = get_logger("auth")


class Credentials(Protocol):
    """What a request carries to say who sends it."""

    async def headers(self) -> Mapping[str, str]:
        """Return the headers, lower case. Cheap when nothing changed; else may wait for a plugin.

        Raises ConfigError when there is no credential and none can be had.
        """
        ...

    async def refresh(self) -> bool:
        """Get the credential again, because it was refused with 401. Concurrent calls do the work once.

        Returns False when nothing new can be had; then there is no point in a second try.
        """
        ...


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A client certificate and its key, PEM."""

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)


@runtime_checkable
class CertificateSource(Protocol):
    """Credentials that also bring a client certificate, such as an exec plugin."""

    def certificate(self) -> ClientCertificate | None:
        """Return the present one: the same object for as long as it does not change."""
        ...


class StaticCredentials:
    """A token that never changes; without one, an anonymous client or one known by its certificate alone."""

    __slots__ = ("_headers",)

    def __init__(self, token: str = "") -> None:
        self._headers: Mapping[str, str] = (
            MappingProxyType({"authorization": f"Bearer {token}"}) if token else MappingProxyType({})
        )

    async def headers(self) -> Mapping[str, str]:
        return self._headers

    async def refresh(self) -> bool:
        return False


Stamp = tuple[int, int, int]


def file_stamp(path: str | Path) -> Stamp | None:
    """Return what tells whether a file changed: mtime, inode, size; ``None`` for one that cannot be looked at.

    The inode counts because the kubelet swaps a symbolic link to a new directory: a new file may have an old mtime.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


class TokenFile:
    """A bearer token in a file that somebody else rotates (AUT1)."""

    def __init__(self, path: str | Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._headers: Mapping[str, str] = MappingProxyType({})
        self._stamp: Stamp | None = None
        self._read_at = 0.0
        self._complained = False
        problem = self._read()
        if problem:
            raise ConfigError(
                f"{path}: {problem}; without a token the API server answers 401. In a pod, set "
                f"automountServiceAccountToken: true; with a kubeconfig, correct tokenFile"
            )

    def _read(self) -> str:
        """Read the file; return what is wrong with it, or ``""``."""
        self._read_at = self._clock.monotonic()
        self._stamp = file_stamp(self._path)
        try:
            with open(self._path, "rb") as file:
                token = file.read(_LARGEST_TOKEN).strip().decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            return f"cannot be read ({type(error).__name__})"
        if not token:
            return "is empty"
        if not token.isprintable() or " " in token:
            return "holds no single token"
        self._headers = MappingProxyType({"authorization": f"Bearer {token}"})
        return ""

    def _reread(self) -> bool:
        problem = self._read()
        if problem and not self._complained:
            log.warning("token file unusable, keeping the token of before", path=str(self._path), problem=problem)
        self._complained = bool(problem)
        return not problem

    async def headers(self) -> Mapping[str, str]:
        stamp = file_stamp(self._path)
        if (stamp is not None and stamp != self._stamp) or self._clock.monotonic() - self._read_at >= REREAD_AFTER:
            self._reread()
        return self._headers

    async def refresh(self) -> bool:
        """Read the file now. True when it held a token, be it the old one: the server may know it by now."""
        return self._reread()


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Where an API server is, how to know it, and who we are to it. Data is PEM; data wins over a file."""

    host: str
    """Scheme, host, port and path prefix, without a trailing slash: ``https://10.0.0.1:443``."""
    credentials: Credentials = field(default_factory=StaticCredentials, repr=False)
    ca_file: str = ""
    ca_data: bytes = field(default=b"", repr=False)
    """Certificates of the authorities to trust; neither file nor data means those of the system."""
    client_cert_file: str = ""
    client_cert_data: bytes = field(default=b"", repr=False)
    client_key_file: str = ""
    client_key_data: bytes = field(default=b"", repr=False)
    insecure: bool = False
    """Trust whatever certificate the server shows."""
    server_name: str = ""
    """The name that the server's certificate must have, when it is not the host's."""
    proxy: str | None = field(default=None, repr=False)
    """URL of a proxy. ``None`` asks the environment, once; ``""`` is none at all."""
    namespace: str = "default"
    """Where namespaced reads and writes without a namespace belong."""
    source: str = ""
    """What this was read from, for messages."""


def in_cluster(
    clock: Clock, *, env: Mapping[str, str] = os.environ, root: str | Path = SERVICE_ACCOUNT
) -> ClusterConfig:
    """Return the configuration that Kubernetes gives to a pod.

    Raises ConfigError, with what to do, outside of a pod or in one without a service account.
    """
    host = env.get("KUBERNETES_SERVICE_HOST", "")
    port = env.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise ConfigError(
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not both set, so this is no pod; "
            "pass --kubeconfig or set KUBECONFIG"
        )
    ca = Path(root) / "ca.crt"
    if file_stamp(ca) is None:
        raise ConfigError(
            f"{ca}: cannot be read, so the API server's certificate cannot be checked; the pod needs a service account "
            f"with automountServiceAccountToken: true"
        )
    try:
        namespace = (Path(root) / "namespace").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        namespace = ""
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return ClusterConfig(
        host=f"https://{host}:{port}",
        credentials=TokenFile(Path(root) / "token", clock),
        ca_file=str(ca),
        # The API server is reached through the cluster's own network: a proxy of the environment is for the outside,
        # yet an environment that names one expects it to be used (kopf#1279), so the environment decides.
        proxy=None,
        namespace=namespace or "default",
        source=f"service account in {root}",
    )
