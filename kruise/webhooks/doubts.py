"""What a refusal would rest on that the caches do not have yet: asked of the API server, once, before it is said.

Purpose: a set may name what was made a moment ago: its base, when it is a canary, or the revision that it injects. That
our cache lags is no fault of the user's.

Guarantees:

* What is allowed costs no request (performance 2.2): only what is missing is asked for, by name or by its labels.
* What cannot be asked for, for whatever reason, decides nothing: NotReady, and the failurePolicy decides (rule 31).

What this does not do: a conflict with a set that has gone a moment ago is told as a conflict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from kruise.apis.core import REVISIONS, ControllerRevision
from kruise.apis.labels import label_value
from kruise.apis.podtemplate.fields import child, is_set, text
from kruise.apis.sidecarset import CUSTOM_VERSION_LABEL, REVISION_SET_LABEL, SIDECARSETS
from kruise.apis.sidecarset_rules import V1BETA1, convert_sidecarset
from kruise.apis.sidecarset_validation import Surroundings
from kruise.controllers.sidecarset.match import canary_base
from kruise.runtime.client.client import Client
from kruise.runtime.errors import ApiError, DecodeError, NotFound, TransportError
from kruise.runtime.objects import Key
from kruise.runtime.webhook.admission import NotReady
from kruise.webhooks.feed import as_plain

__all__ = ["Doubts"]

_NAME: Final = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
"""What can be the name of an object; nothing else is asked for."""
_FAILURES: Final = (ApiError, TransportError, DecodeError)


class Doubts:
    """Asks for what the surroundings of a set lack."""

    def __init__(self, client: Client, namespace: str) -> None:
        """*namespace* is our own, where revisions are."""
        self._live = client.live
        self._namespace = namespace

    async def settle(self, obj: Mapping[str, Any], around: Surroundings) -> Surroundings:
        """Return *around* with what the set *obj* names and *around* lacks, as far as there is any. Raises NotReady."""
        new = convert_sidecarset(obj, V1BETA1)
        meta = child(new, "metadata") or {}
        revision = child(child(child(new, "spec"), "injectionStrategy"), "revision")
        try:
            around = await self._with_base(canary_base(child(meta, "annotations")), around)
            return await self._with_revision(text(meta, "name"), revision, around)
        except _FAILURES as error:
            raise NotReady(f"what the set names is not known yet, and cannot be asked for: {error}") from error

    async def _with_base(self, base: str, around: Surroundings) -> Surroundings:
        if not _NAME.fullmatch(base) or any(
            text(child(dict(one), "metadata"), "name") == base for one in around.others
        ):
            return around
        try:
            found = await self._live.get(SIDECARSETS, Key("", base))
        except NotFound:
            return around
        return replace(around, others=(*around.others, as_plain(found)))

    async def _with_revision(self, name: str, wanted: Mapping[str, Any] | None, around: Surroundings) -> Surroundings:
        node = None if wanted is None else dict(wanted)
        if is_set(node, "revisionName"):
            asked = text(node, "revisionName")
            if not _NAME.fullmatch(asked) or any(one.metadata.name == asked for one in around.revisions):
                return around
            try:
                found = await self._live.get(REVISIONS, Key(self._namespace, asked))
            except NotFound:
                return around
            return replace(around, revisions=(*around.revisions, found))
        if not is_set(node, "customVersion"):
            return around
        labels = {REVISION_SET_LABEL: name, CUSTOM_VERSION_LABEL: text(node, "customVersion")}
        odd = any(label_value(value) for value in labels.values())
        if odd or any(labels.items() <= one.metadata.labels.items() for one in around.revisions):
            return around
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        listed = await self._live.list(REVISIONS, namespace=self._namespace, label_selector=selector)
        fresh = [one for one in listed if isinstance(one, ControllerRevision)]
        return replace(around, revisions=(*around.revisions, *fresh)) if fresh else around
