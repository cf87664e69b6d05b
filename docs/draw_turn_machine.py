"""Draws the turn machine from its own table. `make docs` keeps the page; a test compares it with the machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from sightline.turn.effects import Cancel, Input, ModelCall
from sightline.turn.machine import TABLE, Move
from sightline.turn.states import Finished, Ready, State

__all__ = ["page"]

_STATES: tuple[Any, ...] = get_args(State)
_INPUTS: tuple[Any, ...] = get_args(Input)

_INTRODUCTION = """\
# The turn machine

What a turn of the standard agent does next. [`turn/machine.py`](../core/sightline/turn/machine.py) decides and never
does: it is told one input, and answers with its next state and with effects for somebody to perform. This page is drawn
from the table it runs on; `make docs` draws it anew."""

_ROUND = """\
## The round

An edge is labelled with the input that takes it and, behind the stroke, with the condition, where there is a choice.
Cancelling, which leads from every other state to `{finished}`, is left out."""

_EVERYTHING = """\
## Every input in every state

A dash is a refusal (`wrong_state`): nothing changes, nothing is to be done. An answer to another effect than the one
that is out is refused too (`wrong_id`), and so is a tool result for a call that was not asked for (`unknown_call`) or
has been answered (`call_answered`)."""

_MOVES = """\
## Every move

Effects are performed in this order. A `{model_call}` beyond the limit of model requests is the final one: it offers no
tools, and its answer ends the turn."""


def page() -> str:
    """The whole page, without a newline at its end."""
    return "\n\n".join(
        [
            _INTRODUCTION,
            _ROUND.format(finished=_name(Finished)),
            "\n".join(_diagram()),
            _EVERYTHING,
            "\n".join(_matrix()),
            _MOVES.format(model_call=_name(ModelCall)),
            "\n".join(_moves()),
        ]
    )


def _diagram() -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {_name(Ready)}"
    edges: dict[tuple[Any, Any, Any], list[str]] = {}
    for state, given, move in _rows():
        edges.setdefault((state, move.to, given), []).append(move.when)
    for (state, to, given), conditions in edges.items():
        if given is not Cancel:
            label = " / ".join(filter(None, (_name(given), ", or ".join(conditions))))
            yield f"    {_name(state)} --> {_name(to)} : {label}"
    yield f"    {_name(Finished)} --> [*]"
    yield "```"


def _matrix() -> Iterator[str]:
    yield _row("", *(_code(given) for given in _INPUTS))
    yield _row(*["---"] * (len(_INPUTS) + 1))
    for state in _STATES:
        yield _row(_code(state), *(_cell(state, given) for given in _INPUTS))


def _cell(state: Any, given: Any) -> str:
    rule = TABLE.get((state, given))
    return "–" if rule is None else " or ".join(dict.fromkeys(_code(move.to) for move in rule.moves))


def _moves() -> Iterator[str]:
    yield _row("in", "told", "and", "goes to", "asking for")
    yield _row(*["---"] * 5)
    for state, given, move in _rows():
        yield _row(_code(state), _code(given), move.when, _code(move.to), ", ".join(map(_code, move.effects)))


def _rows() -> Iterator[tuple[Any, Any, Move]]:
    """Every move, in the order of the states and of the table."""
    for state in _STATES:
        for (begins, given), rule in TABLE.items():
            if begins is state:
                yield from ((state, given, move) for move in rule.moves)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _name(kind: Any) -> str:
    return str(kind.__struct_config__.tag)


def _code(kind: Any) -> str:
    return f"`{_name(kind)}`"


if __name__ == "__main__":
    print(page())
