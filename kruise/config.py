"""From a command line to checked options, and from options to text.

Purpose: read flags, environment and ``--config`` into :class:`~kruise.options.Options`; write ``--help``,
``--print-flags``, ``--print-config`` and the table of the documents from the same fields.

Guarantees:

* CFG1: ``options.py`` is the only list of options; everything here is generated from it.
* CFG2, CFG3: the flags and variables of OpenKruise and of kubebuilder work unchanged.
* CFG5: everything is checked before anything starts; an error names flag, value and rule.
* A value comes from the flag, else from the environment, else from ``--config``, else from the default.

What this does not do: it reads no cluster and no kubeconfig, and prints nothing itself.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from kruise.features import resolve
from kruise.flags import BOOL, DURATION, ENV_PREFIX, LIST, PAIRS, Given, format_duration
from kruise.options import FLAGS, SIDECAR_POLICY_ITEMS, Options, parse_days
from kruise.runtime.errors import ConfigError

__all__ = ["Options", "flags_markdown", "help_text", "parse_address", "parse_options", "print_config", "print_flags"]

CERTIFICATE_DAYS: Final = 90
"""How long a serving certificate of ours lives."""


_ZAP_LEVELS: Final = {"debug": "debug", "info": "info", "warn": "warning", "error": "error", "panic": "error"}


def parse_options(
    argv: Sequence[str], env: Mapping[str, str], *, read_file: Callable[[str], str] | None = None
) -> tuple[Options, list[str]]:
    """Return the options, and warnings to log once. *argv* is without the program's name.

    *read_file* returns the text of a path; it raises OSError. Raises ConfigError, which names flag, value and rule.
    Options that ask for help or the version are not checked further.
    """
    given, warnings = FLAGS.from_argv(_without_zap(argv))
    from_env, more = FLAGS.from_env(env)
    warnings += more
    merged = from_env | given
    if "config" in merged:
        merged = _from_file(merged["config"].value, read_file or _read) | merged
    options = Options(
        **{name: one.value for name, one in merged.items()}, origins={name: one.origin for name, one in merged.items()}
    )
    if options.help or options.version:
        return options, warnings
    options = _settle(options, merged, warnings)
    gates, more = resolve(options.feature_gates, env, custom_resources=options.custom_resource_enable)
    options = dataclasses.replace(options, gates=gates)
    _check(options)
    return options, list(dict.fromkeys(warnings + more))


def _without_zap(argv: Sequence[str]) -> list[str]:
    """Translate the flags of kubebuilder's logger that have a meaning here."""
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or name not in ("zap-encoder", "zap-log-level"):
            words.append(word)
            continue
        if not equals:
            if not rest:
                raise ConfigError(f"--{name}: needs a value of the kind string")
            value = rest.pop(0)
        if name == "zap-encoder":
            if value not in ("json", "console"):
                raise ConfigError(f"--zap-encoder={value}: want json or console")
            words.append(f"--log-format={'json' if value == 'json' else 'text'}")
        elif value.isdigit():
            words.append("--log-level=debug" if int(value) > 0 else "--log-level=info")
        elif value in _ZAP_LEVELS:
            words.append(f"--log-level={_ZAP_LEVELS[value]}")
        else:
            raise ConfigError(f"--zap-log-level={value}: want one of {', '.join(_ZAP_LEVELS)}, or a number")
    return words


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _from_file(path: str, read_file: Callable[[str], str]) -> dict[str, Given]:
    try:
        values = yaml.safe_load(read_file(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config={path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"--config={path}: is no YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"--config={path}: want a mapping of option names to values")
    return FLAGS.from_mapping(values, path)


def _settle(options: Options, given: Mapping[str, Given], warnings: list[str]) -> Options:
    """Fill in what follows from other options, and warn of what has no effect."""
    changes: dict[str, Any] = {}
    if "log_level" not in given and options.verbosity >= 4:
        changes["log_level"] = "debug"
    if options.debug_addr.startswith(":"):
        changes["debug_addr"] = f"127.0.0.1{options.debug_addr}"
    for burst, qps in (("rest_config_burst", "rest_config_qps"), ("rate_limiter_bucket_size", "rate_limiter_qps")):
        if burst in given and qps not in given:
            flag = FLAGS.specs[qps].names[0]
            warnings.append(f"{given[burst].origin} has no effect: without --{flag} there is no limit")
    if "rest_config_qps" in given and given["rest_config_qps"].value > 0:
        warnings.append(f"{given['rest_config_qps'].origin}: a client-side limit is on; by default there is none")
    days = parse_days(options.certs_renew_before)
    if days is not None and days >= CERTIFICATE_DAYS:
        default = FLAGS.defaults["certs_renew_before"]
        changes["certs_renew_before"] = default
        warnings.append(
            f"{given['certs_renew_before'].origin}: certificates live {CERTIFICATE_DAYS} days; using {default}"
        )
    return dataclasses.replace(options, **changes)


def parse_address(text: str) -> tuple[str, int] | None:
    """Return host and port of an address such as ``:8080``; ``None`` for ``0``: do not serve. Raises ValueError.

    The host is ``""`` for all interfaces; that of an IPv6 address comes without brackets.
    """
    if text == "0":
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError("want host:port with a port up to 65535, or 0 to turn it off")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    if ":" in host:
        raise ValueError("want an IPv6 address in brackets, such as [::1]:8080")
    return host, int(port)


def _check(options: Options) -> None:
    """Check the rules between options (CFG5)."""
    for rules in (_leader_rules, _number_rules, _namespace_rules, _address_rules, _webhook_rules):
        for name, rule in rules(options):
            raise ConfigError(f"{_where(options, name)}: {rule}")


def _where(o: Options, name: str) -> str:
    """Return an option as the user gave it, or with its default."""
    spec, shown = FLAGS.specs[name], FLAGS.show(name, getattr(o, name))
    return o.origins.get(name) or (f"--{spec.names[0]}={shown}" if spec.names else f"{spec.env[0]}={shown}")


_Broken = Iterator[tuple[str, str]]


def _leader_rules(o: Options) -> _Broken:
    for name in ("lease_duration", "renew_deadline", "retry_period"):
        if getattr(o, name) <= 0:
            yield name, "must be more than 0"
    if o.lease_duration <= o.renew_deadline:
        yield "lease_duration", f"must be longer than {_where(o, 'renew_deadline')}"
    if o.renew_deadline <= 1.2 * o.retry_period:
        yield "renew_deadline", f"must be longer than 1.2 times {_where(o, 'retry_period')}, the jitter of the retries"
    if o.lease_duration % 1:
        yield "lease_duration", "must be whole seconds: the Lease holds no fractions"
    for name in ("leader_election_id", "leader_election_namespace", "pod_namespace"):
        if not getattr(o, name):
            yield name, "must not be empty"


def _number_rules(o: Options) -> _Broken:
    if o.rate_limiter_base_delay <= 0:
        yield "rate_limiter_base_delay", "must be more than 0"
    if o.rate_limiter_max_delay < o.rate_limiter_base_delay:
        yield "rate_limiter_max_delay", f"must not be less than {_where(o, 'rate_limiter_base_delay')}"
    if o.watch_timeout_max < o.watch_timeout_min:
        yield "watch_timeout_max", f"must not be less than {_where(o, 'watch_timeout_min')}"
    if not 0 < o.webhook_port < 65536:
        yield "webhook_port", "want a port from 1 to 65535"
    if parse_days(o.certs_renew_before) is None:
        yield "certs_renew_before", "want a number with d, m or y, such as 30d"


def _namespace_rules(o: Options) -> _Broken:
    if o.namespace and o.watch_namespaces and o.watch_namespaces != (o.namespace,):
        yield "watch_namespaces", f"contradicts {_where(o, 'namespace')}; give one of them"
    for name, value in [("namespace", o.namespace), *(("watch_namespaces", n) for n in o.watch_namespaces)]:
        if value and not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", value):
            yield name, f"{value!r} is no name of a namespace: lower-case letters, digits and dashes, 63 at most"


def _address_rules(o: Options) -> _Broken:
    taken: dict[int, str] = {}
    for name in ("metrics_addr", "health_probe_addr", "debug_addr"):
        try:
            address = parse_address(getattr(o, name))
        except ValueError as error:
            yield name, str(error)
            continue
        if address is None or address[1] == 0 or (name == "debug_addr" and not o.enable_debug):
            continue
        if address[1] in taken:
            yield name, f"the port is taken by {_where(o, taken[address[1]])}"
        taken[address[1]] = name
    if not o.disable_webhooks and o.webhook_port in taken:
        yield "webhook_port", f"the port is taken by {_where(o, taken[o.webhook_port])}"


def _webhook_rules(o: Options) -> _Broken:
    unknown = [item for item in o.sidecar_policy_allow if item not in SIDECAR_POLICY_ITEMS]
    if unknown:
        known = ", ".join(SIDECAR_POLICY_ITEMS)
        yield "sidecar_policy_allow", f"there is no {', '.join(unknown)}; want some of {known}"
    if o.webhook_host and not _is_host(o.webhook_host):
        yield (
            "webhook_host",
            "want a host alone, without a scheme, a path or a port; the port is that of --webhook-port",
        )


def _is_host(text: str) -> bool:
    """Tell whether *text* is a name or an address, without anything around it."""
    if re.fullmatch(r"[A-Za-z0-9]([-.A-Za-z0-9]{0,252})", text):
        return True
    try:
        return ipaddress.ip_address(text[1:-1] if text.startswith("[") else text).version == 6
    except ValueError:
        return False


def help_text() -> str:
    """Return what ``--help`` prints: every flag with its kind, default and meaning."""
    docs = FLAGS.docs()
    lines = ["Usage: kruise-manager [options]", "", "Options:"]
    for name, spec in FLAGS.specs.items():
        if spec.hidden or not spec.names:
            continue
        flags = ", ".join(f"{'-' if len(flag) == 1 else '--'}{flag}" for flag in spec.names)
        default = FLAGS.show(name, FLAGS.defaults[name])
        kind = "" if spec.kind is BOOL else f" {spec.kind.name}"
        lines.append(f"  {flags}{kind}" + (f" (default {default})" if default and not spec.action else ""))
        if docs.get(name):
            lines.append(f"        {docs[name]}")
        if spec.choices:
            lines.append(f"        One of: {', '.join(spec.choices)}.")
    lines += ["", "Environment:"]
    lines.append(f"  Every flag is also read from {ENV_PREFIX}<NAME>, such as {ENV_PREFIX}METRICS_ADDR.")
    lines += [f"  {variable}: {docs.get(name, '')}" for name, spec in FLAGS.specs.items() for variable in spec.env]
    lines += ["", "A value comes from the flag, else from the environment, else from --config, else from the default."]
    return "\n".join(lines) + "\n"


def print_flags(options: Options) -> str:
    """Return one line per option: its value, and where that comes from."""
    lines = []
    for name, spec in FLAGS.specs.items():
        if spec.action or spec.hidden:
            continue
        label = f"--{spec.names[0]}" if spec.names else spec.env[0]
        origin = options.origins.get(name)
        lines.append(f"{label}={FLAGS.show(name, getattr(options, name))}" + (f"  # {origin}" if origin else ""))
    return "\n".join(lines) + "\n"


def print_config(options: Options) -> str:
    """Return the options as a YAML file that ``--config`` reads back to the same options."""
    values: dict[str, Any] = {}
    for name, spec in FLAGS.specs.items():
        value = getattr(options, name)
        if spec.action or spec.hidden or value is None:
            continue
        key = spec.names[0] if spec.names else name.replace("_", "-")
        if spec.kind is PAIRS:
            values[key] = dict(value)
        elif spec.kind is LIST:
            values[key] = list(value)
        else:
            values[key] = format_duration(value) if spec.kind is DURATION else value
    text: str = yaml.safe_dump(values, sort_keys=False)
    return text


def flags_markdown() -> str:
    """Return the table of options for the documents."""
    docs = FLAGS.docs()
    lines = ["| flags | environment | default | OpenKruise's, if different | meaning |", "|---|---|---|---|---|"]
    for name, spec in FLAGS.specs.items():
        if spec.hidden:
            continue
        flags = "<br>".join(f"`{'-' if len(flag) == 1 else '--'}{flag}`" for flag in spec.names)
        prefixed = [ENV_PREFIX + spec.names[0].upper().replace("-", "_")] if spec.names and not spec.action else []
        env = "<br>".join(f"`{variable}`" for variable in (*prefixed, *spec.env))
        default = FLAGS.show(name, FLAGS.defaults[name])
        shown = "" if spec.action or default == "" else f"`{default}`"
        upstream = f"`{spec.upstream}`" if spec.upstream else ""
        meaning = docs.get(name, "").replace("|", "\\|")
        lines.append(f"| {flags} | {env} | {shown} | {upstream} | {meaning} |")
    return "\n".join(lines) + "\n"
