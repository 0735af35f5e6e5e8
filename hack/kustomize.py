"""Render our kustomizations without kubectl: ``python -m hack.kustomize config/default``.

Purpose: ``make install``, ``deploy`` and ``build-installer`` work on a machine that has Python alone.

Guarantees:

* For every folder under ``config/`` the output is the text that ``kubectl kustomize`` prints; a test compares them
  where there is a kubectl.
* A kustomization that asks for more than this knows is an error that names the key, never a wrong result.

What this does not do: no name prefixes, no generators, no remote resources, no strategic merge patches. Our
kustomizations need resources, components, images and JSON patches.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from hack.kustomize_yaml import dump, load

ROOT: Final = Path(__file__).resolve().parents[1]
FILE: Final = "kustomization.yaml"
IMAGE: Final = "kruise-manager"
"""The name under which our image stands in the manifests."""

_API: Final = {
    "Kustomization": "kustomize.config.k8s.io/v1beta1",
    "Component": "kustomize.config.k8s.io/v1alpha1",
}
_KNOWN: Final = frozenset({"apiVersion", "kind", "resources", "components", "images", "patches"})

_ORDER: Final = (
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
)
_LAST: Final = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")

Manifest = dict[str, Any]


class KustomizeError(Exception):
    """A kustomization cannot be rendered; names file and key."""


def render(folder: Path | str, *, image: str = "") -> list[Manifest]:
    """Return the objects of a kustomization, in the order in which they are applied.

    *image* is the image of the manager, such as ``registry.example/kruise:1``; the placeholder by default. Raises
    KustomizeError.
    """
    objects = _Build().kustomization(Path(folder))
    if image:
        name, tag, digest = _parts(image)
        _images(objects, [{"name": IMAGE, "newName": name, "newTag": tag, "digest": digest}])
    return sorted(objects, key=_order)


def render_text(folder: Path | str, *, image: str = "") -> str:
    """Return :func:`render` as YAML."""
    return dump(render(folder, image=image))


def _order(one: Manifest) -> tuple[int, str, str, str]:
    kind, meta = one["kind"], one["metadata"]
    place = len(_ORDER) + (1 + _LAST.index(kind) if kind in _LAST else 0)
    if kind in _ORDER:
        place = _ORDER.index(kind)
    return place, f"{one['apiVersion']} {kind}", meta.get("namespace", ""), meta["name"]


class _Build:
    """One rendering: the folders that were read, so that a circle is found."""

    def __init__(self) -> None:
        self._open: list[Path] = []

    def kustomization(self, folder: Path, *, kind: str = "Kustomization", base: list[Manifest] | None = None) -> Any:
        path = folder.resolve() / FILE
        if path in self._open:
            raise KustomizeError(f"{path}: includes itself")
        self._open.append(path)
        try:
            return self._objects(path, _read(path, kind), base or [])
        finally:
            self._open.pop()

    def _objects(self, path: Path, found: Mapping[str, Any], base: list[Manifest]) -> list[Manifest]:
        objects = list(base)
        for resource in found.get("resources") or ():
            objects += self._resource(path, resource)
        if len(ids := [_id(one) for one in objects]) != len(set(ids)):
            twice = next(one for one in ids if ids.count(one) > 1)
            raise KustomizeError(f"{path}: {' '.join(filter(None, twice))} comes twice")
        for component in found.get("components") or ():
            objects = self.kustomization(path.parent / component, kind="Component", base=objects)
        for patch in found.get("patches") or ():
            _patch(path, objects, patch)
        _images(objects, found.get("images") or ())
        return objects

    def _resource(self, path: Path, name: str) -> list[Manifest]:
        target = path.parent / name
        if target.is_dir():
            inner: list[Manifest] = self.kustomization(target)
            return inner
        try:
            return load(target)
        except FileNotFoundError:
            raise KustomizeError(f"{path}: resources: there is no {name}") from None
        except (ValueError, yaml.YAMLError) as error:
            raise KustomizeError(f"{target}: {error}") from error


def _id(one: Manifest) -> tuple[str, str, str, str]:
    meta = one["metadata"]
    return one["apiVersion"], one["kind"], meta.get("namespace", ""), meta["name"]


def _read(path: Path, kind: str) -> Mapping[str, Any]:
    try:
        documents = load(path)
    except FileNotFoundError:
        raise KustomizeError(f"{path}: there is no such file") from None
    except (ValueError, yaml.YAMLError) as error:
        raise KustomizeError(f"{path}: {error}") from error
    if len(documents) != 1:
        raise KustomizeError(f"{path}: want one document")
    found = documents[0]
    if (found.get("apiVersion"), found.get("kind")) != (_API[kind], kind):
        raise KustomizeError(f"{path}: want apiVersion {_API[kind]} and kind {kind}")
    if unknown := sorted(set(found) - _KNOWN):
        raise KustomizeError(f"{path}: {', '.join(unknown)}: not known here; use kubectl kustomize")
    return found


# Images.


def _parts(image: str) -> tuple[str, str, str]:
    """Return name, tag and digest of an image reference."""
    rest, _, digest = image.partition("@")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
    return name, tag, digest


def _containers(one: Any) -> Iterator[dict[str, Any]]:
    if isinstance(one, dict):
        for key, value in one.items():
            if key in ("containers", "initContainers") and isinstance(value, list):
                yield from (container for container in value if isinstance(container, dict))
            yield from _containers(value)
    elif isinstance(one, list):
        for item in one:
            yield from _containers(item)


def _images(objects: Sequence[Manifest], changes: Sequence[Mapping[str, Any]]) -> None:
    for change in changes:
        for one in objects:
            if one["kind"] == "CustomResourceDefinition":
                continue
            for container in _containers(one):
                name, tag, digest = _parts(container.get("image", ""))
                if name != change["name"]:
                    continue
                name, tag = change.get("newName") or name, change.get("newTag") or tag
                digest = change.get("digest") or ("" if change.get("newTag") else digest)
                container["image"] = name + (f"@{digest}" if digest else f":{tag}" if tag else "")


# JSON patches (RFC 6902).


def _patch(path: Path, objects: list[Manifest], patch: Mapping[str, Any]) -> None:
    target = patch.get("target")
    if not target or set(patch) - {"target", "patch", "path"} or set(target) - {"kind", "name", "namespace"}:
        raise KustomizeError(f"{path}: patches: want a target with kind and name, and a JSON patch")
    if "path" in patch:
        loaded = yaml.safe_load((path.parent / patch["path"]).read_text("utf-8"))
    else:
        loaded = yaml.safe_load(patch["patch"])
    if not isinstance(loaded, list):
        raise KustomizeError(f"{path}: patches: not a JSON patch; strategic merge patches are not known here")
    hit = False
    for one in objects:
        found = {"kind": one["kind"], **one["metadata"]}
        if all(found.get(key) == value for key, value in target.items()):
            hit = True
            for operation in loaded:
                try:
                    _operate(one, operation)
                except (KeyError, IndexError, ValueError, TypeError) as error:
                    raise KustomizeError(f"{path}: patches: {operation}: does not apply: {error}") from error
    if not hit:
        raise KustomizeError(f"{path}: patches: no object is {target}")


def _operate(root: Manifest, operation: Mapping[str, Any]) -> None:
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    place: Any = root
    for part in way:
        place = place[int(part)] if isinstance(place, list) else place[part]
    kind, value = operation["op"], copy.deepcopy(operation.get("value"))
    if isinstance(place, list):
        index = len(place) if last == "-" else int(last)
        if kind == "add":
            place.insert(index, value)
            return
        at: Any = index
    else:
        at = last
        if kind == "add":
            place[at] = value
            return
    if kind == "remove":
        del place[at]
    elif kind == "replace":
        _ = place[at]  # it must be there
        place[at] = value
    elif kind == "test":
        if place[at] != value:
            raise ValueError(f"the value is {place[at]!r}")
    else:
        raise ValueError(f"operation {kind} is not known here")


def main(argv: Sequence[str] | None = None) -> int:
    """Print a kustomization; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hack.kustomize", description="render a kustomization of config/")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image", default="", help="image of the manager")
    args = parser.parse_args(argv)
    try:
        sys.stdout.write(render_text(args.folder, image=args.image))
    except KustomizeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
