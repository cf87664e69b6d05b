"""An agent that is a plain generator: what it yields is said.

`sightline serve --agent generator_agent:agent`. It may block, for it runs in a thread of its own. When its turn is
cancelled the next `yield` raises, so that `with` and `finally` clean up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from sightline import BlockingTurn


def agent(turn: BlockingTurn) -> Iterator[str]:
    words = turn.input[0].content.split()
    for number, word in enumerate(words, start=1):
        time.sleep(0.05)  # stands for work
        yield f"{number}: {word}\n"
    yield f"That was {len(words)} words."
