"""What the CustomResourceDefinition of SidecarSet says beside its types: texts, limits, defaults, rules.

Purpose: the table from which ``config/crd`` is generated. To add a field, add it to the struct and here.

Guarantees (ecosystem 5.1, reliability 8.7):

* A set that OpenKruise's admission accepts is accepted, within bounds that no reasonable set reaches; what it refuses
  and a rule can see is refused here as well, without any webhook, in its words.
* Inside containers there is one default, that of OpenKruise's own schema: any other would change hashes, or show as a
  change to whoever compares manifests.
* Containers are a map by their names: they are unique, server-side apply merges them, and a rule sees each before and
  after a change.
* A status needs no field, so a manifest with an old or half a status is never refused.

What this does not do: what belongs to the core API in containers and volumes, expressions, annotations that only an
administrator may allow, and conflicts with other sets are for ``sidecarset_validation``.
"""

from __future__ import annotations

from typing import Final

from kruise.apis.schema import Column, Doc, KindDoc, Rule, TypeDoc, VersionDoc
from kruise.apis.sidecarset import (
    CUSTOM_VERSION_LABEL,
    DEFAULT_HISTORY_LIMIT,
    POLICY_ALWAYS,
    POLICY_PARTIAL,
    RESTART_ALWAYS,
    ROLLING_UPDATE,
    InjectionRevision,
    InjectionStrategy,
    ScatterTerm,
    SecretReference,
    SidecarSet,
    SidecarSetSpec,
    SidecarSetUpdateStrategy,
)
from kruise.apis.sidecarset_rules import ONLY_IN_V1BETA1
from kruise.apis.sidecarset_schema_pods import CONTAINERS, INIT_CONTAINERS, SIDECAR_TYPES
from kruise.apis.sidecarset_schema_status import STATUS_TYPES
from kruise.apis.sidecarset_schema_words import INT32, WORD, amount, not_empty
from kruise.apis.statefulset import LabelRequirement, LabelSelector, OrderPriority, PriorityStrategy, WeightPriority
from kruise.apis.statefulset_schema import STATEFULSET

__all__ = ["SIDECARSET"]

_EMPTY_SELECTOR: Final = "empty selector is not valid for sidecarset."
_OTHER_TYPE: Final = f"has(self.type) && self.type != '{ROLLING_UPDATE}'"

# ---- the spec --------------------------------------------------------------------------------------------------------

_SOME_CONTAINER: Final = Rule(
    cel=(
        "(has(self.containers) && size(self.containers) > 0) || "
        "(has(self.initContainers) && size(self.initContainers) > 0)"
    ),
    message="no initContainer or container defined for SidecarSet",
)
_ONE_NAME: Final = Rule(
    cel=(
        "!has(self.initContainers) || !has(self.containers) || "
        "self.initContainers.all(i, !self.containers.exists(c, c.name == i.name))"
    ),
    message="a name may stand in one of initContainers and containers only: a pod has it once",
    path=".initContainers",
)
_NATIVE_STAYS: Final = Rule(
    cel=(
        f"!has(self.initContainers) || !self.initContainers.exists(c, has(c.restartPolicy) && c.restartPolicy == "
        f"'{RESTART_ALWAYS}') || (has(self.updateStrategy) && has(self.updateStrategy.type) && "
        f"self.updateStrategy.type != '{ROLLING_UPDATE}')"
    ),
    message="The initContainer in-place upgrade is not currently supported.",
    path=".updateStrategy",
)
_NONE_ADDED: Final = Rule(
    cel=(
        "!has(self.containers) || self.containers.all(c, has(oldSelf.containers) && "
        "oldSelf.containers.exists(o, o.name == c.name))"
    ),
    message="containers can be removed, not added or renamed: pods that have the set could not follow",
    path=".containers",
)

_SPEC: Final = TypeDoc(
    text="Which pods get which containers, and how those that have them are upgraded.",
    rules=(_SOME_CONTAINER, _ONE_NAME, _NATIVE_STAYS, _NONE_ADDED),
    fields={
        "selector": Doc(
            text="Which pods get the containers, by their labels. It must not be empty.",
            required=True,
            rules=(not_empty("self", _EMPTY_SELECTOR),),
        ),
        "namespaceSelector": Doc(
            text=(
                "In which namespaces, by their labels; kubernetes.io/metadata.name is the name of one. It must not be "
                "empty. Defaults to all."
            ),
            rules=(not_empty("self", _EMPTY_SELECTOR),),
        ),
        "initContainers": INIT_CONTAINERS,
        "containers": CONTAINERS,
        "volumes": Doc(
            text=(
                "Volumes that the containers mount. A pod gets those that are mounted and that it does not have. "
                "Defaults to none."
            ),
            type="array",
            max_items=256,
            values=Doc(text="A volume, as in any pod.", type="object", open=True),
        ),
        "imagePullSecrets": Doc(
            text="Secrets that pods need to pull the images; added to those that they have. Defaults to none.",
            max_items=64,
        ),
        "updateStrategy": Doc(
            text="How a new image reaches the pods that have the containers. Defaults to one pod at a time.", default={}
        ),
        "injectionStrategy": Doc(text="What new pods get. Defaults to the present containers."),
        "revisionHistoryLimit": Doc(
            text="How many old revisions are kept as ControllerRevisions, at least 1. Defaults to 10.",
            default=DEFAULT_HISTORY_LIMIT,
            format="int32",
            maximum=INT32,
        ),
        "patchPodMetadata": Doc(
            text=(
                "Annotations for the pods. An administrator allows them, in the ConfigMap kruise-configuration. A key "
                "may stand in one entry only. Defaults to none."
            ),
            max_items=64,
            rules=(
                Rule(
                    cel="self.all(a, a.annotations.all(k, self.exists_one(b, k in b.annotations)))",
                    message="a key may stand in one entry only",
                ),
            ),
        ),
        "customVersion": Doc(
            text=(
                "A name of yours for this revision, by which injectionStrategy can ask for it later. It becomes a "
                "label of the revision. Defaults to none."
            ),
            max_length=63,
        ),
    },
)

# ---- strategies ------------------------------------------------------------------------------------------------------

_UPDATE_STRATEGY: Final = TypeDoc(
    text="How a new image reaches the pods that have the containers.",
    rules=(
        Rule(
            cel=f"({_OTHER_TYPE}) || !has(self.selector) || !has(self.partition) || self.partition == 0",
            message="Partition and Selector cannot be used together",
        ),
        Rule(
            cel=f"({_OTHER_TYPE}) || !has(self.selector) || {not_empty('self.selector', '').cel}",
            message=_EMPTY_SELECTOR,
            path=".selector",
        ),
    ),
    fields={
        "type": Doc(
            text=(
                "RollingUpdate: images are changed in the pods, a few at a time. NotUpdate: pods keep what they have. "
                "Any other value means RollingUpdate. Defaults to RollingUpdate."
            ),
            default=ROLLING_UPDATE,
            max_length=WORD,
        ),
        "paused": Doc(text="No pod is upgraded while this is true. New pods get the containers. Defaults to false."),
        "selector": Doc(text="Only pods with these labels are upgraded. Not together with partition. Defaults to all."),
        "partition": amount(
            "How many pods keep what they have: a number, or a percentage that is rounded up. Defaults to 0.", 0
        ),
        "maxUnavailable": amount(
            "How many upgraded pods may be unavailable at once: a number, or a percentage of the pods that is rounded "
            "up. With 0 only pods that are not ready are upgraded. Defaults to 1.",
            1,
        ),
        "priorityStrategy": Doc(text="Which pods are upgraded first. Defaults to those that serve least."),
        "scatterStrategy": Doc(
            text="Labels whose pods are spread over the upgrade instead of following each other. Defaults to none.",
            max_items=64,
            rules=(
                Rule(
                    cel="self.all(a, self.exists_one(b, a.key == b.key && a.value == b.value))",
                    message="a key with a value may stand here once",
                ),
            ),
        ),
    },
)
_SCATTER: Final = TypeDoc(
    text="Pods with this label are spread.",
    fields={
        "key": Doc(
            text="The key of the label.",
            required=True,
            max_length=317,
            rules=(Rule(cel="self != ''", message="key should not be empty"),),
        ),
        "value": Doc(text="Its value; * stands for each value that occurs.", required=True, max_length=63),
    },
)
_INJECTION: Final = TypeDoc(
    text="What new pods get.",
    fields={
        "paused": Doc(
            text="New pods get nothing while this is true; those that have containers are upgraded. Defaults to false."
        ),
        "revision": Doc(text="An older revision for new pods, by one of two names. Defaults to the present one."),
    },
)
_REVISION: Final = TypeDoc(
    text="An older revision, by one of two names.",
    rules=(
        Rule(
            cel="has(self.revisionName) || has(self.customVersion)",
            message="revisionName and customVersion cannot be empty simultaneously",
        ),
    ),
    fields={
        "customVersion": Doc(
            text="The customVersion that the set had then; the newest revision with it counts. Defaults to none.",
            max_length=63,
        ),
        "revisionName": Doc(
            text="The name of the ControllerRevision; it goes before customVersion. Defaults to none.", max_length=WORD
        ),
        "policy": Doc(
            text=(
                "Always: every new pod gets the revision. Partial: pods outside updateStrategy.selector do, and the "
                "share of a percentage in updateStrategy.partition. Defaults to Always."
            ),
            default=POLICY_ALWAYS,
            max_length=WORD,
            enum=(POLICY_ALWAYS, POLICY_PARTIAL),
        ),
    },
)
_SECRET: Final = TypeDoc(
    text="A Secret in the namespace of the pod.",
    fields={"name": Doc(text="The name of the Secret.", default="", max_length=WORD)},
)

# ---- the kind --------------------------------------------------------------------------------------------------------

_NAME: Final = tuple(
    rule
    for field, given in (("name", ""), ("generateName", "!has(self.metadata.generateName) || "))
    for rule in (
        Rule(
            cel=f"{given}self.metadata.{field}.matches('^[a-zA-Z0-9-]+$')",
            message=f"the {field} of a SidecarSet consists of letters, digits and '-': it becomes a label value",
            path=f".metadata.{field}",
        ),
        Rule(
            cel=f"{given}size(self.metadata.{field}) <= 63",
            message=f"the {field} of a SidecarSet must be no more than 63 characters: it becomes a label value",
            path=f".metadata.{field}",
        ),
    )
)

_SET: Final = TypeDoc(
    text=(
        "A SidecarSet adds containers to the pods of others when they are created, and upgrades their images in place. "
        "Whoever may write one can change any pod that it selects."
    ),
    rules=_NAME,
    fields={
        "apiVersion": Doc(text="The version of the schema of this object, with its group.", max_length=WORD),
        "kind": Doc(text="The kind of this object.", max_length=WORD),
        "metadata": Doc(
            text="Name, labels and annotations.",
            # Named here so that a rule can blame them; the length of a name is for its rule to say.
            properties={
                "name": Doc(
                    text="Letters, digits and dashes, at most 63: it becomes the value of a label of every revision.",
                    type="string",
                    max_length=WORD,
                ),
                "generateName": Doc(
                    text="The beginning of a name that the API server completes.", type="string", max_length=WORD
                ),
            },
        ),
        "spec": Doc(text="Which pods get which containers, and how those that have them are upgraded.", required=True),
        "status": Doc(text="What was reached. Written by the controller alone."),
    },
)

SIDECARSET: Final = KindDoc(
    singular="sidecarset",
    short_names=("scs",),
    categories=("kruise",),
    versions=(
        VersionDoc(
            name="v1alpha1",
            deprecation="apps.kruise.io/v1alpha1 SidecarSet is deprecated; use apps.kruise.io/v1beta1 SidecarSet",
            without=ONLY_IN_V1BETA1,
            also={
                SidecarSetSpec: {
                    "namespace": Doc(
                        text=(
                            "The one namespace of the pods; it goes before namespaceSelector, as which v1beta1 shows "
                            f"it. The customVersion of v1beta1 is the label {CUSTOM_VERSION_LABEL} here. Defaults to "
                            "all."
                        ),
                        type="string",
                        max_length=63,
                    )
                }
            },
        ),
        VersionDoc(name="v1beta1", storage=True),
    ),
    # Names, types and order are OpenKruise's, byte for byte: scripts cut columns.
    columns=(
        Column("MATCHED", "integer", ".status.matchedPods", "Pods that have the containers."),
        Column("UPDATED", "integer", ".status.updatedPods", "Pods that have the present containers."),
        Column("READY", "integer", ".status.readyPods", "Pods that have the containers and are ready."),
        Column("AGE", "date", ".metadata.creationTimestamp", "Time since the set was created."),
    ),
    types={
        SidecarSet: _SET,
        SidecarSetSpec: _SPEC,
        SidecarSetUpdateStrategy: _UPDATE_STRATEGY,
        ScatterTerm: _SCATTER,
        InjectionStrategy: _INJECTION,
        InjectionRevision: _REVISION,
        SecretReference: _SECRET,
        **SIDECAR_TYPES,
        **STATUS_TYPES,
        # Selectors and priorities are the same in every kind.
        **{
            struct: STATEFULSET.types[struct]
            for struct in (LabelSelector, LabelRequirement, PriorityStrategy, WeightPriority, OrderPriority)
        },
    },
)
"""Everything about the kind that its types do not say."""
