"""What claimed work turns into: messages and causes for a running turn, or the input of a new one.

At a checkpoint, each turn input becomes one *transient* message: the model sees it in this turn, and the commit writes
it once. A wake of a process or a task becomes a turn cause. A session command becomes nothing: it is not for agents.
The slot `messages` is there for work that is to be persisted apart from its turn; nothing fills it today.

For a turn of its own, the inputs are joined in order. Pictures are named by ids that are the sender's own, so two
inputs may use one id for two pictures; the later one is renamed, or one sender would see the other's picture. For the
same reason an item that names no picture of its own input is left out. A claim of wakes alone gives an input without
items, and the turn runs all the same.

Pictures are bytes until an attachment store has them: `pictures_of` lists them. The variant with attachments is told
where the shell has stored them; then a message has text and pictures as parts, in the order in which they were given.
Without, a message has its text, and there is one also where pictures alone were sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict

from sightline.queue.model import (
    Batch,
    CommandPayload,
    DeliveryPolicy,
    Draft,
    ImageItem,
    InputItem,
    Item,
    ProcessWake,
    SessionCommand,
    SlotPolicy,
    TaskWake,
    TaskWakePayload,
    TextItem,
    TurnInput,
    TurnInputPayload,
    WakePayload,
)
from sightline.session.model import Attachment

__all__ = [
    "AcceptedInput",
    "Attachments",
    "CheckpointWork",
    "InputMessage",
    "Picture",
    "TurnCause",
    "TurnWork",
    "accepted_inputs",
    "command_source_key",
    "exclusive_command",
    "for_checkpoint",
    "for_turn",
    "input_messages",
    "own_key",
    "pictures_of",
    "task_cause",
    "task_wake_draft",
    "wake_cause",
    "wake_draft",
]

_OWN_PREFIXES = ("host:", "injection:")


class InputMessage(Struct, frozen=True, kw_only=True):
    """A message a turn runs on, before history has it.

    `parts` is there when it has pictures, in the order in which they were given. `origin` tells where it came from when
    nobody typed it.
    """

    role: str
    content: str
    parts: list[dict[str, Any]] | UnsetType = UNSET
    source_key: str | UnsetType = UNSET
    origin: dict[str, Any] | UnsetType = UNSET


class TurnCause(Struct, frozen=True, kw_only=True):
    """A reason for a turn that nobody typed. `text` is what a model is told of it."""

    id: str
    event_type: str
    origin: dict[str, Any]
    text: str


class AcceptedInput(Struct, frozen=True, kw_only=True):
    """Input taken in at a checkpoint; `id` is the sender's own key, if there was one."""

    id: str | UnsetType = UNSET
    message: InputMessage


class Picture(Struct, frozen=True):
    """A picture of one item, as it came: `key` is the name under which `Attachments` are looked up."""

    key: tuple[str, str]
    data: bytes


Attachments = Mapping[tuple[str, str], Attachment]
"""Stored pictures by item id and the picture's id inside that item."""


class CheckpointWork(Struct, frozen=True, kw_only=True):
    messages: tuple[InputMessage, ...] = ()
    transient_messages: tuple[InputMessage, ...] = ()
    turn_causes: tuple[TurnCause, ...] = ()


class TurnWork(Struct, frozen=True, kw_only=True):
    """`input` holds every item in order, without what the single inputs were."""

    input: TurnInput
    messages: tuple[InputMessage, ...] = ()
    turn_causes: tuple[TurnCause, ...] = ()


def for_checkpoint(batches: Iterable[Batch], attachments: Attachments | None = None) -> CheckpointWork:
    """What a running turn takes in. With `attachments`, pictures become parts."""
    transient: list[InputMessage] = []
    causes: list[TurnCause] = []
    for batch in batches:
        for item in batch.items:
            match item.payload:
                case TurnInputPayload(input=given):
                    message = _message(item.item_id, given, batch.source_key, attachments)
                    if message is not None:
                        transient.append(message)
                case WakePayload(wake=wake):
                    causes.append(wake_cause(wake))
                case TaskWakePayload(wake=said):
                    causes.append(task_cause(said))
                case CommandPayload():
                    pass
    return CheckpointWork(transient_messages=tuple(transient), turn_causes=tuple(causes))


def for_turn(batches: Iterable[Batch]) -> TurnWork:
    """The input of a turn of its own: items in order, pictures under names that do not collide, the first options and
    the first trace id.
    """
    batches = tuple(batches)
    items: list[InputItem] = []
    blobs: dict[str, bytes] = {}
    options: dict[str, Any] | UnsetType = UNSET
    trace: str | UnsetType = UNSET
    for item in (item for batch in batches for item in batch.items):
        if isinstance(item.payload, TurnInputPayload):
            given = item.payload.input
            names = _merge_blobs(blobs, item, given)
            for part in given.items:
                if isinstance(part, TextItem):
                    items.append(part)
                elif part.id in names:
                    items.append(ImageItem(names[part.id]))
            options = given.protocol_turn_options if options is UNSET else options
            trace = given.trace_turn_id if trace is UNSET else trace
    work = for_checkpoint(batches)
    return TurnWork(
        input=TurnInput(tuple(items), blobs or UNSET, options, trace),
        messages=work.messages,
        turn_causes=work.turn_causes,
    )


def _merge_blobs(blobs: dict[str, bytes], item: Item, given: TurnInput) -> dict[str, str]:
    """Add an input's pictures; how each of them is called now."""
    names: dict[str, str] = {}
    for name, data in _blobs(given).items():
        free = name
        while blobs.get(free, data) != data:
            free = f"{item.item_id}:{free}"
        blobs[free] = data
        names[name] = free
    return names


def input_messages(batches: Iterable[Batch], attachments: Attachments) -> tuple[InputMessage, ...]:
    """What a turn of its own runs on, in queue order: one message for each input that says something, and one for each
    cause.
    """
    messages: list[InputMessage] = []
    for batch in batches:
        work = for_checkpoint((batch,), attachments)
        messages += work.transient_messages
        messages += [
            InputMessage(role="system", content=cause.text, source_key=batch.source_key, origin=cause.origin)
            for cause in work.turn_causes
        ]
    return tuple(messages)


def accepted_inputs(batches: Iterable[Batch], attachments: Attachments | None = None) -> tuple[AcceptedInput, ...]:
    """The inputs that say something, each with its sender's own key."""
    return tuple(
        AcceptedInput(id=own_key(batch.source_key), message=message)
        for batch in batches
        for message in for_checkpoint((batch,), attachments).transient_messages
    )


def pictures_of(batches: Iterable[Batch]) -> tuple[Picture, ...]:
    """The pictures that items show, to be stored before `for_checkpoint` or `input_messages`."""
    return tuple(
        Picture((item.item_id, part.id), _blobs(item.payload.input)[part.id])
        for batch in batches
        for item in batch.items
        if isinstance(item.payload, TurnInputPayload)
        for part in item.payload.input.items
        if isinstance(part, ImageItem) and part.id in _blobs(item.payload.input)
    )


def exclusive_command(batches: tuple[Batch, ...]) -> tuple[Batch, SessionCommand] | None:
    """The session command that these batches are: one exclusive batch with one item. None otherwise."""
    if len(batches) != 1 or batches[0].slot_policy is not SlotPolicy.EXCLUSIVE or len(batches[0].items) != 1:
        return None
    payload = batches[0].items[0].payload
    return (batches[0], payload.command) if isinstance(payload, CommandPayload) else None


def command_source_key(command: SessionCommand, key: str) -> str:
    """The source key of a command that came with an idempotency key."""
    return f"command:{command.__struct_config__.tag}:{key}"


def wake_draft(wake: ProcessWake) -> Draft:
    """The batch that a wake becomes: alone, as early as can be, and once for each event of its process."""
    return Draft(
        session_id=wake.target_session_id,
        payloads=(WakePayload(wake),),
        source_key=f"process:{wake.process_id}:event:{wake.sequence}:wake",
        delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
        slot_policy=SlotPolicy.EXCLUSIVE,
    )


def wake_cause(wake: ProcessWake) -> TurnCause:
    origin: dict[str, Any] = {
        "type": "process",
        "process_id": wake.process_id,
        "event_type": wake.event_type,
        "sequence": wake.sequence,
        "wake_id": wake.wake_id,
    }
    if not isinstance(wake.process_caused_by, UnsetType):
        origin["caused_by"] = wake.process_caused_by
    return TurnCause(
        id=wake.wake_id,
        event_type=wake.event_type,
        origin=origin,
        text=f"Process {wake.process_id} reported {wake.event_type} (event {wake.sequence}): {wake.input}",
    )


def task_wake_draft(wake: TaskWake) -> Draft:
    """The batch that a task's wish becomes: alone, as early as can be, and once for each wish of a registration."""
    return Draft(
        session_id=wake.target_session_id,
        payloads=(TaskWakePayload(wake),),
        source_key=f"task:{wake.generation}:wake:{wake.number}",
        delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
        slot_policy=SlotPolicy.EXCLUSIVE,
    )


def task_cause(wake: TaskWake) -> TurnCause:
    return TurnCause(
        id=f"task:{wake.generation}:{wake.number}",
        event_type="task.reported",
        origin={
            "type": "task",
            "task_id": wake.task_id,
            "generation": wake.generation,
            "number": wake.number,
        },
        text=f"Task {wake.task_id} reported: {wake.input}",
    )


def _message(
    item_id: str, given: TurnInput, source_key: str | UnsetType, attachments: Attachments | None
) -> InputMessage | None:
    """The user's message that an input is, none when it says and shows nothing."""
    texts = [part.text for part in given.items if isinstance(part, TextItem) and part.text]
    blobs = _blobs(given)
    shows = any(isinstance(part, ImageItem) and part.id in blobs for part in given.items)
    if not texts and not shows:
        return None
    parts = UNSET if attachments is None else _parts(item_id, given, attachments)
    return InputMessage(role="user", content="\n".join(texts), parts=parts, source_key=source_key)


def _parts(item_id: str, given: TurnInput, attachments: Attachments) -> list[dict[str, Any]] | UnsetType:
    """Text and pictures in their order; none when no picture is left, and the text is all there is."""
    parts: list[dict[str, Any]] = []
    for part in given.items:
        name = {"id": f"queued.p{len(parts)}"}
        if isinstance(part, TextItem):
            if part.text:
                parts.append({**name, "type": "text", "text": part.text})
        elif (item_id, part.id) in attachments:
            parts.append({**name, "type": "image", "attachment": asdict(attachments[item_id, part.id])})
    return parts if any(part["type"] == "image" for part in parts) else UNSET


def _blobs(given: TurnInput) -> dict[str, bytes]:
    return {} if isinstance(given.image_blobs, UnsetType) else given.image_blobs


def own_key(source_key: str | UnsetType) -> str | UnsetType:
    """A sender's key as the sender knows it."""
    if isinstance(source_key, UnsetType):
        return UNSET
    for prefix in _OWN_PREFIXES:
        if source_key.startswith(prefix):
            return source_key[len(prefix) :]
    return source_key
