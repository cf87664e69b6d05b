"""What one kernel may take: how much, how long, how often."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Limits"]


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of one kernel. Times in seconds.

    `keep_messages`: how many of a session's newest messages stay in memory and come with a snapshot.
    `retention`: how long ended batches stay readable, and answers known; `key_retention`: how long after its last use a
    key is known whose batch is not. `session_lease`: after how long without a sign of life another owner may take over
    a session, `process_lease`: a process. `max_tasks`: how many live background tasks a session may have.
    `command_output`: how many bytes of what a command writes are kept. `turn_timeout`: how long a turn may be at work,
    the time it waits for people not counted; 0: as long as it likes. `flush_window`: text that is said within it is
    shown as one event; 0: every piece is one.
    """

    concurrency: int = 64
    poll_interval: float = 0.4
    max_attempts: int = 3
    max_queue: int = 1_000
    max_tasks: int = 1_000
    keep_messages: int = 200
    retention: float = 86_400.0
    key_retention: float = 2_592_000.0
    session_lease: float = 10.0
    process_lease: float = 30.0
    command_output: int = 1_048_576
    turn_timeout: float = 0.0
    flush_window: float = 0.0
