"""The runtime of a session as observers see it: its state, its tools, and what can be read beside them without waiting.

A `Runtime` is what the session's one writer changes. Readers never touch it: of it an observation is made, a frozen
snapshot that is swapped whole, so that who looks while a turn runs sees what was installed last and waits for nobody.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from sightline.observation.model import Observation
from sightline.process.model import HandleGrant, ProcessHandles, ProcessScope
from sightline.process.port import ProcessRegistry
from sightline.process.rules import scopes_of, visible
from sightline.queue.port import QueueStore
from sightline.queue.runner import QueuedWorkPoke
from sightline.session.model import PersistedState, Policy, ReadView, Tools, Usage

__all__ = [
    "Resident",
    "Runtime",
    "RuntimeObservation",
    "SessionObservation",
    "ToolRegistry",
    "ToolState",
    "capture",
    "tools_shown",
]

_log = logging.getLogger("sightline.observation")


class ToolState(Struct, frozen=True, kw_only=True):
    """The tools of a live session as they were captured. Two of one generation are the same."""

    generation: int
    tools: tuple[dict[str, Any], ...] = ()


class ToolRegistry(Protocol):
    """The tools of a live session. Asked while its writer holds still; neither method waits."""

    @property
    def generation(self) -> int:
        """Grows whenever the tools change."""
        ...

    def state(self) -> ToolState:
        """Capture the tools; costly, so it is done once for a generation. May raise anything."""
        ...

    def catalog(self) -> Sequence[dict[str, Any]]:
        """What observers are shown: entries with `name`, `description` and `input_schema`. May raise anything."""
        ...


class Runtime(Protocol):
    """The side of a session that its one writer changes. Whoever holds the writer lock may read it; nobody else does.

    What is none is not there: a session that is not live has no tools, one without a store cannot queue.
    """

    @property
    def session_id(self) -> str: ...

    def export_state(self) -> PersistedState:
        """Everything that outlives the session's turns. Neither it nor what it holds is changed afterwards."""
        ...

    def usage_report(self) -> Usage:
        """What the session has used: the ledger, and what a running turn has reported and not yet committed."""
        ...

    @property
    def tools(self) -> ToolRegistry | None: ...

    @property
    def process_registry(self) -> ProcessRegistry | None: ...

    @property
    def queue_store(self) -> QueueStore | None: ...

    @property
    def queued_work_poke(self) -> QueuedWorkPoke | None: ...


class SessionObservation(Struct, frozen=True):
    """What a reader of the transcript needs: the view, and the cursor that was taken together with it."""

    read_view: ReadView
    cursor: str


class Resident(Struct, frozen=True, kw_only=True):
    """What an observation has of its runtime, captured in one go while the writer held still."""

    persisted_state: PersistedState
    usage_report: Usage
    policy: Policy
    tool_state: ToolState | None
    tool_catalog: tuple[dict[str, Any], ...]
    tool_catalog_error: str | None
    process_registry: ProcessRegistry | None
    queue_store: QueueStore | None
    queued_work_poke: QueuedWorkPoke | None


class RuntimeObservation(Struct, frozen=True, kw_only=True):
    """A session at one moment, for readers in this process. Never changed, only replaced.

    `cursor` and `revision` belong to this very snapshot: whoever goes on behind the cursor misses nothing and sees
    nothing twice. `view` is the same moment as the wire tells it, running turn included. `policy` is a copy.
    `tool_state` is none when the session is not live, or its tools could not be captured; `tool_catalog` is empty
    with a `tool_catalog_error` when the catalogue could not be made. The last three are the means to read and queue
    beside the writer, each none where the session has no such thing.
    """

    session_id: str
    revision: int
    cursor: str
    policy: Policy
    read_view: ReadView
    persisted_state: PersistedState
    usage_report: Usage
    tool_state: ToolState | None
    tool_catalog: tuple[dict[str, Any], ...]
    tool_catalog_error: str | None
    process_registry: ProcessRegistry | None
    queue_store: QueueStore | None
    queued_work_poke: QueuedWorkPoke | None
    view: Observation

    @classmethod
    def of(cls, view: Observation, resident: Resident) -> RuntimeObservation:
        return cls(
            session_id=view.session_id,
            revision=view.revision,
            cursor=view.cursor,
            policy=resident.policy,
            read_view=view.read_view,
            persisted_state=resident.persisted_state,
            usage_report=resident.usage_report,
            tool_state=resident.tool_state,
            tool_catalog=resident.tool_catalog,
            tool_catalog_error=resident.tool_catalog_error,
            process_registry=resident.process_registry,
            queue_store=resident.queue_store,
            queued_work_poke=resident.queued_work_poke,
            view=view,
        )

    @property
    def session_observation(self) -> SessionObservation:
        return SessionObservation(self.read_view, self.cursor)

    @property
    def process_scope(self) -> ProcessScope:
        """The session's own scope, whatever its frame."""
        return ProcessScope(self.session_id)

    async def list_process_handles(self) -> ProcessHandles:
        """The processes that run and this session may see: granted to it, or to its current agent frame.

        By process id, each once. Without a registry there are none. A scope that cannot be read contributes nothing and
        is named in `errors`; nothing is raised. Cancellable; asks the registry now, not as of the snapshot.
        """
        return await self._handles(live=True)

    async def list_all_process_handles(self) -> ProcessHandles:
        """Likewise, also those that have ended."""
        return await self._handles(live=False)

    async def _handles(self, *, live: bool) -> ProcessHandles:
        registry = self.process_registry
        if registry is None:
            return ProcessHandles()
        ask = registry.list_live_handle_grants if live else registry.list_handle_grants
        grants: list[HandleGrant] = []
        errors: list[str] = []
        for scope in scopes_of(self.session_id, self.persisted_state.agent_frame_id):
            try:
                grants += await ask(scope)
            except Exception as error:
                _log.warning("session %s: the processes of %r cannot be read: %s", self.session_id, scope, error)
                where = f"frame {scope.agent_frame_id}" if scope.agent_frame_id else "session"
                errors.append(f"{where}: {_told(error)}")
        return ProcessHandles(visible(grants), tuple(errors))


def capture(runtime: Runtime, state: PersistedState, previous: RuntimeObservation | None) -> Resident:
    """Read the runtime for a new observation. Trouble with its tools is in the result, never raised.

    What did not change since the previous one is the same object as there.
    """
    registry = runtime.tools
    catalog, catalog_error = _catalog_of(registry)
    if previous is not None and previous.tool_catalog == catalog:
        catalog = previous.tool_catalog
    same_policy = previous is not None and previous.view.policy is state.policy
    return Resident(
        persisted_state=state,
        usage_report=runtime.usage_report(),
        policy=previous.policy if previous is not None and same_policy else copy.deepcopy(state.policy),
        tool_state=_tool_state_of(runtime.session_id, registry, previous),
        tool_catalog=catalog,
        tool_catalog_error=catalog_error,
        process_registry=runtime.process_registry,
        queue_store=runtime.queue_store,
        queued_work_poke=runtime.queued_work_poke,
    )


def tools_shown(resident: Resident) -> Tools:
    """The tool surface as the wire shows it."""
    state = resident.tool_state
    return Tools(
        generation=0 if state is None else state.generation,
        catalog=resident.tool_catalog,
        error=resident.tool_catalog_error,
    )


def _catalog_of(registry: ToolRegistry | None) -> tuple[tuple[dict[str, Any], ...], str | None]:
    if registry is None:
        return (), None
    try:
        return tuple(registry.catalog()), None
    except Exception as error:
        return (), _told(error)


def _tool_state_of(
    session_id: str, registry: ToolRegistry | None, previous: RuntimeObservation | None
) -> ToolState | None:
    if registry is None:
        return None
    try:
        known = None if previous is None else previous.tool_state
        return known if known is not None and known.generation == registry.generation else registry.state()
    except Exception as error:
        _log.warning("session %s: its tools could not be captured: %s", session_id, error)
        return None


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__
