"""The standard agent: give it a model and some functions, and it does the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from sightline.agents.standard.asking import Patience
from sightline.agents.standard.model import ModelClient
from sightline.agents.standard.performing import Performance
from sightline.agents.standard.settings import PolicyInvalid, Settings, effective
from sightline.agents.standard.tools import Tool, checked
from sightline.errors import ExtraMissing
from sightline.session.model import Policy
from sightline.turn.agent import AgentError, Turn

__all__ = ["StandardAgent"]


class StandardAgent:
    """An agent that asks a model, calls the tools it wants, and goes on until it has an answer.

    `sightline serve --agent MODULE:ATTRIBUTE` with the attribute an instance of this. `model` is a name that the
    `client` knows; without one, `provider:name` (see `sightline.agents.standard.providers`). A session's policy may
    override `model`, `instructions`, `max_turns` and `temperature`.

    `history`: how many messages of the transcript the model is told of. `context_window`: how many tokens the model
    takes, where it does not say itself that a conversation is too long.
    """

    def __init__(
        self,
        *,
        model: str,
        client: ModelClient | None = None,
        tools: Iterable[Tool | Callable[..., Any]] = (),
        instructions: str = "",
        max_turns: int = 20,
        temperature: float | None = None,
        history: int = 200,
        context_window: int | None = None,
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
        self._tools = {tool.name: tool for tool in checked(tools)}
        self._history = history
        self._context_window = context_window
        self._patience = patience or Patience()

    async def __call__(self, turn: Turn) -> None:
        """Do the turn. Raises AgentError with a code of its own for each way of not ending well."""
        try:
            settings = effective(self._settings, turn.policy)
        except PolicyInvalid as error:
            raise AgentError(str(error), code="policy_invalid") from error
        performance = Performance(turn, self._client, settings, self._tools, self._patience)
        ending = await performance.run(self._history, self._context_window)
        if ending.reason in ("finished", "max_turns"):
            return
        code: str = ending.reason
        if ending.reason == "provider_error" and isinstance(ending.outcome, str):
            code = ending.outcome
        raise AgentError(ending.message, code=code)

    async def tools(self, session_id: str, policy: Policy) -> list[dict[str, Any]]:
        """The tool surface, for whoever watches."""
        return [msgspec.to_builtins(tool.spec) for tool in self._tools.values()]

    async def close(self) -> None:
        """Let go of connections."""
        close = getattr(self._client, "close", None)
        if close is not None:
            await close()


def _providers() -> ModelClient:
    try:
        from sightline.agents.standard.providers import ProviderModels
    except ImportError as error:
        raise ExtraMissing("the standard agent without a client", "models") from error
    return ProviderModels()
