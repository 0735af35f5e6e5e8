"""Generate the components that switch on a feature gate together with the rights that it alone needs.

Purpose: the roles of ``config/rbac`` give what the default gates need, and no more. A gate that asks for more is a
component of ``config/components``: a role, and the flag in the Deployment.

Guarantees:

* The rights are the difference between what the controllers declare with the gate and without it, in the order and
  under the checks of :mod:`hack.rbac`. A gate that needs no right of its own is an error: a flag is enough there.
* Every gate of this project that asks for rights of its own has its component; :func:`gates_with_rights` finds them.
* ``role.yaml`` stands by itself, so that it can be applied without kustomize.

What this does not do: it does not switch a gate on in ``config/default``; the administrator does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hack import rbac
from hack.kustomize_yaml import dump
from kruise.features import GATES, Gates, resolve
from kruise.runtime.controller import Access

FOLDER: Final = Path("config/components")
COMPONENTS: Final = {
    "StatefulSetAutoResizePVCGate": "claim-resize",
    "InPlaceWorkloadVerticalScaling": "pod-resize",
}
"""Gates with rights of their own, and the folder of the component."""
ROLE: Final = "role.yaml"


def extra(gate: str) -> tuple[Access, ...]:
    """Return what the manager needs with *gate* and does not need without it."""
    plain = _declared(Gates())
    found = _declared(resolve([(gate, True)], {})[0])
    return tuple(
        Access(one.resource, verbs, one.subresource, one.namespaced_role, one.resource_names)
        for place, one in found.items()
        if (verbs := tuple(verb for verb in one.verbs if place not in plain or verb not in plain[place].verbs))
    )


def gates_with_rights() -> Iterator[str]:
    """Yield every gate, off by default, that needs a right of its own."""
    for gate in GATES:
        if gate.implemented and not gate.default and extra(gate.name):
            yield gate.name


def granted() -> frozenset[rbac.Right]:
    """Return every right that the components give."""
    return frozenset().union(*(rbac.rights(extra(gate)) for gate in COMPONENTS))


def _declared(gates: Gates) -> dict[tuple[Any, ...], Access]:
    found = rbac.exact(one for controller in rbac.controllers(gates) for one in controller.accesses)
    return {(one.resource, one.subresource, one.namespaced_role, one.resource_names): one for one in found}


def role(gate: str) -> list[dict[str, Any]]:
    """Return the role for *gate*, and its binding. Raises ValueError when it needs none."""
    if not (declared := extra(gate)):
        raise ValueError(f"{gate}: needs no right of its own")
    return rbac.bound(f"kruise-{COMPONENTS[gate]}", declared)


def component(gate: str) -> dict[str, Any]:
    """Return the kustomization: the role, and the flag."""
    lines = (
        ("test", "/spec/template/spec/containers/0/name", "manager"),
        ("add", "/spec/template/spec/containers/0/args/-", f"--feature-gates={gate}=true"),
    )
    patch = "".join(f"- op: {op}\n  path: {path}\n  value: {value}\n" for op, path, value in lines)
    return {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": [{"target": {"kind": "Deployment", "name": rbac.ACCOUNT}, "patch": patch}],
        "resources": [ROLE],
    }


def outputs() -> dict[Path, str]:
    """Return the text of every generated file, by its path in the repository."""
    texts: dict[Path, str] = {}
    for gate, folder in COMPONENTS.items():
        texts[FOLDER / folder / ROLE] = rbac.HEADER + dump(role(gate))
        texts[FOLDER / folder / "kustomization.yaml"] = rbac.HEADER + dump([component(gate)])
    return texts
