"""Validation of ``resourcesPolicy``, by which a sidecar's resources follow those of the pod (spec/sidecarset 12.1).

Guarantees: the errors, paths and words of OpenKruise's webhook, in its order; what a policy leaves out is not judged.

What this does not do: it computes nothing for a pod; the injection does. Modes are an enum of the schema.
"""

from __future__ import annotations

from kruise.apis.fielderrors import FieldError, Plain, invalid, required
from kruise.apis.goregex import RegexError, compile_regex
from kruise.apis.podtemplate.fields import Node, child, text
from kruise.apis.sidecarset import RESTART_ALWAYS
from kruise.apis.sidecarset_expression import probe

__all__ = ["resources_policy_errors"]


def resources_policy_errors(container: Node, path: str, *, init: bool) -> list[FieldError]:
    """Return what is wrong with the policy of *container* at *path*; *init*: it is an init container."""
    policy = child(container, "resourcesPolicy")
    if policy is None:
        return []
    errors = []
    shown = Plain("resourcesPolicy")
    if init and text(container, "restartPolicy") != RESTART_ALWAYS:
        detail = "resourcesPolicy is only supported for containers with RestartPolicy Always"
        errors.append(invalid(path, shown, detail))
    resources = child(container, "resources")
    if child(resources, "limits") or child(resources, "requests"):
        detail = "resourcesPolicy and resources cannot be configured together"
        return [*errors, invalid(path, shown, detail)]
    errors += _regex_errors(text(policy, "targetContainersNameRegex"), f"{path}.targetContainersNameRegex")
    return errors + _expression_errors(child(policy, "resourcesExpr") or {}, f"{path}.resourcesExpr")


def _regex_errors(pattern: str, path: str) -> list[FieldError]:
    if not pattern:
        return [required(path, "invalid empty regex")]
    try:
        compile_regex(pattern)
    except RegexError as error:
        return [invalid(path, pattern, f"invalid regex pattern: {error}")]
    return []


def _expression_errors(expressions: Node, path: str) -> list[FieldError]:
    given = [(name, amounts) for name in ("limits", "requests") if (amounts := child(expressions, name)) is not None]
    if not given:
        return [invalid(path, Plain("resourcesExpr"), "at least one of limits or requests must be configured")]
    errors = []
    for name, amounts in given:
        for resource in ("cpu", "memory"):
            expression = text(amounts, resource)
            if expression and (problem := probe(expression, resource)):
                errors.append(invalid(f"{path}.{name}.{resource}", expression, problem))
    return errors
