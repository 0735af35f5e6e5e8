"""YAML as kubectl prints it: what ``kubectl kustomize`` and our own renderer write is the same text.

Guarantees: keys are sorted; a string is quoted exactly where a YAML reader, of version 1.1 too, would take it for
something else; lists are not indented; text of several lines is a block. The output depends on the values alone.

What this does not do: no anchors, no comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

_NOT_TEXT: Final = re.compile(
    r"""[-+]?(0|[1-9][0-9_]*|0[0-7_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+)        # integers
      |[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?               # floats, with or without a point
      |[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)
      |[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?                             # numbers to the base 60
      |~|null|Null|NULL|
      |y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF|true|True|TRUE|false|False|FALSE
      |[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?                                 # dates""",
    re.VERBOSE,
)


LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's safe loader, ten times as fast, where PyYAML was built with it."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the library's signature
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None
    if "\n" in value:
        style = "|"
    elif _NOT_TEXT.fullmatch(value):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dump(documents: Iterable[Mapping[str, Any]]) -> str:
    """Return *documents* as one text, with ``---`` between them."""
    return "---\n".join(
        yaml.dump(dict(one), Dumper=_Dumper, default_flow_style=False, allow_unicode=True) for one in documents
    )


def load(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a file. Raises ValueError for one that is no mapping."""
    found = [one for one in yaml.load_all(path.read_text("utf-8"), Loader=LOADER) if one is not None]
    for one in found:
        if not isinstance(one, dict):
            raise ValueError(f"{path}: want mappings, got {type(one).__name__}")
    return found
