"""One StatefulSet, its revision, its pods and its claims, as an API server writes them, for measurements.

Guarantees: they fit together: the pods of :func:`tests.perf.samples.stateful_pod` are at the revision of the set's
template and mount its claims, so that a reconciler finds nothing to do.

What this does not do: the objects pass no admission; nobody sends them to a server.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
import orjson

from kruise.apis.core import CLAIMS, PODS, REVISIONS, Claim, ControllerRevision, Pod
from kruise.apis.statefulset import STATEFULSETS, StatefulSet
from kruise.controllers.common.revisions import Chosen, CreateRevision, choose
from kruise.runtime.client.frames import Codec
from tests.perf import samples
from tests.perf.samples import STAMP, as_bytes

NAMESPACE: Final = "fleet-maintenance"
NAME: Final = "web"
SAMPLED: Final = b"web-7c9d5bb8f6"
"""The revision that the sample pods name."""
OTHER_IMAGE: Final = "registry.example.com/platform/image-warmer:1.25.0"


def body(replicas: int, *, budget: int | str = 1, image: str = "", generation: int = 1) -> dict[str, Any]:
    """Return the set; *image* is another one than that of its sample pods."""
    spec = samples.template_spec()
    spec["readinessGates"] = [{"conditionType": "InPlaceUpdateReady"}, {"conditionType": "KruisePodReady"}]
    if image:
        spec["containers"][0]["image"] = image
    return {
        "kind": "StatefulSet",
        "apiVersion": "apps.kruise.io/v1beta1",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "uid": samples.JOB_UID,
            "resourceVersion": str(10_000 + generation),
            "generation": generation,
            "creationTimestamp": STAMP,
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": NAME}},
            "serviceName": NAME,
            "podManagementPolicy": "Parallel",
            "revisionHistoryLimit": 10,
            "template": {"metadata": {"labels": {"app": NAME}}, "spec": spec},
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": budget, "podUpdatePolicy": "InPlaceIfPossible"},
            },
            "volumeClaimTemplates": [_claim_template()],
        },
    }


def statefulset(replicas: int, **options: Any) -> StatefulSet:
    """Return the set as the store has it."""
    return Codec(STATEFULSETS).decode(as_bytes(body(replicas, **options)))


def revision(sts: StatefulSet) -> ControllerRevision:
    """Return the revision of the set's template."""
    chosen = choose(STATEFULSETS, sts, (), orjson.loads(bytes(sts.spec.template)), "", 0)
    (write,) = chosen.writes
    assert isinstance(write, CreateRevision)
    made = write.body
    made["metadata"] |= {"uid": samples.uid("revision", 1), "resourceVersion": "7", "creationTimestamp": STAMP}
    return Codec(REVISIONS).decode(msgspec.json.encode(made))


def revisions(sts: StatefulSet, *kept: ControllerRevision) -> Chosen:
    """Return what *sts* chooses of *kept*, the first of which is its current one."""
    template = orjson.loads(bytes(sts.spec.template))
    return choose(STATEFULSETS, sts, kept, template, kept[0].metadata.name, 0)


@cache
def _named() -> bytes:
    return revision(statefulset(1)).metadata.name.encode()


def pods(numbers: range, *, version: int = 0, ready: bool = True) -> list[Pod]:
    """Return pods of the set."""
    codec = Codec(PODS)
    found = []
    for number in numbers:
        one = samples.stateful_pod(number, version=version)
        for condition in one["status"]["conditions"]:
            if condition["type"] in ("Ready", "ContainersReady"):
                condition["status"] = str(ready)
        found.append(codec.decode(as_bytes(one).replace(SAMPLED, _named())))
    return found


def claims(numbers: range) -> list[Claim]:
    """Return the claims of these pods."""
    codec = Codec(CLAIMS)
    return [codec.decode(as_bytes(_claim(number))) for number in numbers]


def _claim_template() -> dict[str, Any]:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "10Gi"}},
    }
    return {"metadata": {"name": "data"}, "spec": spec}


def _claim(number: int) -> dict[str, Any]:
    return {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "metadata": {
            "name": f"data-{NAME}-{number}",
            "namespace": NAMESPACE,
            "uid": samples.uid("claim", number),
            "resourceVersion": str(700_000 + number),
            "creationTimestamp": STAMP,
            "labels": {"app": NAME},
        },
        "spec": _claim_template()["spec"] | {"volumeName": f"pvc-{samples.uid('volume', number)}"},
        "status": {"phase": "Bound", "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"]},
    }
