"""Where the certificate of the webhooks comes from, and who is told whom to trust.

Purpose: from the options of the process to a keeper with its store and its targets, or to files from outside.

Guarantees:

* By default a keyring of our own lives in the Secret ``SECRET_NAME`` of our own namespace, and with
  ``WEBHOOK_CERT_WRITER=fs`` in the directory ``WEBHOOK_CERT_DIR`` (CRT2). Exactly :func:`targets` are written, by name.
* With the gate EnableExternalCerts the files of ``--webhook-cert-path`` are read and nothing is written (CRT5): this is
  how cert-manager is used, whose injector writes the configurations. What it wrote there is read, to know whether the
  API server can trust us (WEB7).
* With ``WEBHOOK_HOST`` the configurations and the conversion of the definitions point to
  ``https://WEBHOOK_HOST:WEBHOOK_PORT``: how a manager outside the cluster is called.

What this does not do: it makes no configuration and no definition; the manifests have them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kruise.options import Options
from kruise.runtime.clock import Clock, Random
from kruise.runtime.controller import Access
from kruise.runtime.errors import ConfigError
from kruise.runtime.manager.certs import ServingCertificate
from kruise.runtime.manager.manager import Manager
from kruise.runtime.webhook.certs import DAY, CertificateRules
from kruise.runtime.webhook.keeper import CertificateKeeper, from_outside
from kruise.runtime.webhook.stores import SECRETS, DirectoryStore, SecretStore, Store
from kruise.runtime.webhook.targets import NAMESPACES, Reach, Target, TargetKind, Targets
from kruise.runtime.webhook.trust import LiveTrust
from kruise.webhooks.conversion import CONVERTED

__all__ = [
    "ACCESSES",
    "FAIL",
    "MUTATING",
    "SECRET_ACCESSES",
    "VALIDATING",
    "Source",
    "hosts",
    "reach",
    "source",
    "targets",
]

MUTATING: Final = "kruise-mutating-webhook-configuration"
VALIDATING: Final = "kruise-validating-webhook-configuration"
"""The names of OpenKruise's configurations."""
FAIL: Final = f"{MUTATING}-fail"
"""What makes pods wait for an answer (``components/webhook-fail``). Its name comes after the general one: a pod that
was answered for there is not asked about here."""
FILES_GATE: Final = "EnableExternalCerts"
DIRECTORY: Final = "fs"

_DEFAULTS: Final = Options()
ACCESSES: Final = (
    Access(TargetKind.MUTATING.value, ("get", "patch"), resource_names=(MUTATING, FAIL)),
    Access(TargetKind.VALIDATING.value, ("get", "patch"), resource_names=(VALIDATING,)),
    Access(
        TargetKind.CONVERSION.value,
        ("get", "patch"),
        resource_names=tuple(f"{one.plural}.{one.group}" for one in CONVERTED),
    ),
    Access(NAMESPACES, ("get",), resource_names=(_DEFAULTS.pod_namespace,)),
)
"""What a keyring of our own needs in the cluster. The labels of our own namespace tell whether a webhook blocks it."""
SECRET_ACCESSES: Final = (
    Access(SECRETS, ("get", "patch"), namespaced_role=True, resource_names=(_DEFAULTS.webhook_secret_name,)),
)
"""What it needs in our own namespace. There is no right to create: the manifests have the Secret."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the certificate comes from."""

    certificate: Callable[[], Awaitable[ServingCertificate]]
    bundles: Callable[[], Sequence[bytes]]
    """What the configurations trust, as last read."""
    refresh: Callable[[], Awaitable[None]] | None = None
    """Reads them again, where no keeper does."""
    keeper: CertificateKeeper | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the keeper writes the configurations."""


def hosts(options: Options) -> tuple[str, ...]:
    """Return the names under which the API server calls us, the one that it uses first."""
    service, namespace = options.webhook_service_name, options.pod_namespace
    names = (f"{service}.{namespace}.svc", f"{service}.{namespace}", f"{service}.{namespace}.svc.cluster.local")
    return (options.webhook_host.strip("[]"), *names) if options.webhook_host else names


def reach(options: Options) -> Reach:
    """Return how the API server gets to us."""
    url = ""
    if options.webhook_host:
        host = options.webhook_host.strip("[]")
        url = f"https://{f'[{host}]' if ':' in host else host}:{options.webhook_port}"
    return Reach(options.pod_namespace, options.webhook_service_name, url=url)


def targets(kinds: Collection[str]) -> tuple[Target, ...]:
    """Return the objects that send requests to us: the configurations, and the definitions that are converted.

    The one of ``fail_keeper.py`` is last of its kind: its entries are copies of those of the first.
    """
    definitions = tuple(
        Target(TargetKind.CONVERSION, f"{one.plural}.{one.group}") for one in CONVERTED if one.kind in kinds
    )
    return (
        Target(TargetKind.MUTATING, MUTATING),
        Target(TargetKind.VALIDATING, VALIDATING),
        Target(TargetKind.MUTATING, FAIL, optional=True),
        *definitions,
    )


def source(manager: Manager, options: Options, *, clock: Clock, rng: Random, kinds: Collection[str]) -> Source:
    """Return where the certificate comes from, by *options*."""
    folder = Path(options.webhook_cert_path)
    called = Targets(manager.client, targets(kinds), reach(options))
    if options.gates.enabled(FILES_GATE):
        return _files(manager, options, folder, called, clock)
    store: Store = (
        DirectoryStore(folder)
        if options.webhook_cert_writer == DIRECTORY
        else SecretStore(manager.client, options.pod_namespace, options.webhook_secret_name)
    )
    keeper = CertificateKeeper(
        store,
        called,
        CertificateRules(hosts(options), renew_before=options.certs_renew_before_days * DAY),
        clock=clock,
        rng=rng,
        metrics=manager.metrics,
        leading=lambda: manager.leading,
        namespace=options.pod_namespace,
        initialize_timeout=options.webhook_initialize_timeout,
    )
    return Source(keeper.certificate, keeper.bundles, keeper=keeper, lock=called.lock)


def _files(manager: Manager, options: Options, folder: Path, called: Targets, clock: Clock) -> Source:
    """Return the files of somebody else as the source, and what *called* say about whom they trust."""
    serving: list[ServingCertificate] = []

    async def certificate() -> ServingCertificate:
        serving[:] = [
            await from_outside(
                folder / options.webhook_cert_name,
                folder / options.webhook_cert_key,
                clock=clock,
                metrics=manager.metrics,
                timeout=options.webhook_initialize_timeout,
            )
        ]
        if blocking := await called.blocking(options.pod_namespace):
            raise ConfigError("; ".join(blocking))
        return serving[0]

    trust = LiveTrust(called, lambda: serving[0].pair.certificate if serving else b"")
    return Source(certificate, trust.bundles, trust.refresh, lock=called.lock)
