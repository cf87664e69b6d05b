"""Decisions about sessions: what counts as a status, how usage adds up, what a session is called.

A status is never stored. It follows, everywhere by this one function, from what is going on: somebody is asked, a turn
runs, work waits, or nothing does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from sightline.session.model import (
    INITIAL_FRAME,
    AgentFrame,
    Attachment,
    Message,
    PersistedState,
    Status,
    Usage,
    UsageFigures,
)

__all__ = [
    "add_figures",
    "add_usage",
    "attachment_of",
    "frame_records",
    "from_child",
    "in_frame",
    "ledger_of",
    "media_type_of",
    "revision_of",
    "status_of",
    "title_from",
    "usage_since",
]

_Models = dict[str, UsageFigures]
_Sources = dict[str, _Models] | UnsetType

_TITLE_LENGTH = 80
_PICTURES = (
    ("image/png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("image/jpeg", re.compile(rb"\xff\xd8\xff")),
    ("image/gif", re.compile(rb"GIF8[79]a")),
    ("image/webp", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
)


def status_of(*, asked: bool, live: bool, claimed: int, pending: int) -> Status:
    """`asked`: a request is open; `live`: a turn shows; `claimed`, `pending`: numbers of batches in that state."""
    if asked:
        return "waiting"
    if live or claimed:
        return "running"
    return "queued" if pending else "idle"


def revision_of(state: PersistedState) -> int:
    """What observers see as the session's revision: its store's count of commits, or, without a store, its turns."""
    return state.turn_index if state.head_revision is None else state.head_revision


def add_figures(left: UsageFigures, right: UsageFigures) -> UsageFigures:
    return UsageFigures(
        left.input_tokens + right.input_tokens,
        left.output_tokens + right.output_tokens,
        left.cached_input_tokens + right.cached_input_tokens,
        left.reasoning_tokens + right.reasoning_tokens,
        left.requests + right.requests,
    )


def add_usage(usage: Usage, delta: Usage) -> Usage:
    """`usage` plus `delta`, source by source and model by model; neither is changed."""
    return Usage(
        add_figures(usage.totals, delta.totals),
        _add_models(usage.by_model, delta.by_model),
        _add_sources(usage.by_source, delta.by_source),
    )


def usage_since(before: Usage, after: Usage) -> Usage:
    """What `add_usage` adds to `before` to make it `after`."""
    return Usage(
        _subtract_figures(after.totals, before.totals),
        _models_since(before.by_model, after.by_model),
        _sources_since(before.by_source, after.by_source),
    )


def from_child(usage: Usage, child_id: str) -> Usage:
    """What a session that works for another one has used, as the other one accounts for it: all of it, whoever made the
    calls there, has one source.
    """
    by_source = {f"child:{child_id}": usage.by_model} if usage.by_model else UNSET
    return Usage(usage.totals, usage.by_model, by_source)


def ledger_of(usage: Usage) -> tuple[tuple[str, str, UsageFigures], ...]:
    """Its entries of which the source is known: source, model, figures."""
    sources = {} if isinstance(usage.by_source, UnsetType) else usage.by_source
    return tuple((source, model, figures) for source, models in sources.items() for model, figures in models.items())


def _add_models(models: _Models, delta: _Models) -> _Models:
    added = dict(models)
    for model, figures in delta.items():
        added[model] = add_figures(added.get(model, UsageFigures()), figures)
    return added


def _add_sources(sources: _Sources, delta: _Sources) -> _Sources:
    if isinstance(delta, UnsetType):
        return sources
    added = {} if isinstance(sources, UnsetType) else dict(sources)
    for source, models in delta.items():
        added[source] = _add_models(added.get(source, {}), models)
    return added


def _models_since(before: _Models, after: _Models) -> _Models:
    return {
        model: _subtract_figures(figures, before.get(model, UsageFigures()))
        for model, figures in after.items()
        if figures != before.get(model)
    }


def _sources_since(before: _Sources, after: _Sources) -> _Sources:
    if isinstance(after, UnsetType) or after == before:
        return UNSET
    known = {} if isinstance(before, UnsetType) else before
    return {
        source: _models_since(known.get(source, {}), models)
        for source, models in after.items()
        if models != known.get(source)
    }


def _subtract_figures(left: UsageFigures, right: UsageFigures) -> UsageFigures:
    return UsageFigures(
        left.input_tokens - right.input_tokens,
        left.output_tokens - right.output_tokens,
        left.cached_input_tokens - right.cached_input_tokens,
        left.reasoning_tokens - right.reasoning_tokens,
        left.requests - right.requests,
    )


def in_frame(messages: Sequence[Message], frame_id: str) -> tuple[Message, ...]:
    """Those of the messages that are the frame's. They are the newest ones of what went before them."""
    name = UNSET if frame_id == INITIAL_FRAME else frame_id
    return tuple(message for message in messages if message.agent_frame_id == name)


def frame_records(created_at_ms: int, begun: Sequence[tuple[str, str, int]]) -> tuple[AgentFrame, ...]:
    """The frames of a session that was created then, of those that were begun in it: id, reason, when; in order."""
    told = [(INITIAL_FRAME, INITIAL_FRAME, created_at_ms), *begun]
    return tuple(
        AgentFrame(
            frame_id=frame_id,
            previous_frame_id=told[index - 1][0] if index else None,
            reason=reason,
            status="active" if index == len(told) - 1 else "superseded",
            created_at_ms=at_ms,
        )
        for index, (frame_id, reason, at_ms) in enumerate(told)
    )


def title_from(text: str) -> str:
    """The first line of what a session began with, cut to a length that fits a list."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= _TITLE_LENGTH else line[: _TITLE_LENGTH - 1].rstrip() + "…"


def media_type_of(data: bytes) -> str | None:
    """What kind of picture the bytes begin like, none for no picture that browsers and models agree on."""
    for media_type, pattern in _PICTURES:
        if pattern.match(data):
            return media_type
    return None


def attachment_of(data: bytes, media_type: str) -> Attachment:
    """How these bytes are called: by their content, so that the same picture is stored once in a session."""
    return Attachment(attachment_id=f"sha256:{hashlib.sha256(data).hexdigest()}", media_type=media_type, size=len(data))
