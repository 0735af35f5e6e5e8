"""The definitions of the kinds of sets, each with what it takes and refuses: what their tests share.

The same cases are asked of the embedded API server (here) and of a real one (``tests/e2e``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from hack import crds
from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.apis.broadcastjob_schema import BROADCASTJOB
from kruise.apis.schema import KindDoc
from kruise.apis.sidecarset import SIDECARSETS
from kruise.apis.sidecarset_schema import SIDECARSET
from kruise.apis.statefulset import STATEFULSETS
from kruise.apis.statefulset_schema import STATEFULSET
from kruise.runtime.clock import Random
from kruise.runtime.objects import Resource
from kruise.simulator.apiserver import ApiServer, Failure
from kruise.simulator.apiserver.crd import DEFINITIONS
from tests.unit.hack import sidecarset_cases, statefulset_cases
from tests.unit.hack.changing import Change
from tests.unit.simulator.stopped_clock import StoppedClock


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every node of a schema that stands for a value, with its path."""
    yield path, schema
    for name, one in schema.get("properties", {}).items():
        yield from nodes(one, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """One kind: its definition, and where its objects are."""

    short: str
    resource: Resource[Any]
    crd: Mapping[str, Any]
    schemas: Mapping[str, dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        found = {one["name"]: one["schema"]["openAPIV3Schema"] for one in self.crd["spec"]["versions"]}
        object.__setattr__(self, "schemas", found)

    @property
    def name(self) -> str:
        """The name of the definition."""
        return f"{self.resource.plural}.{self.resource.group}"

    @property
    def schema(self) -> dict[str, Any]:
        """The schema of the version that is stored."""
        return self.schemas["v1beta1"]

    def path(self, name: str = "", version: str = "v1beta1") -> str:
        """Return the path of one object, or of all in the default namespace."""
        place = "namespaces/default/" if self.resource.namespaced else ""
        return f"/apis/{self.resource.group}/{version}/{place}{self.resource.plural}" + (f"/{name}" if name else "")

    def body(self, made: Mapping[str, Any], version: str = "v1beta1") -> dict[str, Any]:
        """Return *made* as an object of *version*."""
        return {**made, "apiVersion": f"{self.resource.group}/{version}"}


@dataclass(frozen=True, slots=True, eq=False)
class SetDefinition(Definition):
    """A kind of sets, with the cases that its tests share."""

    cases: ModuleType
    """GOOD, BAD, FIXED and FREE, ``a_set`` and ``needs``."""
    base: tuple[Change, ...]
    """What the set has whose changes are FIXED and FREE."""

    def started(self, name: str) -> dict[str, Any]:
        """Return the set whose changes are FIXED and FREE."""
        made: dict[str, Any] = self.cases.a_set(("metadata.name", name), *self.base)
        return made

    def after(self, kept: Mapping[str, Any], change: Change) -> dict[str, Any]:
        """Return the stored set *kept* with one change."""
        return self.body(self.cases.a_set(("metadata", kept["metadata"]), ("spec", kept["spec"]), change))


def _of(short: str, resource: Resource[Any], doc: KindDoc, cases: ModuleType, *base: Change) -> SetDefinition:
    return SetDefinition(short, resource, crds.render(resource, doc), cases, base)


BROADCASTJOB_KIND = Definition("bcj", BROADCASTJOBS, crds.render(BROADCASTJOBS, BROADCASTJOB))
STATEFULSET_KIND = _of("asts", STATEFULSETS, STATEFULSET, statefulset_cases, ("spec.serviceName", "svc"))
SIDECARSET_KIND = _of("scs", SIDECARSETS, SIDECARSET, sidecarset_cases, ("spec.containers", sidecarset_cases.TWO))
KINDS = (STATEFULSET_KIND, SIDECARSET_KIND)


def each(which: str) -> list[tuple[SetDefinition, str]]:
    """Return every case of one list, with its kind."""
    return [(kind, what) for kind in KINDS for what in getattr(kind.cases, which)]


def named(value: object) -> str:
    """Return the name of a parameter in the name of a test."""
    return value.short if isinstance(value, Definition) else str(value)


def serving(*kinds: Definition) -> ApiServer:
    """Return an embedded API server with these definitions."""
    made = ApiServer(StoppedClock(), Random(1))  # type: ignore[arg-type]
    for kind in kinds:
        made.create(DEFINITIONS, dict(kind.crd))
    return made


def post(server: ApiServer, kind: Definition, made: Mapping[str, Any], version: str = "v1beta1") -> Any:
    """Create *made* without keeping it; every rule must have been evaluated."""
    try:
        return server.do("POST", kind.path(version=version) + "?dryRun=All", kind.body(made, version))
    finally:
        assert not [one for one in server.log.calls[-1].warnings if "CEL" in one]


def causes_of(failure: Failure) -> list[tuple[str, str]]:
    """Return the fields that are blamed, and what is said of each."""
    return [(cause.get("field", ""), cause["message"]) for cause in failure.details["causes"]]
