"""The options of a manager.

Purpose: one frozen value that says all that can differ between two managers; flags and environment are made from the
program's own configuration, which fills it.

Guarantees: a value that breaks a rule raises ConfigError here, before anything runs (CFG5).

What this does not do: it reads no environment and no command line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from kruise.runtime.client.rest import USER_AGENT
from kruise.runtime.errors import ConfigError
from kruise.runtime.manager.debug import DebugOptions
from kruise.runtime.manager.http import Address, parse_address
from kruise.runtime.manager.lease import Durations
from kruise.runtime.manager.metrics_server import MetricsOptions

HEALTH_FLAG: Final = "--health-probe-addr"


@dataclass(frozen=True, slots=True)
class ManagerOptions:
    """How a manager runs. Times are in seconds."""

    leader_election: bool = True
    """Defaults to true. Without it the manager still refuses to start beside a live holder of the Lease (LEA14)."""
    leader_election_namespace: str = "kruise-system"
    """Defaults to OpenKruise's own namespace."""
    leader_election_id: str = "kruise-manager"
    """The name of the Lease. Defaults to OpenKruise's own, so that a Go manager and this one never act together."""
    durations: Durations = field(default_factory=Durations)
    """Lease duration, renew deadline and retry period. Defaults to 15, 10 and 2 s."""
    release: bool = True
    """Defaults to true: the Lease is given back after a clean stop."""
    identity: str = ""
    """Who holds the Lease. Defaults to the host name and a UUID."""
    metrics: MetricsOptions = field(default_factory=MetricsOptions)
    """Defaults to plain HTTP on ``:8080``."""
    health_address: str = ":8000"
    """Where probes are answered. Defaults to ``:8000``; ``0`` turns them off."""
    debug: DebugOptions = field(default_factory=DebugOptions)
    """Defaults to off."""
    namespaces: tuple[str, ...] = ()
    """The namespaces that are watched. Defaults to all."""
    sync_timeout: float = 120.0
    """Defaults to 2 min: after this a cache that is not complete is told as an error; it is waited for nonetheless."""
    watch_timeout: tuple[int, int] = (300, 600)
    """Defaults to 5 to 10 min: how long a watch lasts before it is opened anew, drawn between the two."""
    graceful_shutdown: float = 30.0
    """Defaults to 30 s for a stop. Below 0 it waits for ever; 0 cancels at once."""
    shutdown_delay: float = 0.0
    """Seconds between the failing readiness probe and the stop, for load balancers to notice. Defaults to none."""
    dry_run: bool = False
    """Defaults to false. The server is asked to change nothing; the Lease and the Events are real."""
    user_agent: str = USER_AGENT
    """Defaults to ``kruise-manager/<version>``; the name of the controller follows."""
    field_manager: str = "kruise-manager"
    """Defaults to the name of the program: who owns the fields that are written."""
    field_validation: str = ""
    """``Strict``, ``Warn`` or ``Ignore``. Defaults to the server's own choice."""
    freeze_heap: bool = True
    """Defaults to true: after the first sync the heap is frozen. The heap is the process's: off for several in one."""

    def __post_init__(self) -> None:
        self.health()
        self.debug.bind()
        if self.shutdown_delay < 0:
            raise ConfigError(f"--shutdown-delay={self.shutdown_delay:g}s: must not be negative")
        if self.sync_timeout <= 0:
            raise ConfigError(f"--controller-cache-sync-timeout={self.sync_timeout:g}s: must be longer than 0")
        low, high = self.watch_timeout
        if not 0 < low <= high:
            raise ConfigError(f"watch_timeout={low},{high}: want two numbers of seconds, the smaller one first")
        if self.field_validation not in ("", "Strict", "Warn", "Ignore"):
            raise ConfigError(f"field_validation={self.field_validation}: not one of Strict, Warn, Ignore")
        if self.leader_election and not (self.leader_election_namespace and self.leader_election_id):
            raise ConfigError("--leader-election-namespace and --leader-election-id must not be empty")

    def health(self) -> Address | None:
        """Return where probes are answered, or None. Raises ConfigError."""
        return parse_address(self.health_address, HEALTH_FLAG)
