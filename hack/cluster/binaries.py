"""Finds the control plane's binaries, and builds them once per machine where there are none.

Purpose: one call, :func:`ensure`, that returns a directory with etcd, kube-apiserver, kube-controller-manager,
kube-scheduler and kubectl.

Guarantees:

* ``KUBEBUILDER_ASSETS`` wins when it is set.
* A build lands in ``${XDG_CACHE_HOME:-~/.cache}/kruise/cluster/<version>/bin``, outside every working tree, by one
  rename: a reader sees a whole build or none. A lock file keeps two builds from running at once; the second waits and
  then uses what the first made.
* The build recipe is part of what is cached: a changed recipe builds again.
* Version stamps are linked in: without them ``/version`` says v0.0.0, and clients that read the minor version fail.

What this does not do: it never downloads binaries.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from hack.cluster import gomod
from hack.cluster.errors import ClusterError

COMPONENTS: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
HERE: Final = Path(__file__).resolve().parent
Say = Callable[[str], None]

_OTHERWISE: Final = (
    "Or set KUBEBUILDER_ASSETS to a directory that has " + ", ".join(COMPONENTS) + ". "
    "`make test` needs neither Go nor these binaries."
)
_TAGS: Final = "notest,grpcnotrace"  # upstream's own: no test-only code, and the linker may drop what nobody calls


def cache_root() -> Path:
    """Return the directory that holds one build per version."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "kruise" / "cluster"


def missing(directory: Path) -> list[str]:
    """Return the components that *directory* lacks."""
    return [name for name in COMPONENTS if not os.access(directory / name, os.X_OK)]


def version_of(directory: Path) -> str:
    """Return the version of the API server in *directory*, such as ``v1.37.2``. Raises ClusterError."""
    done = subprocess.run((str(directory / "kube-apiserver"), "--version"), text=True, capture_output=True, check=False)
    found = re.search(r"v\d+\.\d+\.\d+", done.stdout)
    if done.returncode != 0 or not found:
        raise ClusterError(f"{directory}/kube-apiserver --version: {(done.stderr or done.stdout).strip() or 'failed'}")
    return found[0]


def assets() -> Path | None:
    """Return what ``KUBEBUILDER_ASSETS`` names, or ``None``. Raises ClusterError when it is incomplete."""
    named = os.environ.get("KUBEBUILDER_ASSETS")
    if not named:
        return None
    directory = Path(named)
    if lacking := missing(directory):
        raise ClusterError(
            f"KUBEBUILDER_ASSETS={named} has no {', '.join(lacking)}: complete it, or unset it and let "
            "`python -m hack.cluster build` make all of them (that needs Go)"
        )
    return directory


def find(version: str = gomod.DEFAULT_VERSION) -> Path | None:
    """Return the binaries without building anything, or ``None``. Tests that need them skip on ``None``."""
    named = assets()
    if named is not None:
        return named
    directory = cache_root() / version
    return directory / "bin" if _complete(directory) else None


def ensure(version: str = gomod.DEFAULT_VERSION, *, say: Say = print) -> Path:
    """Return the directory of the binaries; build them first where that is needed. Raises ClusterError."""
    named = assets()
    if named is not None:
        return named
    if version.count(".") == 1:
        _need_go()
    version = gomod.resolve(version)
    directory = cache_root() / version
    if not _complete(directory):
        _need_go()
        with _lock(cache_root() / f"{version}.lock", say):
            if not _complete(directory):
                _build(version, directory, say)
    return directory / "bin"


def _need_go() -> None:
    if shutil.which("go") is None:
        raise ClusterError(
            "the control plane is built from Kubernetes' Go modules, and there is no `go` on PATH. Install Go "
            f"(https://go.dev/dl) and run this again. {_OTHERWISE}"
        )


def _complete(directory: Path) -> bool:
    recipe = directory / "recipe"
    return recipe.is_file() and recipe.read_text() == _recipe() and not missing(directory / "bin")


def _recipe() -> str:
    digest = hashlib.sha256()
    for part in ("cmd/kubeall/main.go", "gomod.py", "go.mod", "go.sum"):
        path = HERE / part
        digest.update(path.read_bytes() if path.is_file() else b"absent")
    digest.update(_TAGS.encode())
    return digest.hexdigest()


@contextlib.contextmanager
def _lock(path: Path, say: Say) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building the control plane; waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _build(version: str, directory: Path, say: Say) -> None:
    started = time.monotonic()
    say(f"building Kubernetes {version} from its Go modules, once per machine: minutes, 5 GB of Go caches when cold")
    work = Path(tempfile.mkdtemp(prefix=f"{version}.build-", dir=directory.parent))
    try:
        shutil.copytree(HERE / "cmd", work / "cmd")
        pinned = version == gomod.DEFAULT_VERSION and (HERE / "go.sum").is_file()
        if pinned:
            shutil.copy(HERE / "go.mod", work)
            shutil.copy(HERE / "go.sum", work)
        else:
            (work / "go.mod").write_text(gomod.render(version, gomod.released(version)))
        (work / "bin").mkdir()
        _compile(version, work, "readonly" if pinned else "mod", say)
        for name in COMPONENTS:
            (work / "bin" / name).symlink_to("kubeall")
        if version_of(work / "bin") != version:
            raise ClusterError(f"the build reports {version_of(work / 'bin')} instead of {version}")
        (work / "recipe").write_text(_recipe())
        if directory.exists():
            # An older recipe's build. Clusters that run from it keep their open files.
            stale = work.with_name(work.name + ".old")
            directory.rename(stale)
            shutil.rmtree(stale)
        work.rename(directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say(f"built in {time.monotonic() - started:.0f} s: {directory / 'bin'}")


def _compile(version: str, work: Path, mode: str, say: Say) -> None:
    minor = version.split(".")[1]
    flags = ["-s", "-w", "-buildid="]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        stamps = {
            "gitMajor": "1",
            "gitMinor": minor,
            "gitVersion": version,
            "gitCommit": "0" * 40,
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
        }
        flags += [f"-X {package}.{key}={value}" for key, value in stamps.items()]
    argv = ["go", "build", "-v", f"-mod={mode}", "-trimpath", "-buildvcs=false", "-tags", _TAGS]
    argv += ["-ldflags", " ".join(flags), "-o", "bin/kubeall", "./cmd/kubeall"]
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    output: list[str] = []
    with subprocess.Popen(argv, cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as go:
        done = threading.Event()
        reporter = threading.Thread(target=_report, args=(output, done, say), daemon=True)
        reporter.start()
        assert go.stdout is not None
        output.extend(line.rstrip() for line in go.stdout)
        code = go.wait()
        done.set()
        reporter.join()
    if code != 0:
        tail = "\n".join(line for line in output if " " in line and "downloading" not in line)
        raise ClusterError(f"go build failed:\n{tail[-4000:]}\n{_OTHERWISE}")


def _report(output: list[str], done: threading.Event, say: Say) -> None:
    started = time.monotonic()
    while not done.wait(10.0):
        modules = sum(line.startswith("go: downloading") for line in output)
        packages = len(output) - modules
        stage = "linking" if packages and output[-1].endswith("/cmd/kubeall") else "compiling"
        elapsed = time.monotonic() - started
        say(f"  {elapsed:4.0f} s: {modules} modules downloaded, {packages} packages compiled, {stage}")
