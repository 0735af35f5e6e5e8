"""Manifests from files and from a pipe: the pods in them, and what a preview may take as if it were applied.

Purpose: ``kruise inject-check -f``: a pod, or the pod of a workload's template, with the place that it came from.

Guarantees:

* Every error names file, document and field, and what may have been meant. A key that stands twice, a value of the
  wrong type and a field that pods do not have are errors, as they are for kubectl.
* YAML is read as kubectl reads it: a time stays a text, a key that looks like a number is a text.

What this does not do: it asks no cluster, and adds nothing that a controller would add to a pod.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from kruise.apis.core_fields import fields, type_errors
from kruise.runtime.errors import ConfigError

__all__ = ["Document", "ManifestError", "PodSource", "Sorted", "read_files", "sort_out"]

_POD: Final = "core.v1.Pod"
_METADATA: Final = "meta.v1.ObjectMeta"
_TEMPLATE: Final = "core.v1.PodTemplateSpec"
_CLAIMS: Final = "[core.v1.PersistentVolumeClaim]"
_WITH_CLAIMS: Final = frozenset({"StatefulSet", "CloneSet"})
_SPEC_TEMPLATE: Final = ("spec", "template")
_PATHS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): _SPEC_TEMPLATE,
    ("apps", "Deployment"): _SPEC_TEMPLATE,
    ("apps", "StatefulSet"): _SPEC_TEMPLATE,
    ("apps", "DaemonSet"): _SPEC_TEMPLATE,
    ("apps", "ReplicaSet"): _SPEC_TEMPLATE,
    ("batch", "Job"): _SPEC_TEMPLATE,
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("apps.kruise.io", "StatefulSet"): _SPEC_TEMPLATE,
    ("apps.kruise.io", "BroadcastJob"): _SPEC_TEMPLATE,
    ("apps.kruise.io", "CloneSet"): _SPEC_TEMPLATE,
    ("apps.kruise.io", "DaemonSet"): _SPEC_TEMPLATE,
}
"""Where each kind has its pod, by group and kind."""
_SURROUNDINGS: Final = frozenset({("apps.kruise.io", "SidecarSet"), ("", "Namespace")})
_KINDS: Final = frozenset(kind for _, kind in (*_PATHS, *_SURROUNDINGS))
_SUFFIXES: Final = (".yaml", ".yml", ".json")
_ALIKE: Final = 0.8


class ManifestError(ConfigError):
    """A manifest that cannot be used. The text names file, document and field."""


@dataclass(frozen=True, slots=True)
class Document:
    """One object out of a file."""

    file: str
    number: int
    body: dict[str, Any] = field(hash=False)
    item: int = 0
    """Its place in a List; 0: it is in none."""

    @property
    def kind(self) -> str:
        """The kind that it says it is."""
        return str(self.body.get("kind") or "")

    @property
    def group(self) -> str:
        """The API group that it says it is of."""
        group, slash, _ = str(self.body.get("apiVersion") or "").partition("/")
        return group if slash else ""

    @property
    def name(self) -> str:
        """Its name, or the beginning of the one that it will get."""
        metadata = self.body.get("metadata")
        found = metadata if isinstance(metadata, Mapping) else {}
        return str(found.get("name") or found.get("generateName") or "")

    @property
    def namespace(self) -> str:
        """The namespace that it names."""
        metadata = self.body.get("metadata")
        return str((metadata.get("namespace") if isinstance(metadata, Mapping) else "") or "")

    def __str__(self) -> str:
        place = f"{self.file}, document {self.number}" + (f", item {self.item}" if self.item else "")
        what = " ".join(part for part in (self.kind, self.name) if part)
        return f"{place} ({what})" if what else place

    def error(self, path: str, problem: str) -> ManifestError:
        """Return an error of the field *path*."""
        return ManifestError(f"{self}: {path}: {problem}" if path else f"{self}: {problem}")


@dataclass(frozen=True, slots=True)
class PodSource:
    """A pod, and where it comes from."""

    document: Document
    path: str
    """The field of the document that holds it; ``""``: the document is the pod."""
    pod: dict[str, Any] = field(hash=False)
    namespace: str = ""


# ---- YAML ------------------------------------------------------------------------------------------------------------


class _Twice(yaml.MarkedYAMLError):
    """A key that stands twice in one map."""


class _Loader(yaml.SafeLoader):
    """Reads what kubectl reads."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _map(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        text = key.value if isinstance(key, yaml.ScalarNode) else None
        if text is None:
            raise _Twice(None, None, "a key must be a text", key.start_mark)
        if text in seen and key.tag != "tag:yaml.org,2002:merge":
            raise _Twice(None, None, f"the key {text} stands twice", key.start_mark)
        seen.add(text)
    loader.flatten_mapping(node)
    return {key.value: loader.construct_object(value, deep=True) for key, value in node.value}


_Loader.add_constructor("tag:yaml.org,2002:map", _map)


def read_files(names: Iterable[str]) -> list[Document]:
    """Return the objects in files, in folders, and in standard input (``-``). Raises ManifestError."""
    found: list[Document] = []
    for name in names:
        for file in _files(name):
            found.extend(_documents(file, _text(file)))
    return found


def _files(name: str) -> list[str]:
    path = Path(name)
    if name == "-" or not path.is_dir():
        return [name]
    files = sorted(str(one) for one in path.iterdir() if one.suffix in _SUFFIXES)
    if not files:
        raise ManifestError(f"{name}: no file in it ends with {', '.join(_SUFFIXES)}")
    return files


def _text(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    except OSError as error:
        raise ManifestError(f"{name}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{name}: it is no text in UTF-8") from None


def _documents(name: str, text: str) -> Iterator[Document]:
    file = "standard input" if name == "-" else name
    number = 1
    loader: Any = _Loader(text)
    try:
        while loader.check_data():
            value = loader.get_data()
            if value is not None:  # nothing between two separators
                yield from _objects(file, number, value)
            number += 1
    except yaml.YAMLError as error:
        raise ManifestError(f"{file}, document {number}: {_yaml_problem(error)}") from None
    except RecursionError:
        raise ManifestError(f"{file}, document {number}: values are nested too deep") from None
    finally:
        loader.dispose()


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark is not None else problem


def _objects(file: str, number: int, value: Any) -> Iterator[Document]:
    if not isinstance(value, dict):
        raise ManifestError(f"{file}, document {number}: want an object with apiVersion and kind")
    document = Document(file, number, value)
    if not document.kind.endswith("List") or not isinstance(value.get("items"), list):
        yield document
        return
    for place, item in enumerate(value["items"], 1):
        if not isinstance(item, dict):
            raise document.error(f"items[{place - 1}]", "want an object")
        kind, version = document.kind.removesuffix("List"), value.get("apiVersion")
        typed = {"apiVersion": version, "kind": kind, **item} if kind else item
        yield Document(file, number, typed, item=place)


# ---- what is in it ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sorted:
    """The objects of all files by what they are to a preview."""

    pods: list[PodSource] = field(default_factory=list)
    sets: list[Document] = field(default_factory=list)
    namespaces: list[Document] = field(default_factory=list)
    others: list[Document] = field(default_factory=list)
    """They have no pods."""


def sort_out(documents: Iterable[Document]) -> Sorted:
    """Return the pods, sets and namespaces among *documents*. Raises ManifestError."""
    found = Sorted()
    for document in documents:
        for key in ("apiVersion", "kind"):
            if not isinstance(document.body.get(key), str) or not document.body[key]:
                raise document.error(key, "Required value")
        known = document.group, document.kind
        if known in _PATHS:
            found.pods.append(_pod(document, _PATHS[known]))
        elif known in _SURROUNDINGS:
            _check_metadata(document)
            (found.namespaces if known[1] == "Namespace" else found.sets).append(document)
        else:
            _mistyped(document)
            found.others.append(document)
    return found


def _check_metadata(document: Document) -> None:
    """Raise ManifestError for what counts as applied and has no name, or no labels that are any."""
    for error in type_errors(document.body.get("metadata"), _METADATA, "metadata"):
        raise document.error("", str(error))
    if not document.name:
        raise document.error("metadata.name", "Required value")


def _mistyped(document: Document) -> None:
    """Raise ManifestError for a kind that is nearly one with pods."""
    if document.kind in _KINDS:
        groups = sorted(group or "v1" for group, kind in (*_PATHS, *_SURROUNDINGS) if kind == document.kind)
        raise document.error(
            "apiVersion", f"{document.body['apiVersion']} has no {document.kind} with pods; want {' or '.join(groups)}"
        )
    near = [kind for kind in _KINDS if kind.casefold() == document.kind.casefold()]
    near = near or difflib.get_close_matches(document.kind, _KINDS, n=1, cutoff=_ALIKE)
    if near:
        raise document.error("kind", f"{document.kind} is no kind with pods; did you mean {near[0]}?")


def _pod(document: Document, path: tuple[str, ...]) -> PodSource:
    holder: Any = document.body
    shown = ""
    for key in path:
        if key not in holder:
            near = difflib.get_close_matches(key, holder, n=1)
            raise document.error(
                _join(shown, key), "Required value" + (f"; did you mean it by {near[0]}?" if near else "")
            )
        shown, holder = _join(shown, key), holder[key]
        if not isinstance(holder, dict):
            raise document.error(shown, "must be an object")
    _check(document, holder, _TEMPLATE if path else _POD, shown)
    if "spec" not in holder:
        near = difflib.get_close_matches("spec", holder, n=1)
        raise document.error(
            _join(shown, "spec"), "Required value" + (f"; did you mean it by {near[0]}?" if near else "")
        )
    if not path:
        return PodSource(document, "", document.body, document.namespace)
    metadata = {key: value for key, value in (holder.get("metadata") or {}).items() if key in ("labels", "annotations")}
    if document.name:
        metadata = {"generateName": f"{document.name}-", **metadata}
    spec = _with_claims(document, holder["spec"])
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    return PodSource(document, shown, pod, document.namespace)


def _with_claims(document: Document, spec: Any) -> Any:
    """Return the spec of a pod with the volumes that its set makes out of claim templates."""
    claims = document.body["spec"].get("volumeClaimTemplates") if document.kind in _WITH_CLAIMS else None
    if not isinstance(claims, list) or not isinstance(spec, dict):
        return spec
    for error in type_errors(claims, _CLAIMS, "spec.volumeClaimTemplates"):
        raise document.error("", str(error))
    names = [str((one.get("metadata") or {}).get("name") or "") for one in claims if one]
    own = [one for one in spec.get("volumes") or () if not isinstance(one, dict) or one.get("name") not in names]
    made = [{"name": n, "persistentVolumeClaim": {"claimName": f"{n}-{document.name}-0"}} for n in names]
    return {**spec, "volumes": [*own, *made]}


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _check(document: Document, value: dict[str, Any], kind: str, path: str) -> None:
    """Raise ManifestError for the first field that pods do not have, or that has the wrong type."""
    for wrong, key, names in _unknown(value, kind, path):
        near = difflib.get_close_matches(key, names, n=1)
        raise document.error(wrong, "there is no such field" + (f"; did you mean {near[0]}?" if near else ""))
    for error in type_errors(value, kind, path):
        raise document.error("", str(error).removeprefix("."))


def _unknown(value: Any, kind: str, path: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield fields that the type does not have: path, name, and the names that it has."""
    if kind.startswith("["):
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from _unknown(item, kind[1:-1], f"{path}[{index}]")
        return
    if not isinstance(value, dict):
        return
    if kind.startswith("{"):
        for key, item in value.items():
            yield from _unknown(item, kind[1:-1], f"{path}[{key}]")
        return
    try:
        known = fields(kind)
    except KeyError:
        return  # a scalar, or any JSON
    for key, item in value.items():
        if key not in known:
            yield _join(path, key), key, list(known)
        else:
            yield from _unknown(item, known[key].type, _join(path, key))
