"""Which resources the server knows, and how each differs from the rest.

Purpose: one table. A room that needs to know whether a kind has a status subresource, a graceful deletion or a field
selector of its own reads it here.

Guarantees:

* TST1: the built-in kinds that workload controllers touch, and any number of registered custom kinds, each in several
  versions when it has them.

What this does not do: it holds no objects. The rules of built-in kinds that need code are in ``kinds.py``; those of a
custom kind come with its definition (``crd.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from kruise.runtime.objects import Resource

if TYPE_CHECKING:
    from kruise.simulator.apiserver.failure import Cause

Body = dict[str, Any]


class Reading(Protocol):
    """What a request says about the way in which its object is read: a part of a ``Call``."""

    @property
    def verb(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def subresource(self) -> str: ...
    @property
    def validation(self) -> str: ...
    @property
    def pruned(self) -> bool: ...
    @property
    def warnings(self) -> list[str]: ...


class Converts(Protocol):
    """Brings objects of a custom kind into another version, and may have to ask for it."""

    async def convert(self, objects: Sequence[Body], api_version: str) -> list[Body]:
        """Return *objects* in *api_version*, in their order. Raises Failure."""
        ...


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One resource. ``versions[0]`` is the one in which objects are stored."""

    group: str
    versions: tuple[str, ...]
    kind: str
    plural: str
    namespaced: bool = True
    subresources: frozenset[str] = frozenset()
    custom: bool = False
    generation: bool = False
    """``metadata.generation`` counts changes of everything but metadata and status."""
    unconditional: bool = True
    """An update may come without a resource version."""
    returns_deleted: bool = False
    """DELETE answers with the object instead of a Status."""
    status_keeps: tuple[str, ...] = ()
    """Metadata that an update of the status subresource cannot change; a custom kind keeps all of it."""
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    """What a field selector may name, besides metadata.name and metadata.namespace."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    scale: Mapping[str, str] = field(default_factory=dict)
    """Of the scale subresource: ``spec``, ``status`` and ``selector``, each a dotted path."""
    stored_as: str = ""
    """The store's name of the resource when it is not its own, and its objects' ``apiVersion`` there."""
    stored_version: str = ""
    convert: Callable[[Body, str], Body] | None = field(default=None, compare=False)
    """Returns an object in another ``apiVersion``; ``None``: only that field changes."""
    prepare: Callable[[Body, Reading, Body | None], list[Cause]] | None = field(default=None, compare=False)
    """Prunes and defaults an object of a custom kind, in place, in the version of the call, and returns what is wrong
    with it; the third argument is the stored object that it replaces."""
    prune: Callable[[Body], object] | None = field(default=None, compare=False)
    """Removes what the stored version of a custom kind does not know, in place."""
    converter: Converts | None = field(default=None, compare=False)
    """The webhook that converts between the versions, where there is one."""
    defaults: Callable[[Body, str], None] | None = field(default=None, compare=False)
    """Fills in the defaults of a version of a custom kind, in place."""
    made_by_put: bool = False
    """A PUT of an object that is not there creates it."""
    definition: Body | None = field(default=None, compare=False)
    """The ``spec`` of the definition of a custom kind, if it has one."""

    @property
    def name(self) -> str:
        """``plural.group``, or the plural alone."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def table(self) -> str:
        """The name of the resource in the store."""
        return self.stored_as or self.name

    @property
    def singular(self) -> str:
        """The singular name."""
        return self.kind.lower()

    def api_version(self, version: str = "") -> str:
        """Return ``group/version`` for *version*, or for the stored one."""
        version = version or self.versions[0]
        return f"{self.group}/{version}" if self.group else version

    def in_version(self, obj: Body, version: str) -> Body:
        """Return the stored object *obj*, which may be shared, in *version*."""
        return self._converted(obj, self.api_version(version))

    def to_storage(self, obj: Body) -> Body:
        """Return *obj*, in any version, as it is stored."""
        return self._converted(obj, self.stored_version or self.api_version())

    async def read_in(self, obj: Body, version: str) -> Body:
        """Return :meth:`in_version`, asking a webhook where there is one. Raises Failure."""
        return await self._asked(obj, self.api_version(version))

    async def stored(self, obj: Body) -> Body:
        """Return :meth:`to_storage`, asking a webhook where there is one. Raises Failure."""
        return await self._asked(obj, self.stored_version or self.api_version())

    async def _asked(self, obj: Body, api_version: str) -> Body:
        if self.converter is None or obj["apiVersion"] == api_version:
            return self._converted(obj, api_version)
        return (await self.converter.convert([obj], api_version))[0]

    def _converted(self, obj: Body, api_version: str) -> Body:
        if obj.get("apiVersion") == api_version:
            return obj
        if self.converter is not None:
            raise RuntimeError(f"{self.name}: a webhook converts to {api_version}; that cannot be done without waiting")
        if self.convert is not None:
            return self.convert(obj, api_version)
        return {**obj, "apiVersion": api_version}


_PODS: Final = (
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
)
_STATUS: Final = frozenset({"status"})
_STATUS_SCALE: Final = frozenset({"status", "scale"})
_REPLICAS: Final = MappingProxyType({"spec": "spec.replicas", "status": "status.replicas", "selector": ""})


def _core(kind: str, plural: str, **more: Any) -> ResourceType:
    return ResourceType("", ("v1",), kind, plural, **more)


def _apps(kind: str, plural: str, subresources: frozenset[str], **more: Any) -> ResourceType:
    return ResourceType(
        "apps", ("v1",), kind, plural, subresources=subresources, generation=True, categories=("all",), **more
    )


def builtin_types() -> list[ResourceType]:
    """Return the kinds that every server has, except events, whose fields ``events.py`` knows."""
    workload: dict[str, Any] = {"scale": _REPLICAS, "fields": ("status.replicas",)}
    return [
        _core(
            "Pod",
            "pods",
            subresources=frozenset(
                {
                    "status",
                    "binding",
                    "eviction",
                    "resize",
                    "log",
                    "exec",
                    "attach",
                    "portforward",
                    "ephemeralcontainers",
                }
            ),
            generation=True,
            returns_deleted=True,
            status_keeps=("ownerReferences", "deletionTimestamp", "deletionGracePeriodSeconds"),
            short=("po",),
            categories=("all",),
            fields=_PODS,
        ),
        _core("Node", "nodes", namespaced=False, subresources=_STATUS, short=("no",), fields=("spec.unschedulable",)),
        _core(
            "Namespace",
            "namespaces",
            namespaced=False,
            subresources=frozenset({"status", "finalize"}),
            short=("ns",),
            fields=("status.phase",),
        ),
        _core("ConfigMap", "configmaps", short=("cm",)),
        _core("Secret", "secrets", fields=("type",)),
        _core("Service", "services", subresources=_STATUS, returns_deleted=True, short=("svc",), categories=("all",)),
        _core("ServiceAccount", "serviceaccounts", returns_deleted=True, short=("sa",)),
        _core("Endpoints", "endpoints", short=("ep",)),
        _core(
            "ReplicationController",
            "replicationcontrollers",
            subresources=_STATUS_SCALE,
            generation=True,
            categories=("all",),
            short=("rc",),
        ),
        _core(
            "PersistentVolumeClaim",
            "persistentvolumeclaims",
            subresources=_STATUS,
            returns_deleted=True,
            short=("pvc",),
        ),
        _core(
            "PersistentVolume",
            "persistentvolumes",
            namespaced=False,
            subresources=_STATUS,
            returns_deleted=True,
            short=("pv",),
        ),
        _core("ResourceQuota", "resourcequotas", subresources=_STATUS, returns_deleted=True, short=("quota",)),
        _core("LimitRange", "limitranges", short=("limits",)),
        _core("PodTemplate", "podtemplates", returns_deleted=True),
        _apps("StatefulSet", "statefulsets", _STATUS_SCALE, short=("sts",), **workload),
        _apps("Deployment", "deployments", _STATUS_SCALE, short=("deploy",), status_keeps=("labels",), **workload),
        _apps("ReplicaSet", "replicasets", _STATUS_SCALE, short=("rs",), **workload),
        _apps("DaemonSet", "daemonsets", _STATUS, short=("ds",)),
        ResourceType("apps", ("v1",), "ControllerRevision", "controllerrevisions"),
        ResourceType(
            "batch",
            ("v1",),
            "Job",
            "jobs",
            subresources=_STATUS,
            generation=True,
            fields=("status.successful",),
            categories=("all",),
        ),
        ResourceType("coordination.k8s.io", ("v1",), "Lease", "leases", unconditional=False, made_by_put=True),
        ResourceType(
            "policy",
            ("v1",),
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            subresources=_STATUS,
            generation=True,
            short=("pdb",),
        ),
        ResourceType("storage.k8s.io", ("v1",), "StorageClass", "storageclasses", namespaced=False, short=("sc",)),
        ResourceType("scheduling.k8s.io", ("v1",), "PriorityClass", "priorityclasses", namespaced=False, short=("pc",)),
        *(
            ResourceType("rbac.authorization.k8s.io", ("v1",), kind, plural, namespaced=namespaced)
            for kind, plural, namespaced in (
                ("Role", "roles", True),
                ("RoleBinding", "rolebindings", True),
                ("ClusterRole", "clusterroles", False),
                ("ClusterRoleBinding", "clusterrolebindings", False),
            )
        ),
        *(
            ResourceType(
                "admissionregistration.k8s.io",
                ("v1",),
                kind,
                plural,
                namespaced=False,
                generation=True,
                categories=("api-extensions",),
            )
            for kind, plural in (
                ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
                ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
            )
        ),
        ResourceType(
            "apiextensions.k8s.io",
            ("v1",),
            "CustomResourceDefinition",
            "customresourcedefinitions",
            namespaced=False,
            subresources=_STATUS,
            generation=True,
            unconditional=False,
            short=("crd", "crds"),
            categories=("api-extensions",),
        ),
        ResourceType(
            "authentication.k8s.io", ("v1",), "TokenReview", "tokenreviews", namespaced=False, categories=("review",)
        ),
        ResourceType(
            "authentication.k8s.io",
            ("v1",),
            "SelfSubjectReview",
            "selfsubjectreviews",
            namespaced=False,
            categories=("review",),
        ),
        *(
            ResourceType("authorization.k8s.io", ("v1",), kind, plural, namespaced=False, categories=("review",))
            for kind, plural in (
                ("SubjectAccessReview", "subjectaccessreviews"),
                ("SelfSubjectAccessReview", "selfsubjectaccessreviews"),
            )
        ),
    ]


class Registry:
    """The resources that the server knows now."""

    def __init__(self, types: Iterable[ResourceType]) -> None:
        self._by_path: dict[tuple[str, str, str], ResourceType] = {}
        self._by_name: dict[str, ResourceType] = {}
        for one in types:
            self.add(one)

    def add(self, info: ResourceType) -> None:
        """Register *info*, replacing an older definition of the same name."""
        self.remove(info.name)
        self._by_name[info.name] = info
        for version in info.versions:
            self._by_path[info.group, version, info.plural] = info

    def remove(self, name: str) -> None:
        """Forget the resource *name* (``plural.group``), if it is known."""
        old = self._by_name.pop(name, None)
        if old is not None:
            for version in old.versions:
                self._by_path.pop((old.group, version, old.plural), None)

    def add_custom(
        self, resource: Resource[Any], *, status: bool = True, versions: tuple[str, ...] = ()
    ) -> ResourceType:
        """Register the custom *resource* without a schema: everything in it is kept. For tests of small things."""
        subresources = _STATUS if status else frozenset[str]()
        info = ResourceType(
            resource.group,
            versions or (resource.version,),
            resource.kind,
            resource.plural,
            resource.namespaced,
            subresources,
            custom=True,
            generation=True,
            unconditional=False,
        )
        self.add(info)
        return info

    def find(self, group: str, version: str, plural: str) -> ResourceType | None:
        """Return the resource at a path."""
        return self._by_path.get((group, version, plural))

    def named(self, name: str) -> ResourceType | None:
        """Return the resource called ``plural.group``."""
        return self._by_name.get(name)

    def stored(self, table: str) -> ResourceType | None:
        """Return the resource whose objects the store keeps under the name *table*."""
        return self._by_name.get(table) or next((r for r in self._by_name.values() if r.table == table), None)

    def sharing(self, info: ResourceType) -> list[ResourceType]:
        """Return *info* and every other resource that shows the same objects."""
        if not info.stored_as and not any(r.stored_as == info.table for r in self._by_name.values()):
            return [info]
        return [info, *(r for r in self._by_name.values() if r.table == info.table and r.name != info.name)]

    def of_kind(self, api_version: str, kind: str) -> ResourceType | None:
        """Return the resource whose objects have this kind, whatever the version."""
        group = api_version.rpartition("/")[0]
        return next((r for r in self._by_name.values() if r.kind == kind and r.group == group), None)

    def custom(self, group: str) -> bool:
        """Tell whether *group* has a custom kind."""
        return any(r.custom for r in self._by_name.values() if r.group == group)

    def groups(self) -> dict[str, list[str]]:
        """Return every group with its versions, the preferred one first."""
        groups: dict[str, list[str]] = {}
        for group, version, _plural in self._by_path:
            versions = groups.setdefault(group, [])
            if version not in versions:
                versions.append(version)
        return {g: sorted(v, key=version_priority) for g, v in sorted(groups.items())}

    def in_version(self, group: str, version: str) -> list[ResourceType]:
        """Return the resources that are served in one version, by name."""
        found = [r for (g, v, _), r in self._by_path.items() if (g, v) == (group, version)]
        return sorted(found, key=lambda r: r.plural)


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Order versions as Kubernetes does: v2, v1, v2beta1, v1beta2, v1alpha1, then anything else by name."""
    text = version[1:] if version.startswith("v") else ""
    for rank, stage in ((1, "beta"), (2, "alpha")):
        if stage in text:
            major, _, minor = text.partition(stage)
            if major.isdigit() and minor.isdigit():
                return rank, -int(major), -int(minor), version
    return (0, -int(text), 0, version) if text.isdigit() else (3, 0, 0, version)
