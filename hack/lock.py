"""Update the pinned, hashed dependencies: ``python -m hack.lock``, which ``make lock`` calls.

Resolves ``requirements/*.in`` for every supported Python and platform into ``requirements/*.lock``. The resolver is
installed into a throw-away environment, so the development environment holds what the lock says and nothing else.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
RESOLVER: Final = "uv>=0.9"


def main() -> int:
    """Write the lock files; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        tools = Path(folder) / "bin"
        subprocess.run([tools / "pip", "install", "--quiet", "--disable-pip-version-check", RESOLVER], check=True)
        for source in sorted((ROOT / "requirements").glob("*.in")):
            target = source.with_suffix(".lock")
            subprocess.run(
                [
                    *(
                        tools / "uv",
                        "pip",
                        "compile",
                        "--quiet",
                        "--upgrade",
                        "--universal",
                        "--python-version",
                        "3.11",
                    ),
                    *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"),
                    *("-o", target, source),
                ],
                check=True,
                cwd=ROOT,
            )
            print(f"wrote {target.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
