"""What the CustomResourceDefinition of BroadcastJob says beside its types: descriptions, limits, defaults, rules.

Purpose: the table from which ``config/crd`` is generated. To add a field, add it to the struct and here.

Guarantees:

* No default inside the pod template: a default in there would show as a change to whoever compares manifests.
* No enum where OpenKruise's admission checks none: what it accepts is not refused for its spelling.
* Every string, list and map has a bound that no reasonable job reaches (reliability 8.7).
* A status needs no field, so a manifest with an old or half a status is never refused.

What this does not do: the pod template is checked only where a rule needs it. Everything else in there is checked by
``broadcastjob_rules`` when the job is read.
"""

from __future__ import annotations

from typing import Final

from kruise.apis.broadcastjob import (
    ALWAYS,
    FAIL_FAST,
    LABEL_CONTROLLER_UID,
    LABEL_JOB_NAME,
    NEVER,
    NO_LIMIT,
    BroadcastJob,
    BroadcastJobSpec,
    BroadcastJobStatus,
    CompletionPolicy,
    FailurePolicy,
    JobCondition,
)
from kruise.apis.schema import Column, Doc, KindDoc, Rule, TypeDoc, VersionDoc

__all__ = ["BROADCASTJOB"]

_WORD: Final = 253
"""Longest type, reason, phase or policy."""
_TIME: Final = 64
_MESSAGE: Final = 32768
_INT32: Final = 2147483647


def _time(text: str) -> Doc:
    return Doc(text=text, format="date-time", max_length=_TIME)


def _count(text: str) -> Doc:
    return Doc(text=text, format="int32")


_RESTART_POLICY: Final = Rule(
    cel="has(self.spec) && has(self.spec.restartPolicy) && self.spec.restartPolicy in ['Never', 'OnFailure']",
    message="pod restartPolicy can only be Never or OnFailure",
    path=".spec.restartPolicy",
)
_CONTAINERS: Final = Rule(
    cel="!has(self.spec) || has(self.spec.containers)", message="a pod needs a container", path=".spec.containers"
)
_LABELS: Final = Rule(
    cel=" && ".join(
        f"(!('{label}' in self) || self['{label}'] == '')" for label in (LABEL_JOB_NAME, LABEL_CONTROLLER_UID)
    ),
    message=f'"{LABEL_JOB_NAME}" and "{LABEL_CONTROLLER_UID}" are not allowed to preset in pod labels',
)

_TEMPLATE: Final = Doc(
    text=(
        "The pod that runs once on every eligible node: its labels, annotations and spec, as in any pod template. Its "
        "restartPolicy is Never or OnFailure. A change counts for pods that are created later."
    ),
    required=True,
    type="object",
    open=True,
    rules=(_RESTART_POLICY, _CONTAINERS),
    properties={
        "metadata": Doc(
            text="Labels, annotations and finalizers of the pods.",
            type="object",
            open=True,
            properties={
                "labels": Doc(
                    text=f"Labels of the pods. The job sets {LABEL_JOB_NAME} and {LABEL_CONTROLLER_UID} itself.",
                    type="object",
                    max_properties=1024,
                    values=Doc(text="The value of a label.", type="string", max_length=63),
                    rules=(_LABELS,),
                ),
            },
        ),
        "spec": Doc(
            text="The spec of the pods. It is checked like that of any pod when the job is read.",
            type="object",
            open=True,
            properties={
                "restartPolicy": Doc(
                    text=(
                        "Never: a container that fails makes its pod fail. OnFailure: the container is started again, "
                        "as often as failurePolicy.restartLimit allows."
                    ),
                    type="string",
                    max_length=_WORD,
                ),
                "containers": Doc(
                    text="The containers of the pods.",
                    type="array",
                    min_items=1,
                    max_items=64,
                    values=Doc(text="A container.", type="object", open=True),
                ),
                "volumes": Doc(
                    text="The volumes of the pods.",
                    type="array",
                    max_items=256,
                    values=Doc(text="A volume.", type="object", open=True),
                ),
            },
        ),
    },
)

_SPEC: Final = TypeDoc(
    text="What to run, on how many nodes at once, and what counts as done and as failed.",
    fields={
        "parallelism": Doc(
            text=(
                "How many pods may be active at once: a number, or a percentage of the eligible nodes that is rounded "
                "up, such as 10%. A string without its % is a percentage as well. Defaults to no limit."
            ),
            default=NO_LIMIT,
            pattern="^[0-9]+%?$",
            max_length=11,
            rules=(
                Rule(
                    cel=f"type(self) != int || (self >= 0 && self <= {_INT32})",
                    message=f"a number must be from 0 to {_INT32}",
                ),
            ),
        ),
        "template": _TEMPLATE,
        "completionPolicy": Doc(text="When the job is done, and what happens then.", default={}),
        "paused": Doc(
            text=(
                "No pod is created and nothing is decided while this is true. Pods that run go on, and so does the "
                "clock of activeDeadlineSeconds. Defaults to false."
            )
        ),
        "failurePolicy": Doc(text="What a failed pod means for the job.", default={}),
    },
)

_EXCLUDED: Final = tuple(
    Rule(
        cel=f"!has(self.type) || self.type != '{NEVER}' || !has(self.{field})",
        message=f"{field} can just work with Always CompletionPolicyType",
        path=f".{field}",
    )
    for field in ("ttlSecondsAfterFinished", "activeDeadlineSeconds")
)

_COMPLETION: Final = TypeDoc(
    text="When the job is done, and what happens then.",
    rules=_EXCLUDED,
    fields={
        "type": Doc(
            text=(
                "Always: the job completes when every eligible node has a pod that ended. Never: it never completes, "
                "and nodes that join later get their pod too. Any other value means Always. Defaults to Always."
            ),
            default=ALWAYS,
            max_length=_WORD,
        ),
        "activeDeadlineSeconds": Doc(
            text="Seconds after status.startTime at which an unfinished job fails and its active pods are deleted. "
            "Not with type Never. Defaults to no deadline.",
            format="int64",
            minimum=0,
        ),
        "ttlSecondsAfterFinished": Doc(
            text="Seconds after its end at which the job is deleted, with its pods. Not with type Never. Defaults to "
            "keeping the job.",
            format="int32",
            minimum=0,
            maximum=_INT32,
        ),
    },
)

_FAILURE: Final = TypeDoc(
    text="What a failed pod means for the job.",
    fields={
        "type": Doc(
            text=(
                "FailFast: the job fails at the first failed pod, and its active pods are deleted. Continue: the other "
                "nodes go on. Pause: no further pod is created until the failed one is deleted or the policy is "
                "changed. Any other value means Continue. Defaults to FailFast."
            ),
            default=FAIL_FAST,
            max_length=_WORD,
        ),
        "restartLimit": Doc(
            text=(
                "How often the containers of one pod may be restarted before it counts as failed. Read only where the "
                "restartPolicy of the template is OnFailure. Defaults to 0."
            ),
            format="int32",
            minimum=0,
            maximum=_INT32,
        ),
    },
)

_CONDITION: Final = TypeDoc(
    text="One condition of the job.",
    fields={
        "type": Doc(text="Complete, Failed or Progressing.", required=True, max_length=_WORD),
        "status": Doc(text="True, False or Unknown.", required=True, max_length=_WORD),
        "lastProbeTime": _time("When the condition was last checked."),
        "lastTransitionTime": _time("When the status of the condition last changed."),
        "reason": Doc(text="Why, in one word.", max_length=_WORD),
        "message": Doc(text="Why, in a sentence.", max_length=_MESSAGE),
    },
)

_STATUS: Final = TypeDoc(
    text="What was reached. Written by the controller alone.",
    fields={
        "conditions": Doc(
            text=(
                "Complete or Failed is true once the job has ended. Progressing says whether it moves, and if not, "
                "why not."
            ),
            max_items=64,
            list_keys=("type",),
        ),
        "startTime": _time("When the controller first saw the job."),
        "completionTime": _time("When the job ended, whether it completed or failed."),
        "active": _count("Pods that have not ended."),
        "succeeded": _count("Pods that succeeded."),
        "failed": _count("Pods that failed, or were restarted more often than failurePolicy.restartLimit allows."),
        "desired": _count("Nodes that should run a pod of the job, or have run it."),
        "phase": Doc(text="running, paused, completed or failed; empty before the first look.", max_length=_WORD),
        "observedGeneration": Doc(text="The generation of the job that this status speaks of.", format="int64"),
    },
)

_NAME: Final = tuple(
    rule
    for field, given in (("name", ""), ("generateName", "!has(self.metadata.generateName) || "))
    for rule in (
        Rule(
            cel=f"{given}self.metadata.{field}.matches('^[a-zA-Z0-9-]+$')",
            message=f"the {field} of a BroadcastJob consists of letters, digits and '-': it becomes a label value",
            path=f".metadata.{field}",
        ),
        Rule(
            cel=f"{given}size(self.metadata.{field}) <= 63",
            message=f"the {field} of a BroadcastJob must be no more than 63 characters: it becomes a label value",
            path=f".metadata.{field}",
        ),
    )
)

_JOB: Final = TypeDoc(
    text=(
        "A BroadcastJob runs a pod to completion on every eligible node. Warning: while the job has not ended, the pod "
        "of a node that stops being eligible is deleted, a succeeded one too, and the work runs there again when the "
        "node becomes eligible again."
    ),
    rules=_NAME,
    fields={
        "apiVersion": Doc(text="The version of the schema of this object, with its group.", max_length=_WORD),
        "kind": Doc(text="The kind of this object.", max_length=_WORD),
        "metadata": Doc(
            text="Name, namespace, labels and annotations.",
            # Named here so that a rule can blame them; the length of a name is for its rule to say.
            properties={
                "name": Doc(
                    text="Letters, digits and dashes, at most 63: it becomes the value of a label of every pod.",
                    type="string",
                    max_length=_WORD,
                ),
                "generateName": Doc(
                    text="The beginning of a name that the API server completes.", type="string", max_length=_WORD
                ),
            },
        ),
        "spec": Doc(
            text="What to run, on how many nodes at once, and what counts as done and as failed.", required=True
        ),
        "status": Doc(text="What was reached. Written by the controller alone."),
    },
)

BROADCASTJOB: Final = KindDoc(
    singular="broadcastjob",
    short_names=("bcj",),
    categories=("kruise",),
    versions=(
        VersionDoc(
            name="v1alpha1",
            deprecation="apps.kruise.io/v1alpha1 BroadcastJob is deprecated; use apps.kruise.io/v1beta1 BroadcastJob",
        ),
        VersionDoc(name="v1beta1", storage=True),
    ),
    # Names, types and order are OpenKruise's, byte for byte: scripts cut columns.
    columns=(
        Column("Desired", "integer", ".status.desired", "Nodes that should run a pod of the job."),
        Column("Active", "integer", ".status.active", "Pods that have not ended."),
        Column("Succeeded", "integer", ".status.succeeded", "Pods that succeeded."),
        Column("Failed", "integer", ".status.failed", "Pods that failed."),
        Column("AGE", "date", ".metadata.creationTimestamp", "Time since the job was created."),
    ),
    types={
        BroadcastJob: _JOB,
        BroadcastJobSpec: _SPEC,
        CompletionPolicy: _COMPLETION,
        FailurePolicy: _FAILURE,
        BroadcastJobStatus: _STATUS,
        JobCondition: _CONDITION,
    },
)
"""Everything about the kind that its types do not say."""
