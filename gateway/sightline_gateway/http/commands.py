"""Session commands: control that goes through the queue like work, in its order (wire: section 4)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct

from sightline.queue.model import Receipt, RefreshToolSurface, ResetSession, SessionCommand
from sightline_gateway.http.operations import APPLIED_THROUGH, Answer, Call, Operation
from sightline_gateway.http.writing import idempotency_key, preferred_wait, until_ended
from sightline_gateway.problems import ProblemError

__all__ = ["OPERATIONS"]


class PostCommand(Struct, forbid_unknown_fields=True):
    """`expected_generation`: refresh only if the tool surface still is of that generation."""

    kind: Literal["refresh_tool_surface", "reset_session"]
    reason: Annotated[str, Meta(max_length=1_000)]
    expected_generation: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None


class CommandReceipt(Receipt, frozen=True, kw_only=True):
    """Accepted, not yet applied. Look at the batch for what came of it."""

    applied_through: str


async def post_command(call: Call) -> Answer:
    key = idempotency_key(call)
    if key is None:
        raise ProblemError(
            "idempotency_key_required", "a command needs an Idempotency-Key header", field="Idempotency-Key"
        )
    receipt, written = await call.gateway.kernel.submit_command(call.session_id, _command(call.body), key)
    headers = {
        "Location": f"/v1/sessions/{call.session_id}/queue/{receipt.batch_id}",
        APPLIED_THROUGH: written.applied_through,
    }
    if written.replayed:
        headers["Idempotency-Replayed"] = "true"
    batch = written.batch
    wait = preferred_wait(call)
    if wait is not None:
        headers["Preference-Applied"] = f"wait={wait}"
        batch = await until_ended(call, batch, wait)
    ended = wait is not None and not batch.state.is_open
    body = CommandReceipt(
        session_id=receipt.session_id,
        batch_id=receipt.batch_id,
        source_key=receipt.source_key,
        applied_through=written.applied_through,
    )
    return Answer(200 if written.replayed or ended else 202, body, headers)


def _command(body: PostCommand) -> SessionCommand:
    if body.kind == "refresh_tool_surface":
        expected = UNSET if body.expected_generation is None else body.expected_generation
        return RefreshToolSurface(reason=body.reason, expected_generation=expected)
    if body.expected_generation is not None:
        raise ProblemError(
            "invalid_field", "expected_generation goes with refresh_tool_surface only", field="expected_generation"
        )
    return ResetSession(reason=body.reason)


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/sessions/{session_id}/commands",
        summary="Put a session command into the queue",
        handle=post_command,
        body=PostCommand,
        answers={202: CommandReceipt, 200: CommandReceipt},
        problems=(
            "malformed_json",
            "invalid_field",
            "body_too_large",
            "unsupported_media_type",
            "session_not_found",
            "session_deleted",
            "store_unavailable",
            "idempotency_key_required",
            "idempotency_key_reused",
            "queue_full",
            "draining",
        ),
        headers=("Idempotency-Key", "Prefer"),
    ),
)
