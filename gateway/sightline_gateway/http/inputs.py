"""What users say, on its way in and back: text, items, pictures.

Pictures come inside the request as base64 and go to the agent as bytes; answers name them and leave the bytes out.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from sightline.queue.model import Batch, ImageItem, InputItem, Item, TextItem, TurnInput, TurnInputPayload
from sightline.session.rules import media_type_of
from sightline_gateway.problems import FieldError, ProblemError

__all__ = ["InputItems", "Text", "input_of", "shown", "shown_all"]

Text = Annotated[str, Meta(min_length=1)]


class InputItems(Struct, forbid_unknown_fields=True):
    """Items in order. `image_blobs`: the pictures that items refer to, base64 of PNG, JPEG, GIF or WebP."""

    items: Annotated[list[TextItemIn | ImageItemIn], Meta(min_length=1, max_length=256)]
    image_blobs: dict[str, str] | UnsetType = UNSET


class TextItemIn(Struct, forbid_unknown_fields=True, tag="text", tag_field="type"):
    text: str


class ImageItemIn(Struct, forbid_unknown_fields=True, tag="image_ref", tag_field="type"):
    id: Annotated[str, Meta(min_length=1, max_length=200)]


def input_of(given: str | InputItems) -> TurnInput:
    """The input that a body holds. Raises ProblemError that lists all that is wrong with it."""
    if isinstance(given, str):
        return TurnInput((TextItem(given),))
    encoded = {} if isinstance(given.image_blobs, UnsetType) else given.image_blobs
    named = {item.id for item in given.items if isinstance(item, ImageItemIn)}
    errors = [
        FieldError(field=f"input.items[{index}].id", detail="no picture of this id is in image_blobs", value=item.id)
        for index, item in enumerate(given.items)
        if isinstance(item, ImageItemIn) and item.id not in encoded
    ]
    blobs: dict[str, bytes] = {}
    for name, text in encoded.items():
        field = f"input.image_blobs.{name[:100]}"
        if name not in named:
            errors.append(FieldError(field=field, detail="no item refers to it"))
            continue
        try:
            blobs[name] = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            errors.append(FieldError(field=field, detail="is not base64"))
            continue
        if media_type_of(blobs[name]) is None:
            errors.append(FieldError(field=field, detail="is no PNG, JPEG, GIF or WebP"))
    items: tuple[InputItem, ...] = tuple(
        TextItem(item.text) if isinstance(item, TextItemIn) else ImageItem(item.id) for item in given.items
    )
    if not errors and not named and not any(isinstance(item, TextItem) and item.text for item in items):
        errors.append(FieldError(field="input", detail="the items hold no text and no picture"))
    if errors:
        detail = "; ".join(f"{error.field}: {error.detail}" for error in errors)
        raise ProblemError("invalid_field", detail, field=errors[0].field, errors=tuple(errors))
    return TurnInput(items, blobs or UNSET)


def shown(batch: Batch) -> Batch:
    """The batch without the bytes of its pictures."""
    if not any(_has_blobs(item) for item in batch.items):
        return batch
    return structs.replace(batch, items=tuple(_without_blobs(item) for item in batch.items))


def shown_all(batches: Iterable[Batch]) -> tuple[Batch, ...]:
    return tuple(shown(batch) for batch in batches)


def _has_blobs(item: Item) -> bool:
    return isinstance(item.payload, TurnInputPayload) and item.payload.input.image_blobs is not UNSET


def _without_blobs(item: Item) -> Item:
    if not isinstance(item.payload, TurnInputPayload):
        return item
    return Item(item.item_id, TurnInputPayload(structs.replace(item.payload.input, image_blobs=UNSET)))
