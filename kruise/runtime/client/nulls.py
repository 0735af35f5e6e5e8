"""Let ``null`` read as absent.

Purpose: the API server returns ``lastTransitionTime: null`` and many more, and a field whose type is a plain string,
map or tuple refuses that. Go reads such a null as the zero value; here it reads as if the field were not there.

Guarantees:

* FRA10: a null is dropped wherever the type of the field does not take one. The text of a ``msgspec.Raw`` field is
  passed on byte by byte, with the nulls that stand in it, because somebody may hash it.

What this does not do: it leaves a null that is an element of an array, because dropping it would move its neighbours.
It runs only after a strict decode failed: types of hot objects say ``| None`` themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect as types

Text = bytes | msgspec.Raw
Clean = Callable[[Text], Text]

_NULL: Final = b"null"
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ELEMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(slots=True)
class _Field:
    takes_null: bool
    clean: Clean | None


@dataclass(slots=True)
class _StructCleaner:
    """Cleans the text of one Struct type. Filled after it is made, because types may contain themselves."""

    fields: dict[str, _Field] = field(default_factory=dict)

    def __call__(self, text: Text) -> Text:
        found = _members(text)
        if found is None:
            return text
        kept: dict[str, Text] = {}
        for name, value in found.items():
            known = self.fields.get(name)
            if known is None:
                continue
            if bytes(value) == _NULL:
                if known.takes_null:
                    kept[name] = value
            else:
                kept[name] = value if known.clean is None else known.clean(value)
        return _join(kept)


def _members(text: Text) -> dict[str, msgspec.Raw] | None:
    """Return the members of an object; ``None`` for anything else, which the decoder will name with its path."""
    try:
        return _MEMBERS.decode(text)
    except msgspec.DecodeError:
        return None


def _join(values: dict[str, Text]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(values))


def cleaner(struct: type[msgspec.Struct]) -> Clean:
    """Return a function that drops from a JSON text all nulls that *struct* does not take.

    A part that is not shaped like *struct* stays as it is. Bad UTF-8 raises UnicodeDecodeError, endless nesting
    RecursionError.
    """
    made: dict[type, _StructCleaner] = {}
    found = _clean_for(types.type_info(struct), made)
    assert found is not None
    return found


def _clean_for(kind: types.Type, made: dict[type, _StructCleaner]) -> Clean | None:
    kind = _without_none(kind)
    if isinstance(kind, types.StructType):
        if kind.cls not in made:
            one = made[kind.cls] = _StructCleaner()
            for f in kind.fields:
                one.fields[f.encode_name] = _Field(_takes_null(f.type), _clean_for(f.type, made))
        return made[kind.cls]
    if isinstance(kind, types.ListType | types.VarTupleType):
        inner = _clean_for(kind.item_type, made)
        return None if inner is None else _array(inner)
    if isinstance(kind, types.DictType):
        return _map(_Field(_takes_null(kind.value_type), _clean_for(kind.value_type, made)))
    return None


def _array(inner: Clean) -> Clean:
    def clean(text: Text) -> Text:
        try:
            found = _ELEMENTS.decode(text)
        except msgspec.DecodeError:
            return text
        return msgspec.Raw(msgspec.json.encode([inner(item) for item in found]))

    return clean


def _map(value: _Field) -> Clean:
    def clean(text: Text) -> Text:
        found = _members(text)
        if found is None:
            return text
        kept: dict[str, Text] = {}
        for name, item in found.items():
            if bytes(item) != _NULL:
                kept[name] = item if value.clean is None else value.clean(item)
            elif value.takes_null:
                kept[name] = item
        return _join(kept)

    return clean


def _alternatives(kind: types.Type) -> tuple[types.Type, ...]:
    return kind.types if isinstance(kind, types.UnionType) else (kind,)


def _takes_null(kind: types.Type) -> bool:
    takers: tuple[Any, ...] = (types.NoneType, types.AnyType, types.RawType)
    return any(isinstance(one, takers) for one in _alternatives(kind))


def _without_none(kind: types.Type) -> types.Type:
    rest = [one for one in _alternatives(kind) if not isinstance(one, types.NoneType)]
    return rest[0] if len(rest) == 1 else kind


_KNOWN: Final[dict[type, Clean]] = {}

S = TypeVar("S", bound=msgspec.Struct)


def decode_as(struct: type[S], text: Text) -> S:
    """Decode *text* as *struct*, reading a null that a field does not take as absent.

    For texts that are no objects of a stream, such as a pod template. Raises msgspec.ValidationError with the path of
    the field, msgspec.DecodeError, UnicodeDecodeError or RecursionError.
    """
    try:
        return msgspec.json.decode(text, type=struct)
    except msgspec.ValidationError:
        if struct not in _KNOWN:
            _KNOWN[struct] = cleaner(struct)
        return msgspec.json.decode(_KNOWN[struct](text), type=struct)
