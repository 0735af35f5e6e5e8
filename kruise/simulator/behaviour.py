"""What a simulated container does: how long it runs, how it ends, when it is ready, whether its image can be pulled.

Purpose: a pod behaves as its annotations, its node's annotations, its image's name and the rules of the control API
say; a pod of which nobody says anything starts at once, is ready at once and runs for ever.

Who wins, from the weakest: the defaults, the image's name (images of the host ``sim.kruise.io``), the pod's annotation
``sim.kruise.io/<setting>``, the pod's annotation for one container ``<container>.sim.kruise.io/<setting>``, the same
two on the node, rules in their order. The node beats the pod because all pods of a BroadcastJob share one template,
and "it fails on node-7" can be said on node-7 only.

Guarantees: a value that cannot be read is reported in :attr:`Behaviour.problems` and changes nothing; resolving never
raises.

What this does not do: it keeps no state and knows no time; ``kubelet`` gives these settings their meaning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any, Final

from kruise.runtime.errors import ConfigError

DOMAIN: Final = "sim.kruise.io"
FOREVER: Final = math.inf


@dataclass(frozen=True, slots=True)
class ContainerBehaviour:
    """One container. Times are in seconds; ``forever`` and ``never`` may stand for infinity."""

    start_seconds: float = 0.0
    """From the decision to start until it runs: pulling and creating."""
    run_seconds: float = FOREVER
    """From running until it ends by itself."""
    exit_codes: tuple[int, ...] = (0,)
    """The exit code of each run; the last one repeats. Written ``1,1,0``."""
    exit_reason: str = ""
    """The reason of a termination, such as OOMKilled. Empty: Completed or Error."""
    pull_fail_seconds: float = 0.0
    """Pulls fail for this long after the first one."""
    ready_seconds: float = 0.0
    """From running until it is ready; ``never`` for a container that never gets ready."""
    flap_seconds: float = 0.0
    """When set, a ready container is unready and ready by turns, this long each."""
    stop_seconds: float = 0.0
    """From SIGTERM until it ends. Beyond the grace period it is killed, with exit code 137."""
    stop_exit_code: int = 143
    """The exit code after SIGTERM."""
    restart_seconds: float = 0.2
    """How long an ended container shows as terminated before anything else happens to it."""
    resize_seconds: float = 0.2
    """From an allocated resize until it is in force."""
    image_id: str = ""
    """The imageID to report. Two images of one digest are two tags of one content."""


@dataclass(frozen=True, slots=True)
class PodBehaviour:
    """A pod as a whole."""

    reject: str = ""
    """The node refuses the pod with this reason."""
    evict_seconds: float = FOREVER
    """The node evicts the pod this long after it accepted it."""
    stuck_terminating: bool = False
    """The node never finishes the deletion of the pod."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """All that is set for one pod."""

    pod: PodBehaviour = PodBehaviour()
    containers: Mapping[str, ContainerBehaviour] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    """Values that could not be read, one sentence each."""

    def of(self, container: str) -> ContainerBehaviour:
        """Return the behaviour of one container."""
        return self.containers.get(container, DEFAULT)


@dataclass(frozen=True, slots=True)
class Rule:
    """Settings for every container that fits. Patterns are shell globs on the whole name."""

    namespace: str = "*"
    pod: str = "*"
    node: str = "*"
    image: str = "*"
    container: str = "*"
    settings: Mapping[str, str] = field(default_factory=dict)
    """Setting to value, spelt as in the annotations: ``{"exit-code": "1"}``."""

    @classmethod
    def parse(cls, raw: Any) -> Rule:
        """Return a rule from JSON. Raises ConfigError, which names the field."""
        if not isinstance(raw, Mapping):
            raise ConfigError(f"a rule is an object, not {raw!r}")
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(raw) - known):
            raise ConfigError(f"rule: no field {unknown[0]!r}; there are {', '.join(sorted(known))}")
        settings = raw.get("settings", {})
        if not isinstance(settings, Mapping):
            raise ConfigError("rule: settings is an object of setting to value")
        values = {str(key): str(value) for key, value in settings.items()}
        patterns = {key: str(value) for key, value in raw.items() if key != "settings"}
        rule = cls(**patterns, settings=values)
        for key, value in values.items():
            if problem := _check(key, value):
                raise ConfigError(f"rule: {problem}")
        return rule


DEFAULT: Final = ContainerBehaviour()
_POD_FIELDS: Final = {f.name.replace("_", "-"): f.name for f in fields(PodBehaviour)}
_CONTAINER_FIELDS: Final = {f.name.replace("_", "-"): f.name for f in fields(ContainerBehaviour)} | {
    "exit-code": "exit_codes"
}
SETTINGS: Final = frozenset({*_POD_FIELDS, *_CONTAINER_FIELDS})
"""Every setting, spelt as in the annotations."""
_IMAGE: Final = re.compile(
    r"(?P<what>run|start|ready|stop)-(?P<seconds>\d+(?:\.\d+)?)s|exit-(?P<code>\d+)|(?P<word>pull-fail|never-ready)"
)
_WORDS: Final = {"pull-fail": ("pull-fail-seconds", "forever"), "never-ready": ("ready-seconds", "never")}


def resolve(
    *,
    namespace: str,
    name: str,
    spec: Mapping[str, Any],
    annotations: Mapping[str, str],
    node: str,
    node_annotations: Mapping[str, str],
    rules: Sequence[Rule] = (),
) -> Behaviour:
    """Return how a pod behaves on a node."""
    pod: dict[str, Any] = {}
    containers: dict[str, ContainerBehaviour] = {}
    problems: dict[str, None] = {}
    for one in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        container, image = str(one.get("name", "")), str(one.get("image", ""))
        changes: dict[str, Any] = {}
        for key, value in _settings(namespace, name, container, image, annotations, node, node_annotations, rules):
            problem = _check(key, value)
            if problem:
                problems[problem] = None
            elif key in _POD_FIELDS:
                pod[_POD_FIELDS[key]] = _read(key, value)
            else:
                changes[_CONTAINER_FIELDS[key]] = _read(key, value)
        if changes:
            containers[container] = replace(DEFAULT, **changes)
    return Behaviour(PodBehaviour(**pod), containers, tuple(problems))


def _settings(
    namespace: str,
    name: str,
    container: str,
    image: str,
    annotations: Mapping[str, str],
    node: str,
    node_annotations: Mapping[str, str],
    rules: Sequence[Rule],
) -> Iterator[tuple[str, str]]:
    yield from of_image(image)
    for source in (annotations, node_annotations):
        for prefix in (f"{DOMAIN}/", f"{container}.{DOMAIN}/"):
            for key, value in source.items():
                setting = key.removeprefix(prefix)
                if setting != key and setting not in NODE_SETTINGS:
                    yield setting, value
    for rule in rules:
        if (
            fnmatchcase(namespace, rule.namespace)
            and fnmatchcase(name, rule.pod)
            and fnmatchcase(node, rule.node)
            and fnmatchcase(image, rule.image)
            and fnmatchcase(container, rule.container)
        ):
            yield from rule.settings.items()


NODE_SETTINGS: Final = frozenset({"simulated", "down", "provisioner", "filesystem-resize"})
"""Words of our domain that are no settings of pods; ``nodes`` and ``provisioner`` read them."""


def of_image(image: str) -> Iterator[tuple[str, str]]:
    """Yield what the name of an image says: ``sim.kruise.io/run-5s-exit-1:v2`` runs for 5 s and ends with 1."""
    host, slash, rest = image.partition("/")
    if host != DOMAIN or not slash:
        return
    for found in _IMAGE.finditer(rest.partition("@")[0].partition(":")[0]):
        if found["what"]:
            yield f"{found['what']}-seconds", found["seconds"]
        elif found["code"]:
            yield "exit-code", found["code"]
        else:
            yield _WORDS[found["word"]]


def _check(key: str, value: str) -> str:
    if key not in _POD_FIELDS and key not in _CONTAINER_FIELDS:
        return f"{DOMAIN}/{key}: there is no such setting"
    try:
        _read(key, value)
    except ValueError as error:
        return f"{DOMAIN}/{key}: {value!r}: {error}"
    return ""


def _read(key: str, value: str) -> Any:
    value = value.strip()
    if key in ("reject", "exit-reason", "image-id"):
        return value
    if key == "stuck-terminating":
        if value not in ("true", "false"):
            raise ValueError("not one of true, false")
        return value == "true"
    if key in ("exit-code", "exit-codes"):
        return tuple(_exit_code(part) for part in value.split(","))
    if key == "stop-exit-code":
        return _exit_code(value)
    if value in ("forever", "never"):
        return FOREVER
    seconds = float(value.removesuffix("s"))
    if not seconds >= 0 or math.isinf(seconds):
        raise ValueError("not a number of seconds, forever or never")
    return seconds


def _exit_code(text: str) -> int:
    code = int(text)
    if not 0 <= code <= 255:
        raise ValueError("an exit code lies between 0 and 255")
    return code
