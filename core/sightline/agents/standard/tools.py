"""Python functions as tools: what the model is told of them follows from their signature.

A function's parameters are its arguments, its type hints the schema, its docstring the description. The arguments are
checked against the hints before the function sees them. What does not fit, like what the function raises, is the
model's to read: it is the only one who can do better. What a programmer got wrong is refused when the tool is made.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any, TypeVar, overload

import msgspec

from sightline.agents.standard.model import ToolSpec
from sightline.startup_errors import (
    ToolRefused,
)
from sightline.turn.agent import Turn
from sightline.turn.threads import in_thread

__all__ = [
    "CALL_KEY",
    "Tool",
    "ToolFailed",
    "ToolRun",
    "arguments_of",
    "check_arguments",
    "checked",
    "schema_of",
    "tool",
]

_A = TypeVar("_A", bound=msgspec.Struct)

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What all providers take."""

CALL_KEY: ContextVar[str] = ContextVar("call_key")
"""Within a call: what tells it from the other calls of its turn, in every attempt at it."""

ToolRun = Callable[[Turn, Any], Awaitable[Any]]
"""Runs one call: (turn, arguments as the model gave them) → output. Raises ToolFailed with words for the model."""


class ToolFailed(Exception):
    """A call came to nothing; the message is for the model."""


class Tool:
    """Something a model can call. Made by `@tool`, it can also be called as the function it was made of."""

    def __init__(
        self,
        name: str,
        description: str,
        input_schema: dict[str, Any],
        run: ToolRun,
        *,
        approval: bool = False,
        function: Callable[..., Any] | None = None,
    ) -> None:
        """Raises ToolRefused for a name that providers do not take, or a schema that is none of an object."""
        if not _NAME.fullmatch(name):
            raise ToolRefused(name, "its name may have letters, digits, _ and -, at most 64 of them")
        self.spec = ToolSpec(name=name, description=description, input_schema=_schema(name, input_schema))
        self.approval = approval
        self.run = run
        self._function = function

    @property
    def name(self) -> str:
        return self.spec.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:
            raise TypeError(f"tool {self.name} was not made of a function")
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<tool {self.name}>"


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    *, name: str | None = None, description: str | None = None, approval: bool = False
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    approval: bool = False,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a function, async or not; one that is not runs in a thread of its own.

    A first parameter annotated `Turn` gets the turn and is no argument; such a function is async. With `approval`
    somebody is asked before each call. Raises ToolRefused when its parameters cannot be described to a model.
    """

    def make(function: Callable[..., Any]) -> Tool:
        called = name or str(getattr(function, "__name__", ""))
        takes_turn = _takes_turn(called, function)
        arguments = arguments_of(called, function, given=int(takes_turn))
        about = description if description is not None else inspect.getdoc(function) or ""
        return Tool(
            called,
            about,
            schema_of(called, arguments),
            _runner(function, arguments, takes_turn),
            approval=approval,
            function=function,
        )

    return make if function is None else make(function)


def checked(tools: Iterable[Tool | Callable[..., Any]]) -> tuple[Tool, ...]:
    """The tools, plain functions made into some. Raises ToolRefused, also for two of the same name."""
    made = tuple(one if isinstance(one, Tool) else tool(one) for one in tools)
    names = [one.name for one in made]
    for name in names:
        if names.count(name) > 1:
            raise ToolRefused(name, "there is another one of that name")
    return made


def arguments_of(name: str, function: Callable[..., Any], *, given: int) -> type[msgspec.Struct]:
    """The struct that the arguments of the function are, but the first `given`, which are not the model's to give.

    Raises ToolRefused, by that name, for what no model could give.
    """
    parameters, hints = _signature(name, function)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for parameter in parameters[given:]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ToolRefused(name, f"a model cannot fill its parameter {parameter}: it gives arguments by name")
        if parameter.name not in hints:
            raise ToolRefused(name, f"its parameter {parameter.name} has no type")
        hint = hints[parameter.name]
        fields.append(
            (parameter.name, hint)
            if parameter.default is parameter.empty
            else (parameter.name, hint, parameter.default)
        )
    try:
        return msgspec.defstruct("arguments", fields, forbid_unknown_fields=True, kw_only=True)
    except (TypeError, ValueError) as error:
        raise ToolRefused(name, _line(error)) from error


def check_arguments(args: Any, arguments: type[_A]) -> _A:
    """The arguments as the hints have them. Raises ToolFailed for those that do not fit."""
    try:
        return msgspec.convert(args, arguments, str_keys=True)
    except msgspec.ValidationError as error:
        raise ToolFailed(f"the arguments do not fit: {error}") from error


def _takes_turn(name: str, function: Callable[..., Any]) -> bool:
    parameters, hints = _signature(name, function)
    if not parameters or hints.get(parameters[0].name) is not Turn:
        return False
    if not inspect.iscoroutinefunction(function):
        raise ToolRefused(name, "it takes the turn, which is no thing for another thread: it has to be async")
    return True


def _signature(name: str, function: Callable[..., Any]) -> tuple[list[inspect.Parameter], dict[str, Any]]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
        return parameters, typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, ValueError) as error:
        raise ToolRefused(name, _line(error)) from error


def schema_of(name: str, arguments: type[msgspec.Struct]) -> dict[str, Any]:
    """The arguments' JSON schema, the object itself at the top."""
    try:
        schema = msgspec.json.schema(arguments)
        msgspec.json.Decoder(arguments)
    except (TypeError, ValueError) as error:
        raise ToolRefused(name, f"its arguments have no JSON schema: {_line(error)}") from error
    definitions = dict(schema["$defs"])
    described = dict(definitions.pop(schema["$ref"].rpartition("/")[2]))
    described.pop("title", None)
    return {**described, "$defs": definitions} if definitions else described


def _schema(name: str, schema: Any) -> dict[str, Any]:
    """A copy of the schema as its readers have it."""
    try:
        copy = msgspec.json.decode(msgspec.json.encode(schema))
    except (TypeError, ValueError) as error:
        raise ToolRefused(name, f"its schema is no JSON: {_line(error)}") from error
    if not isinstance(copy, dict) or copy.get("type") != "object":
        raise ToolRefused(name, "its schema does not describe an object")
    return copy


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _runner(function: Callable[..., Any], arguments: type[msgspec.Struct], takes_turn: bool) -> ToolRun:
    waits = inspect.iscoroutinefunction(function)

    async def run(turn: Turn, args: Any) -> Any:
        fitting = check_arguments(args, arguments)
        named = {name: getattr(fitting, name) for name in arguments.__struct_fields__}
        if not waits:
            return await in_thread(f"tool {function.__name__}", lambda: function(**named))
        return await (function(turn, **named) if takes_turn else function(**named))

    return run
