"""The types of webhook configurations, for the reader of built-in kinds (``typed.py``).

Purpose: ``core_fields.json`` has the kinds that this project reads and writes as values; a webhook configuration is
read by the server alone, so its fields stand here, in the same form.

What this does not do: defaults and rules are in ``webhooks_config.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Fields = Mapping[str, str]

_PACKAGE: Final = "admissionregistration.v1"
_META: Final[Fields] = {"kind": "string", "apiVersion": "string", "metadata": "meta.v1.ObjectMeta"}
_HOOK: Final[Fields] = {
    "name": "string",
    "clientConfig": f"{_PACKAGE}.WebhookClientConfig",
    "rules": f"[{_PACKAGE}.RuleWithOperations]",
    "failurePolicy": "string",
    "matchPolicy": "string",
    "namespaceSelector": "meta.v1.LabelSelector",
    "objectSelector": "meta.v1.LabelSelector",
    "sideEffects": "string",
    "timeoutSeconds": "int32",
    "admissionReviewVersions": "[string]",
    "matchConditions": f"[{_PACKAGE}.MatchCondition]",
}

TYPES: Final[Mapping[str, Fields]] = {
    f"{_PACKAGE}.MutatingWebhookConfiguration": {**_META, "webhooks": f"[{_PACKAGE}.MutatingWebhook]"},
    f"{_PACKAGE}.ValidatingWebhookConfiguration": {**_META, "webhooks": f"[{_PACKAGE}.ValidatingWebhook]"},
    f"{_PACKAGE}.MutatingWebhook": {**_HOOK, "reinvocationPolicy": "string"},
    f"{_PACKAGE}.ValidatingWebhook": _HOOK,
    f"{_PACKAGE}.WebhookClientConfig": {
        "url": "string",
        "service": f"{_PACKAGE}.ServiceReference",
        "caBundle": "bytes",
    },
    f"{_PACKAGE}.ServiceReference": {"namespace": "string", "name": "string", "path": "string", "port": "int32"},
    f"{_PACKAGE}.RuleWithOperations": {
        "operations": "[string]",
        "apiGroups": "[string]",
        "apiVersions": "[string]",
        "resources": "[string]",
        "scope": "string",
    },
    f"{_PACKAGE}.MatchCondition": {"name": "string", "expression": "string"},
}
"""Name of a type -> its fields, each with the name of its type."""


def type_name(group: str, kind: str) -> str:
    """Return the name of a kind in :data:`TYPES`, or ``""``."""
    name = f"{_PACKAGE}.{kind}" if group == "admissionregistration.k8s.io" else ""
    return name if name in TYPES else ""
