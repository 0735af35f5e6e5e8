"""Defaults, validation and conversion of BroadcastJob, as pure functions on plain JSON.

Guarantees:

* Defaulting never removes a field that it does not know, and writes what OpenKruise's webhook writes.
* Validation reports every error with its field path, in the order of the Kubernetes API: metadata, time limits,
  restart policy, labels, pod template.
* Conversion copies: the versions have the same fields.

What this does not do: it calls no API and serves no webhook. The limits of numbers and strings that OpenKruise accepts
without a bound stand in the schema of the CRD, because stored objects may be older than they are.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kruise.apis.broadcastjob import (
    ALWAYS,
    BROADCASTJOBS,
    FAIL_FAST,
    LABEL_CONTROLLER_UID,
    LABEL_JOB_NAME,
    NEVER,
    NO_LIMIT,
    BroadcastJob,
)
from kruise.apis.core_fields import type_errors
from kruise.apis.fielderrors import FieldError, invalid
from kruise.apis.group import GROUP
from kruise.apis.meta import validate_object_meta
from kruise.apis.podtemplate import default_pod_template, validate_pod_template

__all__ = ["EMPTY_STATUS", "convert_broadcastjob", "decode_problem", "default_broadcastjob", "validate_broadcastjob"]

EMPTY_STATUS: Final[Mapping[str, Any]] = {"active": 0, "desired": 0, "failed": 0, "phase": "", "succeeded": 0}


def default_broadcastjob(
    job: dict[str, Any],
    old: Mapping[str, Any] | None = None,
    *,
    template_defaults: bool = True,
    host_ports: bool = False,
    reset_status: bool = True,
) -> dict[str, Any]:
    """Return *job*, plain JSON of either version, with its defaults (spec/broadcastjob 2.1); the input stays as it is.

    *old* is the stored object of an update: an unchanged template is then left alone. ``template_defaults=False`` is
    the gate TemplateNoDefaults, ``host_ports=True`` the gate DefaultHostNetworkHostPortsInPodTemplates.
    ``reset_status`` drops a status that a user sent through the main resource.
    """
    out = copy.copy(job)
    spec: dict[str, Any] = dict(out.get("spec") or {})
    out["spec"] = spec
    template = spec.get("template") or {}
    if template_defaults and (old is None or template != ((old.get("spec") or {}).get("template") or {})):
        spec["template"] = default_pod_template(template, host_network_ports=host_ports)
    completion = dict(spec.get("completionPolicy") or {})
    if not completion.get("type"):
        completion["type"] = ALWAYS
    spec["completionPolicy"] = completion
    if spec.get("parallelism") is None:
        spec["parallelism"] = NO_LIMIT
    failure = dict(spec.get("failurePolicy") or {})
    if not failure.get("type"):
        failure["type"] = FAIL_FAST
    spec["failurePolicy"] = failure
    if reset_status:
        out["status"] = dict(EMPTY_STATUS)
    return out


_NAME: Final = re.compile(r"[a-zA-Z0-9\-]+")
_NAME_RULE: Final = (
    "BroadcastJob name must consist of alphanumeric characters or '-' (e.g. 'example-com', "
    "regex used for validation is '^[a-zA-Z0-9\\-]+$')"
)
_MAX_NAME: Final = 63


def _name_problems(name: str, prefix: bool) -> list[str]:  # noqa: ARG001 - the shape that object metadata asks for
    # Upstream checks a generateName by the same expression. `$` of Go ends before no line break, so: fullmatch.
    problems = []
    if not _NAME.fullmatch(name):
        problems.append(_NAME_RULE)
    if len(name) > _MAX_NAME:
        problems.append(f"must be no more than {_MAX_NAME} characters")
    return problems


def validate_broadcastjob(job: Mapping[str, Any]) -> list[FieldError]:
    """Return every error of *job*, plain JSON of either version; an empty list means that it is valid.

    The pod template is completed on a copy first, so an absent restartPolicy becomes ``Always`` and is refused.
    """
    meta: Mapping[str, Any] = job.get("metadata") or {}
    errors = list(validate_object_meta(meta, namespaced=True, name_check=_name_problems, path="metadata"))
    spec: Mapping[str, Any] = job.get("spec") or {}
    completion: Mapping[str, Any] = spec.get("completionPolicy") or {}
    if completion.get("type") == NEVER:
        errors.extend(
            invalid(
                f"spec.completionPolicy.{field}",
                completion[field],
                f"{field} can just work with Always CompletionPolicyType",
            )
            for field in ("ttlSecondsAfterFinished", "activeDeadlineSeconds")
            if completion.get(field) is not None
        )
    template = default_pod_template(spec.get("template") or {})
    restart = (template.get("spec") or {}).get("restartPolicy")
    if restart not in ("Never", "OnFailure"):
        errors.append(
            invalid("spec.template.spec.restartPolicy", restart, "pod restartPolicy can only be Never or OnFailure")
        )
    labels = (template.get("metadata") or {}).get("labels") or {}
    if labels.get(LABEL_JOB_NAME) or labels.get(LABEL_CONTROLLER_UID):
        errors.append(
            invalid(
                "spec.template.metadata.labels",
                labels,
                f'"{LABEL_JOB_NAME}" and "{LABEL_CONTROLLER_UID}" are not allowed to preset in pod labels',
            )
        )
    errors.extend(validate_pod_template(template, "spec.template"))
    return errors


def convert_broadcastjob(job: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return *job* as *version* (``v1alpha1`` or ``v1beta1``): the fields are the same, so only apiVersion changes."""
    if version not in ("v1alpha1", "v1beta1"):
        raise ValueError(f"BroadcastJob has the versions v1alpha1 and v1beta1, not {version!r}")
    out = dict(copy.copy(job))
    out["apiVersion"] = f"{GROUP}/{version}"
    status = out.get("status")
    if isinstance(status, Mapping) and "conditions" in status and not status["conditions"]:
        # Go writes an empty list as absent; a stored object and its conversion must compare equal.
        out["status"] = {k: v for k, v in status.items() if k != "conditions"}
    return out


def decode_problem(job: Mapping[str, Any], version: str) -> str:
    """Return why *job* is no BroadcastJob of *version*, naming the field; ``""`` when it is one.

    What an API server refuses before any rule is asked: wrong types and malformed quantities.
    """
    if job.get("apiVersion") != f"{GROUP}/{version}" or job.get("kind") != BROADCASTJOBS.kind:
        return f"apiVersion and kind: want {GROUP}/{version} {BROADCASTJOBS.kind}"
    try:
        decoded = msgspec.json.decode(msgspec.json.encode(_without_nulls(job)), type=BroadcastJob)
    except msgspec.MsgspecError as error:
        return str(error)
    if isinstance(decoded.spec.parallelism, int) and abs(decoded.spec.parallelism) > NO_LIMIT + 1:
        return "spec.parallelism: want a number of 32 bits or a string"
    template = (job.get("spec") or {}).get("template") or {}
    wrong = type_errors(template, "core.v1.PodTemplateSpec", "spec.template")
    return str(wrong[0]) if wrong else ""


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value
