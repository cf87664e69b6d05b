"""Reading what clients send: bodies, objects, fields, query strings. A refusal names what is wrong and loses nothing.

JSON is read strictly: UTF-8, no NaN or Infinity, no key twice, no number beyond 64 bits, nothing nested deeper than 64.
Fields are checked one by one, so that an answer lists every problem and not only the first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
import msgspec.inspect
from msgspec import Struct
from msgspec.structs import FieldInfo, fields
from starlette.requests import Request

from sightline_gateway.problems import FieldError, ProblemError

__all__ = ["object_from", "parse_object", "parse_query", "read_body"]

_T = TypeVar("_T", bound=Struct)

_MAX_DEPTH = 64
_MAX_INTEGER = 2**63 - 1
_MOST_DIGITS = 19
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_SHOWN_VALUE = 200
_SHOWN_NAME = 100
_SHOWN_ERRORS = 100
_LOOKED_INTO = 256
_SHARED_QUERY = 512
"""Bytes of a query string that is worth remembering."""
_NUMBER = re.compile(r"[0-9]{1,19}(\.[0-9]{1,9})?", re.ASCII)


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body; cut off while reading when it is larger than `limit`.

    Raises ProblemError, and starlette's ClientDisconnect.
    """
    kind = request.headers.get("content-type")
    if kind is not None:
        media = kind.partition(";")[0].strip().lower()
        if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
            raise ProblemError("unsupported_media_type", f"send application/json, not {media[:100] or 'nothing'}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError("unsupported_media_type", "send the body without content encoding")
    announced = request.headers.get("content-length", "")
    if _DIGITS.fullmatch(announced) and (len(announced) > _MOST_DIGITS or int(announced) > limit):
        raise _too_large(limit)
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > limit:
            raise _too_large(limit)
    return bytes(received)


def _too_large(limit: int) -> ProblemError:
    return ProblemError("body_too_large", f"the limit is {limit} bytes")


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object that `raw` is. Raises ProblemError `malformed_json`, `invalid_field`."""
    if not raw.strip():
        raise ProblemError("invalid_field", "the body must be a JSON object; it is empty", field="body")
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_integer
        )
        _check(value, 0)
    except UnicodeDecodeError as error:
        raise ProblemError("malformed_json", f"not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise ProblemError("malformed_json", f"nested deeper than {_MAX_DEPTH}") from None
    except json.JSONDecodeError as error:
        raise ProblemError("malformed_json", f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except ValueError as error:
        raise ProblemError("malformed_json", str(error)) from None
    if not isinstance(value, dict):
        raise ProblemError("invalid_field", "the body must be a JSON object", field="body")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:100]!r} appears twice in one object")
            seen.add(key)
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _integer(digits: str) -> int:
    # Measured before it is converted: converting a million digits is a denial of service.
    if len(digits) > 20 or abs(int(digits)) > _MAX_INTEGER:
        raise ValueError(f"the number {digits[:20]}… is beyond 64 bits")
    return int(digits)


def _check(value: Any, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested deeper than {_MAX_DEPTH}")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_text(key)
            _check(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth + 1)
    elif isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise ValueError("a number is beyond what JSON numbers can hold here")


def _check_text(value: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        # Legal in JSON's escapes, but it can never be UTF-8 again.
        raise ValueError("a string holds half of a surrogate pair") from None


def object_from(value: dict[str, Any], shape: type[_T]) -> _T:
    """`value` as a `shape`. Raises ProblemError `invalid_field` that lists all that is unknown, missing or wrong."""
    errors = list(_wrong_fields(value, shape, ""))
    if errors:
        raise _invalid(errors)
    return msgspec.convert(value, shape, strict=True)


def _wrong(value: Any, shape: Any, path: str) -> Iterator[FieldError]:
    """What is wrong with a value: of its fields or elements, each by its own path, where it has such."""
    struct = _struct_for(value, shape)
    if struct is not None:
        yield from _wrong_fields(value, struct, path + ".")
        return
    within: list[FieldError] = []
    element = _element_of(shape)
    if element is not None and isinstance(value, list):
        for index, inner in enumerate(value[:_LOOKED_INTO]):
            within += _wrong(inner, element, f"{path}[{index}]")
    yield from within
    if not within:
        try:
            msgspec.convert(value, shape, strict=True)
        except msgspec.ValidationError as error:
            yield _field_error(path, value, str(error))


def _wrong_fields(value: dict[str, Any], struct: type[Struct], prefix: str) -> Iterator[FieldError]:
    known = _fields_of(struct)
    for name in value:
        if name not in known and name != struct.__struct_config__.tag_field:
            yield FieldError(field=prefix + name[:_SHOWN_NAME], detail="unknown field")
    for name, field in known.items():
        if name in value:
            yield from _wrong(value[name], field.type, prefix + name)
        elif field.required:
            yield FieldError(field=prefix + name, detail="missing")


@cache
def _fields_of(struct: type[Struct]) -> dict[str, FieldInfo]:
    """The struct's fields by their names on the wire. Resolving annotations is slow, and they do not change."""
    return {field.encode_name: field for field in fields(struct)}


def _struct_for(value: Any, shape: Any) -> type[Struct] | None:
    """The struct among what `shape` allows that an object means to be, by its tag where there are several."""
    if not isinstance(value, dict):
        return None
    structs = _structs_of(shape)
    if len(structs) == 1:
        return structs[0]
    configs = ((struct, struct.__struct_config__) for struct in structs)
    return next((struct for struct, config in configs if value.get(config.tag_field) == config.tag), None)


@cache
def _structs_of(shape: Any) -> tuple[type[Struct], ...]:
    return tuple(part for part in _parts(shape) if isinstance(part, type) and issubclass(part, Struct))


@cache
def _element_of(shape: Any) -> Any:
    """What the elements of a list are, if `shape` allows a list."""
    return next((get_args(part)[0] for part in _parts(shape) if get_origin(part) is list), None)


def _parts(shape: Any) -> Iterator[Any]:
    """The alternatives of a union, each without what only annotates it."""
    if get_origin(shape) is Annotated:
        yield from _parts(get_args(shape)[0])
    elif get_origin(shape) in (Union, UnionType):
        for part in get_args(shape):
            yield from _parts(part)
    else:
        yield shape


def parse_query(raw: bytes, shape: type[_T]) -> _T:
    """A query string as a `shape`, which is frozen: who asks the same gets the same one.

    Every value is text, converted by the field's type. Raises like `object_from`.
    """
    # Clients that come back in a herd ask alike.
    return _shared_query(raw, shape) if len(raw) <= _SHARED_QUERY else _parsed_query(raw, shape)


@lru_cache(maxsize=1024)
def _shared_query(raw: bytes, shape: type[_T]) -> _T:
    return _parsed_query(raw, shape)


def _parsed_query(raw: bytes, shape: type[_T]) -> _T:
    known = _fields_of(shape)
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except (UnicodeDecodeError, ValueError):
        raise ProblemError("invalid_field", "the query string cannot be read", field="query") from None
    errors: list[FieldError] = []
    converted: dict[str, Any] = {}
    given: set[str] = set()
    for name, text in pairs:
        field = known.get(name)
        if field is None:
            errors.append(FieldError(field=name[:_SHOWN_NAME], detail="unknown query parameter"))
        elif name in given:
            errors.append(FieldError(field=name, detail="given twice"))
        else:
            given.add(name)
            try:
                converted[field.name] = _from_text(text, field)
            except (msgspec.ValidationError, ValueError) as error:
                errors.append(_field_error(name, text, str(error)))
    errors += [
        FieldError(field=name, detail="missing")
        for name, field in known.items()
        if field.required and name not in given
    ]
    if errors:
        raise _invalid(errors)
    return shape(**converted)


def _from_text(text: str, field: FieldInfo) -> Any:
    """The value a parameter's text stands for.

    int() and float() are too kind: they take blanks, signs, `_` and any script's digits.
    """
    kinds = _kinds(field.type)
    if kinds & {msgspec.inspect.IntType, msgspec.inspect.FloatType}:
        whole = msgspec.inspect.FloatType not in kinds
        if not _NUMBER.fullmatch(text) or (whole and "." in text):
            raise ValueError("must be a whole number" if whole else "must be a number")
        return msgspec.convert(int(text) if whole else float(text), field.type)
    return msgspec.convert(text, field.type)


@cache
def _kinds(shape: Any) -> set[type[msgspec.inspect.Type]]:
    info = msgspec.inspect.type_info(shape)
    return {type(part) for part in info.types} if isinstance(info, msgspec.inspect.UnionType) else {type(info)}


def _field_error(name: str, value: Any, message: str) -> FieldError:
    detail, _, path = message.partition(" - at `$")
    shown = value if len(repr(value)) <= _SHOWN_VALUE else msgspec.UNSET
    return FieldError(field=name + path.rstrip("`"), detail=detail, value=shown)


def _invalid(errors: list[FieldError]) -> ProblemError:
    first = errors[0]
    if len(errors) > _SHOWN_ERRORS:
        # A body full of nonsense is not worth an answer of many times its size.
        more = FieldError(field="body", detail=f"{len(errors) - _SHOWN_ERRORS} more like these")
        errors = [*errors[:_SHOWN_ERRORS], more]
    detail = "; ".join(f"{error.field}: {error.detail}" for error in errors)
    return ProblemError("invalid_field", detail, field=first.field, value=first.value, errors=tuple(errors))
