"""Webhook configurations and the conversion of definitions: defaults and rules.

Purpose: what kube-apiserver fills in and refuses when a MutatingWebhookConfiguration, a ValidatingWebhookConfiguration
or the ``spec.conversion`` of a CustomResourceDefinition is written.

Guarantees:

* TST1: every default and every rule of v1 but one, in the server's words and order; the probes compare them.

What this does not do: the expressions of ``matchConditions`` are compiled with the optional extra ``cel``, whose texts
are its own; without it they are not compiled at all. An update is held to all rules, also where it changes nothing that
was wrong before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from kruise.apis import labels, selectors
from kruise.apis.fielderrors import FieldError, Plain, duplicate, forbidden, invalid, not_supported, required, too_many
from kruise.simulator.apiserver import rules as cel_rules
from kruise.simulator.apiserver.failure import Cause, of_errors
from kruise.simulator.apiserver.webhooks import HTTPS_PORT

Body = dict[str, Any]

MUTATING: Final = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING: Final = "validatingwebhookconfigurations.admissionregistration.k8s.io"
TABLES: Final = (MUTATING, VALIDATING)
REVIEW_VERSIONS: Final = ("v1", "v1beta1")
MOST_CONDITIONS: Final = 64
_ABSENT: Final = f"must specify one of {', '.join(REVIEW_VERSIONS)}"
_OPERATIONS: Final = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES: Final = ("*", "Cluster", "Namespaced")
_FORM: Final = "; desired format: https://host[/path]"


def complete(configuration: Body, table: str) -> list[Cause]:
    """Default a configuration in place, and return what is wrong with it."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, hook in enumerate(configuration.get("webhooks") or ()):
        path = f"webhooks[{i}]"
        _default(hook, mutating=table == MUTATING)
        errors += _hook(hook, path, mutating=table == MUTATING)
        errors += _versions(hook.get("admissionReviewVersions") or [], f"{path}.admissionReviewVersions", _ABSENT)
        name = hook.get("name")
        if name and name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
    return of_errors(errors)


def _default(hook: Body, *, mutating: bool) -> None:
    hook.setdefault("name", "")
    hook.setdefault("failurePolicy", "Fail")
    hook.setdefault("matchPolicy", "Equivalent")
    hook.setdefault("namespaceSelector", {})
    hook.setdefault("objectSelector", {})
    hook.setdefault("timeoutSeconds", 10)
    if mutating:
        hook.setdefault("reinvocationPolicy", "Never")
    for rule in hook.get("rules") or ():
        rule.setdefault("scope", "*")
    default_service(hook.get("clientConfig") or {})


def default_service(config: Body) -> None:
    """Fill in the port of the Service of a ``clientConfig``."""
    if isinstance(config.get("service"), dict):
        config["service"].setdefault("port", HTTPS_PORT)


def _hook(hook: Body, path: str, *, mutating: bool) -> list[FieldError]:
    errors = _full_name(hook["name"], f"{path}.name")
    for i, rule in enumerate(hook.get("rules") or ()):
        errors += _rule(rule, f"{path}.rules[{i}]")
    errors += _one_of(hook["failurePolicy"], ("Fail", "Ignore"), f"{path}.failurePolicy")
    errors += _one_of(hook["matchPolicy"], ("Equivalent", "Exact"), f"{path}.matchPolicy")
    effects = ("None", "NoneOnDryRun")
    if "sideEffects" not in hook:
        errors.append(required(f"{path}.sideEffects", f"must specify one of {', '.join(effects)}"))
    else:
        errors += _one_of(hook["sideEffects"], effects, f"{path}.sideEffects")
    if not 1 <= hook["timeoutSeconds"] <= 30:
        why = "the timeout value must be between 1 and 30 seconds"
        errors.append(invalid(f"{path}.timeoutSeconds", hook["timeoutSeconds"], why))
    errors += selectors.validate(hook["namespaceSelector"], f"{path}.namespaceSelector")
    errors += selectors.validate(hook["objectSelector"], f"{path}.objectSelector")
    if mutating:
        errors += _one_of(hook["reinvocationPolicy"], ("IfNeeded", "Never"), f"{path}.reinvocationPolicy")
    errors += client_config(hook.get("clientConfig") or {}, f"{path}.clientConfig")
    return errors + _conditions(hook.get("matchConditions") or [], f"{path}.matchConditions")


def _full_name(name: str, path: str) -> list[FieldError]:
    if not name:
        return [required(path)]
    found = labels.dns1123_subdomain(name)
    if found:
        return [invalid(path, name, ",".join(found))]
    if name.count(".") < 2:
        return [invalid(path, name, "should be a domain with at least three segments separated by dots")]
    return []


def _one_of(value: str, allowed: Sequence[str], path: str) -> list[FieldError]:
    return [] if value in allowed else [not_supported(path, value, allowed)]


def _rule(rule: Body, path: str) -> list[FieldError]:
    operations = rule.get("operations") or []
    errors = [] if operations else [required(f"{path}.operations")]
    errors += _lonely(operations, f"{path}.operations", "operations")
    for i, operation in enumerate(operations):
        errors += _one_of(operation, _OPERATIONS, f"{path}.operations[{i}]")
    for name, what in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        values = rule.get(name) or []
        errors += [] if values else [required(f"{path}.{name}")]
        errors += _lonely(values, f"{path}.{name}", what)
    versions = rule.get("apiVersions") or []
    errors += [required(f"{path}.apiVersions[{i}]") for i, version in enumerate(versions) if not version]
    errors += _resources(rule.get("resources") or [], f"{path}.resources")
    return errors + _one_of(rule["scope"], _SCOPES, f"{path}.scope")


def _listed(values: list[str]) -> Plain:
    """Return a list as the present version prints one in an error."""
    return Plain(orjson.dumps(values).decode())


def _lonely(values: list[str], path: str, what: str) -> list[FieldError]:
    if len(values) > 1 and "*" in values:
        return [invalid(path, _listed(values), f"if '*' is present, must not specify other {what}")]
    return []


def _resources(resources: list[str], path: str) -> list[FieldError]:
    errors = [] if resources else [required(path)]
    all_of: set[str] = set()
    everywhere: set[str] = set()
    plain = False
    for i, text in enumerate(resources):
        if not text:
            errors.append(required(f"{path}[{i}]"))
            continue
        resource, slash, sub = text.partition("/")
        if not slash:
            plain = text != "*"  # the last one decides, as in the server
            continue
        if resource in all_of:
            why = f"if '{resource}/*' is present, must not specify {text}"
            errors.append(invalid(f"{path}[{i}]", text, why))
        if sub in everywhere:
            errors.append(invalid(f"{path}[{i}]", text, f"if '*/{sub}' is present, must not specify {text}"))
        if sub == "*":
            all_of.add(resource)
        if resource == "*":
            everywhere.add(sub)
    if len(resources) > 1 and "*/*" in resources:
        errors.append(invalid(path, _listed(resources), "if '*/*' is present, must not specify other resources"))
    if "*" in resources and plain:
        why = "if '*' is present, must not specify other resources without subresources"
        errors.append(invalid(path, _listed(resources), why))
    return errors


def _versions(versions: list[str], path: str, absent: str = "") -> list[FieldError]:
    if not versions:
        return [required(path, absent)]
    errors: list[FieldError] = []
    for i, version in enumerate(versions):
        if version in versions[:i]:
            errors.append(invalid(f"{path}[{i}]", version, "duplicate version"))
            continue
        errors += [invalid(f"{path}[{i}]", version, why) for why in labels.dns1035_label(version)]
    if not any(version in REVIEW_VERSIONS for version in versions):
        errors.append(invalid(path, _listed(versions), f"must include at least one of {', '.join(REVIEW_VERSIONS)}"))
    return errors


def client_config(config: Body, path: str) -> list[FieldError]:
    """Return what is wrong with a ``clientConfig``."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [required(path, "exactly one of url or service is required")]
    if url is not None:
        return _url(url, f"{path}.url")
    assert service is not None, "one of the two is there"
    return _service(service, f"{path}.service")


def _url(url: str, path: str) -> list[FieldError]:
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        parts.port  # noqa: B018 - reading it checks it
    except ValueError as error:
        return [required(path, f"url must be a valid URL: {error}{_FORM}")]
    errors: list[FieldError] = []
    if parts.scheme != "https":
        errors.append(invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{_FORM}"))
    if not host:
        errors.append(invalid(path, host, f"host must be specified{_FORM}"))
    if "@" in parts.netloc:
        user = parts.netloc.rpartition("@")[0]
        errors.append(invalid(path, user, "user information is not permitted in the URL"))
    if parts.fragment:
        errors.append(invalid(path, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        errors.append(invalid(path, parts.query, "query parameters are not permitted in the URL"))
    return errors


def _service(service: Body, path: str) -> list[FieldError]:
    # The server hands name and namespace over in the wrong order, so that each is reported under the other's name.
    errors = [] if service.get("namespace") else [required(f"{path}.name")]
    errors += [] if service.get("name") else [required(f"{path}.namespace")]
    port = service.get("port", HTTPS_PORT)
    if found := labels.port_number(port):
        errors.append(invalid(f"{path}.port", port, f"port is not valid: {', '.join(found)}"))
    return errors + _service_path(service.get("path"), f"{path}.path")


def _service_path(text: str | None, path: str) -> list[FieldError]:
    if text in (None, "", "/"):
        return []
    assert text is not None, "it was looked at"
    if text == "//":
        return [invalid(path, text, "segment[0] may not be empty")]
    errors = [] if text.startswith("/") else [invalid(path, text, "must start with a '/'")]
    for i, step in enumerate(text[1:].removesuffix("/").split("/")):
        if not step:
            errors.append(invalid(path, text, f"segment[{i}] may not be empty"))
            continue
        errors += [invalid(path, text, f"segment[{i}]: {why}") for why in labels.dns1123_subdomain(step)]
    return errors


def _conditions(conditions: list[Body], path: str) -> list[FieldError]:
    errors = [too_many(path, len(conditions), MOST_CONDITIONS)] if len(conditions) > MOST_CONDITIONS else []
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        name, expression = condition.get("name") or "", (condition.get("expression") or "").strip()
        if not expression:
            errors.append(required(f"{path}[{i}].expression"))
        elif why := cel_rules.broken_expression(expression):
            errors.append(invalid(f"{path}[{i}].expression", expression, why))
        if not name:
            errors.append(required(f"{path}[{i}].name"))
        else:
            errors += [invalid(f"{path}[{i}].name", name, text) for text in labels.qualified_name(name)]
        if name and name in seen:
            errors.append(duplicate(f"{path}[{i}].name", name))
        seen.add(name)
    return errors


def conversion_errors(conversion: Body) -> list[FieldError]:
    """Default the ``spec.conversion`` of a definition in place, and return what is wrong with it.

    The paths are those of the server's own structure, which differ from those of the object.
    """
    path = "spec.conversion"
    strategy = conversion.get("strategy") or ""
    if not strategy:
        return [required(f"{path}.strategy")]
    errors = _one_of(strategy, ("None", "Webhook"), f"{path}.strategy")
    hook = conversion.get("webhook") or {}
    config, versions = hook.get("clientConfig"), hook.get("conversionReviewVersions") or []
    below, listed = f"{path}.webhookClientConfig", f"{path}.conversionReviewVersions"
    if strategy == "Webhook":
        if config is None:
            errors.append(required(below, "required when strategy is set to Webhook"))
        else:
            default_service(config)
            errors += client_config(config, below)
        return errors + _versions(versions, listed)
    if config is not None:
        errors.append(forbidden(below, "should not be set when strategy is not set to Webhook"))
    if versions:
        errors.append(forbidden(listed, "should not be set when strategy is not set to Webhook"))
    return errors
