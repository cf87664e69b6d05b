"""What a history is drawn from: who asks, with which clock, for what, and work of every kind."""

from __future__ import annotations

from hypothesis import strategies as st

from sightline.observation.activities import Outcome
from sightline.queue.model import (
    CommandPayload,
    DeliveryPolicy,
    Group,
    ImageItem,
    Payload,
    ProcessWake,
    RefreshToolSurface,
    ResetSession,
    SlotPolicy,
    TextItem,
    TurnInput,
    TurnInputPayload,
    WakePayload,
)
from sightline.session.model import Failure, Tools
from sightline.turn.commit import FrameSwitch

__all__ = [
    "SESSIONS",
    "ages",
    "any_session",
    "choices",
    "drifts",
    "effects",
    "keys",
    "owners",
    "payloads",
    "sessions",
    "terms",
    "texts",
    "ttls",
]

SESSIONS = ("s", "a:b")
sessions = st.sampled_from(("s", "s", "a:b"))
any_session = st.sampled_from(("s", "s", "s", "s", "a:b", "nobody"))
keys = st.sampled_from((None, None, "k1", "k2"))
owners = st.sampled_from(("me", "you"))
ttls = st.sampled_from((0, 5, 1_000))
# Whoever asks may have a clock that is ahead, or behind.
drifts = st.sampled_from((0, 0, 0, 0, 0, 7, -7, 300, -300))
ages = st.sampled_from((-1, 0, 0, 5))
choices = st.integers(0, 99)
outcomes = st.sampled_from(
    (
        Outcome(status="completed"),
        Outcome(status="cancelled", reason="enough"),
        Outcome(status="failed", error=Failure("agent_error", "it broke")),
    )
)
effects = st.fixed_dictionaries(
    {
        "outcome": outcomes,
        "charge": st.booleans(),
        "advances": st.sampled_from((True, True, False)),
        "reset": st.sampled_from((False, False, False, True)),
        "frame": st.sampled_from((None, None, FrameSwitch(frame_id="f1", reason="compaction", messages=()))),
        "tools": st.sampled_from((None, None, Tools(generation=1, catalog=({"name": "t"},)), Tools(error="broken"))),
    }
)

_WAKE = ProcessWake(
    wake_id="wake",
    target_session_id="s",
    target_scope_id="scope",
    process_id="p",
    sequence=1,
    event_type="done",
    dedupe_key="done",
    input="it ended",
    created_at_ms=1,
    process_caused_by={"turn": None},
)

texts = st.sampled_from(("a", "b", "")).map(lambda text: TurnInputPayload(TurnInput((TextItem(text),))))
pictures = st.sampled_from(
    (
        TurnInputPayload(TurnInput((TextItem("see"), ImageItem("i")), {"i": bytes(range(256))})),
        TurnInputPayload(TurnInput((ImageItem("i"), ImageItem("j")), {"i": b""}, {"n": [1.5, None]}, "trace")),
    )
)
wakes = st.just(WakePayload(_WAKE))
commands = st.sampled_from(
    (
        CommandPayload(ResetSession(reason="afresh")),
        CommandPayload(RefreshToolSurface(reason="new", expected_generation=3)),
    )
)

# The last now and then is what no queue should hold.
payloads: st.SearchStrategy[tuple[Payload, ...]] = st.one_of(
    st.tuples(texts),
    st.tuples(texts, texts),
    st.tuples(pictures),
    st.tuples(wakes),
    st.tuples(commands),
    st.lists(st.one_of(texts, pictures, wakes, commands), max_size=2).map(tuple),
)
terms = st.fixed_dictionaries(
    {
        "source_key": keys,
        "delivery_policy": st.sampled_from(DeliveryPolicy),
        "slot_policy": st.sampled_from(SlotPolicy),
        "merge_key": st.sampled_from(("never", "payload_default", Group("g"), Group("h"))),
    }
)
