"""Every workload of the simulation, by name.

What this does not do: it has none of its own; see ``scenario_workloads``, ``scenario_set_workloads``,
``scenario_sidecar_workloads`` and ``scenario_versions``.
"""

from __future__ import annotations

from typing import Final

from kruise.simulator.scenario_set_workloads import SET_WORKLOADS
from kruise.simulator.scenario_sidecar_workloads import SIDECAR_WORKLOADS
from kruise.simulator.scenario_versions import VERSION_WORKLOADS
from kruise.simulator.scenario_workloads import JOB_WORKLOADS, Workload

__all__ = ["WORKLOADS", "Workload"]

WORKLOADS: Final[dict[str, Workload]] = {
    **JOB_WORKLOADS,
    **SET_WORKLOADS,
    **SIDECAR_WORKLOADS,
    **VERSION_WORKLOADS,
}
