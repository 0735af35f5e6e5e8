"""The options of the manager: one field, one docstring, one default each.

Purpose: the table from which flags, environment variables, help and documents come. To add an option, add a field.

Guarantees:

* CFG1: each option is one field; its docstring says what it does and why its default is what it is.
* CFG2, CFG3: the names of OpenKruise come first, those of kubebuilder beside them; :data:`IGNORED` has the flags that
  are taken and have no effect here, so that a deployment can swap the image alone.

What this does not do: it parses and checks nothing; see ``config.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from kruise.features import Gates
from kruise.flags import BOOL, DURATION, INT, LIST, NUMBER, PAIRS, STRING, FlagSet, Ignored, option
from kruise.runtime.log import SLOW


def parse_days(text: str) -> int | None:
    """Return the days that a number with d, m (30 days) or y (365 days) names; ``None`` for anything else."""
    match = re.fullmatch(r"(\d+)([dmy])", text)
    return None if match is None else int(match[1]) * {"d": 1, "m": 30, "y": 365}[match[2]]


SIDECAR_POLICY_ITEMS: Final = (
    "privileged",
    "capabilities",
    "procMount",
    "runAsUser",
    "hostPath",
    "projected",
    "shareVolumePolicy",
    "transferEnv",
    "image",
)
"""What ``--sidecar-policy-allow`` knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one manager process. Durations are in seconds."""

    metrics_addr: str = option(":8080", "metrics-addr", "metrics-bind-address", kind=STRING)
    """Where /metrics is served: host:port, or 0 for nowhere. Defaults to :8080, as in OpenKruise."""
    metrics_secure: bool = option(False, "metrics-secure", kind=BOOL)
    """Serve /metrics over TLS, to authenticated and authorised readers only. Defaults to false for parity; the shipped
    manifests set it."""
    metrics_cert_path: str = option("", "metrics-cert-path", kind=STRING)
    """Directory of the certificate of /metrics. Defaults to none: a self-signed one is made in memory."""
    metrics_cert_name: str = option("tls.crt", "metrics-cert-name", kind=STRING)
    """File name of that certificate. Defaults to what cert-manager writes."""
    metrics_cert_key: str = option("tls.key", "metrics-cert-key", kind=STRING)
    """File name of its key. Defaults to what cert-manager writes."""
    rest_client_metrics: bool = option(False, "rest-client-metrics", kind=BOOL)
    """Also measure latency, size and retries of API requests. Defaults to false: these are many series."""
    object_metrics: str = option("basic", "object-metrics", kind=STRING, choices=("basic", "full", "none"))
    """Series per workload object: basic (replica counts, conditions), full (created, labels and spec as well), none.
    Defaults to basic, which is what dashboards use."""

    health_probe_addr: str = option(":8000", "health-probe-addr", "health-probe-bind-address", kind=STRING)
    """Where /healthz and /readyz are served: host:port, or 0 for nowhere. Defaults to OpenKruise's port."""

    leader_elect: bool = option(True, "enable-leader-election", "leader-elect", kind=BOOL)
    """Take the Lease before acting. Defaults to true; false is for use by hand, and refused while somebody leads."""
    leader_election_namespace: str = option("kruise-system", "leader-election-namespace", kind=STRING)
    """Namespace of the Lease. Defaults to OpenKruise's, so that its manager and this one never act together."""
    leader_election_id: str = option("kruise-manager", "leader-election-id", kind=STRING)
    """Name of the Lease. Defaults to OpenKruise's, for the same reason."""
    lease_duration: float = option(15.0, "leader-election-lease-duration", kind=DURATION)
    """How long others respect a lease that is not renewed. Defaults to 15s."""
    renew_deadline: float = option(10.0, "leader-election-renew-deadline", kind=DURATION)
    """How long a leader tries to renew before it stops its work. Defaults to 10s."""
    retry_period: float = option(2.0, "leader-election-retry-period", kind=DURATION)
    """Between two tries to renew or acquire. Defaults to 2s."""
    leader_election_resource_lock: str = option(
        "leases", "leader-election-resource-lock", kind=STRING, choices=("leases",)
    )
    """Kind of the lock. Defaults to leases, the only one there is."""

    namespace: str = option("", "namespace", kind=STRING)
    """Watch this namespace only. Defaults to all. Nodes are watched cluster-wide in any case."""
    watch_namespaces: tuple[str, ...] = option((), "watch-namespaces", kind=LIST)
    """Watch these namespaces only. Defaults to all."""
    sync_period: float | None = option(None, "sync-period", kind=DURATION, least=1.0)
    """Reconcile every object again after this time. Defaults to never: nothing here needs it."""
    cache_sync_timeout: float = option(120.0, "controller-cache-sync-timeout", kind=DURATION, least=1.0)
    """After this time a cache that does not fill is reported as an error. Defaults to 2m; it is tried on."""

    statefulset_workers: int = option(3, "statefulset-workers", kind=INT, least=1)
    """Advanced StatefulSets reconciled at once. Defaults to 3, as in OpenKruise."""
    broadcastjob_workers: int = option(3, "broadcastjob-workers", kind=INT, least=1)
    """BroadcastJobs reconciled at once. Defaults to 3, as in OpenKruise."""
    sidecarset_workers: int = option(3, "sidecarset-workers", kind=INT, least=1)
    """SidecarSets reconciled at once. Defaults to 3, as in OpenKruise."""

    rate_limiter_base_delay: float = option(0.005, "rate-limiter-base-delay", kind=DURATION)
    """Wait after the first failure of a key; doubled after each further one. Defaults to 5ms."""
    rate_limiter_max_delay: float = option(300.0, "rate-limiter-max-delay", kind=DURATION, upstream="16m40s")
    """Longest wait after a failure. Defaults to 5m: 1000 s surprise people who have repaired the cause."""
    rate_limiter_qps: float | None = option(None, "rate-limiter-qps", kind=NUMBER, upstream="10")
    """Retries per second over all keys of a controller; 0 or less is no bound. Defaults to none: the bound of each key
    is enough."""
    rate_limiter_bucket_size: int | None = option(None, "rate-limiter-bucket-size", kind=INT, upstream="100", least=1)
    """Retries at once, where rate-limiter-qps is set. Defaults to 100 then."""

    rest_config_qps: float | None = option(None, "rest-config-qps", kind=NUMBER, upstream="30")
    """API requests per second, leases exempt; 0 or less is no bound. Defaults to none: the window of writes adapts."""
    rest_config_burst: int | None = option(None, "rest-config-burst", kind=INT, upstream="50", least=1)
    """API requests at once, where rest-config-qps is set. Defaults to 50 then."""

    expectation_timeout: float = option(300.0, "expectation-timeout", kind=DURATION, least=1.0)
    """How long a controller without comparable versions waits for its own writes. Defaults to 5m."""

    disable_webhooks: bool = option(False, "disable-webhooks", kind=BOOL)
    """Serve no admission webhooks. Defaults to false."""
    webhook_initialize_timeout: float = option(60.0, "webhook-initialize-timeout", kind=DURATION, least=1.0)
    """How long the start may take to prepare certificates and configurations. Defaults to 60s."""
    webhook_port: int = option(9876, "webhook-port", kind=INT, env=("WEBHOOK_PORT",))
    """Port of the webhooks. Defaults to OpenKruise's."""
    webhook_cert_path: str = option(
        "/tmp/kruise-webhook-certs",  # noqa: S108 - OpenKruise's default, an emptyDir of the pod
        "webhook-cert-path",
        kind=STRING,
        env=("WEBHOOK_CERT_DIR",),
    )
    """Directory of the webhooks' certificate; an emptyDir. Defaults to OpenKruise's."""
    webhook_cert_name: str = option("tls.crt", "webhook-cert-name", kind=STRING)
    """File name of that certificate. Defaults to tls.crt."""
    webhook_cert_key: str = option("tls.key", "webhook-cert-key", kind=STRING)
    """File name of its key. Defaults to tls.key."""
    webhook_host: str = option("", kind=STRING, env=("WEBHOOK_HOST",))
    """When set, webhook configurations use a URL with this host instead of a Service. Defaults to unset."""
    webhook_secret_name: str = option("kruise-webhook-certs", kind=STRING, env=("SECRET_NAME",))
    """Secret with the webhooks' certificates. Defaults to OpenKruise's."""
    webhook_service_name: str = option("kruise-webhook-service", kind=STRING, env=("SERVICE_NAME",))
    """Service in front of the webhooks. Defaults to OpenKruise's."""
    webhook_cert_writer: str = option("secret", kind=STRING, env=("WEBHOOK_CERT_WRITER",), choices=("secret", "fs"))
    """Where certificates are kept: secret or fs. Defaults to secret."""
    certs_renew_before: str = option("30d", kind=STRING, env=("CERTS_RENEW_BEFORE",), upstream="6m")
    """How long before their end certificates are renewed: a number and d, m (30 days) or y (365). Defaults to 30d."""

    verbosity: int = option(0, "v", kind=INT, least=0)
    """klog's verbosity: from 4 on, the log level is debug unless it is given. Defaults to 0."""
    log_format: str = option("text", "logging-format", "log-format", kind=STRING, choices=("text", "json"))
    """Form of log lines. Defaults to text."""
    log_level: str = option("info", "log-level", kind=STRING, choices=("debug", "info", "warning", "error"))
    """Least level that is logged. Defaults to info."""
    slow_handler: float = option(SLOW.handler, "slow-handler-threshold", kind=DURATION, least=0.001)
    """From how long on a handler of events is logged as slow. Defaults to 50 ms: it holds up the whole loop."""
    slow_decode: float = option(SLOW.decode, "slow-decode-threshold", kind=DURATION, least=0.001)
    """From how long on the decoding of one batch of events is logged as slow. Defaults to 50 ms."""
    slow_loop: float = option(SLOW.loop_lag, "slow-loop-threshold", kind=DURATION, least=0.001)
    """From how long on a lag of the event loop is logged. Defaults to 100 ms."""
    slow_reconcile: float = option(SLOW.reconcile, "slow-reconcile-threshold", kind=DURATION, least=0.001)
    """From how long on a reconcile is logged as slow. Defaults to 10 s."""

    feature_gates: tuple[tuple[str, bool], ...] = option((), "feature-gates", kind=PAIRS)
    """Feature gates, such as A=true,B=false; AllAlpha and AllBeta stand for a stage. Defaults to each gate's own."""
    gates: Gates = field(default_factory=Gates)
    """The gates that result from flag, environment and defaults."""
    custom_resource_enable: tuple[str, ...] = option((), kind=LIST, env=("CUSTOM_RESOURCE_ENABLE",))
    """Kinds to serve. Defaults to all. Without SidecarSet, the gate PodWebhook is off unless asked for."""

    enable_debug: bool = option(False, "enable-pprof", kind=BOOL, upstream="true")
    """Serve /debug/. Defaults to false: it tells much about a cluster."""
    debug_addr: str = option("127.0.0.1:8090", "pprof-addr", kind=STRING, upstream=":8090")
    """Where /debug/ is served. Defaults to loopback; a bare :port means loopback as well."""

    allow_privileged: bool = option(True, "allow-privileged", kind=BOOL)
    """Allow privileged containers in sidecars. Defaults to true, as in OpenKruise."""
    assign_bcj_pods_by_scheduler: bool = option(True, "assign-bcj-pods-by-scheduler", kind=BOOL)
    """Let the scheduler bind BroadcastJob pods to their nodes, instead of setting nodeName. Defaults to true."""
    sidecar_policy: str = option("compat", "sidecar-policy", kind=STRING, choices=("compat", "strict"))
    """compat: warn about SidecarSets that raise privileges; strict: refuse them. Defaults to compat: what OpenKruise
    accepts is not refused."""
    sidecar_policy_allow: tuple[str, ...] = option((), "sidecar-policy-allow", kind=LIST)
    """What the strict policy accepts and compat does not warn of, item by item: privileged, capabilities, procMount,
    runAsUser, hostPath, projected, shareVolumePolicy, transferEnv, image. Defaults to nothing."""
    sidecar_policy_images: tuple[str, ...] = option((), "sidecar-policy-images", kind=LIST)
    """Beginnings of images that sidecars may use without a digest, such as registry.example.com/mesh/. Defaults to
    none."""
    dry_run: bool = option(False, "dry-run", kind=BOOL)
    """Send every write as a server-side dry run. Defaults to false."""

    kubeconfig: str = option("", "kubeconfig", kind=STRING)
    """Path of a kubeconfig. Defaults to KUBECONFIG, else the service account of the pod, else ~/.kube/config."""
    context: str = option("", "context", kind=STRING)
    """Context of the kubeconfig. Defaults to its current one."""
    pod_namespace: str = option("kruise-system", kind=STRING, env=("POD_NAMESPACE",))
    """Namespace in which this process runs. Defaults to OpenKruise's."""

    graceful_shutdown_timeout: float = option(30.0, "graceful-shutdown-timeout", kind=DURATION)
    """How long work under way may take after SIGTERM; below 0 without end, 0 not at all. Defaults to 30s."""
    shutdown_delay: float = option(3.0, "shutdown-delay", kind=DURATION, least=0.0)
    """Between "not ready" and the end of serving, so that nobody is sent here any more. Defaults to 3s."""
    cache_mutation_detector: bool = option(False, kind=BOOL, env=("KUBE_CACHE_MUTATION_DETECTOR",))
    """Fail when somebody changes a cached object. For tests. Defaults to false."""
    watch_timeout_min: float = option(300.0, "watch-timeout-min", kind=DURATION, least=1.0, hidden=True)
    """Shortest life of a watch. For tests. Defaults to 5m."""
    watch_timeout_max: float = option(600.0, "watch-timeout-max", kind=DURATION, least=1.0, hidden=True)
    """Longest life of a watch. For tests. Defaults to 10m."""

    event_loop: str = option("auto", "event-loop", kind=STRING, choices=("auto", "asyncio", "uvloop"), hidden=True)
    """Which event loop runs the process. Defaults to auto: uvloop where it is installed."""

    config: str = option("", "config", kind=STRING, action=True)
    """YAML file with options: names without dashes, and their values. Defaults to none."""
    print_flags: bool = option(False, "print-flags", kind=BOOL, action=True)
    """Print every flag with its value and where it comes from, and exit."""
    print_config: bool = option(False, "print-config", kind=BOOL, action=True)
    """Print the configuration as a file for --config, and exit."""
    version: bool = option(False, "version", kind=BOOL, action=True)
    """Print the version and exit."""
    help: bool = option(False, "help", "h", kind=BOOL, action=True)
    """Print this and exit."""

    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """For each option that is not at its default, where it was set."""

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces to watch; empty for all."""
        return self.watch_namespaces or ((self.namespace,) if self.namespace else ())

    @property
    def certs_renew_before_days(self) -> int:
        """``certs_renew_before`` in days."""
        return parse_days(self.certs_renew_before) or 0


IGNORED: Final = (
    Ignored(re.compile(r"enable-http2"), "servers here speak HTTP/1.1", takes_value=False),
    Ignored(re.compile(r"disable-no-deepcopy"), "objects in the cache are never copied", takes_value=False),
    Ignored(re.compile(r"protection-log-path"), "protection is logged with everything else"),
    Ignored(re.compile(r"[a-z]+-workers"), "that kind is not part of this manager"),
    Ignored(re.compile(r"ws-.+"), "WorkloadSpread is not part of this manager"),
    Ignored(re.compile(r"default-ttlseconds-.+"), "that kind is not part of this manager"),
    Ignored(
        re.compile(r"logtostderr|alsologtostderr|one-output|skip-headers|add-dir-header|skip-log-headers"),
        "logs go to standard error",
        takes_value=False,
    ),
    Ignored(
        re.compile(r"log-dir|log-file|log-file-max-size|log-backtrace-at|log-flush-frequency|stderrthreshold|vmodule"),
        "logs go to standard error",
    ),
    Ignored(re.compile(r"log-(json|text)-.+"), "logs go to standard error, unbuffered"),
    Ignored(re.compile(r"zap-devel"), "use --log-level and --log-format", takes_value=False),
    Ignored(re.compile(r"zap-(stacktrace-level|time-encoding)"), "lines have ISO times, and stacks where they help"),
)
"""What OpenKruise, klog and kubebuilder's logger take, and what has no effect here."""

FLAGS: Final = FlagSet(Options, IGNORED)
