"""The engine `session_turn`: a turn of a session of its own, as a process: a sub-agent.

The session is called after the process, unless another one is named, and the turn's work has a key that is made of the
process's id. So an attempt that comes after a crash finds what the one before it began, and waits for that. While it
waits the process takes no place from others, and the turn is one of the many that its session's runner runs: a parent
that awaits it does not stand in its way.

What the process comes to is what the turn answered. What the turn used is counted to the session that the process
belongs to, as from `child:<session id>`, once. Who cancels the process cancels the turn.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from msgspec import UNSET, UnsetType

from sightline.errors import NotFound, SessionDeleted, SessionExists
from sightline.observation.model import Observation
from sightline.persevering import finish
from sightline.process.engine import ProcessWork
from sightline.process.kinds import child_session_of
from sightline.process.model import CancelledOutput, FailureOutput, ProcessRecord, SuccessOutput
from sightline.queue.model import Batch, BatchState, Draft, TextItem, TurnInput, TurnInputPayload
from sightline.session.model import Failure, MessagePage, Metadata, Policy

__all__ = ["SessionTurnEngine", "Sessions"]

_LOOK_SECONDS = 30.0
"""So often it is asked again whether the turn has ended, in case nobody told."""
_STOPPING_SECONDS = 3.0
"""How long a process that is cancelled waits for its turn to end."""
_PAGE = 50
_REASON = "the process that it is the turn of was cancelled"


class _Accepted(Protocol):
    @property
    def batch(self) -> Batch: ...


class Sessions(Protocol):
    """What such a process needs of a kernel. See `sightline.kernel.Kernel`."""

    async def create_session(self, session_id: str, *, policy: Policy, metadata: Metadata) -> Observation: ...

    async def observe(self, session_id: str, messages: int) -> Observation: ...

    async def enqueue(self, draft: Draft) -> _Accepted: ...

    async def wait_for_batch(self, session_id: str, batch_id: str, timeout: float) -> Batch: ...

    async def cancel_turn(self, session_id: str, *, source_key: str, reason: str) -> object: ...

    async def page_messages(self, session_id: str, *, before: str | None, limit: int) -> MessagePage: ...

    async def count_child(self, session_id: str, child_id: str, turn_id: str, key: str) -> None: ...


class SessionTurnEngine:
    """See `sightline.process.engine.Engine`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def knows(self, record: ProcessRecord) -> bool:
        return True

    async def run(self, work: ProcessWork) -> SuccessOutput | FailureOutput | CancelledOutput:
        record = work.record
        child_id = child_session_of(record.process_id, record.input)
        if child_id == _owner_of(record):
            return FailureOutput(code="own_session", message="a session cannot be its own child")
        await self._create(child_id, record)
        said = TurnInputPayload(TurnInput((TextItem(record.input["input"]),)))
        draft = Draft(session_id=child_id, payloads=(said,), source_key=_key_of(record))
        batch = (await self._sessions.enqueue(draft)).batch
        try:
            async with work.waiting():
                while batch.state.is_open:
                    batch = await self._sessions.wait_for_batch(child_id, batch.batch_id, _LOOK_SECONDS)
        except asyncio.CancelledError:
            if work.cancelled:
                await finish(self._end(child_id, batch.batch_id, record))
            raise
        await self._count(child_id, batch, record)
        return await self._came_to(child_id, batch)

    async def forgo(self, record: ProcessRecord) -> None:
        """An earlier attempt may have left the turn to go on."""
        child_id = child_session_of(record.process_id, record.input)
        try:
            await self._sessions.cancel_turn(child_id, source_key=_key_of(record), reason=_REASON)
        except (NotFound, SessionDeleted):
            pass  # it never began

    async def _create(self, child_id: str, record: ProcessRecord) -> None:
        """Without a policy of its own it has its parent's, as that is now."""
        owner = _owner_of(record)
        metadata = {**record.input.get("metadata", {}), "parent": {"process_id": record.process_id}}
        if owner is not None:
            metadata["parent"]["session_id"] = owner
        policy = record.input.get("policy")
        if policy is None:
            policy = {} if owner is None else await self._policy_of(owner)
        try:
            await self._sessions.create_session(child_id, policy=policy, metadata=metadata)
        except SessionExists:
            pass

    async def _policy_of(self, session_id: str) -> Policy:
        try:
            return (await self._sessions.observe(session_id, 0)).policy
        except (NotFound, SessionDeleted):
            return {}

    async def _end(self, child_id: str, batch_id: str, record: ProcessRecord) -> None:
        try:
            await self._sessions.cancel_turn(child_id, source_key=_key_of(record), reason=_REASON)
            batch = await self._sessions.wait_for_batch(child_id, batch_id, _STOPPING_SECONDS)
            await self._count(child_id, batch, record)
        except (NotFound, SessionDeleted):
            pass

    async def _count(self, child_id: str, batch: Batch, record: ProcessRecord) -> None:
        owner = _owner_of(record)
        if owner is None or batch.turn_id is UNSET or batch.state.is_open:
            return
        try:
            await self._sessions.count_child(owner, child_id, batch.turn_id, f"process:{record.process_id}:usage")
        except (NotFound, SessionDeleted):
            pass  # there is nobody to count it to

    async def _came_to(self, child_id: str, batch: Batch) -> SuccessOutput | FailureOutput | CancelledOutput:
        where = {"session_id": child_id}
        if batch.turn_id is not UNSET:
            where["turn_id"] = batch.turn_id
        match batch.state:
            case BatchState.COMPLETED:
                return SuccessOutput(value={"text": await self._answer(child_id, batch.turn_id), **where})
            case BatchState.CANCELLED:
                return CancelledOutput(message="its turn was cancelled", raw=where)
            case _:
                error = batch.error if isinstance(batch.error, Failure) else Failure("turn_failed", "its turn failed")
                return FailureOutput(code=error.code, message=error.message, raw=where)

    async def _answer(self, child_id: str, turn_id: str | UnsetType) -> str:
        before: str | None = None
        while True:
            page = await self._sessions.page_messages(child_id, before=before, limit=_PAGE)
            for message in reversed(page.messages):
                if message.turn_id == turn_id and message.role == "assistant":
                    return message.content
            if page.next is None:
                return ""
            before = page.next


def _owner_of(record: ProcessRecord) -> str | None:
    owner = record.provenance.owner_scope
    return None if owner is UNSET else owner.session_id


def _key_of(record: ProcessRecord) -> str:
    return f"process:{record.process_id}:turn"
