"""Schemas for payloads: the part of JSON Schema that says what a value is, checked in a bounded time.

Why not a library: the one that is complete brings four packages and a compiled one along, for keywords that say little
about an event; and msgspec, which is here anyway, checks shapes that Python declares and none that come as data. What
is supported is what generators of schemas write: types, enumerations, bounds, members, elements, combinations, and
references inside the schema.

A keyword that is not known is refused when the schema comes. A constraint that is silently ignored would be a lie.
`pattern` is among the refused: a regular expression from outside can take for ever, and checks run where everybody
waits. `format` is an annotation, as the standard has it.

The time is bounded by counting: references can make a short schema mean a long one. So is the depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sightline.errors import InvalidInput, InvalidPayload

__all__ = ["check_payload", "check_schema"]

Schema = dict[str, Any] | bool

_MAX_STEPS = 100_000
_MAX_DEPTH = 64

_ANNOTATIONS = frozenset(
    (
        "$schema",
        "$id",
        "$comment",
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "format",
        "discriminator",
    )
)


def check_schema(schema: Any, field: str) -> None:
    """Refuse what is no schema, or one with keywords that would not be heeded. Raises InvalidInput."""
    _check_schema(schema, schema, field, 0)


def check_payload(payload: Any, schema: Schema) -> None:
    """Raises InvalidPayload with the pointer to the first value that the schema does not allow."""
    _Check(schema).value(payload, schema, "", 0)


# The schema itself


def _check_schema(schema: Any, root: Any, field: str, depth: int) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise InvalidInput(field, "must be a schema: an object or a boolean")
    if depth > _MAX_DEPTH:
        raise InvalidInput(field, "is nested too deeply")
    for keyword, value in schema.items():
        place = f"{field}/{_escaped(keyword)}"
        if keyword in _ANNOTATIONS:
            continue
        shape = _SHAPES.get(keyword)
        if shape is None:
            raise InvalidInput(place, "is no keyword that is supported")
        shape(value, root, place, depth + 1)


def _one(value: Any, root: Any, field: str, depth: int) -> None:
    _check_schema(value, root, field, depth)


def _several(value: Any, root: Any, field: str, depth: int) -> None:
    if not isinstance(value, list) or not value:
        raise InvalidInput(field, "must be a list of schemas")
    for index, schema in enumerate(value):
        _check_schema(schema, root, f"{field}/{index}", depth)


def _named(value: Any, root: Any, field: str, depth: int) -> None:
    if not isinstance(value, dict):
        raise InvalidInput(field, "must be an object of schemas")
    for name, schema in value.items():
        _check_schema(schema, root, f"{field}/{_escaped(name)}", depth)


def _types(value: Any, root: Any, field: str, depth: int) -> None:
    names = value if isinstance(value, list) else [value]
    if not names or any(not isinstance(name, str) or name not in _IS for name in names):
        raise InvalidInput(field, f"must be one or several of {', '.join(_IS)}")


def _listed(value: Any, root: Any, field: str, depth: int) -> None:
    if not isinstance(value, list):
        raise InvalidInput(field, "must be a list")


def _names(value: Any, root: Any, field: str, depth: int) -> None:
    if not isinstance(value, list) or any(not isinstance(name, str) for name in value):
        raise InvalidInput(field, "must be a list of names")


def _count(value: Any, root: Any, field: str, depth: int) -> None:
    if not _is_integer(value) or value < 0:
        raise InvalidInput(field, "must be a whole number that is not negative")


def _number(value: Any, root: Any, field: str, depth: int) -> None:
    if not _is_number(value):
        raise InvalidInput(field, "must be a number")


def _flag(value: Any, root: Any, field: str, depth: int) -> None:
    if not isinstance(value, bool):
        raise InvalidInput(field, "must be true or false")


def _anything(value: Any, root: Any, field: str, depth: int) -> None:
    pass


def _reference(value: Any, root: Any, field: str, depth: int) -> None:
    if not isinstance(value, str) or _referred(root, value) is None:
        raise InvalidInput(field, "must refer to a schema in the same one's $defs, as #/$defs/name")


_SHAPES: dict[str, Callable[[Any, Any, str, int], None]] = {
    "$defs": _named,
    "$ref": _reference,
    "additionalProperties": _one,
    "allOf": _several,
    "anyOf": _several,
    "const": _anything,
    "enum": _listed,
    "exclusiveMaximum": _number,
    "exclusiveMinimum": _number,
    "items": _one,
    "maxItems": _count,
    "maxLength": _count,
    "maxProperties": _count,
    "maximum": _number,
    "minItems": _count,
    "minLength": _count,
    "minProperties": _count,
    "minimum": _number,
    "not": _one,
    "oneOf": _several,
    "prefixItems": _several,
    "properties": _named,
    "required": _names,
    "type": _types,
    "uniqueItems": _flag,
}


def _referred(root: Any, reference: str) -> Schema | None:
    if reference == "#":
        whole: Schema = root
        return whole
    prefix, name = reference[: len("#/$defs/")], reference[len("#/$defs/") :]
    definitions = root.get("$defs") if isinstance(root, dict) else None
    if prefix != "#/$defs/" or not isinstance(definitions, dict):
        return None
    found: Schema | None = definitions.get(name.replace("~1", "/").replace("~0", "~"))
    return found


# Values


class _TooLong(InvalidPayload):
    """Nobody knows whether the payload is allowed, so no alternative may count it as not."""


class _Check:
    """One check of one payload: the schema that references lead into, and the steps that are left."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = _MAX_STEPS

    def value(self, value: Any, schema: Schema, at: str, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth > 2 * _MAX_DEPTH:
            raise _TooLong(at, "takes too long to be checked against its schema")
        if schema is True:
            return
        if schema is False:
            raise InvalidPayload(at, "is not allowed")
        if "$ref" in schema:
            target = _referred(self._root, schema["$ref"])
            assert target is not None, "a schema is checked before it is used"
            self.value(value, target, at, depth + 1)
        _check_itself(value, schema, at)
        if isinstance(value, dict):
            self._members(value, schema, at, depth)
        elif isinstance(value, list):
            self._elements(value, schema, at, depth)
        self._combinations(value, schema, at, depth)

    def _members(self, value: Mapping[str, Any], schema: dict[str, Any], at: str, depth: int) -> None:
        for name in schema.get("required", ()):
            if name not in value:
                raise InvalidPayload(at, f"must have {name!r}")
        known = schema.get("properties", {})
        others = schema.get("additionalProperties", True)
        for name, member in value.items():
            self.value(member, known.get(name, others), f"{at}/{_escaped(name)}", depth + 1)

    def _elements(self, value: Sequence[Any], schema: dict[str, Any], at: str, depth: int) -> None:
        first = schema.get("prefixItems", ())
        others = schema.get("items", True)
        for index, element in enumerate(value):
            self.value(element, first[index] if index < len(first) else others, f"{at}/{index}", depth + 1)

    def _combinations(self, value: Any, schema: dict[str, Any], at: str, depth: int) -> None:
        for each in schema.get("allOf", ()):
            self.value(value, each, at, depth + 1)
        if "anyOf" in schema and not any(self._allows(value, each, at, depth) for each in schema["anyOf"]):
            raise InvalidPayload(at, "is none of what is allowed here")
        if "oneOf" in schema and sum(self._allows(value, each, at, depth) for each in schema["oneOf"]) != 1:
            raise InvalidPayload(at, "must be exactly one of what is allowed here")
        if "not" in schema and self._allows(value, schema["not"], at, depth):
            raise InvalidPayload(at, "is what is not allowed here")

    def _allows(self, value: Any, schema: Schema, at: str, depth: int) -> bool:
        try:
            self.value(value, schema, at, depth + 1)
        except _TooLong:
            raise
        except InvalidPayload:
            return False
        return True


def _check_itself(value: Any, schema: dict[str, Any], at: str) -> None:
    """All that a schema says of a value without looking into it."""
    types = schema.get("type")
    if types is not None:
        names = types if isinstance(types, list) else [types]
        if not any(_IS[name](value) for name in names):
            raise InvalidPayload(at, f"must be {' or '.join(names)}")
    if "const" in schema and _identity(value) != _identity(schema["const"]):
        raise InvalidPayload(at, f"must be {schema['const']!r}")
    if "enum" in schema and _identity(value) not in map(_identity, schema["enum"]):
        raise InvalidPayload(at, f"must be one of {', '.join(map(repr, schema['enum']))}")
    if _is_number(value):
        _check_bounds(value, schema, at)
    elif isinstance(value, str):
        _check_size(len(value), schema, at, "Length", "characters")
    elif isinstance(value, dict):
        _check_size(len(value), schema, at, "Properties", "members")
    elif isinstance(value, list):
        _check_size(len(value), schema, at, "Items", "elements")
        if schema.get("uniqueItems") and len(set(map(_identity, value))) < len(value):
            raise InvalidPayload(at, "must not have an element twice")


def _check_bounds(value: float, schema: dict[str, Any], at: str) -> None:
    if "minimum" in schema and value < schema["minimum"]:
        raise InvalidPayload(at, f"must be at least {schema['minimum']}")
    if "maximum" in schema and value > schema["maximum"]:
        raise InvalidPayload(at, f"must be at most {schema['maximum']}")
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        raise InvalidPayload(at, f"must be more than {schema['exclusiveMinimum']}")
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        raise InvalidPayload(at, f"must be less than {schema['exclusiveMaximum']}")


def _check_size(size: int, schema: dict[str, Any], at: str, what: str, unit: str) -> None:
    if size < schema.get(f"min{what}", 0):
        raise InvalidPayload(at, f"must have at least {schema[f'min{what}']} {unit}")
    if f"max{what}" in schema and size > schema[f"max{what}"]:
        raise InvalidPayload(at, f"must have at most {schema[f'max{what}']} {unit}")


def _is_integer(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_IS: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_integer,
    "number": _is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _identity(value: Any) -> Any:
    """Equal for values that are equal in JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return frozenset((name, _identity(member)) for name, member in value.items())
    if isinstance(value, list):
        return tuple(map(_identity, value))
    return (isinstance(value, bool), value)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
