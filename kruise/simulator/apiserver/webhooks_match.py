"""Which webhooks a request concerns.

Purpose: the webhooks of all configurations in the order in which they are called, and for each the question whether it
is meant: rules, selectors, ``matchPolicy`` and ``matchConditions``.

Guarantees:

* TST1: configurations by name, webhooks in the order of their configuration. A rule names groups, versions, resources,
  subresources, operations and a scope, each perhaps ``*``; with Equivalent it also matches another version of the same
  resource, in which the webhook then sees the object. A namespace is selected by its own labels, an object by the
  labels of its new or its old state, and no cluster-scoped object is exempt by a namespace selector.
* Conditions need the optional extra ``cel``. Without it a condition counts as true, so that the webhook is called and
  nothing slips past it, and a warning says so.

What this does not do: conditions have no ``authorizer``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kruise.apis.fielderrors import go_quote
from kruise.apis.selectors import Selector, convert
from kruise.simulator.apiserver import rules as cel_rules
from kruise.simulator.apiserver.failure import Failure, forbidden
from kruise.simulator.apiserver.webhooks import Target, target_of

Body = dict[str, Any]

SKIPPED: Final = (
    "matchConditions were not evaluated: install the extra `cel` (common-expression-language); they count as true"
)


@dataclass(frozen=True, slots=True)
class Place:
    """A kind and its resource in one version."""

    group: str
    version: str
    kind: str
    plural: str

    def gvk(self) -> Body:
        """``metav1.GroupVersionKind``."""
        return {"group": self.group, "version": self.version, "kind": self.kind}

    def gvr(self) -> Body:
        """``metav1.GroupVersionResource``."""
        return {"group": self.group, "version": self.version, "resource": self.plural}


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks to be let do: the attributes of an admission, without its objects."""

    operation: str
    place: Place
    subresource: str
    namespace: str
    name: str
    options: Body
    user: Body
    dry_run: bool
    own: Body | None = None
    """The kind of the object where the subresource has its own, such as Scale."""

    def gvk_at(self, place: Place) -> Body:
        """Return the kind that a webhook for *place* sees."""
        return self.own if self.own is not None else place.gvk()


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook of a configuration."""

    configuration: str
    uid: str
    name: str
    target: Target
    rules: tuple[Body, ...]
    fails: bool
    equivalent: bool
    namespaces: Selector
    objects: Selector
    conditions: tuple[Body, ...]
    quiet: bool
    """Whether it has no side effects in a dry run."""
    seconds: float
    versions: tuple[str, ...]
    again: bool
    """Whether it is called once more when a later one has changed the object."""


def hooks_of(configurations: Iterable[Body]) -> tuple[Hook, ...]:
    """Return the webhooks of *configurations* in the order in which they are called."""
    found: list[Hook] = []
    for one in sorted(configurations, key=lambda c: str(c["metadata"]["name"])):
        counts: dict[str, int] = {}
        for hook in one.get("webhooks") or ():
            name = hook["name"]
            number = counts.get(name, 0)
            counts[name] = number + 1
            found.append(_hook(one["metadata"]["name"], number, hook))
    return tuple(found)


def _hook(configuration: str, number: int, hook: Body) -> Hook:
    return Hook(
        configuration,
        f"{configuration}/{hook['name']}/{number}",
        hook["name"],
        target_of(hook["clientConfig"]),
        tuple(hook.get("rules") or ()),
        hook.get("failurePolicy") != "Ignore",
        hook.get("matchPolicy") != "Exact",
        convert(hook.get("namespaceSelector") or {}),
        convert(hook.get("objectSelector") or {}),
        tuple(hook.get("matchConditions") or ()),
        hook.get("sideEffects") in ("None", "NoneOnDryRun"),
        float(hook.get("timeoutSeconds") or 10),
        tuple(hook.get("admissionReviewVersions") or ()),
        hook.get("reinvocationPolicy") == "IfNeeded",
    )


def place_for(hook: Hook, question: Question, equivalents: Sequence[Place]) -> Place | None:
    """Return in which version *hook* is concerned by its rules; ``None`` when it is not."""
    if any(_matches(rule, question, question.place) for rule in hook.rules):
        return question.place
    if hook.equivalent:
        for rule in hook.rules:
            for place in equivalents:
                if place != question.place and _matches(rule, question, place):
                    return place
    return None


def _matches(rule: Body, question: Question, place: Place) -> bool:
    return (
        _scope(rule.get("scope", "*"), question, place)
        and _listed(rule.get("operations"), question.operation)
        and _listed(rule.get("apiGroups"), place.group)
        and _listed(rule.get("apiVersions"), place.version)
        and any(_resource(text, place.plural, question.subresource) for text in rule.get("resources") or ())
    )


def _scope(scope: str, question: Question, place: Place) -> bool:
    if scope == "*":
        return True
    namespaced = bool(question.namespace) and (place.group, place.plural) != ("", "namespaces")
    return namespaced is (scope == "Namespaced")


def _listed(items: Sequence[str] | None, wanted: str) -> bool:
    return any(item in ("*", wanted) for item in items or ())


def _resource(text: str, plural: str, subresource: str) -> bool:
    resource, _, sub = text.partition("/")
    return resource in ("*", plural) and sub in ("*", subresource)


def selected(
    hook: Hook, question: Question, obj: Body | None, old: Body | None, labels_of: Callable[[str], Mapping[str, str]]
) -> bool:
    """Tell whether both selectors of *hook* match; *labels_of* gives the labels of a namespace."""
    return _in_namespace(hook, question, obj, labels_of) and _object(hook, obj, old)


def _in_namespace(
    hook: Hook, question: Question, obj: Body | None, labels_of: Callable[[str], Mapping[str, str]]
) -> bool:
    itself = question.place.plural == "namespaces"
    if (not question.namespace and not itself) or hook.namespaces.empty:
        return True
    if itself and not question.subresource and obj is not None:
        return hook.namespaces.matches(_labels(obj))
    return hook.namespaces.matches(labels_of(question.namespace or question.name))


def _object(hook: Hook, obj: Body | None, old: Body | None) -> bool:
    if hook.objects.empty:
        return True
    return any(hook.objects.matches(_labels(one)) for one in (obj, old) if one is not None)


def _labels(obj: Body) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}


def conditions_hold(hook: Hook, question: Question, variables: Body, tell: Callable[[str], None]) -> bool:
    """Tell whether the conditions of *hook* let it be called. Raises Failure 403 when they cannot be evaluated."""
    problems: list[str] = []
    for condition in hook.conditions:
        expression = condition["expression"].strip()
        found = cel_rules.evaluate(expression, variables)
        if found is None:
            tell(SKIPPED)
            return True
        if found is False:
            return False
        if isinstance(found, str):
            problems.append(f"expression '{expression}' resulted in error: {found}")
    if not problems:
        return True
    if not hook.fails:
        return False
    listed = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
    place = question.place
    raise forbidden(place.plural, place.group, question.name, listed)


def denied(hook: Hook, result: Any) -> Failure:
    """Return the refusal that *hook* has answered; *result* is the ``status`` of its answer."""
    result = result if isinstance(result, dict) else {}
    by = f"admission webhook {go_quote(hook.name)} denied the request"
    message, reason = result.get("message") or "", result.get("reason") or ""
    text = f"{by}: {message or reason}" if message or reason else f"{by} without explanation"
    code = result.get("code")
    code = code if isinstance(code, int) and code >= 400 else 400
    status = result.get("status")
    refusal = Failure(code, reason, text, details=_details(result.get("details")))
    refusal.state = status if isinstance(status, str) and status not in ("", "Success") else "Failure"
    return refusal


def _details(given: Any) -> Body:
    """Return the details of a Status as the server would encode them again."""
    if not isinstance(given, dict):
        return {}
    kept: Body = {n: given[n] for n in ("name", "group", "kind", "uid") if isinstance(given.get(n), str) and given[n]}
    causes = [
        {n: cause[n] for n in ("reason", "message", "field") if isinstance(cause.get(n), str) and cause[n]}
        for cause in given.get("causes") or ()
        if isinstance(cause, dict)
    ]
    if causes:
        kept["causes"] = causes
    if isinstance(given.get("retryAfterSeconds"), int) and given["retryAfterSeconds"]:
        kept["retryAfterSeconds"] = given["retryAfterSeconds"]
    return kept
