"""What came of many scenarios.

Purpose: add up the results of a list of seeds, for a report.

Guarantees:

* CLK4: a scenario that ran twice is counted, and so is whether both digests are the same.

What this does not do: it runs nothing and measures no real time; whoever runs the seeds does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from kruise.simulator.faults import CLASS_OF
from kruise.simulator.scenario import Result


@dataclass(slots=True)
class Tally:
    """What a campaign has seen."""

    scenarios: int = 0
    survived: int = 0
    virtual_seconds: float = 0.0
    steps: int = 0
    writes: int = 0
    doubled: int = 0
    identical: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Fault -> in how many scenarios it struck."""
    workloads: Counter[str] = field(default_factory=Counter)
    failures: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one result."""
        self.scenarios += 1
        self.survived += result.survived
        self.virtual_seconds += result.seconds
        self.steps += result.steps
        self.writes += result.writes
        self.faults.update(dict.fromkeys(result.struck, 1))
        self.workloads[result.workload] += 1
        if not result.survived:
            self.failures.append(result)

    def compare(self, result: Result, digest: str) -> None:
        """Count a second run of *result* with its *digest*."""
        self.doubled += 1
        self.identical += result.digest == digest

    def classes(self) -> list[str]:
        """Return the classes of the faults that struck."""
        names = {fault.value: cls for fault, cls in CLASS_OF.items()}
        return sorted({names[fault] for fault in self.faults})

    def summary(self) -> str:
        """Return what can be said, in a few lines."""
        kinds = len(self.faults)
        lines = [
            f"{self.survived}/{self.scenarios} scenarios survived, {len(self.failures)} failed",
            f"{len(self.workloads)} workloads, {kinds} kinds of faults of the classes {', '.join(self.classes())}",
            f"{self.writes} numbered writes, {self.steps} callbacks, {self.virtual_seconds:.0f} virtual seconds",
            f"{self.identical}/{self.doubled} double runs byte-identical",
        ]
        return "\n".join(lines)
