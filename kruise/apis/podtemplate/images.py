"""Image references: the one normalisation in the project (rule 26 of the reliability rules).

Purpose: take ``registry:5000/team/tool:1.4@sha256:…`` apart as the container world does.

Guarantees: a reference that does not parse gives ``None``, never a guess. ``nginx`` means the tag ``latest``; a
reference with a digest and no tag has no tag.

What this does not do: it resolves nothing; two references may name one image and still differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["ImageReference", "default_pull_policy", "parse_image"]

_DOMAIN_PART: Final = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN: Final = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE: Final = re.compile(
    rf"(?P<name>(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_PATH_PART}(?:/{_PATH_PART})*))"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_BARE_HASH: Final = re.compile(r"[a-f0-9]{64}")
_DIGEST_SIZES: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_DEFAULT_DOMAIN: Final = "docker.io"
_NAME_LIMIT: Final = 255


@dataclass(frozen=True, slots=True)
class ImageReference:
    """The parts of a reference; ``name`` is normalised (``docker.io/library/nginx``)."""

    name: str
    tag: str
    digest: str


def _split_domain(reference: str) -> tuple[str, str]:
    head, slash, rest = reference.partition("/")
    looks_like_host = "." in head or ":" in head or head == "localhost" or head.lower() != head
    domain, path = (head, rest) if slash and looks_like_host else (_DEFAULT_DOMAIN, reference)
    if domain == "index.docker.io":
        domain = _DEFAULT_DOMAIN
    if domain == _DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return domain, path


def parse_image(reference: str) -> ImageReference | None:
    """Take *reference* apart; ``None`` when it is no valid reference."""
    if not reference.isascii() or _BARE_HASH.fullmatch(reference):
        return None
    domain, path = _split_domain(reference)
    repository = path.partition(":")[0]
    if repository.lower() != repository:
        return None
    match = _REFERENCE.fullmatch(f"{domain}/{path}")
    if match is None or not match["domain"] or len(match["path"]) > _NAME_LIMIT:
        return None
    digest, tag = match["digest"] or "", match["tag"] or ""
    if digest:
        algorithm, _, encoded = digest.partition(":")
        if _DIGEST_SIZES.get(algorithm) != len(encoded) or encoded.lower() != encoded:
            return None
    return ImageReference(match["name"], tag if tag or digest else "latest", digest)


def default_pull_policy(reference: str) -> str:
    """Return the pull policy that the core API chooses: ``Always`` for the tag ``latest``, else ``IfNotPresent``."""
    parsed = parse_image(reference)
    return "Always" if parsed is not None and parsed.tag == "latest" else "IfNotPresent"
