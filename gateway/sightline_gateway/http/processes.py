"""Processes: work that outlives a turn, kept here and done here or elsewhere (wire: section 8).

Whoever does the work of an `external` process reports it by these routes; anybody may look, ask for an end, send a
signal and wait for what comes of it. Their log is read where streams are made (`stream/process_events.py`).
"""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field, structs

from sightline.errors import Draining, ProcessNotFound, SightlineError
from sightline.kernel import Kernel
from sightline.process.kinds import COMMAND, SESSION_TURN, descriptor_of, registration_of
from sightline.process.model import (
    Appended,
    AwaitOutput,
    Disposition,
    EventType,
    NewEvent,
    NewGrant,
    ProcessEvent,
    ProcessPage,
    ProcessRecord,
    ProcessScope,
    ProcessStatus,
    Registration,
)
from sightline_gateway.http.operations import APPLIED_THROUGH, Answer, Call, Operation, check_session_id, matches
from sightline_gateway.http.sessions import SessionId
from sightline_gateway.http.writing import while_wanted
from sightline_gateway.problems import ProblemError

__all__ = ["OPERATIONS", "Frame", "ProcessId", "Reason", "ShownEvent", "shown_event"]

ProcessId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._~:@-]{1,200}(?!\n)$", min_length=1, max_length=200)]
Frame = Annotated[str, Meta(min_length=1, max_length=200)]
Reason = Annotated[str, Meta(max_length=1_000)]
Word = Annotated[str, Meta(min_length=1, max_length=200)]
_READ_SECONDS = 10.0
Seconds = Annotated[float, Meta(ge=0, le=60)]


class WakeTarget(Struct, forbid_unknown_fields=True):
    """Whom events wake that ask for a turn."""

    target_session_id: SessionId
    agent_frame_id: Frame | None = None


class PostProcess(Struct, forbid_unknown_fields=True):
    """`process_id`: yours, or one is made. `input`: what its kind gets. `session_id` (or one frame of it) owns the
    process, sees it under `descriptor`, and is woken by it unless `wake` names another.
    """

    kind: Literal["function", "session_turn", "command", "external"]
    input: dict[str, Any] = field(default_factory=dict)
    process_id: ProcessId | None = None
    event_types: Annotated[list[EventType], Meta(max_length=100)] = field(default_factory=list)
    session_id: SessionId | None = None
    agent_frame_id: Frame | None = None
    descriptor: dict[str, Any] | None = None
    disposition: Disposition | None = None
    wake: WakeTarget | None = None


class ListProcessesQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`after`: the `next` of the page before."""

    status: ProcessStatus | None = None
    kind: Word | None = None
    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 50


class AwaitQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`wait`: how many seconds the answer may be held until the process has ended."""

    wait: Seconds = 0.0


class PostEvent(Struct, forbid_unknown_fields=True):
    """An event of a declared type. Sent again with the same `replay_key` it is the same event."""

    event_type: Word
    payload: Any = None
    replay_key: Annotated[str, Meta(min_length=1, max_length=500)] | UnsetType = UNSET


class PostComplete(Struct, forbid_unknown_fields=True):
    output: Any


class PostFail(Struct, forbid_unknown_fields=True):
    """`code`: a stable word for what went wrong; `message` is for people."""

    code: Word
    message: Annotated[str, Meta(max_length=10_000)]


class PostCancelProcess(Struct, forbid_unknown_fields=True):
    reason: Reason = "cancelled"


class PostSignal(Struct, forbid_unknown_fields=True):
    """Something the process is to know; told twice by the same `signal_id` it is told once."""

    signal_id: Word
    payload: Any = None


class ShownEvent(Struct, frozen=True, kw_only=True):
    """An entry of a process's log, numbered from 1 without holes. `output` is there when it was the end."""

    sequence: int
    event_type: str
    payload: Any
    occurred_at_ms: int
    output: AwaitOutput | UnsetType = UNSET


class Logged(Struct, frozen=True, kw_only=True):
    """The event as it was logged, nothing of it for a request to cancel what had ended; and how the process stands.

    `cancel_requested`: somebody wants its end.
    """

    sequence: int | UnsetType = UNSET
    event_type: str | UnsetType = UNSET
    payload: Any = UNSET
    occurred_at_ms: int | UnsetType = UNSET
    output: AwaitOutput | UnsetType = UNSET
    status: ProcessStatus
    cancel_requested: bool


class Ended(Struct, frozen=True, kw_only=True):
    status: ProcessStatus
    output: AwaitOutput


class NotEnded(Struct, frozen=True, kw_only=True):
    status: ProcessStatus


def shown_event(event: ProcessEvent) -> ShownEvent:
    return ShownEvent(
        sequence=event.sequence,
        event_type=event.event_type,
        payload=event.payload,
        occurred_at_ms=event.occurred_at_ms,
        output=event.output,
    )


async def register(call: Call) -> Answer:
    body: PostProcess = call.body
    kernel: Kernel = call.gateway.kernel
    _check(call, body)
    if kernel.draining:
        raise Draining
    process_id = body.process_id or kernel.ids.new()
    owner: ProcessScope | UnsetType = UNSET
    grants: tuple[NewGrant, ...] = ()
    if body.session_id is not None:
        owner = ProcessScope(body.session_id, body.agent_frame_id or "")
        descriptor = body.descriptor
        if descriptor is None:
            descriptor = descriptor_of(process_id, body.kind, body.input)
        grants = (NewGrant(scope=owner, descriptor=descriptor),)
    wake: ProcessScope | UnsetType = UNSET
    if body.wake is not None:
        wake = ProcessScope(body.wake.target_session_id, body.wake.agent_frame_id or "")
    registration = registration_of(
        process_id,
        body.kind,
        body.input,
        owner=owner,
        wake_target=wake,
        disposition=UNSET if body.disposition is None else body.disposition,
        event_types=tuple(body.event_types),
    )
    if body.process_id is None or not await _is_there(kernel, process_id):
        await _check_new(kernel, registration)
    registered = await kernel.processes.start_process(registration, grants)
    headers = {"Location": f"/v1/processes/{registered.record.process_id}"}
    if body.session_id is not None:
        # It is there, whatever becomes of this: who would do it again without an id would do it twice.
        with contextlib.suppress(SightlineError):
            cursor = await kernel.processes.shown_through(body.session_id, [registered.record.process_id])
            headers[APPLIED_THROUGH] = cursor
    return Answer(201 if registered.created else 200, registered.record, headers)


def _check(call: Call, body: PostProcess) -> None:
    """What the parts of a registration say together. Raises ProblemError."""
    if body.kind == COMMAND and not call.gateway.settings.allow_commands:
        raise ProblemError(
            "forbidden", "a command is code on this machine; it is taken with --allow-commands only", field="kind"
        )
    if body.kind == SESSION_TURN and isinstance(child := body.input.get("session_id"), str):
        check_session_id(child, field="input.session_id")
    if body.session_id is None:
        for name in ("agent_frame_id", "descriptor"):
            if getattr(body, name) is not None:
                raise ProblemError("invalid_field", f"{name} goes with session_id only", field=name)


async def _is_there(kernel: Kernel, process_id: str) -> bool:
    """Whether the id is taken. Who sends a registration again gets its answer again, whatever has changed since."""
    try:
        await kernel.processes.get(process_id)
    except ProcessNotFound:
        return False
    return True


async def _check_new(kernel: Kernel, registration: Registration) -> None:
    """Whether there is who runs it, and whom it wakes. Raises ProblemError, SessionNotFound, SessionDeleted."""
    if not kernel.processes.runs(registration):
        name = registration.input.get("name")
        raise ProblemError("invalid_field", f"no {registration.kind} {name!r} is registered here", field="input.name")
    if registration.wake_target is not UNSET:
        async with kernel.opened(registration.wake_target.session_id):
            pass


async def list_processes(call: Call) -> Answer:
    query: ListProcessesQuery = call.query
    kernel: Kernel = call.gateway.kernel
    page = await kernel.processes.list(limit=query.limit, after=query.after, status=query.status, kind=query.kind)
    return Answer(200, page)


async def get(call: Call) -> Answer:
    kernel: Kernel = call.gateway.kernel
    return Answer(200, await kernel.processes.get(call.path["process_id"]))


async def report(call: Call) -> Answer:
    body: PostEvent = call.body
    kernel: Kernel = call.gateway.kernel
    event = NewEvent(event_type=body.event_type, payload=body.payload, replay_key=body.replay_key)
    appended = await kernel.processes.append(call.path["process_id"], event)
    logged = Logged(status=appended.record.status, cancel_requested=appended.record.cancel_requested)
    if appended.event is None:
        return Answer(200, logged)
    logged = structs.replace(logged, **structs.asdict(shown_event(appended.event)))
    return Answer(200 if appended.replayed else 201, logged)


async def complete(call: Call) -> Answer:
    body: PostComplete = call.body
    kernel: Kernel = call.gateway.kernel
    return _as_it_stands(await kernel.processes.complete(call.path["process_id"], body.output))


async def fail(call: Call) -> Answer:
    body: PostFail = call.body
    kernel: Kernel = call.gateway.kernel
    return _as_it_stands(await kernel.processes.fail(call.path["process_id"], body.code, body.message))


async def cancel(call: Call) -> Answer:
    body: PostCancelProcess = call.body
    kernel: Kernel = call.gateway.kernel
    return _as_it_stands(await kernel.processes.cancel(call.path["process_id"], body.reason))


async def signal(call: Call) -> Answer:
    body: PostSignal = call.body
    kernel: Kernel = call.gateway.kernel
    return _as_it_stands(await kernel.processes.signal(call.path["process_id"], body.signal_id, body.payload))


def _as_it_stands(appended: Appended) -> Answer:
    return Answer(200, appended.record)


async def await_end(call: Call) -> Answer:
    query: AwaitQuery = call.query
    kernel: Kernel = call.gateway.kernel
    process_id = call.path["process_id"]
    await while_wanted(call, kernel.processes.end_of(process_id, query.wait))
    record = await kernel.processes.get(process_id)
    if record.output is UNSET:
        return Answer(202, NotEnded(status=record.status))
    # The record only names a large value; whoever waits for it gets it.
    output = await kernel.processes.end_of(process_id, _READ_SECONDS)
    return Answer(200, Ended(status=record.status, output=record.output if output is None else output))


async def attachment(call: Call) -> Answer:
    """A value that a record or a log names, because it is too large to stand there: JSON, by what it holds."""
    process_id, attachment_id = call.path["process_id"], call.path["attachment_id"]
    tag = f'"{attachment_id}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable"}
    data = await call.gateway.kernel.processes.value(process_id, attachment_id)
    if matches(call, tag):
        return Answer(304, None, headers)
    return Answer(200, data, {**headers, "Content-Type": "application/json"})


_BODY = ("malformed_json", "invalid_field", "body_too_large", "unsupported_media_type")
_GONE = ("session_not_found", "session_deleted")
_ONE = "/v1/processes/{process_id}"

OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/processes",
        summary="Register a process, and have it run",
        handle=register,
        body=PostProcess,
        answers={201: ProcessRecord, 200: ProcessRecord},
        problems=(*_BODY, *_GONE, "forbidden", "process_conflict", "draining", "store_unavailable"),
    ),
    Operation(
        method="GET",
        path="/v1/processes",
        summary="List processes, newest registration first",
        handle=list_processes,
        query=ListProcessesQuery,
        answers={200: ProcessPage},
        problems=("invalid_field", "store_unavailable"),
    ),
    Operation(
        method="GET",
        path=_ONE,
        summary="Look at a process",
        handle=get,
        answers={200: ProcessRecord},
        problems=("invalid_field", "process_not_found", "store_unavailable"),
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/events",
        summary="Report an event of a process",
        handle=report,
        body=PostEvent,
        answers={201: Logged, 200: Logged},
        problems=(*_BODY, "process_not_found", "process_conflict", "process_terminal", "store_unavailable"),
    ),
    *(
        Operation(
            method="POST",
            path=f"{_ONE}/{verb}",
            summary=summary,
            handle=handle,
            body=body,
            answers={200: ProcessRecord},
            problems=(*_BODY, "process_not_found", "process_conflict", "process_terminal", "store_unavailable"),
        )
        for verb, summary, handle, body in (
            ("complete", "Report that an external process is done", complete, PostComplete),
            ("fail", "Report that an external process has failed", fail, PostFail),
            ("cancel", "Ask for the end of a process", cancel, PostCancelProcess),
            ("signal", "Tell a process something", signal, PostSignal),
        )
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/await",
        summary="Wait for what a process comes to",
        handle=await_end,
        query=AwaitQuery,
        answers={200: Ended, 202: NotEnded},
        problems=("invalid_field", "process_not_found", "store_unavailable"),
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/attachments/{{attachment_id}}",
        summary="A value that is too large for a record or a log, which name it",
        handle=attachment,
        answers={200: Any, 304: None},
        problems=("invalid_field", "process_not_found", "attachment_not_found", "store_unavailable"),
        headers=("If-None-Match",),
    ),
)
