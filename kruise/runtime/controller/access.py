"""What a controller reads and writes, declared; the RBAC rules are generated from it.

Purpose: one place from which the roles of the deployment come, so that a right that nobody uses, or one that somebody
lacks, is found by a generator and not by a user.

Guarantees: BLD1 (reads follow from the builder's declarations; writes are declared beside them), and no wildcard.

What this does not do: it checks nothing while the program runs; the API server does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from kruise.runtime.objects import Resource

VERBS: Final = ("get", "list", "watch", "create", "update", "patch", "delete")
"""In the order in which a rule shows them. ``deletecollection`` is missing on purpose: nothing here uses it."""


@dataclass(frozen=True, slots=True)
class Access:
    """Verbs that a controller uses on a resource."""

    resource: Resource[Any]
    verbs: tuple[str, ...]
    subresource: str = ""
    """Such as ``status``. Defaults to the resource itself."""
    namespaced_role: bool = False
    """Needed in the manager's own namespace only: goes into a Role, not into the ClusterRole."""
    resource_names: tuple[str, ...] = ()
    """Restricts the rule to objects of these names. Cannot go with create, whose name the authorizer does not know."""

    def __post_init__(self) -> None:
        unknown = [verb for verb in self.verbs if verb not in VERBS]
        if unknown or not self.verbs:
            raise ValueError(f"access to {self.resource}: verbs {list(self.verbs)}; want one or more of {VERBS}")
        if self.resource_names and "create" in self.verbs:
            raise ValueError(f"access to {self.resource}: create cannot be restricted to resource names")


def reads(resource: Resource[Any]) -> Access:
    """Return what an informer of *resource* needs."""
    return Access(resource, ("get", "list", "watch"))


def merge(accesses: Iterable[Access]) -> tuple[Access, ...]:
    """Return one entry per resource, subresource, role and set of names, verbs united, in a fixed order."""
    merged: dict[tuple[Any, ...], Access] = {}
    for access in accesses:
        r = access.resource
        place = (r.group, r.plural, access.subresource, access.namespaced_role, access.resource_names)
        have = merged.get(place)
        verbs = set(access.verbs) | set(have.verbs if have is not None else ())
        merged[place] = replace(have or access, verbs=tuple(verb for verb in VERBS if verb in verbs))
    return tuple(merged[place] for place in sorted(merged))
