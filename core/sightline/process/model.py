"""The shapes in which a session sees processes: scopes, the grants made to them, and summaries for readers."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

__all__ = ["HandleGrant", "HandleSummary", "ProcessHandles", "ProcessScope", "ProcessStatus"]

ProcessStatus = Literal["running", "completed", "failed", "cancelled", "abandoned"]


class ProcessScope(Struct, frozen=True):
    """Who may see a process: a session, or one agent frame of it. Compared by its parts, never by a text made of them:
    a session's id may hold whatever such a text would put between them.
    """

    session_id: str
    agent_frame_id: str = ""


class HandleGrant(Struct, frozen=True, kw_only=True):
    """The right of a scope to a process. `descriptor` is how it is called there, `definition` what it runs."""

    process_id: str
    status: ProcessStatus
    descriptor: dict[str, Any] = field(default_factory=dict)
    definition: dict[str, Any] | UnsetType = UNSET


class HandleSummary(Struct, frozen=True, kw_only=True):
    """A process as readers are shown it. `id` is the process id once more, under the name that handles have it."""

    process_id: str
    status: ProcessStatus
    descriptor: dict[str, Any]
    id: str
    handle: Literal["process"] = field(default="process", name="__handle__")
    definition: dict[str, Any] | UnsetType = UNSET

    @classmethod
    def of(cls, grant: HandleGrant) -> HandleSummary:
        return cls(
            process_id=grant.process_id,
            id=grant.process_id,
            status=grant.status,
            descriptor=grant.descriptor,
            definition=grant.definition,
        )


class ProcessHandles(Struct, frozen=True):
    """The processes a session sees, by process id, each once. `errors` says which scopes could not be read: what is
    granted to those is missing.
    """

    handles: tuple[HandleSummary, ...] = ()
    errors: tuple[str, ...] = ()
