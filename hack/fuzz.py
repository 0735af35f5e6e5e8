"""Search for a review that makes the wired webhooks fail: ``python -m hack.fuzz``.

    python -m hack.fuzz                         # a minute over all paths
    python -m hack.fuzz --seconds 600 /convert  # ten minutes over one
    python -m hack.fuzz --replay crash-1234     # what was found, once more

Purpose: the tests fuzz for seconds; this goes on for as long as one likes. With the optional extra ``fuzz`` (Atheris)
the search is guided by coverage and starts from the corpus in ``--corpus``, which it extends; without it, or with
``--plain``, reviews are spoiled at random, from a seed that is printed.

Guarantees: what is wrong with an answer is what ``tests/property/webhook_fuzz.py`` says (C8). An input that breaks a
rule is kept in a file, and the exit code is not 0.

What this does not do: it fixes nothing; put the body of what it finds into ``tests/property/webhook_corpus``.
"""

from __future__ import annotations

import argparse
import importlib
import io
import sys
import types
from pathlib import Path
from typing import Any, Final

import orjson

from kruise.runtime import log
from kruise.runtime.clock import Random, SystemClock

_COUNT: Final = 200
"""Reviews between two looks at the clock."""


def _library() -> Any:
    try:
        return importlib.import_module("atheris")
    except ImportError:
        return None


def split(paths: list[str], data: bytes) -> tuple[str, bytes]:
    r"""Return the path and the body that an input stands for: its first byte chooses the path.

    >>> split(["/a", "/b"], b"\x03{}")
    ('/b', b'{}')
    """
    return paths[(data[0] if data else 0) % len(paths)], data[1:]


def joined(paths: list[str], path: str, body: bytes) -> bytes:
    """Return the input that stands for *body* at *path*."""
    return bytes([paths.index(path)]) + body


class Search:
    """One search, over some of the paths."""

    def __init__(self, chosen: list[str], seed: int) -> None:
        self._fuzz = _harness()
        self.good: dict[str, list[Any]] = self._fuzz.beginnings()
        self.paths = sorted(self.good)
        self.chosen = chosen or self.paths
        self.rng = Random(seed)

    def wired(self, use: Any) -> None:
        """Run *use* with the webhooks."""
        log.configure(stream=io.StringIO(), level="error")
        self._fuzz.wired(use)

    def draw(self) -> bytes:
        """Return an input: a good review that is spoiled somewhere."""
        path = self.chosen[self.rng.randrange(len(self.chosen))]
        reviews = self.good[path]
        while True:
            try:
                return joined(self.paths, path, orjson.dumps(self.spoiled(reviews[self.rng.randrange(len(reviews))])))
            except TypeError:  # an integer that orjson does not write
                continue

    def spoiled(self, review: Any) -> Any:
        """Return *review* with other values in some places."""
        return self._fuzz.spoiled(review, self.rng)

    def one(self, answer: Any, data: bytes) -> None:
        """Throw one input at the webhooks. Raises AssertionError."""
        path, body = split(self.paths, data)
        self._fuzz.check(path, body, answer(path, body))

    def mutated(self, library: Any, data: bytes, size: int, seed: int) -> bytes:
        """Return another input: now and then with other values, else with other bytes."""
        if seed % 2 and data:
            try:
                read = orjson.loads(data[1:])
                if isinstance(read, dict):
                    return (data[:1] + orjson.dumps(self.spoiled(read)))[:size]
            except (orjson.JSONDecodeError, TypeError):
                pass
        changed: bytes = library.Mutate(data, size)
        return changed


def _harness() -> types.ModuleType:
    return importlib.import_module("tests.property.webhook_fuzz")


def plain(search: Search, seconds: float) -> int:
    """Search without a guide; return the exit code."""
    clock = SystemClock()
    found: list[int] = []

    def use(answer: Any) -> None:
        end = clock.monotonic() + seconds
        count = 0
        while clock.monotonic() < end:
            for _ in range(_COUNT):
                data = search.draw()
                try:
                    search.one(answer, data)
                except AssertionError as error:
                    found.append(_keep(data, error))
                    return
            count += _COUNT
        print(f"{count} reviews were answered as they should be", flush=True)

    search.wired(use)
    return 1 if found else 0


def _keep(data: bytes, error: AssertionError) -> int:
    name = Path(f"crash-{len(data)}-{sum(data) % 65536}")
    name.write_bytes(data)
    print(f"{error}\nthe input is kept: python -m hack.fuzz --replay {name}", flush=True)
    return 1


def replay(search: Search, names: list[str]) -> int:
    """Throw the inputs in files at the webhooks; return the exit code."""
    failed: list[str] = []

    def use(answer: Any) -> None:
        for name in names:
            data = Path(name).read_bytes()
            path, body = split(search.paths, data)
            try:
                search.one(answer, data)
            except AssertionError as error:
                failed.append(name)
                print(f"{name}: {path} {body[:200]!r}...: {error}", flush=True)

    search.wired(use)
    return 1 if failed else 0


def guided(library: Any, search: Search, seconds: float, corpus: Path) -> None:
    """Search by coverage; does not return, except by the end of the process."""
    corpus.mkdir(parents=True, exist_ok=True)
    for path in search.chosen:
        for i, review in enumerate(search.good[path]):
            name = corpus / f"good-{path.strip('/')}-{i}"
            name.write_bytes(joined(search.paths, path, orjson.dumps(review)))

    def use(answer: Any) -> None:
        flags = [f"-max_total_time={int(seconds)}", "-max_len=65536", "-print_final_stats=1", str(corpus)]
        library.Setup(
            [sys.argv[0], *flags],
            lambda data: search.one(answer, data),
            custom_mutator=lambda data, size, seed: search.mutated(library, data, size, seed),
        )
        library.Fuzz()

    search.wired(use)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hack.fuzz", description="fuzz the wired webhooks")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="these paths only, such as /mutate-pod")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long")
    parser.add_argument("--seed", type=int, default=1, help="of the search without Atheris")
    parser.add_argument("--plain", action="store_true", help="without Atheris, also where it is installed")
    parser.add_argument("--corpus", type=Path, default=Path(".fuzz"), help="where Atheris keeps what it has found")
    parser.add_argument("--replay", nargs="+", default=[], metavar="FILE", help="inputs that were kept")
    args = parser.parse_args(argv)
    library = None if args.plain or args.replay else _library()
    if library is not None:
        with library.instrument_imports(include=["kruise.webhooks", "kruise.apis", "kruise.runtime.webhook"]):
            _harness()
    search = Search(args.paths, args.seed)
    unknown = [path for path in args.paths if path not in search.paths]
    if unknown:
        parser.error(f"nobody answers at {', '.join(unknown)}; there are {', '.join(search.paths)}")
    if args.replay:
        return replay(search, args.replay)
    if library is not None:
        guided(library, search, args.seconds, args.corpus)
        return 0
    print(f"without Atheris (the extra `fuzz`): reviews are spoiled at random, seed {args.seed}", flush=True)
    return plain(search, args.seconds)


if __name__ == "__main__":
    raise SystemExit(main())
