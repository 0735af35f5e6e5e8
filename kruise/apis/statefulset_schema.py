"""What the CustomResourceDefinition of Advanced StatefulSet says beside its types: texts, limits, defaults, rules.

Purpose: the table from which ``config/crd`` is generated. To add a field, add it to the struct and here.

Guarantees (ecosystem 5.1, reliability 8.7):

* A set that OpenKruise's admission accepts is accepted, within bounds that no reasonable set reaches; what it refuses
  and a rule can see is refused here as well, without any webhook, in its words.
* No default inside the pod template: a default in there would show as a change to whoever compares manifests.
* The default of an absent ``updateStrategy`` is the whole object. A given one is not completed inside: a default of
  ``rollingUpdate`` by itself would make ``OnDelete`` impossible.
* A status needs no field, so a manifest with an old or half a status is never refused.

What this does not do: the readiness gate that an update in place needs, the syntax of labels and the spec of the pods
are for ``statefulset_validation``.
"""

from __future__ import annotations

from typing import Final

from kruise.apis.schema import Column, Doc, KindDoc, Rule, Scale, TypeDoc, VersionDoc
from kruise.apis.statefulset import (
    DELETE,
    ON_DELETE,
    ON_POD_ROLLING_UPDATE,
    ORDERED_READY,
    PARALLEL,
    RECREATE,
    RETAIN,
    ROLLING_UPDATE,
    LabelRequirement,
    LabelSelector,
    Ordinals,
    RetentionPolicy,
    ScaleStrategy,
    StatefulSet,
    StatefulSetSpec,
    VolumeClaimUpdateStrategy,
)
from kruise.apis.statefulset_rules import ONLY_IN_V1BETA1
from kruise.apis.statefulset_schema_pods import POD_TYPES, TEMPLATE
from kruise.apis.statefulset_schema_status import STATUS_TYPES
from kruise.apis.statefulset_schema_words import INT32, ONE_BY_ONE, WORD, budget, labels_of

__all__ = ["STATEFULSET"]


# ---- selectors -------------------------------------------------------------------------------------------------------

_REQUIREMENT: Final = TypeDoc(
    text="A comparison of the value of one label.",
    rules=(
        Rule(
            cel="!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
            message="must be specified when `operator` is 'In' or 'NotIn'",
            path=".values",
        ),
        Rule(
            cel="!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",
            message="may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            path=".values",
        ),
    ),
    fields={
        "key": Doc(text="The key of the label.", required=True, max_length=317),
        "operator": Doc(
            text="In, NotIn, Exists or DoesNotExist.",
            required=True,
            max_length=WORD,
            enum=("In", "NotIn", "Exists", "DoesNotExist"),
        ),
        "values": Doc(
            text="What the value may be (In) or may not be (NotIn). Empty for Exists and DoesNotExist.",
            max_items=64,
            values=Doc(text="A value of the label.", max_length=63),
        ),
    },
)
_SELECTOR: Final = TypeDoc(
    text="Which labels a pod must have. All requirements must hold.",
    fields={
        "matchLabels": labels_of("Labels and the values that they must have."),
        "matchExpressions": Doc(text="Comparisons of the values of labels.", max_items=64),
    },
)
_NOT_EMPTY: Final = Rule(
    cel=(
        "(has(self.matchLabels) && size(self.matchLabels) > 0) || "
        "(has(self.matchExpressions) && size(self.matchExpressions) > 0)"
    ),
    message="empty selector is invalid for statefulset",
)

# ---- the spec --------------------------------------------------------------------------------------------------------


def _either(field: str, otherwise: str) -> str:
    return " == ".join(f"(has({one}.{field}) ? {one}.{field} : {otherwise})" for one in ("self", "oldSelf"))


_IMMUTABLE: Final = "field is immutable"
_SAME_SELECTOR: Final = Rule(
    cel=f"({_either('selector.matchLabels', '{}')}) && ({_either('selector.matchExpressions', '[]')})",
    message=_IMMUTABLE,
    path=".selector",
)
_SAME_SERVICE: Final = Rule(cel=_either("serviceName", "''"), message=_IMMUTABLE, path=".serviceName")
_SAME_MANAGEMENT: Final = Rule(
    cel=_either("podManagementPolicy", f"'{ORDERED_READY}'"), message=_IMMUTABLE, path=".podManagementPolicy"
)

_LABELS: Final = "self.template.metadata.labels"
_SELECTS_ITSELF: Final = Rule(
    # The list of one names the labels of the template; an absent map selects nothing but what asks for nothing.
    cel=(
        f"[has(self.template.metadata) && has({_LABELS}) ? {_LABELS} : {{}}].all(found, "
        "(!has(self.selector.matchLabels) || self.selector.matchLabels.all(k, "
        "k in found && found[k] == self.selector.matchLabels[k])) && "
        "(!has(self.selector.matchExpressions) || self.selector.matchExpressions.all(e, "
        "e.operator == 'In' ? e.key in found && has(e.values) && found[e.key] in e.values : "
        "e.operator == 'NotIn' ? !(e.key in found && has(e.values) && found[e.key] in e.values) : "
        "e.operator == 'Exists' ? e.key in found : !(e.key in found))))"
    ),
    message="`selector` does not match template `labels`",
    path=".template.metadata.labels",
)

_PARALLEL_ONLY: Final = tuple(
    Rule(
        cel=(
            f"(has(self.podManagementPolicy) && self.podManagementPolicy == '{PARALLEL}') || "
            + " || ".join(f"!has(self.{part})" for part in parts)
            + test.format(parts[-1])
        ),
        message=message,
        path=f".{parts[-1]}",
    )
    for parts, test, message in (
        (
            (
                "updateStrategy",
                "updateStrategy.rollingUpdate",
                "updateStrategy.rollingUpdate.maxUnavailable",
            ),
            " || self.{} == 1",
            ONE_BY_ONE,
        ),
        (("scaleStrategy", "scaleStrategy.maxUnavailable"), " || self.{} == 1", ONE_BY_ONE),
        (
            (
                "updateStrategy",
                "updateStrategy.rollingUpdate",
                "updateStrategy.rollingUpdate.unorderedUpdate",
            ),
            "",
            "unorderedUpdate can only work with Parallel PodManagementPolicyType",
        ),
    )
)

_SPEC: Final = TypeDoc(
    text="How many pods, from which template, with which claims, and how they are updated.",
    rules=(_SAME_SELECTOR, _SAME_SERVICE, _SAME_MANAGEMENT, _SELECTS_ITSELF, *_PARALLEL_ONLY),
    fields={
        "replicas": Doc(
            text="How many pods there should be; reserved ordinals do not count. Defaults to 1.",
            default=1,
            format="int32",
            minimum=0,
            maximum=100_000,
        ),
        "selector": Doc(
            text="Which pods belong to the set. It must match the labels of the template, and cannot be changed.",
            required=True,
            rules=(_NOT_EMPTY,),
        ),
        "template": TEMPLATE,
        "volumeClaimTemplates": Doc(
            text=(
                "The claims of every pod. Pod web-3 of a template named data gets the claim data-web-3, and keeps it "
                "when it is replaced. A claim that exists is used as it is; see volumeClaimUpdateStrategy. Defaults to "
                "none."
            ),
            type="array",
            max_items=32,
            values=Doc(text="A PersistentVolumeClaim; its name goes before that of the pod.", type="object", open=True),
        ),
        "volumeClaimUpdateStrategy": Doc(
            text="What a new size in a claim template means for the claims that exist. Defaults to OnDelete."
        ),
        "serviceName": Doc(
            text=(
                "The name of the headless Service that gives the pods their host names: pod.service.namespace. It must "
                "exist before, and cannot be changed. Defaults to none."
            ),
            max_length=WORD,
        ),
        "podManagementPolicy": Doc(
            text=(
                "OrderedReady: pods are created one after the other, each when the one before is ready, and deleted in "
                "the opposite order. Parallel: all at once. It cannot be changed. Defaults to OrderedReady."
            ),
            default=ORDERED_READY,
            max_length=WORD,
            enum=(ORDERED_READY, PARALLEL),
        ),
        "updateStrategy": Doc(
            text="How a new template reaches the pods. Defaults to a rolling update, one pod at a time.",
            default={
                "type": ROLLING_UPDATE,
                "rollingUpdate": {"partition": 0, "maxUnavailable": 1, "podUpdatePolicy": RECREATE},
            },
        ),
        "revisionHistoryLimit": Doc(
            text="How many old templates are kept as ControllerRevisions, for a rollback. Defaults to 10.",
            default=10,
            format="int32",
            maximum=INT32,
        ),
        "reserveOrdinals": Doc(
            text=(
                "Ordinals that no pod may have: numbers, or ranges such as 3-7 with both ends. The pod of a reserved "
                "ordinal is deleted, and one with a free ordinal takes its place. Defaults to none."
            ),
            max_items=10_000,
            values=Doc(
                text="An ordinal such as 3, or a range such as 3-7.",
                # Eighteen digits always fit 64 bits, so that the rule below can read them.
                pattern="^[0-9]{1,18}-[0-9]{1,18}$",
                max_length=37,
                rules=(
                    Rule(
                        cel=f"type(self) != int || (self >= 0 && self <= {INT32})",
                        message=f"an ordinal must be from 0 to {INT32}",
                    ),
                    Rule(
                        cel=(
                            "type(self) == int || !self.matches('^[0-9]{1,18}-[0-9]{1,18}$') || "
                            "int(self.split('-')[0]) <= int(self.split('-')[1])"
                        ),
                        message="a range must not end before it begins",
                    ),
                ),
            ),
        ),
        "lifecycle": Doc(
            text=(
                "Hooks by which others hold a pod before it is deleted, before and after it is updated in place, and "
                "before it counts as normal. Defaults to none."
            )
        ),
        "scaleStrategy": Doc(text="How fast Parallel pods are created. Defaults to all at once."),
        "persistentVolumeClaimRetentionPolicy": Doc(
            text="What becomes of claims when their pods or the set go. Defaults to keeping them."
        ),
        "ordinals": Doc(
            text="Where the ordinals begin. Read only with the feature gate StatefulSetStartOrdinal. Defaults to 0."
        ),
    },
)

_CLAIM_UPDATES: Final = TypeDoc(
    text="What a new size in a claim template means for the claims that exist.",
    fields={
        "type": Doc(
            text=(
                f"{ON_DELETE}: nothing, until claim and pod are deleted. {ON_POD_ROLLING_UPDATE}: claims grow as their "
                "pods are rolled; needs the feature gate StatefulSetAutoResizePVCGate and a storage class that can. "
                f"Defaults to {ON_DELETE}."
            ),
            max_length=WORD,
        )
    },
)
_SCALE_STRATEGY: Final = TypeDoc(
    text="How fast Parallel pods are created.",
    fields={
        "maxUnavailable": budget(
            "How many pods may be unavailable while the set grows: a number, or a percentage of replicas that is "
            "rounded down, and at least 1. Defaults to no limit."
        )
    },
)
_KEPT: Final = (RETAIN, DELETE)
_RETENTION: Final = TypeDoc(
    text="What becomes of claims when their pods or the set go.",
    fields={
        "whenDeleted": Doc(
            text="Retain or Delete the claims when the set is deleted. Defaults to Retain.", max_length=WORD, enum=_KEPT
        ),
        "whenScaled": Doc(
            text="Retain or Delete the claims of the pods that a smaller set does without. Defaults to Retain.",
            max_length=WORD,
            enum=_KEPT,
        ),
    },
)
_ORDINALS: Final = TypeDoc(
    text="Where the ordinals begin.",
    fields={"start": Doc(text="The first ordinal. Defaults to 0.", format="int32", minimum=0, maximum=INT32)},
)

# ---- the kind --------------------------------------------------------------------------------------------------------

_NAME: Final = tuple(
    rule
    for field, given, end in (
        ("name", "", "[a-z0-9]"),
        ("generateName", "!has(self.metadata.generateName) || ", "[-a-z0-9]"),
    )
    for rule in (
        Rule(
            cel=f"{given}self.metadata.{field}.matches('^[a-z0-9]([-a-z0-9]*{end})?$')",
            message=(
                f"the {field} of a StatefulSet consists of lower-case letters, digits and '-': it becomes a part of "
                "host names"
            ),
            path=f".metadata.{field}",
        ),
        Rule(
            cel=f"{given}size(self.metadata.{field}) <= 63",
            message=f"the {field} of a StatefulSet must be no more than 63 characters: it becomes a part of host names",
            path=f".metadata.{field}",
        ),
    )
)

_SET: Final = TypeDoc(
    text=(
        "An Advanced StatefulSet: pods with an identity, as of a StatefulSet of apps/v1, that can be updated in place, "
        "several at a time and in an order of your choice."
    ),
    rules=_NAME,
    fields={
        "apiVersion": Doc(text="The version of the schema of this object, with its group.", max_length=WORD),
        "kind": Doc(text="The kind of this object.", max_length=WORD),
        "metadata": Doc(
            text="Name, namespace, labels and annotations.",
            # Named here so that a rule can blame them; the length of a name is for its rule to say.
            properties={
                "name": Doc(
                    text="A DNS label, at most 52 characters in practice: revisions and host names are made of it.",
                    type="string",
                    max_length=WORD,
                ),
                "generateName": Doc(
                    text="The beginning of a name that the API server completes.", type="string", max_length=WORD
                ),
            },
        ),
        "spec": Doc(
            text="How many pods, from which template, with which claims, and how they are updated.", required=True
        ),
        "status": Doc(text="What was reached. Written by the controller alone."),
    },
)

STATEFULSET: Final = KindDoc(
    singular="statefulset",
    short_names=("sts", "asts"),
    categories=("kruise",),
    versions=(
        VersionDoc(
            name="v1alpha1",
            deprecation="apps.kruise.io/v1alpha1 StatefulSet is deprecated; use apps.kruise.io/v1beta1 StatefulSet",
            without=ONLY_IN_V1BETA1,
        ),
        VersionDoc(name="v1beta1", storage=True),
    ),
    # Names, types and order are OpenKruise's, byte for byte: scripts cut columns.
    columns=(
        Column("DESIRED", "integer", ".spec.replicas", "How many pods there should be."),
        Column("CURRENT", "integer", ".status.replicas", "How many pods there are."),
        Column("UPDATED", "integer", ".status.updatedReplicas", "How many pods have the present template."),
        Column("READY", "integer", ".status.readyReplicas", "How many pods are ready."),
        Column("AGE", "date", ".metadata.creationTimestamp", "Time since the set was created."),
        Column("CONTAINERS", "string", ".spec.template.spec.containers[*].name", "The containers of a pod.", 1),
        Column("IMAGES", "string", ".spec.template.spec.containers[*].image", "The images of the containers.", 1),
    ),
    scale=Scale(wanted=".spec.replicas", found=".status.replicas", selector=".status.labelSelector"),
    types={
        StatefulSet: _SET,
        StatefulSetSpec: _SPEC,
        LabelSelector: _SELECTOR,
        LabelRequirement: _REQUIREMENT,
        VolumeClaimUpdateStrategy: _CLAIM_UPDATES,
        ScaleStrategy: _SCALE_STRATEGY,
        RetentionPolicy: _RETENTION,
        Ordinals: _ORDINALS,
        **POD_TYPES,
        **STATUS_TYPES,
    },
)
"""Everything about the kind that its types do not say."""
