"""Sightline's kernel: durable agent sessions that anybody can watch, leave, and come back to without missing a word.

What embedders need is here: a `Kernel`, a store, a live log, and the shapes of an agent. The gateway is in
`sightline_gateway`.
"""

from sightline.clock import Clock, SystemClock
from sightline.errors import SightlineError
from sightline.ids import Ids, SystemIds
from sightline.kernel import Kernel, Limits
from sightline.turn.agent import Agent, AgentError, Turn

__all__ = [
    "Agent",
    "AgentError",
    "Clock",
    "Ids",
    "Kernel",
    "Limits",
    "SightlineError",
    "SystemClock",
    "SystemIds",
    "Turn",
]
