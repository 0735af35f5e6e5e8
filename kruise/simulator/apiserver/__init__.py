"""An API server in memory, faithful where controllers can tell the difference.

Purpose: tests, examples, the demo and the simulation run production code against it. ``server.py`` is the way in; each
other module is one room and can be read alone.

Guarantees: TST1 and TST2, room by room; the probes compare it with a real kube-apiserver (TST7).

What this does not do: see ``server.py``.
"""

from __future__ import annotations

from kruise.simulator.apiserver.call import Answer, Call, RequestLog
from kruise.simulator.apiserver.failure import Failure
from kruise.simulator.apiserver.frontend import Frontend
from kruise.simulator.apiserver.intercept import Chunk, Interceptor, Interceptors
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.apiserver.storage import Commit, Record
from kruise.simulator.apiserver.transport import InProcessTransport
from kruise.simulator.apiserver.webhooks import Caller, Target
from kruise.simulator.apiserver.webhooks_local import Fault, LocalCaller

__all__ = [
    "Answer",
    "ApiServer",
    "Call",
    "Caller",
    "Chunk",
    "Commit",
    "Failure",
    "Fault",
    "Frontend",
    "InProcessTransport",
    "Interceptor",
    "Interceptors",
    "LocalCaller",
    "Record",
    "RequestLog",
    "Target",
]
