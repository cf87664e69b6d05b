"""The standard agent: give it a model and some functions, and it does the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sightline.agents.standard.asking import Patience
from sightline.agents.standard.model import ModelClient
from sightline.agents.standard.performing import Performance, Window
from sightline.agents.standard.settings import PolicyInvalid, Settings, effective
from sightline.agents.standard.surface import Source, Surface
from sightline.agents.standard.tools import Tool, checked
from sightline.clock import SystemClock
from sightline.session.model import Policy
from sightline.turn.agent import AgentError, Turn

if TYPE_CHECKING:
    from sightline.agents.standard.mcp import McpServer

__all__ = ["StandardAgent"]


class StandardAgent:
    """An agent that asks a model, calls the tools it wants, and goes on until it has an answer.

    `sightline serve --agent MODULE:ATTRIBUTE` with the attribute an instance of this. `model` is a name that the
    `client` knows; without one, `provider:name` (see `sightline.agents.standard.providers`). A session's policy may
    override `model`, `instructions`, `max_turns` and `temperature`.

    `mcp`: servers whose tools it has too. `history`: how many messages of the transcript the model is told of.
    `context_window`: how many tokens the model takes. Where it is given, a conversation that fills `compact_at` of it
    is put into a few words, in the turn and behind it, and goes on in a frame of its own.
    """

    def __init__(
        self,
        *,
        model: str,
        client: ModelClient | None = None,
        tools: Iterable[Tool | Callable[..., Any]] = (),
        mcp: Sequence[McpServer] = (),
        instructions: str = "",
        max_turns: int = 20,
        temperature: float | None = None,
        history: int = 200,
        context_window: int | None = None,
        compact_at: float = 0.8,
        patience: Patience | None = None,
    ) -> None:
        """Raises ToolRefused for tools that no model could be told of, ValueError for settings that cannot be,
        ExtraMissing when there is no `client` and nothing installed that could be one.
        """
        given = {"model": model, "instructions": instructions, "max_turns": max_turns, "temperature": temperature}
        try:
            self._settings = msgspec.convert(given, Settings)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        self._client = client or _providers()
        self._surface = Surface(checked(tools), _connections(mcp))
        self._history = history
        self._window = Window(msgspec.UNSET if context_window is None else context_window, compact_at)
        self._patience = patience or Patience()
        self._clock = SystemClock()

    async def __call__(self, turn: Turn) -> None:
        """Do the turn. Raises AgentError with a code of its own for each way of not ending well."""
        try:
            settings = effective(self._settings, turn.policy)
        except PolicyInvalid as error:
            raise AgentError(str(error), code="policy_invalid") from error
        tools = await self._surface.tools(turn.clock)
        ending = await Performance(turn, self._client, settings, tools, self._patience).run(self._history, self._window)
        if ending.reason in ("finished", "max_turns"):
            return
        code: str = ending.reason
        if ending.reason == "provider_error" and isinstance(ending.outcome, str):
            code = ending.outcome
        raise AgentError(ending.message, code=code)

    async def tools(self, session_id: str, policy: Policy) -> list[dict[str, Any]]:
        """The tool surface, for whoever watches; MCP servers are asked anew. Raises what they raise."""
        return await self._surface.refreshed(self._clock)

    async def close(self) -> None:
        """Let go of connections and servers. Called when the kernel stops; they come back if it is used again."""
        await self._surface.close()
        close = getattr(self._client, "close", None)
        if close is not None:
            await close()


def _providers() -> ModelClient:
    from sightline.agents.standard.providers import ProviderModels

    return ProviderModels()


def _connections(servers: Sequence[McpServer]) -> list[Source]:
    if not servers:
        return []
    from sightline.agents.standard.mcp import McpConnection

    return [McpConnection(server) for server in servers]
