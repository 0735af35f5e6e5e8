"""Warnings that the API server sends along.

Purpose: say once what a deprecated field or a doubtful value means, not once per request.

Guarantees:

* RES5: each text is logged once and counted each time. The memory of texts is bounded.

What this does not do: it knows code 299 only, the one that Kubernetes uses.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final

from kruise.runtime.client.transport import Request
from kruise.runtime.log import get_logger
from kruise.runtime.metrics import Metrics

MOST: Final = 1000
"""How many texts are remembered; beyond them, the one not seen for longest is forgotten."""

_WARNING: Final = re.compile(r'(\d{3})\s+(?:\S+)\s+"((?:[^"\\]|\\.)*)"')
_ESCAPE: Final = re.compile(r"\\(.)")

log = get_logger("rest")


def parse_warnings(header: str) -> list[str]:
    r"""Return the texts of a ``Warning`` header.

    >>> parse_warnings('299 - "a \\"b\\"", 299 - "c", 199 - "not ours"')
    ['a "b"', 'c']
    """
    return [_ESCAPE.sub(r"\1", text) for code, text in _WARNING.findall(header) if code == "299"]


class Notices:
    """The warnings that one client has seen."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seen: OrderedDict[str, None] = OrderedDict()

    def take(self, header: str, request: Request) -> None:
        """Count the warnings of *header*, and log those that are new."""
        for text in parse_warnings(header):
            self._metrics.warnings.inc()
            if text in self._seen:
                self._seen.move_to_end(text)
                continue
            self._seen[text] = None
            if len(self._seen) > MOST:
                self._seen.popitem(last=False)
            log.warning("api server warning", text=text, verb=request.verb, resource=request.resource)
