"""Functions as tools: what the model is told of them, and what becomes of a call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import pytest

from sightline.agents.standard.tools import Tool, ToolFailed, checked, tool
from sightline.session.model import Message
from sightline.startup_errors import (
    ToolRefused,
)
from sightline.testing.clock import ManualClock
from sightline.turn.agent import Turn


async def no_history(count: int) -> tuple[Message, ...]:
    return ()


def a_turn() -> Turn:
    return Turn(
        session_id="s",
        turn_id="t",
        attempt=1,
        input=(),
        policy={},
        clock=ManualClock(),
        emit=lambda activity, correlation: None,
        history=no_history,
    )


class Place(msgspec.Struct):
    name: str
    country: str = "FR"


@tool
async def weather(
    city: Annotated[str, msgspec.Meta(description="where", min_length=1)],
    days: int = 1,
    unit: Literal["C", "F"] = "C",
    near: Place | None = None,
) -> str:
    """What the weather will be.

    Asks nobody."""
    return f"{city} {days} {unit} {near}"


def test_the_model_is_told_what_the_signature_says() -> None:
    assert weather.spec.name == "weather"
    assert weather.spec.description == "What the weather will be.\n\nAsks nobody."
    schema = weather.spec.input_schema
    assert schema["type"] == "object"
    assert schema["required"] == ["city"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["city"] == {"type": "string", "description": "where", "minLength": 1}
    assert schema["properties"]["days"] == {"type": "integer", "default": 1}
    assert schema["properties"]["unit"] == {"enum": ["C", "F"], "default": "C"}
    assert schema["$defs"]["Place"]["properties"]["country"] == {"type": "string", "default": "FR"}


def test_name_and_description_can_be_given() -> None:
    @tool(name="other", description="something else", approval=True)
    def one() -> None: ...

    assert (one.spec.name, one.spec.description, one.approval) == ("other", "something else", True)
    assert one.spec.input_schema == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }


@pytest.mark.anyio
async def test_a_call_gets_what_the_hints_promise() -> None:
    assert await weather.run(a_turn(), {"city": "Oslo", "near": {"name": "Paris"}}) == (
        "Oslo 1 C Place(name='Paris', country='FR')"
    )
    assert await weather("Rome", 2) == "Rome 2 C None", "it stays the function it was"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ({}, "missing required field `city`"),
        ({"city": 7}, "Expected `str`, got `int` - at `$.city`"),
        ({"city": "x", "towns": 1}, "unknown field `towns`"),
        ({"city": ""}, "length >= 1"),
        ({"city": "x", "unit": "K"}, "Invalid enum value 'K' - at `$.unit`"),
        ('{"city": ', "Expected `object`, got `str`"),
        (["Oslo"], "Expected `object`, got `array`"),
        (None, "Expected `object`, got `null`"),
    ],
)
async def test_arguments_that_do_not_fit_are_told_to_the_model(args: Any, complaint: str) -> None:
    with pytest.raises(ToolFailed, match="the arguments do not fit") as error:
        await weather.run(a_turn(), args)
    assert complaint in str(error.value)


@pytest.mark.anyio
async def test_a_first_parameter_that_is_a_turn_gets_the_turn() -> None:
    @tool
    async def whose(turn: Turn, extra: str = "") -> str:
        return turn.session_id + extra

    assert list(whose.spec.input_schema["properties"]) == ["extra"]
    assert await whose.run(a_turn(), {"extra": "!"}) == "s!"


@pytest.mark.anyio
async def test_a_function_that_is_not_async_runs_in_a_thread() -> None:
    @tool
    def where() -> int:
        return threading.get_ident()

    assert await where.run(a_turn(), {}) != threading.get_ident()


class Opaque:
    pass


def untyped(city) -> None: ...  # type: ignore[no-untyped-def]
def opaque(thing: Opaque) -> None: ...
def many(*cities: str) -> None: ...
def anything(**cities: str) -> None: ...
def unknown(city: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def mixed(city: int | Opaque) -> None: ...
def undecided(city: Place | msgspec.Struct) -> None: ...


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (untyped, "its parameter city has no type"),
        (opaque, "its arguments have no JSON schema"),
        (many, "by name"),
        (anything, "by name"),
        (unknown, "Nowhere"),
        (mixed, "JSON schema"),
        (undecided, "JSON schema"),
        (lambda: None, "its name may have"),
    ],
)
def test_what_no_model_could_be_told_of_is_refused_by_name(function: Callable[..., Any], reason: str) -> None:
    with pytest.raises(ToolRefused) as error:
        tool(function)
    assert error.value.tool == function.__name__
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


async def nothing(turn: Turn, args: Any) -> None: ...


@pytest.mark.parametrize("schema", [{"type": "object", "default": object()}, {"type": "string"}, []])
def test_a_schema_that_is_no_json_object_is_refused(schema: Any) -> None:
    with pytest.raises(ToolRefused, match="'raw'"):
        Tool("raw", "", schema, nothing)


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ToolRefused, match="tool 'weather': there is another"):
        checked([weather, tool(name="weather")(lambda: None)])


def test_plain_functions_are_tools_too() -> None:
    def one() -> None: ...

    assert [made.name for made in checked([one, weather])] == ["one", "weather"]
