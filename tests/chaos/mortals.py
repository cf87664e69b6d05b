"""Kernels that die at a place of their turn, each in a process of its own.

The nursery has everything imported, and forks a life out of itself for each line that it reads: a life costs some
milliseconds. It posts the one turn of its session, which is there already where an earlier life did so, and sees it
through, unless it was told a place: there it ends itself by SIGKILL.

    python -m tests.chaos.mortals FOLDER FORM
    > {"session": "s", "place": 3}
    < -9
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import sys
import traceback
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from sightline.agents.standard import StandardAgent, tool
from sightline.agents.standard.model import ModelEvent, ModelRequest
from sightline.errors import SessionExists
from sightline.kernel import Kernel, Limits
from sightline.queue.model import Draft, TextItem, TurnInput, TurnInputPayload
from sightline.stores.sqlite import SqliteStore
from sightline.testing.faults import Faults, faulty
from sightline.testing.models import ScriptedModel, calling, saying
from sightline.turn.agent import Agent, Turn
from sightline.turn.conversation import AssistantMessage

__all__ = ["ANSWERS", "NOTES", "Course"]

NOTES = ("a", "b", "c")
"""What every turn does to the world, each once."""
ANSWERS = {"plain": "One. abcDone.", "standard": "One. Two. All done."}
"""By the form of the agent: what it says."""

_CALLS = {"create_session", "load_session", "enqueue", "claim", "recall", "remember", "abandon", "commit"}
_SCRIPTS = (
    calling(("note", {"text": "a"}), ("note", {"text": "b"}), text="One. ", used=1),
    calling(("note", {"text": "c"}), text="Two. ", used=1),
    saying("All ", "done.", used=1),
)


class Course(Faults):
    """The places of a life: around every call of the store that matters, and wherever an agent says so."""

    def __init__(self, folder: Path, place: int | None) -> None:
        super().__init__()
        self.folder = folder
        self.place = place
        self.passed = 0

    def here(self) -> None:
        if self.passed == self.place:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed += 1

    def around(self, method: str, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if method not in _CALLS or not inspect.iscoroutinefunction(call):
            return call(*args, **kwargs)

        async def between() -> Any:
            self.here()
            result = await call(*args, **kwargs)
            self.here()
            return result

        return between()

    async def note(self, turn: Turn, name: str) -> str:
        """An effect, once in its turn; the folder's `effects` say when it was done, and when that was known."""

        def do() -> str:
            self.here()
            self._write(f"{turn.session_id} {name} done")
            self.here()
            return name

        noted: str = await turn.idempotent(name, do)
        self._write(f"{turn.session_id} {name} noted")
        self.here()
        return noted

    def _write(self, line: str) -> None:
        with (self.folder / "effects").open("a") as effects:
            effects.write(f"{line}\n")


def _plain(course: Course) -> Agent:
    async def agent(turn: Turn) -> None:
        turn.text("One. ")
        for name in NOTES:
            turn.text(await course.note(turn, name))
            await turn.checkpoint()
        turn.text("Done.")

    return agent


def _standard(course: Course) -> Agent:
    @tool
    async def note(turn: Turn, text: str) -> str:
        course.here()
        return await course.note(turn, text)

    return StandardAgent(model="test:one", client=_Model(course), tools=[note])


class _Model(ScriptedModel):
    """Says what comes next in the conversation."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self._course = course

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        said = sum(1 for message in request.messages if isinstance(message, AssistantMessage))
        async for event in ScriptedModel(_SCRIPTS[said]).stream(request):
            self._course.here()
            yield event


_FORMS: dict[str, Callable[[Course], Agent]] = {"plain": _plain, "standard": _standard}


async def _live(course: Course, form: str, session_id: str) -> None:
    store = SqliteStore.open(course.folder / "store.db", "NORMAL")
    kernel = Kernel(
        store=faulty(store, course),
        agent=_FORMS[form](course),
        limits=Limits(max_attempts=10, poll_interval=0.05),
    )
    try:
        await kernel.create_session(session_id)
    except SessionExists:
        pass  # by an earlier life
    payload = TurnInputPayload(TurnInput((TextItem("go"),)))
    written = await kernel.enqueue(Draft(session_id=session_id, payloads=(payload,), source_key="go"))
    await kernel.start()
    batch = await kernel.wait_for_batch(session_id, written.batch.batch_id, 20)
    await kernel.stop()
    await store.close()
    if batch.state.is_open:
        raise TimeoutError(f"{session_id} has not ended")


def _life(folder: Path, form: str, session_id: str, place: int | None) -> int:
    """How a life in a process of its own ended."""
    child = os.fork()
    if child == 0:
        os._exit(_lived(folder, form, session_id, place))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _lived(folder: Path, form: str, session_id: str, place: int | None) -> int:
    try:
        course = Course(folder, place)
        asyncio.run(_live(course, form, session_id))
        (folder / "passed").write_text(str(course.passed))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    return 0


def main() -> None:
    folder, form = Path(sys.argv[1]), sys.argv[2]
    for line in sys.stdin:
        wanted = json.loads(line)
        print(_life(folder, form, wanted["session"], wanted["place"]), flush=True)


if __name__ == "__main__":
    main()
