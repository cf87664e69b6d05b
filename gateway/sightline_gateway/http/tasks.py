"""Background tasks: those that others do are told of here, and all are seen and ended (wire: section 8)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, structs

from sightline.errors import TaskConflict, TaskNotFound
from sightline.kernel import Kernel
from sightline.tasks.model import Ending, NewTask, Progress, TaskChange, TaskKind, TaskName, TaskRecord, Unfolding
from sightline.tasks.rules import described
from sightline_gateway.http.operations import APPLIED_THROUGH, Answer, Call, Operation, conditional
from sightline_gateway.http.sessions import SessionId

__all__ = ["OPERATIONS"]

TaskId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._~:@-]{1,200}(?!\n)$", min_length=1, max_length=200)]
HandleId = Annotated[str, Meta(min_length=1, max_length=200)]
HandleIds = Annotated[list[HandleId], Meta(max_length=10_000)]
Producer = Annotated[str, Meta(pattern=r"\S", min_length=1, max_length=256)]
Words = Annotated[str, Meta(max_length=2_000)]


class PostTask(Struct, forbid_unknown_fields=True):
    """A task that you do and tell of. It starts `running`. `producer`: who does it."""

    task_id: TaskId
    kind: TaskKind
    producer: Producer
    parent_task_id: TaskId | None = None
    child_session_id: SessionId | None = None


class PostTaskState(Struct, forbid_unknown_fields=True):
    """How the task stands. `progress`: how far it is, in words; `summary`: what it came to, why it failed or was
    cancelled.
    """

    state: Literal["running", "waiting", "completed", "failed", "cancelled"]
    progress: Words | None = None
    summary: Words | None = None


class TransferTasks(Struct, forbid_unknown_fields=True):
    to_session_id: SessionId
    task_ids: HandleIds


class KeepTasks(Struct, forbid_unknown_fields=True):
    """`keep`: the tasks and async handles that are still wanted."""

    keep: HandleIds


class ValidateTasks(Struct, forbid_unknown_fields=True):
    task_ids: HandleIds


class TasksQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`live`: what has not ended; `all`: also what has, as far as it is kept."""

    state: Literal["live", "all"] = "live"


class DeleteQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`forget`: take it off the list, however it stands, instead of ending it."""

    forget: Literal["true", "false"] = "false"


class TaskAnswer(TaskRecord, frozen=True, kw_only=True):
    """A task, and a cursor: a stream that has passed it has shown this write."""

    applied_through: str


class Tasks(Struct, frozen=True):
    tasks: tuple[TaskRecord, ...]


class CancelledTasks(Struct, frozen=True):
    """The tasks that were live, as they stand then. One that nobody here can end is `cancel_requested`."""

    cancelled: tuple[TaskRecord, ...]
    applied_through: str


class TransferredTasks(Struct, frozen=True):
    """The tasks in their new session. The cursor is of the old one."""

    transferred: tuple[TaskRecord, ...]
    applied_through: str


class Valid(Struct, frozen=True):
    ok: Literal[True]


async def post_task(call: Call) -> Answer:
    body: PostTask = call.body
    new = NewTask(
        task_id=body.task_id,
        kind=body.kind,
        producer=body.producer,
        parent_task_id=UNSET if body.parent_task_id is None else body.parent_task_id,
        child_session_id=UNSET if body.child_session_id is None else body.child_session_id,
    )
    record = await _kernel(call).tasks.register(call.session_id, new)
    answer = await _task_answer(call, record, 201)
    answer.headers["Location"] = f"/v1/sessions/{call.session_id}/tasks/{record.task_id}"
    return answer


async def list_tasks(call: Call) -> Answer:
    query: TasksQuery = call.query
    return conditional(call, Tasks(await _kernel(call).tasks.list(call.session_id, live=query.state == "live")))


async def get_task(call: Call) -> Answer:
    return conditional(call, await _kernel(call).tasks.get(call.session_id, call.path["task_id"]))


async def post_state(call: Call) -> Answer:
    body: PostTaskState = call.body
    tasks, task_id = _kernel(call).tasks, call.path["task_id"]
    before = await tasks.get(call.session_id, task_id)
    if before.flavour == "managed":
        raise TaskConflict(call.session_id, task_id, "is done here; only its own work says how it stands")
    if body.progress is not None:
        await tasks.change(call.session_id, task_id, Progress(body.progress))
    change: TaskChange
    match body.state:
        case "running" | "waiting" as live:
            change = Unfolding(live)
        case end:
            change = Ending(state=end, summary=body.summary or "")
    record = await tasks.change(call.session_id, task_id, change)
    if record is None:
        raise TaskNotFound(described(TaskName(call.session_id, task_id)))
    return await _task_answer(call, record, 200)


async def delete_task(call: Call) -> Answer:
    query: DeleteQuery = call.query
    tasks, task_id = _kernel(call).tasks, call.path["task_id"]
    if query.forget == "true":
        await tasks.unregister(call.session_id, task_id)
        return Answer(204, None, {APPLIED_THROUGH: await _cursor(call)})
    return await _task_answer(call, await tasks.cancel(call.session_id, task_id), 200)


async def cancel_all(call: Call) -> Answer:
    return await _cancelled(call, await _kernel(call).tasks.cancel_all(call.session_id))


async def cancel_unreferenced(call: Call) -> Answer:
    body: KeepTasks = call.body
    return await _cancelled(call, await _kernel(call).tasks.cancel_unreferenced(call.session_id, body.keep))


async def transfer(call: Call) -> Answer:
    body: TransferTasks = call.body
    moved = await _kernel(call).tasks.transfer(call.session_id, body.to_session_id, body.task_ids)
    cursor = await _cursor(call)
    return Answer(200, TransferredTasks(moved, cursor), {APPLIED_THROUGH: cursor})


async def validate(call: Call) -> Answer:
    body: ValidateTasks = call.body
    await _kernel(call).tasks.validate(call.session_id, body.task_ids)
    return Answer(200, Valid(True), {APPLIED_THROUGH: await _cursor(call)})


def _kernel(call: Call) -> Kernel:
    kernel: Kernel = call.gateway.kernel
    return kernel


async def _task_answer(call: Call, record: TaskRecord, status: int) -> Answer:
    cursor = await _cursor(call)
    return Answer(status, TaskAnswer(**structs.asdict(record), applied_through=cursor), {APPLIED_THROUGH: cursor})


async def _cancelled(call: Call, cancelled: tuple[TaskRecord, ...]) -> Answer:
    cursor = await _cursor(call)
    return Answer(200, CancelledTasks(cancelled, cursor), {APPLIED_THROUGH: cursor})


async def _cursor(call: Call) -> str:
    """Where the session's stream is; what was written before has been shown by then."""
    async with _kernel(call).opened(call.session_id) as handle:
        return handle.cursor


_GONE = ("session_not_found", "session_deleted", "store_unavailable", "invalid_field")
_BODY = ("malformed_json", "body_too_large", "unsupported_media_type")
_ALL = "/v1/sessions/{session_id}/tasks"
_ONE = f"{_ALL}/{{task_id}}"

OPERATIONS = (
    Operation(
        method="GET",
        path=_ALL,
        summary="List a session's background tasks",
        handle=list_tasks,
        query=TasksQuery,
        answers={200: Tasks, 304: None},
        problems=_GONE,
        headers=("If-None-Match",),
    ),
    Operation(
        method="POST",
        path=_ALL,
        summary="List a task that you do",
        handle=post_task,
        body=PostTask,
        answers={201: TaskAnswer},
        problems=(*_GONE, *_BODY, "task_conflict", "too_many_tasks"),
    ),
    Operation(
        method="POST",
        path=f"{_ALL}/cancel_all",
        summary="End all live tasks of a session",
        handle=cancel_all,
        answers={200: CancelledTasks},
        problems=(*_GONE, *_BODY),
    ),
    Operation(
        method="POST",
        path=f"{_ALL}/cancel_unreferenced",
        summary="End all live tasks of a session but those that are still wanted",
        handle=cancel_unreferenced,
        body=KeepTasks,
        answers={200: CancelledTasks},
        problems=(*_GONE, *_BODY),
    ),
    Operation(
        method="POST",
        path=f"{_ALL}/transfer",
        summary="Hand live tasks to another session",
        handle=transfer,
        body=TransferTasks,
        answers={200: TransferredTasks},
        problems=(*_GONE, *_BODY, "handle_not_visible", "task_conflict"),
    ),
    Operation(
        method="POST",
        path=f"{_ALL}/validate",
        summary="Ask whether ids are live in a session",
        handle=validate,
        body=ValidateTasks,
        answers={200: Valid},
        problems=(*_GONE, *_BODY, "handle_not_visible"),
    ),
    Operation(
        method="GET",
        path=_ONE,
        summary="Look at a task",
        handle=get_task,
        answers={200: TaskRecord, 304: None},
        problems=(*_GONE, "task_not_found"),
        headers=("If-None-Match",),
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        summary="End a task, or forget it",
        handle=delete_task,
        query=DeleteQuery,
        answers={200: TaskAnswer, 204: None},
        problems=(*_GONE, "task_not_found"),
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/state",
        summary="Say how a task that you do stands",
        handle=post_state,
        body=PostTaskState,
        answers={200: TaskAnswer},
        problems=(*_GONE, *_BODY, "task_not_found", "task_conflict"),
    ),
)
