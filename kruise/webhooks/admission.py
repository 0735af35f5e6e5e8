"""Admission of the three kinds: the pure rules of ``kruise.apis`` as answers to reviews.

Purpose: for each kind one handler that fills in defaults and one that judges, under the paths of OpenKruise.

Guarantees:

* The rules are those of spec/broadcastjob 2, spec/advanced-statefulset 1.4 to 1.7 and spec/sidecarset 4, in both
  versions. Defaulting removes nothing but a status that somebody sends along (X35).
* What cannot be read is refused with 400 and the place; what breaks a rule with 422, every field path in it (WEB4);
  what is protected from deletion with 403. OpenKruise answers some of them with 500, which clients take for our fault.
* The author of a SidecarSet stands in its annotation :data:`AUTHOR_ANNOTATION`: whoever writes one can run code in
  other people's pods (reliability 8.4).

What this does not do: it reads nothing from the cluster; what a rule needs of it is asked of :class:`Known`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kruise.apis import broadcastjob_rules, sidecarset_rules, statefulset_rules
from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.apis.core import StorageClass
from kruise.apis.fielderrors import FieldError
from kruise.apis.sidecarset import SIDECARSETS
from kruise.apis.sidecarset_policy import SidecarPolicy
from kruise.apis.sidecarset_validation import Surroundings, validate_sidecarset
from kruise.apis.statefulset import STATEFULSETS
from kruise.apis.statefulset_validation import validate_delete, validate_statefulset, validate_update
from kruise.features import Gates
from kruise.runtime.errors import Cause
from kruise.runtime.objects import Resource
from kruise.runtime.webhook.admission import AdmissionRequest, Answer, Handler, allow, deny
from kruise.runtime.webhook.handlers import Defaulter, Finding, Validator, Warn
from kruise.runtime.webhook.server import WebhookServer

__all__ = ["AUTHOR_ANNOTATION", "KINDS", "Known", "mutating_path", "register", "validating_path"]

AUTHOR_ANNOTATION: Final = "apps.kruise.io/sidecarset-author"
"""The user who created a SidecarSet, or was the last one to change its spec."""
VERSIONS: Final = ("v1alpha1", "v1beta1")
KINDS: Final = (STATEFULSETS.kind, BROADCASTJOBS.kind, SIDECARSETS.kind)

JSON = dict[str, Any]


def mutating_path(resource: Resource[Any]) -> str:
    """Return where defaults of a kind are filled in.

    >>> mutating_path(BROADCASTJOBS)
    '/mutate-apps-kruise-io-broadcastjob'
    """
    return f"/mutate-{_words(resource)}"


def validating_path(resource: Resource[Any]) -> str:
    """Return where objects of a kind are judged.

    >>> validating_path(STATEFULSETS)
    '/validate-apps-kruise-io-statefulset'
    """
    return f"/validate-{_words(resource)}"


def _words(resource: Resource[Any]) -> str:
    return f"{resource.group.replace('.', '-')}-{resource.kind.lower()}"


@dataclass(frozen=True, slots=True)
class Known:
    """What admission asks of the rest of the process."""

    gates: Gates
    policy: SidecarPolicy
    surroundings: Callable[[], Surroundings]
    """What a SidecarSet is judged against. Raises NotReady."""
    doubts: Callable[[JSON, Surroundings], Awaitable[Surroundings]] | None = None
    """Asked before a SidecarSet is refused: adds what it names and the caches lack. Raises NotReady."""
    storage_classes: Callable[[], Sequence[StorageClass]] = tuple
    """Asked only with the gate StatefulSetAutoResizePVCGate. Raises NotReady."""
    protected: Callable[[AdmissionRequest], None] = lambda _: None
    """Told of each deletion that was refused."""


def register(server: WebhookServer, kinds: Collection[str], known: Known) -> None:
    """Serve the admission of those of *kinds* that are ours. Raises ConfigError when a path is taken."""
    handlers: dict[Resource[Any], tuple[Handler, Handler]] = {
        STATEFULSETS: (statefulset_defaults(known.gates), statefulset_rules_of(known)),
        BROADCASTJOBS: (broadcastjob_defaults(known.gates), broadcastjob_rules_of()),
        SIDECARSETS: (sidecarset_defaults(known.gates), sidecarset_rules_of(known)),
    }
    for resource, (mutating, validating) in handlers.items():
        if resource.kind in kinds:
            server.admission(mutating_path(resource), mutating)
            server.admission(validating_path(resource), validating)


def readable(problem: Callable[[Mapping[str, Any], str], str], handler: Handler) -> Handler:
    """Return *handler* for objects in which *problem* finds none; others are refused with 400."""

    def handle(request: AdmissionRequest) -> Answer | Awaitable[Answer]:
        if request.operation not in ("DELETE", "CONNECT"):
            version = request.kind.version
            why = (
                problem(request.parsed(), version)
                if version in VERSIONS
                else f"want the version {' or '.join(VERSIONS)}"
            )
            if why:
                name = f'{request.kind.kind} "{request.name}"'
                return deny(f"{name} cannot be read: {why}", code=400, reason="BadRequest")
        return handler(request)

    return handle


def causes(errors: Iterable[FieldError]) -> tuple[Cause, ...]:
    """Return *errors* as an answer has them: the path by itself, and what stands behind it."""
    return tuple(Cause(one.type.value, one.message.removeprefix(f"{one.field}: "), one.field) for one in errors)


# ---- BroadcastJob ----------------------------------------------------------------------------------------------------


def broadcastjob_defaults(gates: Gates) -> Handler:
    """Return the mutating handler of BroadcastJob (spec/broadcastjob 2.1)."""

    def default(obj: JSON, request: AdmissionRequest) -> JSON:
        return broadcastjob_rules.default_broadcastjob(obj, _old(request), **_template_gates(gates))

    return readable(broadcastjob_rules.decode_problem, Defaulter(default, removes=("/status",)))


def broadcastjob_rules_of() -> Handler:
    """Return the validating handler of BroadcastJob (2.3): no field is immutable, so updates are judged as creates."""

    def create(obj: JSON) -> Iterable[Finding]:
        return causes(broadcastjob_rules.validate_broadcastjob(obj))

    judge = Validator(dict, create=create, update=lambda new, _old: create(new))
    return readable(broadcastjob_rules.decode_problem, judge)


# ---- StatefulSet -----------------------------------------------------------------------------------------------------


def statefulset_defaults(gates: Gates) -> Handler:
    """Return the mutating handler of StatefulSet (spec/advanced-statefulset 1.4)."""

    def default(obj: JSON, request: AdmissionRequest) -> JSON:
        return statefulset_rules.default_statefulset(
            obj,
            _old(request),
            auto_delete_pvc=gates.enabled("StatefulSetAutoDeletePVC"),
            auto_resize_pvc=gates.enabled("StatefulSetAutoResizePVCGate"),
            **_template_gates(gates),
        )

    return readable(statefulset_rules.decode_problem, Defaulter(default, removes=("/status",)))


def statefulset_rules_of(known: Known) -> Handler:
    """Return the validating handler of StatefulSet (1.5 to 1.7)."""
    resize = known.gates.enabled("StatefulSetAutoResizePVCGate")
    protect = known.gates.enabled("ResourcesDeletionProtection")

    def create(obj: JSON) -> Iterable[Finding]:
        return causes(validate_statefulset(obj))

    def update(new: JSON, old: JSON) -> Iterable[Finding]:
        classes = known.storage_classes() if resize else ()
        return causes(validate_update(new, old, classes, resize_claims=resize))

    judge = readable(statefulset_rules.decode_problem, Validator(dict, create=create, update=update))

    def handle(request: AdmissionRequest) -> Answer | Awaitable[Answer]:
        if request.operation != "DELETE":
            return judge(request)
        errors = validate_delete(request.parsed_old(), enabled=True) if protect else []
        if not errors:
            return allow()
        known.protected(request)
        return deny("; ".join(map(str, errors)), causes=causes(errors))

    return handle


# ---- SidecarSet ------------------------------------------------------------------------------------------------------


def sidecarset_defaults(gates: Gates) -> Handler:
    """Return the mutating handler of SidecarSet (spec/sidecarset 4.1)."""
    complete = not gates.enabled("TemplateNoDefaults")

    def default(obj: JSON, request: AdmissionRequest) -> JSON:
        return _signed(sidecarset_rules.default_sidecarset(obj, template_defaults=complete), _old(request), request)

    return readable(sidecarset_rules.decode_problem, Defaulter(default))


def _signed(obj: JSON, old: Mapping[str, Any] | None, request: AdmissionRequest) -> JSON:
    """Put down who wrote the spec: an update that leaves it as it was keeps the author of before."""
    author = request.user_info.username
    if old is not None and old.get("spec") == obj.get("spec"):
        author = ((old.get("metadata") or {}).get("annotations") or {}).get(AUTHOR_ANNOTATION) or author
    if author:
        obj["metadata"]["annotations"][AUTHOR_ANNOTATION] = author
    return obj


def sidecarset_rules_of(known: Known) -> Handler:
    """Return the validating handler of SidecarSet (4.2 to 4.4, reliability 8.4)."""

    def judged(request: AdmissionRequest, around: Surroundings) -> Answer:
        def judge(new: JSON, old: JSON | None) -> Iterable[Finding]:
            verdict = known.policy.judge(new)
            return (*causes([*validate_sidecarset(new, old, around), *verdict.errors]), *map(Warn, verdict.warnings))

        return Validator(dict, create=lambda new: judge(new, None), update=judge)(request)

    async def again(request: AdmissionRequest, around: Surroundings, refusal: Answer) -> Answer:
        assert known.doubts is not None
        fuller = await known.doubts(request.parsed(), around)
        return refusal if fuller is around else judged(request, fuller)

    def handle(request: AdmissionRequest) -> Answer | Awaitable[Answer]:
        if request.operation not in ("CREATE", "UPDATE"):
            return allow()
        around = known.surroundings()
        answer = judged(request, around)
        return answer if answer.allowed or known.doubts is None else again(request, around, answer)

    return readable(sidecarset_rules.decode_problem, handle)


# ---- common ----------------------------------------------------------------------------------------------------------


def _old(request: AdmissionRequest) -> JSON | None:
    """Return the stored object of an update; None at creation, and where what is stored cannot be compared."""
    old = request.parsed_old() if request.operation == "UPDATE" else None
    return old if old is None or isinstance(old.get("spec", {}), dict) else None


def _template_gates(gates: Gates) -> dict[str, bool]:
    return {
        "template_defaults": not gates.enabled("TemplateNoDefaults"),
        "host_ports": gates.enabled("DefaultHostNetworkHostPortsInPodTemplates"),
    }
