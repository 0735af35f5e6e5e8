"""The figures of a test run: as a table at the end, and as a JSON file.

Purpose: what ``performance.md`` asks to be published: seconds, CPU, memory and writes, of the run that just passed.

What this does not do: it compares nothing. Counts are asserted by the tests, exactly; times are only told.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

PATH_VARIABLE: Final = "KRUISE_E2E_REPORT"
"""Where the JSON file goes. Nowhere by default."""


@dataclass(slots=True)
class Report:
    """Rows of figures, by table."""

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, table: str, **figures: Any) -> None:
        """Add one row."""
        self.tables.setdefault(table, []).append(figures)

    def text(self) -> list[str]:
        """Return the tables as lines."""
        lines: list[str] = []
        for title, rows in self.tables.items():
            columns = list(dict.fromkeys(name for row in rows for name in row))
            cells = [columns, *([_show(row.get(name, "")) for name in columns] for row in rows)]
            widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
            lines += ["", title]
            lines += ["  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells]
        return lines

    def write(self) -> None:
        """Write the JSON file, when the environment names one."""
        if (path := os.environ.get(PATH_VARIABLE)) and self.tables:
            machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
            Path(path).write_text(json.dumps({"machine": machine, "tables": self.tables}, indent=1) + "\n")


def _show(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


REPORT: Final = Report()
