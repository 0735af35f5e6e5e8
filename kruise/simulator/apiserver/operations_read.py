"""The verbs that read: get, list, watch.

Purpose: put the rooms together for a request that changes nothing. It waits for a version from the future, and for a
webhook that converts.

Guarantees:

* TST1: a read without a version shows what is committed; one with a version at least that.

What this does not do: the subresource ``scale`` is in ``scale.py``.
"""

from __future__ import annotations

from typing import Final

from kruise.runtime.clock import Clock, Random
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.failure import not_found, too_large_version, too_old
from kruise.simulator.apiserver.listing import FRESH_WAIT, Filter, check_options, list_page, parse_version
from kruise.simulator.apiserver.representation import encode, encode_list, included, negotiate
from kruise.simulator.apiserver.storage import Storage
from kruise.simulator.apiserver.watch import OneLine, Watch, error_line
from kruise.simulator.apiserver.webhooks_convert import read_back, shown

_DEFAULT_TIMEOUT: Final = (1800, 3600)


class Reads:
    """The reading verbs over one store."""

    def __init__(self, storage: Storage, clock: Clock, rng: Random) -> None:
        self.storage = storage
        self.clock = clock
        self.rng = rng
        self.gone_as_status = False
        """Answer a watch from a compacted version with the HTTP status 410 instead of an ERROR event."""

    async def get(self, call: Call) -> Answer:
        """GET of one object."""
        info = call.known
        form = negotiate(call.headers.get("accept", ""))
        version = call.query.get("resourceVersion", "")
        if version == "":
            record = self.storage.get(info.table, call.key)
        else:
            await self._fresh(call, parse_version(version, code=500))
            at = max(call.frontend.visible, self.storage.floor)
            record = self.storage.snapshot(info.table, at).records.get(call.key)
        if record is None:
            raise not_found(info.plural, info.group, call.name)
        call.before = call.after = str(record.rv)
        include = included(call.query)
        record = await read_back(record, info, call.version)
        return Answer(200, encode(record, info, call.version, form, now=self.clock.now(), include=include))

    async def list(self, call: Call) -> Answer:
        """GET of a collection."""
        info = call.known
        form = negotiate(call.headers.get("accept", ""))
        chosen = Filter.read(info, call.namespace, call.query)
        records, meta = await list_page(info, call.frontend, chosen, call.query)
        call.after = meta["resourceVersion"]
        include = included(call.query)
        records = await shown(records, info, call.version)
        return Answer(200, encode_list(records, info, call.version, form, meta, now=self.clock.now(), include=include))

    async def watch(self, call: Call) -> Answer:
        """GET of a collection with ``watch``."""
        info = call.known
        form = negotiate(call.headers.get("accept", ""))
        query = call.query
        check_options(query, watch=True)
        chosen = Filter.read(info, call.namespace, query)
        bookmarks = _flag(query.get("allowWatchBookmarks"))
        initial = _flag(query.get("sendInitialEvents"))
        version = query.get("resourceVersion", "")
        wanted = parse_version(version, code=500)
        seconds = int(query.get("timeoutSeconds") or 0) or self.rng.randint(*_DEFAULT_TIMEOUT)
        start: int | None = wanted or None
        at = self.storage.rv if version == "" else call.frontend.visible
        if initial:
            await self._fresh(call, at if version == "" else wanted)
            start, at = None, call.frontend.visible
        elif "sendInitialEvents" in query and start is None:
            start = at
        if start is not None and start < self.storage.floor:
            gone = too_old(start, self.storage.floor)
            if self.gone_as_status:
                raise gone
            return Answer(200, stream=OneLine(error_line(gone)))
        source = Watch(
            info,
            call.version,
            form,
            call.frontend,
            chosen,
            start=start,
            at=at,
            initial_end=initial and bookmarks,
            bookmarks=bookmarks,
            timeout=seconds,
            wall=self.clock.now,
            include=included(query),
        )
        return Answer(200, stream=source)

    async def _fresh(self, call: Call, wanted: int) -> None:
        if wanted and not await call.frontend.wait_for(wanted, FRESH_WAIT):
            raise too_large_version(wanted, call.frontend.visible)


def _flag(text: str | None) -> bool:
    return text is not None and text.lower() in ("1", "true", "")
