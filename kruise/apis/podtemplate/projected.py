"""Validation of files that are projected into a volume.

Purpose: keys of secrets and config maps, downward API files, tokens and trust bundles.

Guarantees: no two files of one projected volume may have one path; modes are 0 to 0777.

What this does not do: it does not look whether a key exists.
"""

from __future__ import annotations

from typing import Final

from kruise.apis import labels, selectors
from kruise.apis.fielderrors import FieldError, Plain, forbidden, go_quote, invalid, required, too_long
from kruise.apis.podtemplate.environment import VOLUME_FIELDS, validate_field_ref, validate_resource_ref
from kruise.apis.podtemplate.fields import Node, child, is_set, items, number, optional_number, text
from kruise.apis.podtemplate.security import local_descending_path

__all__ = ["validate_downward_file", "validate_key_paths", "validate_mode", "validate_projected"]

_MIN_TOKEN_SECONDS: Final = 600
_MAX_TOKEN_SECONDS: Final = 2**32
_CONFLICT: Final = "conflicting duplicate paths"
_DOMAIN_LIMIT: Final = 253
_SIGNER_LIMIT: Final = 253 + 253 + 63 + 2


def validate_mode(holder: Node, key: str, path: str) -> list[FieldError]:
    """Validate a file mode that may be unset."""
    mode = optional_number(holder, key)
    if mode is None or 0 <= mode <= 0o777:
        return []
    return [invalid(f"{path}.{key}", mode, "must be a number between 0 and 0777 (octal), both inclusive")]


def _validate_local_path(target: str, path: str) -> list[FieldError]:
    errors = local_descending_path(target, path)
    if target.startswith("..") and not target.startswith("../"):
        errors.append(invalid(path, target, "must not start with '..'"))
    return errors


def _validate_key_path(item: Node, path: str) -> list[FieldError]:
    errors = [required(f"{path}.{key}") for key in ("key", "path") if not text(item, key)]
    errors += _validate_local_path(text(item, "path"), f"{path}.path")
    return errors + validate_mode(item, "mode", path)


def validate_key_paths(listed: list[Node], path: str) -> list[FieldError]:
    """Validate the items of a secret or config map volume."""
    return [error for i, item in enumerate(listed) for error in _validate_key_path(item, f"{path}[{i}]")]


def validate_downward_file(item: Node, path: str) -> list[FieldError]:
    """Validate one downward API file; *path* is that of the volume source, without an index."""
    target = text(item, "path")
    errors = [] if target else [required(f"{path}.path")]
    errors += _validate_local_path(target, f"{path}.path")
    field_ref, resource_ref = child(item, "fieldRef"), child(item, "resourceFieldRef")
    if field_ref is not None:
        errors += validate_field_ref(field_ref, VOLUME_FIELDS, f"{path}.fieldRef")
        if resource_ref is not None:
            detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(invalid(path, "resource", detail))
    elif resource_ref is not None:
        errors += validate_resource_ref(resource_ref, f"{path}.resourceFieldRef", volume=True)
    else:
        errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return errors + validate_mode(item, "mode", path)


def validate_projected(source: Node, path: str) -> list[FieldError]:
    """Validate a projected volume."""
    errors = validate_mode(source, "defaultMode", path)
    taken: set[str] = set()

    def conflict(target: str, shown: str) -> list[FieldError]:
        found = [invalid(path, shown, _CONFLICT)] if target in taken else []
        taken.add(target)
        return found

    for i, projection in enumerate(items(source, "sources")):
        at, count = f"{path}.sources[{i}]", 0
        for key in ("secret", "configMap"):
            part = child(projection, key)
            if part is None:
                continue
            count += 1
            name = text(part, "name")
            if not name:
                errors.append(required(f"{at}.{key}.name"))
            for n, item in enumerate(items(part, "items")):
                errors += _validate_key_path(item, f"{at}.{key}.items[{n}]")
                errors += conflict(target, name) if (target := text(item, "path")) else []
        if (downward := child(projection, "downwardAPI")) is not None:
            count += 1
            for item in items(downward, "items"):
                errors += validate_downward_file(item, f"{at}.downwardAPI")
                errors += conflict(target, target) if (target := text(item, "path")) else []
        if (token := child(projection, "serviceAccountToken")) is not None:
            count += 1
            errors += _validate_token(token, f"{at}.serviceAccountToken", path)
        if (bundle := child(projection, "clusterTrustBundle")) is not None:
            count += 1
            errors += _validate_bundle(bundle, f"{at}.clusterTrustBundle")
            errors += conflict(text(bundle, "path"), text(bundle, "path"))
        if count > 1:
            errors.append(forbidden(at, "may not specify more than 1 volume type per source"))
    return errors


def _validate_token(token: Node, path: str, volume_path: str) -> list[FieldError]:
    seconds, at = number(token, "expirationSeconds"), f"{path}.expirationSeconds"
    errors: list[FieldError] = []
    if seconds < _MIN_TOKEN_SECONDS:
        errors.append(invalid(at, seconds, "may not specify a duration less than 10 minutes"))
    if seconds > _MAX_TOKEN_SECONDS:
        errors.append(invalid(at, seconds, "may not specify a duration larger than 2^32 seconds"))
    target = text(token, "path")
    if not target:
        errors.append(required(f"{volume_path}.path"))
    else:
        errors += _validate_local_path(target, f"{volume_path}.path")
    return errors


def _validate_bundle(bundle: Node, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    by_name, by_signer = is_set(bundle, "name"), is_set(bundle, "signerName")
    if by_name and by_signer:
        errors.append(invalid(path, Plain("clusterTrustBundle"), "only one of name and signerName may be used"))
    elif by_name:
        name = text(bundle, "name")
        if not name:
            errors.append(required(f"{path}.name", "must be a valid object name"))
        complaints = labels.prefixed(_bundle_name(name), "not a valid clustertrustbundlename: ")
        errors += [invalid(f"{path}.name", name, found) for found in complaints]
        if child(bundle, "labelSelector") is not None:
            detail = "labelSelector must be unset if name is specified"
            errors.append(invalid(f"{path}.labelSelector", Plain("labelSelector"), detail))
    elif by_signer:
        signer = text(bundle, "signerName")
        if not signer:
            errors.append(required(f"{path}.signerName", "must be a valid signer name"))
        errors += _validate_signer(signer, f"{path}.signerName")
        errors += selectors.validate(child(bundle, "labelSelector"), f"{path}.labelSelector")
    else:
        errors.append(required(path, "either name or signerName must be specified"))
    target = text(bundle, "path")
    if not target:
        errors.append(required(f"{path}.path"))
    return errors + _validate_local_path(target, f"{path}.path")


def _bundle_name(name: str) -> list[str]:
    signer, colon, rest = name.rpartition(":")
    if not signer:
        if colon:
            return ['ClusterTrustBundle without signer name must not have ":" in its name']
        return labels.dns1123_subdomain(name)
    return labels.dns1123_subdomain(rest)


def _validate_signer(signer: str, path: str) -> list[FieldError]:
    if not signer:
        return [required(path)]
    segments = signer.split("/")
    if len(segments) != 2:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid(path, signer, detail)]
    domain, name = segments
    errors = [too_long(path, _DOMAIN_LIMIT)] if len(domain.encode()) > _DOMAIN_LIMIT else []
    parts = domain.split(".")
    for part in parts:
        if complaints := labels.dns1123_label(part):
            errors += [invalid(path, domain, f"validating label {go_quote(part)}: {found}") for found in complaints]
            break
    if len(parts) < 2:
        errors.append(invalid(path, domain, "should be a domain with at least two segments separated by dots"))
    for part in name.split("."):
        if complaints := labels.dns1123_subdomain(part):
            errors += [invalid(path, name, f"validating label {go_quote(part)}: {found}") for found in complaints]
            break
    if len(signer.encode()) > _SIGNER_LIMIT:
        errors.append(too_long(path, _SIGNER_LIMIT))
    return errors
