"""Process groups of the operating system: what they find around them, telling one something, seeing to its end."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

__all__ = ["end_group", "inherited_environment", "tell_group"]

_PATROL_SECONDS = 0.01
_LONGEST_PATROL_SECONDS = 0.16
_DYING_SECONDS = 0.5
"""What was killed is gone at once, unless it is inside of the system."""


def inherited_environment() -> dict[str, str]:
    """What programs find around them: this program's environment, without the settings of the server, which may hold
    its keys.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}


def tell_group(group: int, number: int) -> bool:
    """Whether there is anybody to be told. Zero tells nothing."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


async def end_group(group: int, *, grace: float) -> None:
    """Return when nothing of the group lives: told to end (SIGTERM), and what is still there after the grace is killed
    (SIGKILL). In seconds that the system has as well: a clock of the kernel's may stand still.
    """
    if _lives(group):
        tell_group(group, signal.SIGTERM)
        if not await _is_gone(group, grace):
            tell_group(group, signal.SIGKILL)
            await _is_gone(group, _DYING_SECONDS)


async def _is_gone(group: int, seconds: float) -> bool:
    """Look until nothing of it lives any more, at most for so long. No event tells of a group."""
    pause = _PATROL_SECONDS
    try:
        async with asyncio.timeout(seconds):
            while _lives(group):
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PATROL_SECONDS)
    except TimeoutError:
        return not _lives(group)
    return True


def _lives(group: int) -> bool:
    """Whether anybody in it still does something. What is dead and waits to be buried counts for the system, and in
    many a container nobody buries; where the system tells them apart, so do we.
    """
    if not tell_group(group, 0):
        return False
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, in_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # gone while we looked
        if int(in_group) == group and state not in "ZX":
            return True
    return not Path("/proc/self/stat").exists()
