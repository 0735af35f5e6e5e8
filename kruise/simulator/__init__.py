"""The embedded cluster: an API server in memory, simulated nodes, and the checkers of what must always hold.

Purpose: run controllers without a cluster, deterministically if need be. Production code never imports it.

Guarantees: those of ``runtime.testing`` for time, TST1 and TST2 for the server; see each package.

What this does not do: it is no cluster for workloads; no container ever runs.
"""
