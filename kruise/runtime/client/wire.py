"""How a call looks on the wire: method, path, query.

Purpose: the one place that builds paths.

Guarantees:

* TRA3: paths and queries are encoded here, and nobody encodes them again.
* A verb that works on one object has its name and, where there is one, its namespace. A delete without a name would be
  the deletion of a whole collection, which this project never sends; a name with a slash would be another resource.

What this does not do: it adds no headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from kruise.runtime.client.transport import Pool, Request
from kruise.runtime.objects import Resource

_NEEDS_NAME: Final = frozenset({"get", "update", "patch", "delete"})
_METHODS: Final = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
}


def make_request(
    verb: str,
    resource: Resource[Any],
    *,
    headers: Mapping[str, str],
    namespace: str = "",
    name: str = "",
    subresource: str = "",
    query: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout: float,
    pool: Pool,
    controller: str,
) -> Request:
    """Build a request. Raises ValueError for one that would mean something else than its verb says."""
    if verb not in _METHODS:
        raise ValueError(f"{resource}: verb {verb!r} is not one of {', '.join(_METHODS)}")
    if (verb in _NEEDS_NAME or subresource) and not name:
        raise ValueError(f"{resource}: {verb} needs the name of an object")
    if resource.namespaced and not namespace and (name or verb == "create"):
        raise ValueError(f"{resource}: {verb} needs the namespace of {name or 'the new object'}")
    where = namespace if resource.namespaced else ""
    path = resource.path(_segment(where), _segment(name), subresource)
    if query:
        path = f"{path}?{urlencode(query, quote_via=quote)}"
    return Request(
        method=_METHODS[verb],
        path=path,
        headers=headers,
        body=body,
        timeout=timeout,
        pool=pool,
        verb=verb,
        group=resource.group,
        resource=resource.plural,
        subresource=subresource,
        namespace=where,
        name=name,
        custom=resource.custom,
        controller=controller,
    )


def _segment(text: str) -> str:
    if text in (".", "..") or "/" in text or "%" in text:
        raise ValueError(f"{text!r} cannot be a name in a path")
    return quote(text, safe=":@!$&'()*+,;=~")


def selectors(labels: str, fields: str) -> dict[str, str]:
    """Return the query of two selectors; an empty one is left out."""
    query = {}
    if labels:
        query["labelSelector"] = labels
    if fields:
        query["fieldSelector"] = fields
    return query


def describe(request: Request) -> str:
    """Return *request* in words: ``patch pods/status default/web-0``."""
    place = "/".join(part for part in (request.namespace, request.name) if part)
    kind = f"{request.resource}/{request.subresource}" if request.subresource else request.resource
    return f"{request.verb} {kind} {place}".rstrip()
