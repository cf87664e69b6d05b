"""The flush window: what is held back, what is joined, and what is never reordered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.observation.activities import Activity, AssistantProseDelta, ModelRequestStarted, ReasoningDelta
from sightline.testing.clock import ManualClock, settled
from sightline.turn.window import FlushWindow

pytestmark = pytest.mark.anyio


class Stage:
    def __init__(self, seconds: float = 0.1) -> None:
        self.shown: list[tuple[str, str, str]] = []
        self.clock = ManualClock()
        self.window = FlushWindow(self._show, self.clock, seconds)

    def _show(self, activity: Activity, correlation: str) -> None:
        self.shown.append(described(activity, correlation))

    def text(self, text: str, correlation: str = "c") -> None:
        self.window.show(AssistantProseDelta(text=text), correlation)


def described(activity: Activity, correlation: str) -> tuple[str, str, str]:
    kind = str(type(activity).__struct_config__.tag)
    text = activity.text if isinstance(activity, AssistantProseDelta | ReasoningDelta) else ""
    return (kind, text, correlation)


PROSE, THOUGHT, REQUEST = "assistant_prose_delta", "reasoning_delta", "model_request_started"


async def test_the_first_piece_goes_out_at_once_and_the_rest_together() -> None:
    stage = Stage()
    for piece in ("a", "b", "c"):
        stage.text(piece)
    assert stage.shown == [(PROSE, "a", "c")]
    await stage.clock.run_for(0.1)
    assert stage.shown[1:] == [(PROSE, "bc", "c")]
    stage.window.close()


async def test_pieces_that_come_apart_are_events_of_their_own() -> None:
    stage = Stage()
    for piece in ("a", "b"):
        stage.text(piece)
        await stage.clock.run_for(0.25)
    assert stage.shown == [(PROSE, "a", "c"), (PROSE, "b", "c")]
    assert stage.clock.sleepers == 0


async def test_a_stream_gives_an_event_for_every_window() -> None:
    stage = Stage(0.1)
    for number in range(50):
        stage.text(f"{number} ")
        await stage.clock.run_for(0.01)
    await stage.clock.run_for(0.2)
    assert "".join(text for _, text, _ in stage.shown).split() == [str(number) for number in range(50)]
    assert 5 <= len(stage.shown) <= 7


async def test_other_channels_correlations_and_activities_come_after_what_was_said_before() -> None:
    stage = Stage()
    stage.text("a")
    stage.text("b")
    stage.text("c")
    stage.window.show(ReasoningDelta(text="hm"), "c")
    stage.window.show(ReasoningDelta(text="m"), "c")
    stage.text("d", "d")
    stage.window.show(ModelRequestStarted(protocol_iteration=1), "e")
    assert stage.shown == [
        (PROSE, "a", "c"),
        (PROSE, "bc", "c"),
        (THOUGHT, "hmm", "c"),
        (PROSE, "d", "d"),
        (REQUEST, "", "e"),
    ]
    stage.window.close()


async def test_a_flush_shows_what_is_held_back_once() -> None:
    stage = Stage()
    stage.text("a")
    stage.text("b")
    stage.window.flush()
    stage.window.flush()
    await stage.clock.run_for(1)
    assert stage.shown == [(PROSE, "a", "c"), (PROSE, "b", "c")]


async def test_a_closed_window_forgets_what_it_held_and_leaves_no_task() -> None:
    stage = Stage()
    stage.text("a")
    stage.text("b")
    stage.window.close()
    stage.window.close()
    await settled()
    await stage.clock.run_for(1)
    assert stage.shown == [(PROSE, "a", "c")]
    assert stage.clock.sleepers == 0


async def test_no_event_gets_larger_than_a_bound_by_being_held_back() -> None:
    stage = Stage()
    stage.text("a")
    for _ in range(10):
        stage.text("x" * 30_000)
    stage.window.flush()
    assert max(len(text) for _, text, _ in stage.shown) <= 65_536
    assert sum(len(text) for _, text, _ in stage.shown) == 300_001
    stage.window.close()


async def test_text_that_no_event_can_hold_is_refused_to_whoever_says_it() -> None:
    stage = Stage()
    stage.text("a")
    with pytest.raises(UnicodeEncodeError):
        stage.text("\udcff")
    stage.text("b")
    stage.window.flush()
    assert stage.shown[1:] == [(PROSE, "b", "c")]
    stage.window.close()


_SAY = st.tuples(st.sampled_from([PROSE, THOUGHT, REQUEST]), st.text(max_size=3), st.sampled_from("cd"))
_STEPS = st.lists(st.one_of(_SAY, st.just("flush"), st.floats(0.01, 0.3)), max_size=40)


@given(_STEPS)
def test_joined_or_not_the_same_is_said_in_the_same_order(steps: list[tuple[str, str, str] | str | float]) -> None:
    make: dict[str, Callable[[str], Activity]] = {
        PROSE: lambda text: AssistantProseDelta(text=text),
        THOUGHT: lambda text: ReasoningDelta(text=text),
        REQUEST: lambda text: ModelRequestStarted(protocol_iteration=1),
    }

    async def play() -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
        stage, said = Stage(), []
        for step in steps:
            match step:
                case (kind, text, correlation):
                    activity = make[kind](text)
                    said.append(described(activity, correlation))
                    stage.window.show(activity, correlation)
                case float(seconds):
                    await stage.clock.run_for(seconds)
                case _:
                    stage.window.flush()
        stage.window.flush()
        stage.window.close()
        await settled()
        return said, stage.shown

    said, shown = asyncio.run(play())
    assert joined(shown) == joined(said)


def joined(shown: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    runs: list[tuple[str, str, str]] = []
    for kind, text, correlation in shown:
        if runs and kind != REQUEST and runs[-1][::2] == (kind, correlation):
            runs[-1] = (kind, runs[-1][1] + text, correlation)
        else:
            runs.append((kind, text, correlation))
    return runs
