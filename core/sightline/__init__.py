"""Sightline's kernel: durable agent sessions that anybody can watch, leave, and come back to without missing a word.

What embedders need is here: a `Kernel`, the shapes of an agent and of work, and what watching a session yields. Stores
and live logs are in `sightline.stores`, the ports they implement beside the domains, their checks in
`sightline.testing.conformance`. The gateway is in `sightline_gateway`.
"""

from sightline.clock import Clock, SystemClock
from sightline.errors import SightlineError, SubscriberLagged, SubscriptionClosed
from sightline.ids import Ids, SystemIds
from sightline.kernel import Kernel, Limits, Written
from sightline.observation.events import Event
from sightline.observation.fold import Fold, fold
from sightline.observation.handle import RuntimeHandle
from sightline.observation.model import Observation
from sightline.observation.opening import Gap, GapAnswer, Replayed
from sightline.observation.remote import check_frame, parse_frame
from sightline.observation.runtime import Runtime, RuntimeObservation, SessionObservation
from sightline.observation.watching import SessionSubscription, Snapshot
from sightline.queue.model import (
    Batch,
    DeliveryPolicy,
    Draft,
    SlotPolicy,
    TextItem,
    TurnInput,
    TurnInputPayload,
)
from sightline.turn.agent import Agent, AgentError, Turn, TurnOver
from sightline.turn.blocking import BlockingTurn
from sightline.turn.programs import Ran, run_program

__all__ = [
    "Agent",
    "AgentError",
    "Batch",
    "BlockingTurn",
    "Clock",
    "DeliveryPolicy",
    "Draft",
    "Event",
    "Fold",
    "Gap",
    "GapAnswer",
    "Ids",
    "Kernel",
    "Limits",
    "Observation",
    "Ran",
    "Replayed",
    "Runtime",
    "RuntimeHandle",
    "RuntimeObservation",
    "SessionObservation",
    "SessionSubscription",
    "SightlineError",
    "SlotPolicy",
    "Snapshot",
    "SubscriberLagged",
    "SubscriptionClosed",
    "SystemClock",
    "SystemIds",
    "TextItem",
    "Turn",
    "TurnInput",
    "TurnInputPayload",
    "TurnOver",
    "Written",
    "check_frame",
    "fold",
    "parse_frame",
    "run_program",
]
