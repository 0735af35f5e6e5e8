"""Flags as Go programs take them, for options that are fields of a frozen dataclass.

Purpose: the mechanism below ``config.py``. A field made with :func:`option` knows its flag names, its environment
variables and its kind; this module reads command lines, the environment and a file into values, and prints them.

Guarantees:

* CFG1: one field is one option: flags, environment, help and documents come from it; its docstring is its help text.
* CFG2: ``--x=y``, ``--x y``, ``-x=y`` and ``-x y`` parse alike; a bool needs no value; durations are Go's, and are
  printed as Go prints them; ``_`` in a name counts as ``-``.
* CFG3: an option may have several names. Different values under two of them are an error, within one source.
* CFG5: every ConfigError names the flag, its value and the rule. An unknown flag comes with the nearest known one.

What this does not do: it knows no option, and checks no rule between two of them.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kruise.runtime.errors import ConfigError

ENV_PREFIX: Final = "KRUISE_"

_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SERVICE_LINK: Final = re.compile(r"(?:tcp|udp|sctp)://")


def parse_duration(text: str) -> float:
    """Return the seconds that a Go duration names. Raises ValueError.

    >>> parse_duration("1h30m"), parse_duration("5ms"), parse_duration("0")
    (5400.0, 0.005, 0.0)
    """
    sign, body = (-1.0, text[1:]) if text[:1] == "-" else (1.0, text.removeprefix("+"))
    if body == "0":
        return 0.0
    total, at = 0.0, 0
    for part in _DURATION.finditer(body):
        if part.start() != at:
            break
        total += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if not body or at != len(body):
        raise ValueError("want a duration such as 300ms, 15s, 2m or 1h30m")
    return sign * round(total, 9)


def format_duration(seconds: float) -> str:
    """Return *seconds* as Go prints a duration.

    >>> format_duration(120), format_duration(0.005), format_duration(5400), format_duration(0)
    ('2m0s', '5ms', '1h30m0s', '0s')
    """
    nanos = round(seconds * 1e9)
    if nanos == 0:
        return "0s"
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    if nanos < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1000), ("ns", 1)):
            if nanos >= size:
                return f"{sign}{_decimal(nanos, size)}{unit}"
    minutes, rest = divmod(nanos, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 1_000_000_000)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else f"{sign}{text}"


def _decimal(value: int, size: int) -> str:
    whole, part = divmod(value, size)
    digits = str(part).rjust(len(str(size)) - 1, "0").rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)


def parse_bool(text: str) -> bool:
    """Return what Go's ParseBool does. Raises ValueError."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError("want true or false")


def _parse_int(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError("want a whole number") from None


def _parse_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError("want a number") from None
    if not math.isfinite(number):
        raise ValueError("want a finite number")
    return number


def _show_number(number: float) -> str:
    return f"{number:g}"


@dataclass(frozen=True, slots=True)
class Kind:
    """How the values of an option are read and printed."""

    name: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str]
    gathers: bool = False
    """Given more than once, the values add up. Else the last one counts, as in Go."""


def _show_bool(value: bool) -> str:
    return "true" if value else "false"


def _parse_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _parse_pairs(text: str) -> tuple[tuple[str, bool], ...]:
    pairs = []
    for part in _parse_list(text):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ValueError("want pairs such as A=true,B=false")
        pairs.append((name.strip(), parse_bool(value.strip())))
    return tuple(pairs)


def _show_pairs(pairs: Sequence[tuple[str, bool]]) -> str:
    return ",".join(f"{name}={_show_bool(value)}" for name, value in pairs)


STRING: Final = Kind("string", str, str)
INT: Final = Kind("int", _parse_int, str)
NUMBER: Final = Kind("float", _parse_number, _show_number)
BOOL: Final = Kind("bool", parse_bool, _show_bool)
DURATION: Final = Kind("duration", parse_duration, format_duration)
LIST: Final = Kind("list", _parse_list, ",".join, gathers=True)
PAIRS: Final = Kind("mapStringBool", _parse_pairs, _show_pairs, gathers=True)


@dataclass(frozen=True, slots=True)
class Spec:
    """What a field of the options knows about itself."""

    names: tuple[str, ...]
    """Flag names without dashes, the first one is printed. Empty for an option of the environment alone."""
    kind: Kind
    env: tuple[str, ...] = ()
    """Environment variables beside the ``KRUISE_`` ones."""
    choices: tuple[str, ...] = ()
    least: float | None = None
    upstream: str = ""
    """OpenKruise's default, where it differs."""
    hidden: bool = False
    """For tests: parsed, but not in help and documents."""
    action: bool = False
    """Asks for something else than running: it is not part of a configuration."""


def option(default: Any, *names: str, kind: Kind, **rest: Any) -> Any:
    """Return a dataclass field that is an option; see :class:`Spec`."""
    return dataclasses.field(default=default, metadata={"option": Spec(names, kind, **rest)})


@dataclass(frozen=True, slots=True)
class Given:
    """One value, and where it stood."""

    value: Any
    origin: str
    """As the user wrote it: ``--metrics-addr=:8080``, ``KRUISE_V=4``, ``file.yaml: v: 4``."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A flag that is accepted and has no effect."""

    pattern: re.Pattern[str]
    why: str
    takes_value: bool = True


class FlagSet:
    """The options of one dataclass, readable from a command line, the environment and a mapping."""

    def __init__(self, options: type[Any], ignored: Sequence[Ignored] = ()) -> None:
        self.options = options
        self.specs: dict[str, Spec] = {
            f.name: f.metadata["option"] for f in dataclasses.fields(options) if "option" in f.metadata
        }
        self.defaults: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(options)}
        self._ignored = tuple(ignored)
        self._by_flag = {name: field for field, spec in self.specs.items() for name in spec.names}

    def from_argv(self, argv: Sequence[str]) -> tuple[dict[str, Given], list[str]]:
        """Return the fields that *argv* sets, and warnings for flags without effect. Raises ConfigError."""
        given: dict[str, dict[str, Given]] = {}
        warnings: dict[str, None] = {}
        words = list(argv)
        at = 0
        while at < len(words):
            word = words[at]
            at += 1
            if word == "--" and at == len(words):
                break
            if not word.startswith("-") or word.strip("-") == "" or word.startswith("---"):
                raise ConfigError(
                    f"{word!r}: unexpected argument; options look like --name=value{_bool_hint(words, at)}"
                )
            raw, equals, text = word.lstrip("-").partition("=")
            name = raw.replace("_", "-")
            field = self._by_flag.get(name)
            if field is None:
                ignored = self._ignored_flag(name)
                if ignored is None:
                    raise ConfigError(f"{_dashed(raw)}: unknown flag{self.hint(name)}; --help shows all")
                warnings[f"{_dashed(name)} has no effect: {ignored.why}"] = None
                if ignored.takes_value and not equals and at < len(words) and not words[at].startswith("-"):
                    at += 1
                continue
            spec = self.specs[field]
            if not equals:
                if spec.kind is BOOL:
                    text = "true"
                elif at < len(words):
                    text = words[at]
                    at += 1
                else:
                    raise ConfigError(f"{_dashed(name)}: needs a value of the kind {spec.kind.name}")
            value = self._parse(field, text, f"{_dashed(name)}={text}")
            before = given.setdefault(field, {}).get(name)
            if before is not None and spec.kind.gathers:
                value = Given(before.value + value.value, value.origin)
            given[field][name] = value
        return {field: self._one(values) for field, values in given.items()}, list(warnings)

    def from_env(self, env: Mapping[str, str]) -> tuple[dict[str, Given], list[str]]:
        """Return the fields that the environment sets, and warnings. An empty variable counts as not set."""
        found: dict[str, Given] = {}
        warnings: list[str] = []
        for field, spec in self.specs.items():
            if spec.action and spec.kind is BOOL:
                continue  # KRUISE_VERSION=1.2 in an image is no wish to see the version
            values: dict[str, Given] = {}
            own = [ENV_PREFIX + name.upper().replace("-", "_") for name in spec.names]
            for variable in (*own, *spec.env):
                text = env.get(variable, "")
                if not text:
                    continue
                if spec.kind is not STRING and _SERVICE_LINK.match(text):
                    # Kubernetes sets KRUISE_WEBHOOK_PORT=tcp://... in pods beside a Service of that name.
                    warnings.append(f"{variable}={text} is the link to a Service, and is not read as an option")
                    continue
                values[variable] = self._parse(field, text, f"{variable}={text}")
            if values:
                found[field] = self._one(values)
        return found, warnings

    def from_mapping(self, values: Mapping[str, Any], file: str) -> dict[str, Given]:
        """Return the fields that a configuration file sets; its keys are flag or field names. Raises ConfigError."""
        given: dict[str, dict[str, Given]] = {}
        for key, raw in values.items():
            name = str(key).replace("_", "-")
            field = self._by_flag.get(name) or (
                name.replace("-", "_") if name.replace("-", "_") in self.specs else None
            )
            if field is None or self.specs[field].action:
                raise ConfigError(f"{file}: {key}: unknown option{self.hint(name)}")
            if raw is None:
                continue
            text = _plain(raw)
            if text is None:
                raise ConfigError(f"{file}: {key}: want a {self.specs[field].kind.name}, not a {type(raw).__name__}")
            given.setdefault(field, {})[name] = self._parse(field, text, f"{file}: {key}: {text}")
        return {field: self._one(found) for field, found in given.items()}

    def hint(self, name: str) -> str:
        """Return "; did you mean ...?" for an unknown flag, or nothing when none is near."""
        shown = [n for field, spec in self.specs.items() if not spec.hidden for n in spec.names or (field,)]
        near = difflib.get_close_matches(name, shown, n=1, cutoff=0.6)
        return f"; did you mean --{near[0]}?" if near else ""

    def show(self, field: str, value: Any) -> str:
        """Return a value as it would stand behind its flag; ``""`` for one that is not set."""
        return "" if value is None else self.specs[field].kind.show(value)

    def docs(self) -> dict[str, str]:
        """Return the docstring of each field. Empty where the source is not there."""
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(self.options)))
        except (OSError, TypeError):
            return {}
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        docs = {}
        for node, after in itertools.pairwise(body):
            match node, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs[name] = inspect.cleandoc(text).replace("\n", " ")
        return docs

    def _parse(self, field: str, text: str, origin: str) -> Given:
        spec = self.specs[field]
        try:
            value = spec.kind.parse(text)
        except ValueError as error:
            raise ConfigError(f"{origin}: {error}") from None
        if spec.choices and value not in spec.choices:
            raise ConfigError(f"{origin}: want one of {', '.join(spec.choices)}")
        if spec.least is not None and value < spec.least:
            raise ConfigError(f"{origin}: want at least {spec.kind.show(spec.least)}")
        return Given(value, origin)

    @staticmethod
    def _one(given: Mapping[str, Given]) -> Given:
        first, *others = given.values()
        for other in others:
            if other.value != first.value:
                raise ConfigError(
                    f"{first.origin} and {other.origin} are two names of one option, and their values differ"
                )
        return first

    def _ignored_flag(self, name: str) -> Ignored | None:
        return next((one for one in self._ignored if one.pattern.fullmatch(name)), None)


def _dashed(name: str) -> str:
    return f"--{name}"


def _bool_hint(words: Sequence[str], at: int) -> str:
    if at >= 2 and words[at - 1] in ("true", "false") and words[at - 2].startswith("-"):
        return f" (a bool takes its value with an equals sign: {words[at - 2]}={words[at - 1]})"
    return ""


def _plain(value: Any) -> str | None:
    """Return a value of a YAML file as flag text; ``None`` for what no flag can take."""
    if isinstance(value, bool):
        return _show_bool(value)
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, Mapping):
        parts = [(str(k), _plain(v)) for k, v in value.items()]
        return None if any(v is None for _, v in parts) else ",".join(f"{k}={v}" for k, v in parts)
    if isinstance(value, Iterable):
        items = [_plain(item) for item in value]
        return None if any(item is None for item in items) else ",".join(str(item) for item in items)
    return None
