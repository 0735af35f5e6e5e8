"""Pod templates: defaulting in full, and the validation's errors in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kruise.apis.core_fields import prune
from kruise.apis.podtemplate import default_pod_template, validate_pod_template
from tests.golden.loader import Case, compare_errors, parametrize

POD_TEMPLATE = "core.v1.PodTemplateSpec"


def completed(case: Case) -> dict[str, Any]:
    gate = case.gates.get("DefaultHostNetworkHostPortsInPodTemplates", False)
    return default_pod_template(case.input["template"], host_network_ports=gate)


def differences(got: Any, wanted: Any, given: Any, path: str = "template") -> Iterator[str]:
    """Yield what differs but for the encoder's part.

    Go's encoder writes null for a required list and ``{}`` for unset resources and metadata, and drops the zero value
    of a field without a pointer; such a zero must then have been in the input, because defaulting removes nothing.
    """
    if isinstance(got, dict) and isinstance(wanted, dict):
        given = given if isinstance(given, dict) else {}
        for key in sorted(got.keys() | wanted.keys()):
            at = f"{path}.{key}"
            if key not in wanted:
                if got[key] or got[key] != given.get(key, object()):
                    yield f"{at}: {got[key]!r} is too much"
            elif key not in got:
                if wanted[key] is not None and not (key in ("resources", "metadata") and not any(wanted[key].values())):
                    yield f"{at}: {wanted[key]!r} is missing"
            else:
                yield from differences(got[key], wanted[key], given.get(key), at)
    elif isinstance(got, list) and isinstance(wanted, list) and len(got) == len(wanted):
        for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
            part = given[i] if isinstance(given, list) and i < len(given) else None
            yield from differences(a, b, part, f"{path}[{i}]")
    elif got != wanted:
        yield f"{path}: {got!r} instead of {wanted!r}"


@parametrize("podtemplate", do="default")
def test_pod_template_defaults(case: Case) -> None:
    found = completed(case)
    # Unknown fields survive here; the Go manager's typed decoder drops them.
    assert list(differences(prune(found, POD_TEMPLATE), case.output["template"], case.input["template"])) == []
    gate = case.gates.get("DefaultHostNetworkHostPortsInPodTemplates", False)
    assert default_pod_template(found, host_network_ports=gate) == found


@parametrize("podtemplate", do="validate")
def test_pod_template_validation(case: Case) -> None:
    compare_errors(validate_pod_template(completed(case), "spec.template"), case.output["errors"])
