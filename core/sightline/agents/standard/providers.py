"""Models of real providers, through pydantic-ai's direct API. Needs the extra `models`.

pydantic-ai speaks the wires; loops, tools, retries and waiting are ours. A part of an answer that has more to it than
its text (a signature, an id) travels as pydantic-ai's own JSON in the part's `details`, and goes back as it came.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable
from typing import Any, cast

from msgspec import UNSET

from sightline.agents.standard.model import (
    ContextOverflow,
    Finish,
    FinishReason,
    ModelError,
    ModelEvent,
    ModelRequest,
    ModelTrouble,
    Reasoning,
    Text,
    Used,
)
from sightline.session.model import UsageFigures
from sightline.startup_errors import (
    ExtraMissing,
)
from sightline.turn.conversation import (
    AssistantMessage,
    AssistantPart,
    ConversationMessage,
    ImagePart,
    ReasoningPart,
    SystemMessage,
    TextPart,
    ToolCallPart,
    ToolMessage,
    UserMessage,
)
from sightline.turn.threads import in_thread

try:
    import httpx2
    from pydantic import TypeAdapter
    from pydantic_ai import exceptions, messages
    from pydantic_ai.direct import model_request_stream
    from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse, infer_model
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers import Provider, infer_provider_class
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
    from pydantic_ai.settings import ModelSettings
    from pydantic_ai.tools import ToolDefinition

    from sightline.agents.standard.wire import bounded_client
except ImportError as error:
    raise ExtraMissing("a model of a provider", "models") from error

__all__ = ["ProviderModels"]

_OLD_NAMES = {"google-gla": "google"}
_KEPT = 32
"""So many models are ready at a time; sessions may name any."""

_CUT_OFF_SHOWS = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
"""A stream that stops without saying that it is at its end is no answer."""
_RESPONSE_PART: TypeAdapter[messages.ModelResponsePart] = TypeAdapter(messages.ModelResponsePart)
_REASONS: dict[str | None, FinishReason] = {
    "stop": "completed",
    "tool_call": "completed",
    "length": "output_limit",
    "content_filter": "content_filter",
}


class ProviderModels:
    """See `sightline.agents.standard.model.ModelClient`. Models are called `provider:name`, as in `openai:gpt-5-mini`,
    `anthropic:claude-sonnet-5-5`, `google:gemini-3.8-flash`; the provider's key is in its usual variable.

    With a `base_url` all names are those of the OpenAI-compatible server there, `openai:` in front of them or not.
    """

    def __init__(
        self, *, base_url: str | None = None, api_key: str | None = None, http: httpx2.AsyncClient | None = None
    ) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._http = http or bounded_client()
        self._models: dict[str, Model] = {}

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        try:
            model = await self._model(request.model)
            async with model_request_stream(
                model,
                list(_told(request)),
                model_settings=_settings(request),
                model_request_parameters=ModelRequestParameters(
                    function_tools=[
                        ToolDefinition(
                            name=spec.name, description=spec.description, parameters_json_schema=spec.input_schema
                        )
                        for spec in request.tools
                    ]
                ),
            ) as response:
                async for event in _events(response):
                    yield event
        except ModelError:
            raise
        except Exception as error:
            raise _failure(error) from error

    async def close(self) -> None:
        """Close the connections. The next request opens new ones."""
        http, self._http = self._http, bounded_client()
        self._models.clear()
        await http.aclose()

    async def _model(self, name: str) -> Model:
        model = self._models.pop(name, None)
        if model is None:
            # Its provider's SDK may have to be imported, which takes seconds that no stream should wait for.
            model = cast(Model, await in_thread(f"model {name}", lambda: self._made(name)))
        self._models[name] = model
        if len(self._models) > _KEPT:
            del self._models[next(iter(self._models))]
        return model

    def _made(self, name: str) -> Model:
        provider_name, _, bare = name.partition(":")
        if self._base_url is not None:
            called = bare if provider_name in ("openai", "openai-chat") and bare else name
            provider = OpenAICompatibleProvider(
                "openai-compatible", base_url=self._base_url, api_key=self._api_key or "none", http_client=self._http
            )
            return OpenAIChatModel(called, provider=provider, profile=_CUT_OFF_SHOWS)
        if not bare:
            raise ModelError(f"{name!r} is no model; one is called provider:name, as in openai:gpt-5-mini")
        if provider_name == "openai-chat":
            return OpenAIChatModel(bare, provider=self._provider(provider_name), profile=_CUT_OFF_SHOWS)
        return infer_model(f"{_OLD_NAMES.get(provider_name, provider_name)}:{bare}", self._provider)

    def _provider(self, name: str) -> Provider[Any]:
        try:
            made = cast(Any, infer_provider_class(name))
        except ValueError as error:
            raise ModelError(str(error)) from error
        given = {} if self._api_key is None else {"api_key": self._api_key}
        return cast("Provider[Any]", made(http_client=self._http, **given))


def _settings(request: ModelRequest) -> ModelSettings:
    settings = ModelSettings(max_retries=0)
    if request.temperature is not None:
        settings["temperature"] = request.temperature
    return settings


def _told(request: ModelRequest) -> Iterable[messages.ModelMessage]:
    """The conversation in pydantic-ai's shapes: what is not the model's own goes together into one request."""
    parts: list[messages.ModelRequestPart] = []
    for message in request.messages:
        if isinstance(message, AssistantMessage):
            yield messages.ModelRequest(parts=parts, instructions=request.instructions or None)
            yield messages.ModelResponse(parts=[_response_part(part) for part in message.parts])
            parts = []
        else:
            parts.extend(_request_parts(message, request))
    yield messages.ModelRequest(parts=parts, instructions=request.instructions or None)


def _request_parts(
    message: ConversationMessage, request: ModelRequest
) -> Iterable[messages.UserPromptPart | messages.ToolReturnPart[Any]]:
    match message:
        case SystemMessage(text=text):
            yield messages.UserPromptPart(content=text)
        case UserMessage(parts=parts):
            yield messages.UserPromptPart(content=[_content(part, request) for part in parts])
        case ToolMessage(results=results):
            for result in results:
                yield messages.ToolReturnPart(
                    tool_name=result.name,
                    content=result.output,
                    tool_call_id=result.call_id,
                    outcome="failed" if result.failed else "success",
                )


def _content(part: TextPart | ImagePart, request: ModelRequest) -> messages.UserContent:
    if isinstance(part, TextPart):
        return part.text
    data = request.pictures.get(part.attachment.attachment_id)
    if data is None:
        return "(a picture that is not there any more)"
    return messages.BinaryContent(data=data, media_type=part.attachment.media_type)


def _response_part(part: AssistantPart) -> messages.ModelResponsePart:
    if part.details is not UNSET:
        return _RESPONSE_PART.validate_python(part.details)
    match part:
        case TextPart(text=text):
            return messages.TextPart(content=text)
        case ReasoningPart(text=text):
            return messages.ThinkingPart(content=text)
        case ToolCallPart():
            args = part.args if isinstance(part.args, str | dict) else json.dumps(part.args)
            return messages.ToolCallPart(tool_name=part.name, args=args, tool_call_id=part.call_id)


async def _events(response: StreamedResponse) -> AsyncGenerator[ModelEvent]:
    async for event in response:
        match event:
            case messages.PartStartEvent(part=messages.TextPart(content=text)) if text:
                yield Text(text)
            case messages.PartDeltaEvent(delta=messages.TextPartDelta(content_delta=text)) if text:
                yield Text(text)
            case messages.PartStartEvent(part=messages.ThinkingPart(content=text)) if text:
                yield Reasoning(text)
            case messages.PartDeltaEvent(delta=messages.ThinkingPartDelta(content_delta=text)) if text:
                yield Reasoning(text)
            case _:
                pass
    yield Used(_figures(response))
    reason = _REASONS.get(response.finish_reason)
    if reason is None:
        raise ModelTrouble("the provider's answer stopped before its end")
    yield Finish(parts=tuple(_parts(response.get())), reason=reason)


def _figures(response: StreamedResponse) -> UsageFigures:
    usage = response.usage
    return UsageFigures(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_input_tokens=usage.cache_read_tokens,
        reasoning_tokens=usage.details.get("reasoning_tokens", 0),
        requests=1,
    )


def _parts(response: messages.ModelResponse) -> Iterable[AssistantPart]:
    for part in response.parts:
        match part:
            case messages.TextPart(content=text):
                yield TextPart(text=text, details=_details(part))
            case messages.ThinkingPart(content=text):
                yield ReasoningPart(text=text, details=_details(part))
            case messages.ToolCallPart():
                yield ToolCallPart(
                    call_id=part.tool_call_id, name=part.tool_name, args=_args(part.args), details=_details(part)
                )
            case _:
                pass  # files and the provider's own tools: nothing that we asked for


def _details(part: messages.TextPart | messages.ThinkingPart | messages.ToolCallPart) -> Any:
    signature = getattr(part, "signature", None)
    if part.id is None and part.provider_details is None and signature is None:
        return UNSET
    return _RESPONSE_PART.dump_python(part, mode="json", exclude_defaults=True) | {"part_kind": part.part_kind}


def _args(args: Any) -> Any:
    """The arguments as JSON holds them, or their text where it is none."""
    if not args:
        return {}
    if not isinstance(args, str):
        return args
    try:
        return json.loads(args)
    except ValueError:
        return args


_FINAL = (exceptions.ModelRequestRejectedError, exceptions.ModelQuotaExceededError)
_AGAIN = frozenset({408, 409, 425, 429})


def _failure(error: Exception) -> ModelError:
    """The error in our words: whether it may pass."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModelError):
            return cause
        cause = cause.__cause__ or cause.__context__
    text = _line(str(error)) or type(error).__name__
    match error:
        case exceptions.ModelContextWindowExceededError():
            return ContextOverflow(text)
        case exceptions.ModelHTTPError(status_code=status) if status < 500 and status not in _AGAIN:
            return ModelError(text)
        case exceptions.ModelAPIError():
            return ModelError(text) if isinstance(error, _FINAL) else ModelTrouble(text, retry_after=error.retry_after)
        case exceptions.UserError() | ImportError():
            return ModelError(text)
        case _:
            # Garbage on the wire comes out as whatever the parser that met it thinks of it.
            return ModelTrouble(f"{type(error).__name__}: {text}")


def _line(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 500 else flat[:499] + "…"
