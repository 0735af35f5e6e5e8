"""A webhook of your own: complete and check the ConfigMaps that are labelled ``example.org/settings``.

    kubectl apply -f 03_settings_webhook.yaml
    kubectl create configmap shop --dry-run=client -o yaml --from-literal=replicas=many \
      | kubectl label -f - --local -o yaml example.org/settings=true | kubectl create -f -

is refused, with the field and the reason. A setting that is left out gets its default before it is stored. The
certificate is made here, renewed here, and written into both configurations: the API server needs to trust nobody else.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

import kruise.runtime as k

NAME = "settings.example.org"
"""Of both configurations."""
DEFAULTS = {"replicas": "1", "colour": "green"}
HOST, PORT = "127.0.0.1", 9443


class ConfigMap(k.Object, frozen=True):
    """Of a ConfigMap, what is looked at here."""

    data: dict[str, str] = msgspec.field(default_factory=dict)


def default(obj: dict[str, Any], _request: k.AdmissionRequest) -> Mapping[str, Any]:
    """Return the object with every setting that it lacks; fields that are not known here stay as they are."""
    return {**obj, "data": {**DEFAULTS, **(obj.get("data") or {})}}


def check(settings: ConfigMap) -> Iterable[k.Cause | k.Warn]:
    """List everything that is wrong, each with its field; what is only odd is a warning."""
    if not settings.data.get("replicas", "").isdecimal():
        yield k.Cause("FieldValueInvalid", f"{settings.data.get('replicas')!r} is no number", "data.replicas")
    for name in sorted(settings.data.keys() - DEFAULTS.keys()):
        yield k.Warn(f"data.{name}: nobody reads this setting")


def check_update(new: ConfigMap, old: ConfigMap) -> Iterable[k.Cause | k.Warn]:
    """An update may be refused for what it changes."""
    yield from check(new)
    if old.data.get("colour") != new.data.get("colour"):
        yield k.Cause("FieldValueForbidden", "the colour is chosen once", "data.colour")


def build(transport: k.Transport, clock: k.Clock, rng: k.Random, *, port: int, keys: Path) -> k.Manager:
    """Return a manager that serves both webhooks on this machine. In a cluster, use a SecretStore and a Service."""
    options = k.ManagerOptions(leader_election=False, health_address="0", metrics=k.MetricsOptions("0"))
    manager = k.Manager(transport, options, clock=clock, rng=rng)
    configurations = [k.Target(kind, NAME) for kind in (k.TargetKind.MUTATING, k.TargetKind.VALIDATING)]
    keeper = k.CertificateKeeper(
        k.DirectoryStore(keys),
        k.Targets(manager.client, configurations, k.Reach("", "", url=f"https://{HOST}:{port}")),
        k.CertificateRules((HOST,)),
        clock=clock,
        rng=rng,
        metrics=manager.metrics,
        leading=lambda: True,
    )
    server = k.WebhookServer(k.Address(HOST, port), keeper.certificate, clock=clock, metrics=manager.metrics)
    server.admission("/default", k.Defaulter(default))
    server.admission("/check", k.Validator(ConfigMap, create=check, update=check_update))
    manager.add_webhooks(server, keeper=keeper)
    return manager


async def main() -> None:
    """Run beside the cluster of the current kubeconfig, which must reach this machine, until SIGTERM or Ctrl-C."""
    clock, rng = k.SystemClock(), k.system_random()
    config = await k.load_config(clock, kubeconfig=None, context=None)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else PORT
    with tempfile.TemporaryDirectory(prefix="settings-webhook-") as keys:
        async with k.HttpTransport(config, clock=clock) as transport:
            manager = build(transport, clock, rng, port=port, keys=Path(keys))
            manager.install_signal_handlers()
            await manager.run()


if __name__ == "__main__":
    asyncio.run(main())
