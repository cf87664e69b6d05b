"""Which processes a session sees: those granted to it, and those granted to its current agent frame.

Grants of frames that are over do not show, unless they were transferred. What is granted to both is shown as it is
granted to the session.
"""

from __future__ import annotations

from collections.abc import Iterable

from sightline.process.model import HandleGrant, HandleSummary, ProcessScope

__all__ = ["scopes_of", "visible"]


def scopes_of(session_id: str, agent_frame_id: str) -> tuple[ProcessScope, ...]:
    """The scopes to be read, the session's own first. A session between frames (blank id) has that one alone."""
    session = ProcessScope(session_id)
    return (session, ProcessScope(session_id, agent_frame_id)) if agent_frame_id else (session,)


def visible(grants: Iterable[HandleGrant]) -> tuple[HandleSummary, ...]:
    """Each process once, by its id. Of several grants the first counts."""
    first: dict[str, HandleGrant] = {}
    for grant in grants:
        first.setdefault(grant.process_id, grant)
    return tuple(HandleSummary.of(first[process_id]) for process_id in sorted(first))
