"""The agent of all worlds: it reads in the plan how it is to behave.

What it says follows from the texts it is given and from nothing else, so whoever reads the transcript knows what must
be there: all of it when the turn went well, a beginning of it otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from sightline.errors import StoreUnavailable
from sightline.process.kinds import FUNCTION
from sightline.queue.materializing import InputMessage
from sightline.session.model import Policy
from sightline.turn.agent import AgentError, Turn
from tests.sim.plan import Await, Plan, Post, ProcessPlan
from tests.sim.scripts import NAME, input_of

__all__ = ["ScriptedAgent"]


class ScriptedAgent:
    """`performed` and `heard` are called with session, turn and key: what it is about to do to the world, and what it
    got for an answer. `began` is called with the name and the id of a process.
    """

    def __init__(
        self,
        plan: Plan,
        performed: Callable[[str, str, str], None],
        heard: Callable[[str, str, str, str], None],
        began: Callable[[str, str], None],
    ) -> None:
        self._performed = performed
        self._heard = heard
        self._began = began
        self._processes = {process.name: process for process in plan.processes}
        self._posts = {step.name: step for client in plan.clients for step in client.steps if isinstance(step, Post)}
        self.readings = 0

    async def tools(self, session_id: str, policy: Policy) -> Sequence[dict[str, Any]]:
        """Other tools every time they are read."""
        self.readings += 1
        return [{"name": f"tool-{self.readings}", "description": "", "input_schema": {}}]

    def answers(self, texts: Sequence[str]) -> str:
        """All it says to these texts, undisturbed."""
        return "".join(self._piece(text, number) for text in texts for number in range(self._of(text).says))

    async def __call__(self, turn: Turn) -> None:
        posts = [(message.content, self._of(message.content)) for message in turn.input]
        try:
            for text, post in posts:  # grows at checkpoints
                await self._once(turn, text, post)
                for number in range(post.says):
                    turn.text(self._piece(text, number))
                    if number == 1:
                        await turn.messages(3)
                    await turn.sleep(post.sleep / post.says)
                    if post.checks:
                        posts += [(message.content, self._of(message.content)) for message in await _more(turn)]
                if not post.says and post.sleep:
                    await turn.sleep(post.sleep)
        except asyncio.CancelledError:
            stubborn = max((post.stubborn for _, post in posts), default=0.0)
            if stubborn:
                await turn.sleep(stubborn)
            raise
        ends = {post.ends for _, post in posts}
        if "fails" in ends:
            raise AgentError("as planned")
        if "exits" in ends:
            raise SystemExit(3)

    async def _once(self, turn: Turn, text: str, post: Post) -> None:
        if post.once:
            await self._effects(turn, f"{text}/before", post.once)
        if post.asks:
            answer = await turn.ask(f"{text}?", key=text)
            self._heard(turn.session_id, turn.turn_id, text, msgspec.json.encode(answer).decode())
        if post.once and post.asks:
            await self._effects(turn, f"{text}/after", post.once)
        for name in post.starts:
            await self._start(turn, self._processes[name])

    async def _start(self, turn: Turn, plan: ProcessPlan) -> str:
        """Begin a process, and those whose end it awaits before it."""
        ids = [await self._start(turn, self._processes[act.of]) for act in plan.acts if isinstance(act, Await)]
        kind, given = input_of(plan, ids)
        process_id = await turn.start_process(
            NAME,
            given["args"] if kind == FUNCTION else given,
            kind=kind,
            key=plan.name,
            label=plan.name,
            disposition=plan.disposition,
        )
        self._began(plan.name, process_id)
        return process_id

    async def _effects(self, turn: Turn, name: str, count: int) -> None:
        for number in range(count):
            key = f"{name}/{number}"

            async def effect(key: str = key) -> str:
                self._performed(turn.session_id, turn.turn_id, key)
                await turn.sleep(0.01)
                return key

            if await turn.idempotent(key, effect) != key:
                raise AssertionError(f"{key} came to something else")

    def _of(self, text: str) -> Post:
        return self._posts.get(text) or Post(name=text)

    @staticmethod
    def _piece(text: str, number: int) -> str:
        return f"{text}/{number} "


async def _more(turn: Turn) -> Sequence[InputMessage]:
    """What a checkpoint brings; nothing while the store is in trouble."""
    try:
        return await turn.checkpoint()
    except StoreUnavailable:
        return ()
