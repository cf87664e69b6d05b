"""The states of a turn machine. Each is plain data, and says itself what it waits for."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from sightline.turn.conversation import ConversationMessage, ToolCallPart, ToolResultPart
from sightline.turn.effects import Checkpoint, CheckpointKind, Done, Effect, Ending, ModelCall, ToolCalls

__all__ = [
    "Course",
    "Finished",
    "Ready",
    "State",
    "WaitingCheckpoint",
    "WaitingModel",
    "WaitingTools",
    "outstanding",
]


class Course(Struct, frozen=True, kw_only=True):
    """How far the turn has come.

    `effect_id` is that of the newest effect, `iteration` counts the model calls. Of `messages`, the first `told` were
    there at the start or have been told by Progress.
    """

    messages: tuple[ConversationMessage, ...] = ()
    told: int = 0
    iteration: int = 0
    effect_id: int = 0
    max_turns: int | UnsetType = UNSET
    context_window: int | UnsetType = UNSET


class Ready(Struct, frozen=True, kw_only=True, tag="ready"):
    course: Course = Course()


class WaitingModel(Struct, frozen=True, kw_only=True, tag="waiting_model"):
    """In a `final` call no tools are offered, and it ends the turn."""

    course: Course
    final: bool = False


class WaitingTools(Struct, frozen=True, kw_only=True, tag="waiting_tools"):
    """`calls` are those of the last message; `results` are the answers so far, as they came."""

    course: Course
    calls: tuple[ToolCallPart, ...]
    results: tuple[ToolResultPart, ...] = ()

    @property
    def open(self) -> tuple[ToolCallPart, ...]:
        """The calls that have not been answered."""
        answered = {result.call_id for result in self.results}
        return tuple(call for call in self.calls if call.call_id not in answered)


class WaitingCheckpoint(Struct, frozen=True, kw_only=True, tag="waiting_checkpoint"):
    course: Course
    kind: CheckpointKind


class Finished(Struct, frozen=True, kw_only=True, tag="finished"):
    course: Course
    ending: Ending


State = Ready | WaitingModel | WaitingTools | WaitingCheckpoint | Finished


def outstanding(state: State) -> tuple[Effect, ...]:
    """What the state waits for, or is there to tell. The one place where effects that are answered are made."""
    course = state.course
    match state:
        case Ready():
            return ()
        case WaitingModel(final=final):
            return (
                ModelCall(
                    effect_id=course.effect_id, iteration=course.iteration, messages=course.messages, final=final
                ),
            )
        case WaitingTools():
            return (ToolCalls(effect_id=course.effect_id, iteration=course.iteration, calls=state.open),)
        case WaitingCheckpoint(kind=kind):
            return (Checkpoint(effect_id=course.effect_id, iteration=course.iteration, kind=kind),)
        case Finished(ending=ending):
            return (Done(ending=ending, iteration=course.iteration, messages=course.messages[course.told :]),)
