"""Convert a host's answers to values of declared types, or refuse them."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
Reader = Callable[[Any], Any]

LINE_MAX_BYTES = 64 << 20
#: Limit for the commas and brackets in a line: each can become an object many times its size in memory.
LINE_MAX_PARTS = 4_000_000
LINE_UNCOUNTED_BYTES = 1 << 20
SHOWN = 60


class Misshapen(ValueError):
    """A host's answer does not have the form that the operation returns."""


def _refuse_constant(name: str) -> float:
    raise Misshapen(f"{name} is no number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def decode_line(line: bytes) -> dict[str, Any]:
    """Return the JSON object in a line, in bounded memory; raise `Misshapen` for any other text."""
    if len(line) > LINE_UNCOUNTED_BYTES and sum(map(line.count, (b",", b"[", b"{"))) > LINE_MAX_PARTS:
        raise Misshapen(f"a line with more than {LINE_MAX_PARTS} values")
    try:
        document = _DECODER.decode(line.decode())
    except Misshapen:
        raise
    except RecursionError:
        raise Misshapen("a line that is nested too deeply") from None
    except ValueError:
        raise Misshapen(f"a line that is no JSON: {_show(line)}") from None
    if not isinstance(document, dict):
        raise Misshapen(f"a line that is no object: {_show(document)}")
    return document


def read_as(kind: type[T], value: Any) -> T:
    """Return ``value`` as ``kind``: a plain type, a container of types, or a dataclass with such fields.

    The only conversions are lists to tuples and sets, and whole numbers to floats; raise `Misshapen` for a
    value of another form.
    """
    reader: Callable[[Any], T] = reader_of(typing.cast(Hashable, kind))
    return reader(value)


@functools.cache
def reader_of(kind: Any) -> Reader:
    """Return a function that checks a value and converts it to ``kind``."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _union_reader(kind, [reader_of(argument) for argument in arguments])
    if origin is tuple and arguments[-1:] != (...,):
        return _pair_reader([reader_of(argument) for argument in arguments])
    if origin in (list, tuple, frozenset):
        return _list_reader(origin, reader_of(arguments[0]))
    if origin in (dict, Mapping):
        return _mapping_reader(reader_of(arguments[1]))
    if hasattr(kind, "from_answer"):
        read: Reader = kind.from_answer
        return read
    if dataclasses.is_dataclass(kind):
        return _fields_reader(typing.cast(Hashable, kind))
    raise TypeError(f"answers cannot be read as {kind!r}")


def read_fields(kind: type[T], document: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> T:
    """Return a dataclass from a mapping with exactly its fields; raise `Misshapen` if a field is wrong.

    The values in ``given`` replace those of the document and are not checked.
    """
    reader: Callable[..., T] = _fields_reader(typing.cast(Hashable, kind))
    return reader(document, given or {})


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _exactly(kind: type, name: str) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise Misshapen(f"{_show(value)} is no {name}")
        return value

    return read


def _read_float(value: Any) -> float:
    if type(value) not in (int, float) or abs(value) > 1e300 or not math.isfinite(value):
        raise Misshapen(f"{_show(value)} is no finite number")
    return float(value)


def _read_any(value: Any) -> Any:
    return value


def _read_mapping(value: Any) -> Any:
    if not isinstance(value, dict):
        raise Misshapen(f"{_show(value)} is no mapping")
    return value


_PLAIN: dict[Any, Reader] = {
    Any: _read_any,
    bool: _exactly(bool, "boolean"),
    int: _exactly(int, "whole number"),
    str: _exactly(str, "text"),
    types.NoneType: _exactly(types.NoneType, "null"),
    float: _read_float,
    dict: _read_mapping,
}


def _union_reader(kind: Any, readers: list[Reader]) -> Reader:
    def read(value: Any) -> Any:
        problem = Misshapen(f"{_show(value)} is no {kind}")
        for one in readers:
            try:
                return one(value)
            except Misshapen as error:
                problem = error if value is not None else problem
        raise problem

    return read


def _check_list(value: Any) -> None:
    if not isinstance(value, list | tuple):
        raise Misshapen(f"{_show(value)} is no list")


def _pair_reader(readers: list[Reader]) -> Reader:
    def read(value: Any) -> Any:
        _check_list(value)
        if len(value) != len(readers):
            raise Misshapen(f"{_show(value)} has not {len(readers)} entries")
        return tuple(one(entry) for one, entry in zip(readers, value, strict=True))

    return read


def _list_reader(container: Callable[[Any], Any], one: Reader) -> Reader:
    def read(value: Any) -> Any:
        _check_list(value)
        return container([one(entry) for entry in value])

    return read


def _mapping_reader(one: Reader) -> Reader:
    def read(value: Any) -> Any:
        return {key: _read_member(key, one, entry) for key, entry in _read_mapping(value).items()}

    return read


@functools.cache
def _fields_reader(kind: Any) -> Reader:
    """Return a function that converts a mapping with exactly a dataclass's fields to the dataclass."""
    hints = typing.get_type_hints(kind)
    readers = {field.name: reader_of(hints[field.name]) for field in dataclasses.fields(kind)}
    needed = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }

    def read(value: Any, given: Mapping[str, Any] = types.MappingProxyType({})) -> Any:
        document = _read_mapping(value)
        if missing := needed - document.keys():
            raise Misshapen(f"{', '.join(sorted(missing))} is missing")
        if unknown := document.keys() - readers.keys():
            raise Misshapen(f"unknown: {_show(sorted(unknown))}")
        return kind(
            **{
                name: given[name] if name in given else _read_member(name, readers[name], entry)
                for name, entry in document.items()
            }
        )

    return read


def _read_member(name: str, one: Reader, value: Any) -> Any:
    try:
        return one(value)
    except Misshapen as error:
        raise Misshapen(f"{name[:SHOWN]}: {error}") from None
