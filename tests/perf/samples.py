"""Pods, nodes and jobs as an API server writes them, for measurements.

Purpose: bytes of realistic size and shape: a pod event of 8.8 KB, a third of it ``managedFields``.

Guarantees: what repeats in a cluster repeats here (images, node names, owners, label keys), and what does not, does not
(names, uids, versions, times), so that sharing of strings is measured at its real worth.

What this does not do: the objects pass no admission; nobody sends them to a server.
"""

from __future__ import annotations

import json
from typing import Any, Final

JOB_UID: Final = "0d6f4b1e-6f0a-4b6e-9d5c-3f1f0a7c2b11"
STAMP: Final = "2026-03-01T12:00:00Z"


def uid(kind: str, number: int) -> str:
    """Return a uid that no other object has."""
    return f"{sum(map(ord, kind)):08x}-{number:04x}-4{number % 4096:03x}-8{number % 4093:03x}-{number:012x}"


def _fields(paths: dict[str, Any], manager: str, operation: str = "Update", subresource: str = "") -> dict[str, Any]:
    entry = {
        "manager": manager,
        "operation": operation,
        "apiVersion": "v1",
        "time": STAMP,
        "fieldsType": "FieldsV1",
        "fieldsV1": paths,
    }
    return entry | ({"subresource": subresource} if subresource else {})


def _leaves(*names: str) -> dict[str, Any]:
    return {".": {}} | {f"f:{name}": {} for name in names}


def pod(number: int, *, version: int = 0, phase: str = "Running", job: str = "rollout") -> dict[str, Any]:
    """Return pod *number* of the job, at resourceVersion *version* (by default one of its own)."""
    name = f"{job}-{number:010d}"
    node = f"node-{number % 5000}"
    running = phase == "Running"
    state: dict[str, Any] = (
        {"running": {"startedAt": STAMP}}
        if running
        else {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": STAMP, "finishedAt": STAMP}}
    )
    kubelet_conditions = {
        f'k:{{"type":"{kind}"}}': _leaves("lastProbeTime", "lastTransitionTime", "observedGeneration", "status", "type")
        for kind in ("ContainersReady", "Initialized", "PodReadyToStartContainers", "Ready")
    }
    environment = [f"WARMER_OPTION_{n}" for n in range(12)]
    container = _leaves(
        "image", "imagePullPolicy", "name", "resources", "terminationMessagePath", "volumeMounts", "command"
    ) | {
        "f:env": {".": {}} | {f'k:{{"name":"{name}"}}': _leaves("name", "value") for name in environment},
        "f:livenessProbe": _leaves("failureThreshold", "httpGet", "periodSeconds", "successThreshold"),
        "f:readinessProbe": _leaves("failureThreshold", "httpGet", "periodSeconds", "successThreshold"),
        "f:securityContext": _leaves("allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem"),
    }
    metadata_fields = {
        "f:annotations": _leaves("apps.kruise.io/broadcastjob-node-uid", "prometheus.io/scrape", "prometheus.io/port"),
        "f:labels": _leaves("app.kubernetes.io/name", "broadcastjob-controller-uid", "broadcastjob-name", "team"),
        "f:ownerReferences": {f'k:{{"uid":"{JOB_UID}"}}': {}},
    }
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": "fleet-maintenance",
            "uid": uid("pod", number),
            "resourceVersion": str(version or 100_000 + number),
            "generation": 1,
            "creationTimestamp": STAMP,
            "labels": {
                "app.kubernetes.io/name": "node-image-warmer",
                "app.kubernetes.io/component": "worker",
                "app.kubernetes.io/managed-by": "fleet-automation",
                "broadcastjob-controller-uid": JOB_UID,
                "broadcastjob-name": job,
                "team": "platform-infrastructure",
            },
            "annotations": {
                "apps.kruise.io/broadcastjob-node-uid": uid("node", number % 5000),
                "prometheus.io/scrape": "true",
                "prometheus.io/port": "9102",
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
                "fleet.example.com/rollout": "2026-03-01-warm-images-wave-2",
            },
            "ownerReferences": [
                {
                    "apiVersion": "apps.kruise.io/v1beta1",
                    "kind": "BroadcastJob",
                    "name": job,
                    "uid": JOB_UID,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            "managedFields": [
                _fields(
                    {
                        "f:metadata": metadata_fields,
                        "f:spec": {
                            "f:affinity": _leaves("nodeAffinity"),
                            "f:containers": {'k:{"name":"main"}': container},
                            **{
                                f"f:{n}": {}
                                for n in (
                                    "dnsPolicy",
                                    "enableServiceLinks",
                                    "restartPolicy",
                                    "schedulerName",
                                    "securityContext",
                                    "terminationGracePeriodSeconds",
                                    "tolerations",
                                )
                            },
                        },
                    },
                    "kruise-manager",
                ),
                _fields(
                    {
                        "f:status": {
                            "f:conditions": kubelet_conditions,
                            **{
                                f"f:{n}": {}
                                for n in ("containerStatuses", "hostIP", "hostIPs", "phase", "podIP", "podIPs")
                            },
                        }
                    },
                    "kubelet",
                    subresource="status",
                ),
            ],
        },
        "spec": {
            "volumes": [
                {"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}},
                {"name": "config", "configMap": {"name": "image-warmer-config", "defaultMode": 420}},
                {
                    "name": f"kube-api-access-{number % 100000:05d}",
                    "projected": {
                        "sources": [
                            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                            {
                                "configMap": {
                                    "name": "kube-root-ca.crt",
                                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                                }
                            },
                            {
                                "downwardAPI": {
                                    "items": [
                                        {
                                            "path": "namespace",
                                            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                                        }
                                    ]
                                }
                            },
                        ],
                        "defaultMode": 420,
                    },
                },
            ],
            "containers": [
                {
                    "name": "main",
                    "image": "registry.example.com/platform/image-warmer:1.24.3",
                    "command": ["/bin/warm", "--config=/etc/warmer/config.yaml", "--once"],
                    "env": [
                        {
                            "name": "NODE_NAME",
                            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}},
                        },
                        {
                            "name": "POD_NAME",
                            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
                        },
                        *({"name": option, "value": f"value-of-{option.lower()}"} for option in environment),
                    ],
                    "resources": {
                        "limits": {"cpu": "500m", "memory": "256Mi"},
                        "requests": {"cpu": "100m", "memory": "64Mi"},
                    },
                    "volumeMounts": [
                        {"name": "scratch", "mountPath": "/scratch"},
                        {"name": "config", "readOnly": True, "mountPath": "/etc/warmer"},
                        {
                            "name": f"kube-api-access-{number % 100000:05d}",
                            "readOnly": True,
                            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                        },
                    ],
                    "livenessProbe": {
                        "httpGet": {"path": "/healthz", "port": 9102, "scheme": "HTTP"},
                        "periodSeconds": 10,
                        "timeoutSeconds": 1,
                        "successThreshold": 1,
                        "failureThreshold": 3,
                    },
                    "readinessProbe": {
                        "httpGet": {"path": "/readyz", "port": 9102, "scheme": "HTTP"},
                        "periodSeconds": 5,
                        "timeoutSeconds": 1,
                        "successThreshold": 1,
                        "failureThreshold": 3,
                    },
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                    "imagePullPolicy": "IfNotPresent",
                    "securityContext": {
                        "capabilities": {"drop": ["ALL"]},
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                    },
                }
            ],
            "restartPolicy": "OnFailure",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "image-warmer",
            "serviceAccount": "image-warmer",
            "nodeName": node,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
                        ]
                    }
                }
            },
            "schedulerName": "default-scheduler",
            "tolerations": [
                {
                    "key": f"node.kubernetes.io/{what}",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 300,
                }
                for what in ("not-ready", "unreachable")
            ],
            "priority": 0,
            "enableServiceLinks": True,
            "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {
            "observedGeneration": 1,
            "phase": phase,
            "conditions": [
                {
                    "type": kind,
                    "observedGeneration": 1,
                    "status": "True" if running or kind in ("Initialized", "PodScheduled") else "False",
                    "lastProbeTime": None,
                    "lastTransitionTime": STAMP,
                }
                for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
            ],
            "hostIP": f"10.0.{number // 250 % 250}.{number % 250}",
            "hostIPs": [{"ip": f"10.0.{number // 250 % 250}.{number % 250}"}],
            "podIP": f"10.244.{number // 250 % 250}.{number % 250}",
            "podIPs": [{"ip": f"10.244.{number // 250 % 250}.{number % 250}"}],
            "startTime": STAMP,
            "containerStatuses": [
                {
                    "name": "main",
                    "state": state,
                    "lastState": {},
                    "ready": running,
                    "restartCount": 0,
                    "image": "registry.example.com/platform/image-warmer:1.24.3",
                    "imageID": "registry.example.com/platform/image-warmer@sha256:" + "4f1c" * 16,
                    "containerID": f"containerd://{number:064x}",
                    "started": running,
                    "allocatedResources": {"cpu": "100m", "memory": "64Mi"},
                    "user": {"linux": {"uid": 1000, "gid": 1000, "supplementalGroups": [1000]}},
                }
            ],
            "qosClass": "Burstable",
        },
    }


def stateful_pod(number: int, *, version: int = 0, owner: str = "web") -> dict[str, Any]:
    """Return pod *number* of a StatefulSet that was updated in place: gates, one claim, variables from everywhere."""
    found = pod(number, version=version)
    meta, spec = found["metadata"], found["spec"]
    name = f"{owner}-{number}"
    meta["name"] = name
    meta["labels"] = {
        "app": owner,
        "apps.kubernetes.io/pod-index": str(number),
        "controller-revision-hash": f"{owner}-7c9d5bb8f6",
        "lifecycle.apps.kruise.io/state": "Normal",
        "statefulset.kubernetes.io/pod-name": name,
    }
    state = {
        "revision": f"{owner}-7c9d5bb8f6",
        "updateTimestamp": STAMP,
        "lastContainerStatuses": {"main": {"imageID": "registry.example.com/shop@sha256:" + "77aa" * 16}},
        "updateImages": True,
        "containerBatchesRecord": [{"timestamp": STAMP, "containers": ["main"]}],
    }
    meta["annotations"] = {
        "apps.kruise.io/inplace-update-state": json.dumps(state, separators=(",", ":")),
        "lifecycle.apps.kruise.io/timestamp": STAMP,
    }
    meta["ownerReferences"] = [meta["ownerReferences"][0] | {"kind": "StatefulSet", "name": owner}]
    spec["volumes"][0] = {"name": "data", "persistentVolumeClaim": {"claimName": f"data-{name}"}}
    spec["readinessGates"] = [{"conditionType": "InPlaceUpdateReady"}, {"conditionType": "KruisePodReady"}]
    shown = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels['app']"}}
    ordered = {"configMapKeyRef": {"name": f"{name}-barrier", "key": "p_10"}}
    spec["containers"][0]["env"] += [
        {"name": "APP", "valueFrom": shown},
        {"name": "KRUISE_CONTAINER_BARRIER", "valueFrom": ordered},
    ]
    del spec["affinity"]
    found["status"]["conditions"] += [
        {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": STAMP}
        for kind in ("InPlaceUpdateReady", "KruisePodReady")
    ]
    return found


def node(number: int, *, version: int = 0, ready: bool = True, cordoned: bool = False) -> dict[str, Any]:
    """Return node *number*."""
    name = f"node-{number}"
    conditions = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "uid": uid("node", number),
            "resourceVersion": str(version or 50_000 + number),
            "creationTimestamp": STAMP,
            "labels": {
                "beta.kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "node.kubernetes.io/instance-type": "m6i.4xlarge",
                "topology.kubernetes.io/region": "eu-central-1",
                "topology.kubernetes.io/zone": f"eu-central-1{'abc'[number % 3]}",
            },
            "annotations": {
                "node.alpha.kubernetes.io/ttl": "0",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
                "csi.volume.kubernetes.io/nodeid": json.dumps({"ebs.csi.aws.com": f"i-{number:017x}"}),
            },
            "managedFields": [
                _fields(
                    {
                        "f:metadata": {
                            "f:annotations": _leaves("volumes.kubernetes.io/controller-managed-attach-detach"),
                            "f:labels": _leaves("kubernetes.io/arch", "kubernetes.io/hostname", "kubernetes.io/os"),
                        }
                    },
                    "kubelet",
                ),
                _fields(
                    {
                        "f:status": {
                            "f:conditions": {
                                f'k:{{"type":"{kind}"}}': _leaves(
                                    "lastHeartbeatTime", "lastTransitionTime", "message", "reason", "status"
                                )
                                for kind in conditions
                            },
                            "f:images": {},
                        }
                    },
                    "kubelet",
                    subresource="status",
                ),
            ],
        },
        "spec": {
            "podCIDR": f"10.244.{number % 250}.0/24",
            "podCIDRs": [f"10.244.{number % 250}.0/24"],
            "providerID": f"aws:///eu-central-1a/i-{number:017x}",
            **({"unschedulable": True} if cordoned else {}),
        },
        "status": {
            "capacity": {"cpu": "16", "ephemeral-storage": "104845292Ki", "memory": "64836704Ki", "pods": "110"},
            "allocatable": {"cpu": "15890m", "ephemeral-storage": "95551679124", "memory": "57Gi", "pods": "110"},
            "conditions": [
                {
                    "type": kind,
                    "status": "True" if kind == "Ready" and ready else "False",
                    "lastHeartbeatTime": STAMP,
                    "lastTransitionTime": STAMP,
                    "reason": "KubeletReady" if kind == "Ready" else f"KubeletHasNo{kind}",
                    "message": f"kubelet reports about {kind}",
                }
                for kind in conditions
            ],
            "addresses": [
                {"type": "InternalIP", "address": f"10.0.{number // 250 % 250}.{number % 250}"},
                {"type": "Hostname", "address": name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "machineID": f"{number:032x}",
                "systemUUID": uid("system", number),
                "bootID": uid("boot", number),
                "kernelVersion": "6.8.0-1021-aws",
                "osImage": "Ubuntu 24.04.2 LTS",
                "containerRuntimeVersion": "containerd://2.1.4",
                "kubeletVersion": "v1.37.2",
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": "amd64",
            },
            "images": [
                {
                    "names": [f"registry.example.com/team-{n}/service@sha256:" + f"{n:02x}" * 32],
                    "sizeBytes": 100_000_000 + n,
                }
                for n in range(20)
            ],
        },
    }


def broadcastjob(name: str = "rollout", *, number: int = 0) -> dict[str, Any]:
    """Return a job whose pods are those of :func:`pod` when *number* is 0."""
    return {
        "kind": "BroadcastJob",
        "apiVersion": "apps.kruise.io/v1beta1",
        "metadata": {
            "name": name,
            "namespace": "fleet-maintenance",
            "uid": JOB_UID if not number else uid("job", number),
            "resourceVersion": str(10_000 + number),
            "generation": 1,
            "creationTimestamp": STAMP,
        },
        "spec": {
            "parallelism": "100%",
            "template": {"metadata": {"labels": {"team": "platform-infrastructure"}}, "spec": template_spec()},
            "completionPolicy": {"type": "Always"},
            "failurePolicy": {"type": "Continue", "restartLimit": 5},
        },
        "status": {
            "phase": "running",
            "active": 0,
            "succeeded": 0,
            "failed": 0,
            "desired": 0,
            "observedGeneration": 1,
            "startTime": STAMP,
        },
    }


def template_spec() -> dict[str, Any]:
    """Return what a user writes of :func:`pod`: no defaults, no volume of a token, no affinity."""
    full = pod(0)["spec"]
    spec = {k: full[k] for k in ("restartPolicy", "serviceAccountName", "securityContext")}
    container = {k: v for k, v in full["containers"][0].items() if not k.startswith("termination")}
    container["volumeMounts"] = container["volumeMounts"][:2]
    return {**spec, "volumes": full["volumes"][:2], "containers": [container]}


def as_bytes(obj: dict[str, Any]) -> bytes:
    """Return *obj* as the API server writes it: no spaces."""
    return json.dumps(obj, separators=(",", ":")).encode()


def event(obj: dict[str, Any], kind: str = "MODIFIED") -> bytes:
    """Return a line of a watch, without its end."""
    return as_bytes({"type": kind, "object": obj})
