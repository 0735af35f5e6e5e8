"""Feature gates: every name that OpenKruise knows, and our own.

Purpose: ``--feature-gates`` of an existing deployment works unchanged. A gate has an owner, a stage and the version
since which it is here; one that is only recognised says so when somebody turns it on.

Guarantees:

* CFG4: gates come from the flag, then from ``KUBE_FEATURE_<name>``, then from ``AllAlpha`` and ``AllBeta``, then from
  their defaults. An unknown or an unimplemented gate warns; nothing here refuses to start.
* Implications hold whatever was asked for: a gate whose ground is off is off, with a warning when it was asked for.

What this does not do: gates cannot change while the process runs.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from kruise.flags import parse_bool

ENV: Final = "KUBE_FEATURE_"


class Stage(enum.Enum):
    """How settled a feature is."""

    ALPHA = "alpha"
    BETA = "beta"
    STABLE = "stable"


@dataclass(frozen=True, slots=True)
class Gate:
    """One feature gate."""

    name: str
    default: bool
    stage: Stage
    owner: str
    """The part of the project that reads it."""
    since: str = "0.1"
    """The version of this project that brought it, or first recognised it."""
    implemented: bool = True
    text: str = ""


_A, _B = Stage.ALPHA, Stage.BETA

GATES: Final = (
    Gate("PodWebhook", True, _B, "webhooks", text="Admission webhooks for pods."),
    Gate("StatefulSetAutoDeletePVC", True, _B, "statefulset", text="persistentVolumeClaimRetentionPolicy."),
    Gate("PodIndexLabel", True, _B, "statefulset", text="The ordinal as a label of each pod."),
    Gate("InPlaceUpdateEnvFromMetadata", True, _B, "statefulset", text="In-place update of env from metadata."),
    Gate("StatefulSetStartOrdinal", False, _A, "statefulset", text="spec.ordinals.start."),
    Gate(
        "StatefulSetAutoResizePVCGate",
        False,
        _A,
        "statefulset",
        text="Resize claims with their templates; components/claim-resize gives the right to read storageclasses.",
    ),
    Gate(
        "InPlaceWorkloadVerticalScaling",
        False,
        _A,
        "statefulset",
        text="In-place update of resources; components/pod-resize gives the right to patch pods/resize.",
    ),
    Gate("PreparingUpdateAsUpdate", False, _A, "statefulset", text="A pod that prepares its update counts as updated."),
    Gate("TemplateNoDefaults", False, _A, "webhooks", text="Pod templates are stored without defaults."),
    Gate("KruisePodReadinessGate", False, _A, "webhooks", text="The readiness gate KruisePodReady in every pod."),
    Gate("DefaultHostNetworkHostPortsInPodTemplates", False, _A, "webhooks", text="Host ports of hostNetwork pods."),
    Gate("ResourcesDeletionProtection", False, _A, "webhooks", text="Refuse to delete protected objects."),
    Gate("SidecarSetPatchPodMetadataDefaultsAllowed", False, _A, "sidecarset", text="patchPodMetadata for everybody."),
    Gate("EnableSortSidecarContainerByName", False, _A, "sidecarset", text="Inject sidecars in the order of names."),
    Gate("EnableExternalCerts", False, _A, "webhooks", text="Serving certificates from outside."),
    Gate("MergedPodStatusPatch", True, _B, "statefulset", text="Metadata and status of a pod in one patch. Ours."),
    Gate("LifecycleLabelOnlyWithHooks", False, _A, "statefulset", text="No lifecycle label without hooks. Ours."),
    *(
        Gate(name, False, _A, "recognised only", implemented=False)
        for name in (
            "PreDownloadImageForInPlaceUpdate",
            "SidecarTerminator",
            "KruiseDaemon",
            "DaemonWatchingPod",
            "WorkloadSpread",
            "PodUnavailableBudgetDeleteGate",
            "PodUnavailableBudgetUpdateGate",
            "PodProbeMarkerGate",
            "EnablePodProbeMarkerOnServerless",
            "CloneSetShortHash",
            "CloneSetPartitionRollback",
            "CloneSetEventHandlerOptimization",
            "PreDownloadImageForDaemonSetUpdate",
            "ImagePullJobGate",
            "ResourceDistributionGate",
            "DeletionProtectionForCRDCascadingGate",
            "EnhancedLivenessProbe",
            "RecreatePodWhenChangeVCTInCloneSetGate",
            "ForceDeleteTimeoutExpectationGate",
            "InPlacePodVerticalScaling",
            "DaemonSetPruneIneligibleNodes",
        )
    ),
)
"""Every gate. Those recognised only are off: what they would turn on is not here."""

IMPLICATIONS: Final = (
    ("PodWebhook", ("KruisePodReadinessGate", "SidecarSetPatchPodMetadataDefaultsAllowed")),
    ("KruiseDaemon", ("PreDownloadImageForInPlaceUpdate", "InPlaceUpdateEnvFromMetadata", "SidecarTerminator")),
)
"""(ground, what is off when the ground is off)."""

_BY_NAME: Final = MappingProxyType({gate.name: gate for gate in GATES})
_ALL: Final = MappingProxyType({"AllAlpha": Stage.ALPHA, "AllBeta": Stage.BETA})


@dataclass(frozen=True, slots=True)
class Gates:
    """The gates of one process."""

    values: Mapping[str, bool] = field(default_factory=lambda: resolve((), {})[0].values)

    def enabled(self, name: str) -> bool:
        """Tell whether the gate *name* is on. Raises KeyError for a gate that is not in the table."""
        return self.values[name]


def resolve(
    asked: Iterable[tuple[str, bool]], env: Mapping[str, str], *, custom_resources: Iterable[str] = ()
) -> tuple[Gates, list[str]]:
    """Return the gates that *asked* and *env* result in, and warnings.

    *asked* are the pairs of the flag; the last one of a name counts.
    *custom_resources* is ``CUSTOM_RESOURCE_ENABLE``: when it names kinds and SidecarSet is not among them, PodWebhook
    is off unless asked for.
    """
    warnings: dict[str, None] = {}
    explicit = _from_env(env, warnings)
    for name, value in asked:
        if name in _BY_NAME or name in _ALL:
            explicit[name] = value
        else:
            warnings[f"--feature-gates={name}: unknown gate, ignored{_near(name)}"] = None

    kinds = tuple(custom_resources)
    values: dict[str, bool] = {}
    for gate in GATES:
        default = gate.default
        if gate.name == "PodWebhook" and kinds and "SidecarSet" not in kinds:
            default = False
        for group, stage in _ALL.items():
            if gate.implemented and gate.stage is stage and group in explicit:
                default = explicit[group]
        values[gate.name] = explicit.get(gate.name, default)
        if not gate.implemented and values[gate.name]:
            warnings[f"--feature-gates={gate.name}=true: this gate is recognised, but nothing here implements it"] = (
                None
            )
            values[gate.name] = False

    for ground, built_on in IMPLICATIONS:
        if values[ground]:
            continue
        for name in built_on:
            if values[name] and explicit.get(name):
                warnings[f"--feature-gates={name}=true: off, because {ground} is off"] = None
            values[name] = False
    return Gates(MappingProxyType(values)), list(warnings)


def gates_markdown() -> str:
    """Return the table of gates for the documents."""
    lines = ["| gate | default | stage | owner | since | what it does |", "|---|---|---|---|---|---|"]
    for gate in GATES:
        text = gate.text if gate.implemented else "Recognised; setting it warns."
        on = "on" if gate.default else "off"
        lines.append(f"| `{gate.name}` | {on} | {gate.stage.value} | {gate.owner} | {gate.since} | {text} |")
    return "\n".join(lines) + "\n"


def _from_env(env: Mapping[str, str], warnings: dict[str, None]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for name in (*_BY_NAME, *_ALL):
        text = env.get(ENV + name, "")
        if not text:
            continue
        try:
            found[name] = parse_bool(text)
        except ValueError as error:
            warnings[f"{ENV}{name}={text}: {error}; ignored"] = None
    return found


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, (*_BY_NAME, *_ALL), n=1)
    return f"; did you mean {near[0]}?" if near else ""
