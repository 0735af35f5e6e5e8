from __future__ import annotations

import dataclasses
import re

import pytest
import yaml

from kruise.config import (
    Options,
    flags_markdown,
    help_text,
    parse_address,
    parse_options,
    print_config,
    print_flags,
)
from kruise.flags import format_duration, parse_bool, parse_duration
from kruise.options import FLAGS, parse_days
from kruise.runtime.errors import ConfigError


def parse(*argv: str, env: dict[str, str] | None = None, file: str | None = None) -> Options:
    return parse_options(argv, env or {}, read_file=lambda _: file or "")[0]


def warnings(*argv: str, env: dict[str, str] | None = None) -> list[str]:
    return parse_options(argv, env or {})[1]


def refused(*argv: str, env: dict[str, str] | None = None, file: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(*argv, env=env, file=file)
    return str(caught.value)


def test_cfg1_every_option_has_a_docstring_with_its_default() -> None:
    docs = FLAGS.docs()
    assert set(docs) >= set(FLAGS.specs)
    for name, spec in FLAGS.specs.items():
        assert spec.action or "Defaults to" in docs[name], name


def test_cfg1_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse().dry_run = True  # type: ignore[misc]


def test_cfg1_help_and_markdown_show_every_flag_with_its_default() -> None:
    text, table = help_text(), flags_markdown()
    for name, spec in FLAGS.specs.items():
        for flag in spec.names:
            dashed = f"-{flag}" if len(flag) == 1 else f"--{flag}"
            assert (dashed in text) is (not spec.hidden), name
            assert (f"`{dashed}`" in table) is (not spec.hidden), name
        for variable in spec.env:
            assert variable in text and f"`{variable}`" in table
    assert "--controller-cache-sync-timeout duration (default 2m0s)" in text
    assert "| `16m40s` |" in table
    assert all(line.count("|") - line.count("\\|") == 6 for line in table.splitlines())


def test_cfg1_print_config_reads_back_to_the_same_options() -> None:
    argv = (
        "--metrics-addr=0",
        "--rest-config-qps=30",
        "--watch-namespaces=a,b",
        "--feature-gates=AllAlpha=true,PodIndexLabel=false",
        "--rate-limiter-max-delay=1000s",
        "--sync-period=10h",
        "--dry-run",
    )
    options = parse(*argv, env={"CERTS_RENEW_BEFORE": "20d", "CUSTOM_RESOURCE_ENABLE": "BroadcastJob"})
    text = print_config(options)
    again = parse("--config=x.yaml", file=text)
    assert dataclasses.replace(again, config="") == options
    assert print_config(again) == text
    assert yaml.safe_load(text)["rate-limiter-max-delay"] == "16m40s"


def test_cfg1_print_flags_says_where_a_value_comes_from() -> None:
    options = parse("--v=4", "--config=f.yaml", env={"KRUISE_DRY_RUN": "1"}, file="namespace: demo\n")
    lines = print_flags(options).splitlines()
    assert "--v=4  # --v=4" in lines
    assert "--dry-run=true  # KRUISE_DRY_RUN=1" in lines
    assert "--namespace=demo  # f.yaml: namespace: demo" in lines
    assert "--metrics-addr=:8080" in lines and "SECRET_NAME=kruise-webhook-certs" in lines
    assert not any("watch-timeout" in line or "print-flags" in line for line in lines)


def test_cfg1_order_is_flag_environment_file_default() -> None:
    file = "metrics-addr: ':3'\nnamespace: file\nleader-election-id: file\n"
    env = {"KRUISE_METRICS_ADDR": ":2", "KRUISE_NAMESPACE": "env", "KRUISE_CONFIG": "x"}
    options = parse("--metrics-addr=:1", env=env, file=file)
    assert (options.metrics_addr, options.namespace, options.leader_election_id) == (":1", "env", "file")
    assert options.health_probe_addr == ":8000"


def test_cfg1_every_flag_is_read_from_its_variable() -> None:
    samples = {
        "string": "x",
        "int": "7",
        "float": "7",
        "bool": "true",
        "duration": "7s",
        "list": "x",
        "mapStringBool": "A=1",
    }
    for field, spec in FLAGS.specs.items():
        for name in spec.names:
            variable = "KRUISE_" + name.upper().replace("-", "_")
            value = spec.choices[0] if spec.choices else samples[spec.kind.name]
            found, _ = FLAGS.from_env({variable: value})
            assert (field in found) is (not (spec.action and spec.kind.name == "bool")), variable


def test_cfg1_an_image_with_a_version_in_its_environment_still_starts() -> None:
    assert parse(env={"KRUISE_VERSION": "1.9", "KRUISE_HELP": "yes"}).version is False


def test_cfg1_links_to_services_are_no_options() -> None:
    options, said = parse_options([], {"KRUISE_WEBHOOK_PORT": "tcp://10.0.0.7:443"})
    assert options.webhook_port == 9876 and "link to a Service" in said[0]


@pytest.mark.parametrize(
    ("flag", "field", "default"),
    [
        ("metrics-addr", "metrics_addr", ":8080"),
        ("health-probe-addr", "health_probe_addr", ":8000"),
        ("enable-leader-election", "leader_elect", "true"),
        ("leader-election-namespace", "leader_election_namespace", "kruise-system"),
        ("leader-election-id", "leader_election_id", "kruise-manager"),
        ("leader-election-lease-duration", "lease_duration", "15s"),
        ("leader-election-renew-deadline", "renew_deadline", "10s"),
        ("leader-election-retry-period", "retry_period", "2s"),
        ("leader-election-resource-lock", "leader_election_resource_lock", "leases"),
        ("namespace", "namespace", ""),
        ("sync-period", "sync_period", ""),
        ("controller-cache-sync-timeout", "cache_sync_timeout", "2m0s"),
        ("statefulset-workers", "statefulset_workers", "3"),
        ("broadcastjob-workers", "broadcastjob_workers", "3"),
        ("sidecarset-workers", "sidecarset_workers", "3"),
        ("rate-limiter-base-delay", "rate_limiter_base_delay", "5ms"),
        ("rate-limiter-max-delay", "rate_limiter_max_delay", "5m0s"),
        ("rate-limiter-qps", "rate_limiter_qps", ""),
        ("rate-limiter-bucket-size", "rate_limiter_bucket_size", ""),
        ("rest-config-qps", "rest_config_qps", ""),
        ("rest-config-burst", "rest_config_burst", ""),
        ("expectation-timeout", "expectation_timeout", "5m0s"),
        ("webhook-initialize-timeout", "webhook_initialize_timeout", "1m0s"),
        ("logging-format", "log_format", "text"),
        ("enable-pprof", "enable_debug", "false"),
        ("allow-privileged", "allow_privileged", "true"),
        ("assign-bcj-pods-by-scheduler", "assign_bcj_pods_by_scheduler", "true"),
    ],
)
def test_cfg2_openkruise_flags_and_their_defaults(flag: str, field: str, default: str) -> None:
    assert FLAGS.specs[field].names[0] == flag
    assert FLAGS.show(field, getattr(parse(), field)) == default


@pytest.mark.parametrize(
    ("variable", "value", "field", "want"),
    [
        ("POD_NAMESPACE", "ops", "pod_namespace", "ops"),
        ("WEBHOOK_HOST", "10.0.0.1", "webhook_host", "10.0.0.1"),
        ("WEBHOOK_PORT", "9443", "webhook_port", 9443),
        ("WEBHOOK_CERT_DIR", "/certs", "webhook_cert_path", "/certs"),
        ("SECRET_NAME", "s", "webhook_secret_name", "s"),
        ("SERVICE_NAME", "svc", "webhook_service_name", "svc"),
        ("WEBHOOK_CERT_WRITER", "fs", "webhook_cert_writer", "fs"),
        ("CERTS_RENEW_BEFORE", "2m", "certs_renew_before_days", 60),
        (
            "CUSTOM_RESOURCE_ENABLE",
            "StatefulSet,BroadcastJob",
            "custom_resource_enable",
            ("StatefulSet", "BroadcastJob"),
        ),
        ("KUBE_CACHE_MUTATION_DETECTOR", "true", "cache_mutation_detector", True),
    ],
)
def test_cfg2_openkruise_environment(variable: str, value: str, field: str, want: object) -> None:
    assert getattr(parse(env={variable: value}), field) == want
    assert getattr(parse(env={variable: ""}), field) == getattr(parse(), field), "empty counts as unset"


def test_cfg2_kubeconfig_lists_are_left_to_the_loader() -> None:
    assert parse(env={"KUBECONFIG": "/a:/b"}).kubeconfig == ""
    assert parse("--kubeconfig=/a").kubeconfig == "/a"


@pytest.mark.parametrize(
    "argv",
    [("--v=4",), ("--v", "4"), ("-v=4",), ("-v", "4"), ("-v=0x4",), ("--v=1", "--v=4")],
)
def test_cfg2_go_spellings(argv: tuple[str, ...]) -> None:
    options = parse(*argv)
    assert options.verbosity == 4 and options.log_level == "debug"


def test_cfg2_bools_need_no_value_and_take_none_from_the_next_word() -> None:
    assert parse("--dry-run").dry_run and parse("-dry-run=T").dry_run
    assert not parse("--enable-leader-election=false").leader_elect
    assert parse("--dry-run", "--v", "2").verbosity == 2
    text = refused("--leader-elect", "false")
    assert "'false': unexpected argument" in text and "--leader-elect=false" in text


@pytest.mark.parametrize(
    ("text", "seconds", "shown"),
    [
        ("15s", 15.0, "15s"),
        ("2m", 120.0, "2m0s"),
        ("1h30m", 5400.0, "1h30m0s"),
        ("5ms", 0.005, "5ms"),
        ("1000s", 1000.0, "16m40s"),
        ("1.5s", 1.5, "1.5s"),
        ("0", 0.0, "0s"),
        ("-1s", -1.0, "-1s"),
        ("+.5m", 30.0, "30s"),
        ("100us", 0.0001, "100µs"),
        ("7ns", 7e-9, "7ns"),
        ("1.25ms", 0.00125, "1.25ms"),
        ("10h", 36000.0, "10h0m0s"),
    ],
)
def test_cfg2_go_durations(text: str, seconds: float, shown: str) -> None:
    assert parse_duration(text) == pytest.approx(seconds)
    assert format_duration(seconds) == shown
    assert parse_duration(shown) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "1h30", "--1s", "1d", "five", "1s2"])
def test_cfg2_what_is_no_go_duration(text: str) -> None:
    with pytest.raises(ValueError, match="want a duration"):
        parse_duration(text)


def test_cfg2_bools_are_those_of_go() -> None:
    assert parse_bool("True") and not parse_bool("F")
    with pytest.raises(ValueError, match="true or false"):
        parse_bool("yes")


@pytest.mark.parametrize(
    "argv",
    [
        ("--enable-http2",),
        ("--enable-http2=false",),
        ("--disable-no-deepcopy",),
        ("--protection-log-path", "/var/log"),
        ("--protection-log-path=/var/log",),
        ("--cloneset-workers=10",),
        ("--daemonset-workers", "10"),
        ("--ws-watch-custom-workload-white-list=x",),
        ("--default-ttlseconds-for-always-nodeimage=300",),
        ("--logtostderr",),
        ("-logtostderr=true",),
        ("--alsologtostderr",),
        ("--skip_headers",),
        ("--vmodule=a=1",),
        ("--log-flush-frequency", "5s"),
        ("--zap-devel",),
        ("--zap-stacktrace-level=panic",),
    ],
)
def test_cfg2_flags_without_effect_warn_once(argv: tuple[str, ...]) -> None:
    said = warnings(*argv, *argv, "--dry-run")
    assert len(said) == 1 and "has no effect" in said[0]
    assert parse(*argv, "--dry-run").dry_run


def test_cfg2_a_whole_openkruise_command_line() -> None:
    options, said = parse_options(
        [
            "--enable-leader-election",
            "--metrics-addr=:8080",
            "--health-probe-addr=:8000",
            "--logtostderr=true",
            "--leader-election-namespace=kruise-system",
            "--v=4",
            "--feature-gates=PodWebhook=true,CloneSetShortHash=true",
        ],
        {"POD_NAMESPACE": "kruise-system", "WEBHOOK_PORT": "9876", "WEBHOOK_CERT_DIR": "/tmp/kruise-webhook-certs"},
    )
    assert options.leader_elect and options.log_level == "debug"
    assert len(said) == 2 and any("CloneSetShortHash" in text for text in said)


def test_cfg2_explicit_limits_win_and_bursts_alone_say_that_they_do_nothing() -> None:
    options, said = parse_options(["--rest-config-qps=30", "--rest-config-burst=50", "--rate-limiter-qps=10"], {})
    assert (options.rest_config_qps, options.rest_config_burst, options.rate_limiter_qps) == (30.0, 50, 10.0)
    assert len(said) == 1 and "client-side limit is on" in said[0]
    assert "without --rest-config-qps" in warnings("--rest-config-burst=50")[0]
    assert "without --rate-limiter-qps" in warnings("--rate-limiter-bucket-size=5")[0]


def test_cfg2_an_environment_made_for_openkruise_renews_in_time() -> None:
    options, said = parse_options([], {"CERTS_RENEW_BEFORE": "6m"})
    assert options.certs_renew_before_days == 30 and len(said) == 1 and "CERTS_RENEW_BEFORE=6m" in said[0]
    assert parse_days("1y") == 365 and parse_days("30") is None


@pytest.mark.parametrize(
    ("argv", "field", "want"),
    [
        (("--metrics-bind-address=0",), "metrics_addr", "0"),
        (("--health-probe-bind-address", ":8081"), "health_probe_addr", ":8081"),
        (("--leader-elect=false",), "leader_elect", False),
        (("--metrics-secure",), "metrics_secure", True),
        (("--metrics-cert-path=/c",), "metrics_cert_path", "/c"),
        (("--metrics-cert-name=a",), "metrics_cert_name", "a"),
        (("--metrics-cert-key=b",), "metrics_cert_key", "b"),
        (("--webhook-port=9443",), "webhook_port", 9443),
        (("--webhook-cert-path=/w",), "webhook_cert_path", "/w"),
        (("--zap-encoder=json",), "log_format", "json"),
        (("--zap-encoder", "console"), "log_format", "text"),
        (("--zap-log-level=error",), "log_level", "error"),
        (("--zap-log-level", "2"), "log_level", "debug"),
        (("--zap-log-level=0",), "log_level", "info"),
        (("--log-format=json",), "log_format", "json"),
    ],
)
def test_cfg3_kubebuilder_names(argv: tuple[str, ...], field: str, want: object) -> None:
    assert getattr(parse(*argv), field) == want


def test_cfg3_two_names_with_one_value_are_fine_and_with_two_an_error() -> None:
    assert parse("--metrics-addr=:9", "--metrics-bind-address=:9").metrics_addr == ":9"
    assert parse("--leader-elect", "--enable-leader-election=1").leader_elect
    text = refused("--metrics-addr=:9", "--metrics-bind-address=:10")
    assert "--metrics-addr=:9" in text and "--metrics-bind-address=:10" in text
    env = {"KRUISE_METRICS_ADDR": ":9", "KRUISE_METRICS_BIND_ADDRESS": ":10"}
    assert "KRUISE_METRICS_BIND_ADDRESS=:10" in refused(env=env)
    assert "two names" in refused("--config=f", file="metrics-addr: ':1'\nmetrics-bind-address: ':2'\n")
    assert parse("--metrics-addr=:9", env={"KRUISE_METRICS_BIND_ADDRESS": ":10"}).metrics_addr == ":9"


def test_cfg3_zap_flags_refuse_what_they_do_not_know() -> None:
    assert "--zap-encoder=xml" in refused("--zap-encoder=xml")
    assert "--zap-log-level=loud" in refused("--zap-log-level=loud")
    assert "needs a value" in refused("--zap-encoder")


def test_cfg3_lists_and_gates_add_up() -> None:
    options = parse("--watch-namespaces=a", "--watch-namespaces", "b,c", "--feature-gates=A=1", "--feature-gates=B=0")
    assert options.namespaces == ("a", "b", "c")
    assert options.feature_gates == (("A", True), ("B", False))
    assert parse("--namespace=a").namespaces == ("a",)
    assert parse().namespaces == ()


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("--metrics-adr=:1",), ["--metrics-adr", "unknown flag", "did you mean --metrics-addr?"]),
        (("--xyzzy",), ["--xyzzy", "unknown flag", "--help"]),
        (("extra",), ["'extra'", "unexpected argument"]),
        (("---v=1",), ["unexpected argument"]),
        (("--concurrent-cloneset-syncs=3",), ["unknown flag"]),
        (("--v",), ["--v", "needs a value", "int"]),
        (("--v=many",), ["--v=many", "whole number"]),
        (("--v=-1",), ["--v=-1", "at least 0"]),
        (("--rest-config-qps=fast",), ["--rest-config-qps=fast", "want a number"]),
        (("--rest-config-qps=inf",), ["finite"]),
        (("--sync-period=soon",), ["--sync-period=soon", "duration"]),
        (("--dry-run=yes",), ["--dry-run=yes", "true or false"]),
        (("--feature-gates=A",), ["--feature-gates=A", "A=true,B=false"]),
        (("--feature-gates=A=maybe",), ["true or false"]),
        (("--broadcastjob-workers=0",), ["--broadcastjob-workers=0", "at least 1"]),
        (("--logging-format=xml",), ["--logging-format=xml", "text, json"]),
        (("--leader-election-resource-lock=configmaps",), ["--leader-election-resource-lock=configmaps", "leases"]),
        (("--leader-election-renew-deadline=20s",), ["lease-duration=15s", "--leader-election-renew-deadline=20s"]),
        (("--leader-election-retry-period=9s",), ["renew-deadline=10s", "1.2 times", "retry-period=9s"]),
        (("--leader-election-retry-period=0",), ["retry-period=0", "more than 0"]),
        (("--leader-election-lease-duration=15500ms",), ["15500ms", "whole seconds"]),
        (("--leader-election-id=",), ["--leader-election-id=", "empty"]),
        (("--rate-limiter-base-delay=0",), ["--rate-limiter-base-delay=0", "more than 0"]),
        (("--rate-limiter-max-delay=1ms",), ["--rate-limiter-max-delay=1ms", "--rate-limiter-base-delay=5ms"]),
        (("--metrics-addr=8080",), ["--metrics-addr=8080", "host:port"]),
        (("--metrics-addr=:99999",), ["--metrics-addr=:99999", "65535"]),
        (("--metrics-addr=::1:80",), ["brackets"]),
        (("--metrics-addr=:8000",), ["--health-probe-addr=:8000", "taken by --metrics-addr=:8000"]),
        (("--enable-pprof", "--pprof-addr=:8080"), ["8080", "taken"]),
        (("--webhook-port=0",), ["--webhook-port=0", "1 to 65535"]),
        (("--namespace=Not_Valid",), ["--namespace=Not_Valid", "no name of a namespace"]),
        (("--namespace=a", "--watch-namespaces=b"), ["--watch-namespaces=b", "contradicts --namespace=a"]),
        (("--watch-timeout-max=1s",), ["--watch-timeout-max=1s", "--watch-timeout-min=5m0s"]),
        (("--shutdown-delay=-1s",), ["--shutdown-delay=-1s", "at least 0s"]),
    ],
)
def test_cfg5_errors_name_flag_value_and_rule(argv: tuple[str, ...], named: list[str]) -> None:
    text = refused(*argv)
    for part in named:
        assert part in text, text


def test_cfg5_errors_of_the_environment_and_of_files_name_their_place() -> None:
    assert "KRUISE_V=x: want a whole number" in refused(env={"KRUISE_V": "x"})
    assert "CERTS_RENEW_BEFORE=soon" in refused(env={"CERTS_RENEW_BEFORE": "soon"})
    assert "did you mean --metrics-addr" in refused("--config=f", file="metrics-adr: 1")
    assert "f: v: x: want a whole number" in refused("--config=f", file="v: x")
    assert "not a datetime" in refused("--config=f", file="namespace: 2026-01-01 00:00:00")
    assert "unknown option" in refused("--config=f", file="version: true")
    assert "want a mapping" in refused("--config=f", file="- a")
    assert "is no YAML" in refused("--config=f", file="a: [")

    def unreadable(path: str) -> str:
        raise FileNotFoundError(2, "No such file or directory", path)

    with pytest.raises(ConfigError, match=re.escape("--config=gone.yaml: cannot be read")):
        parse_options(["--config=gone.yaml"], {}, read_file=unreadable)


def test_cfg5_files_take_maps_lists_and_nothing() -> None:
    file = "feature-gates: {PodIndexLabel: false}\nwatch_namespaces: [a, b]\nsync-period:\nmetrics-addr: 0\n"
    file += "leader-elect: off\n"
    options = parse("--config=f", file=file)
    assert options.feature_gates == (("PodIndexLabel", False),) and options.namespaces == ("a", "b")
    assert options.sync_period is None and options.metrics_addr == "0" and not options.leader_elect
    assert parse("--config=f", file="") == parse("--config=f", file="# nothing\n")
    assert "want a string, not a list" in refused("--config=f", file="namespace: [[{a: 2026-01-01 00:00:00}]]")


def test_cfg5_the_file_is_really_read(tmp_path: object) -> None:
    path = f"{tmp_path}/kruise.yaml"
    with open(path, "w", encoding="utf-8") as f:
        f.write("dry-run: true\n")
    assert parse_options([f"--config={path}"], {})[0].dry_run


def test_cfg5_help_and_version_come_before_the_rules() -> None:
    assert parse("--help", "--leader-election-retry-period=9s").help
    assert parse("-h").help and parse("--version").version


@pytest.mark.parametrize(
    ("text", "want"),
    [(":8080", ("", 8080)), ("0", None), ("127.0.0.1:1", ("127.0.0.1", 1)), ("[::1]:80", ("::1", 80)), (":0", ("", 0))],
)
def test_cfg5_addresses(text: str, want: object) -> None:
    assert parse_address(text) == want


def test_cfg5_the_debug_port_is_loopback_unless_told_otherwise() -> None:
    assert parse("--pprof-addr=:8090").debug_addr == "127.0.0.1:8090"
    assert parse("--pprof-addr=0.0.0.0:8090").debug_addr == "0.0.0.0:8090"
    assert parse("--metrics-addr=:8090").metrics_addr == ":8090", "a port that is not served is free"
