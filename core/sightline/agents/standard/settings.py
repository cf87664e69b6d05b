"""What a session may set for itself in its policy, and what it gets where it does not."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from sightline.session.model import Policy

__all__ = ["PolicyInvalid", "Settings", "effective"]


class Settings(Struct, frozen=True, kw_only=True):
    """`max_turns`: how many requests to the model one turn may make with tools. `temperature` none: the provider's."""

    model: Annotated[str, Meta(min_length=1)]
    instructions: str = ""
    max_turns: Annotated[int, Meta(ge=1, le=1_000)] = 20
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None


class PolicyInvalid(ValueError):
    """The policy says something about one of the settings that it cannot be."""


def effective(defaults: Settings, policy: Policy) -> Settings:
    """The defaults, overridden by those of the policy's entries that are settings; the others are not ours.

    Raises PolicyInvalid, naming the entry.
    """
    own = {name: policy[name] for name in Settings.__struct_fields__ if name in policy}
    try:
        return msgspec.convert({**msgspec.structs.asdict(defaults), **own}, Settings)
    except msgspec.ValidationError as error:
        raise PolicyInvalid(f"the session's policy does not fit: {error}") from error
