"""Models by name: which provider is asked, and what it is told."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from sightline.agents.standard.model import ModelError, ModelRequest, ModelTrouble, ToolSpec
from sightline.agents.standard.providers import ProviderModels
from sightline.session.model import Attachment
from sightline.turn.conversation import (
    AssistantMessage,
    ConversationMessage,
    ImagePart,
    ReasoningPart,
    SystemMessage,
    TextPart,
    ToolCallPart,
    ToolMessage,
    ToolResultPart,
    UserMessage,
)

pytestmark = [
    pytest.mark.anyio,
    # pydantic-ai's word that a model takes no temperature, and goes without.
    pytest.mark.filterwarnings("ignore:.*temperature"),
]

PICTURE = Attachment(attachment_id="p", media_type="image/png", size=4)
CONVERSATION: tuple[ConversationMessage, ...] = (
    UserMessage(parts=(TextPart(text="What is this?"), ImagePart(attachment=PICTURE))),
    AssistantMessage(parts=(TextPart(text="Let me see."), ToolCallPart(call_id="c1", name="look", args={"at": "p"}))),
    ToolMessage(results=(ToolResultPart(call_id="c1", name="look", output={"found": ["a cat"]}),)),
    SystemMessage(text="The light went out."),
)
LOOK = ToolSpec(name="look", description="Looks.", input_schema={"type": "object", "properties": {}})


def request(model: str, messages: tuple[ConversationMessage, ...] = CONVERSATION) -> ModelRequest:
    return ModelRequest(
        model=model,
        instructions="Be brief.",
        messages=messages,
        tools=(LOOK,),
        temperature=0.25,
        pictures={"p": b"\x89PNG"},
    )


async def asked(model: str, messages: tuple[ConversationMessage, ...] = CONVERSATION) -> tuple[httpx2.URL, Any]:
    """Where the request went, and its body; the provider is busy."""
    seen: list[tuple[httpx2.URL, Any]] = []

    async def busy(wire: httpx2.Request) -> httpx2.Response:
        seen.append((wire.url, json.loads(await wire.aread())))
        return httpx2.Response(503, json={"error": {"message": "busy", "code": 503, "status": "UNAVAILABLE"}})

    client = ProviderModels(api_key="key", http=httpx2.AsyncClient(transport=httpx2.MockTransport(busy), timeout=None))
    with pytest.raises(ModelTrouble):
        async for _ in client.stream(request(model, messages)):
            pass
    await client.close()
    [only] = seen
    return only


@pytest.mark.parametrize(
    ("model", "host", "path"),
    [
        ("openai:gpt-4o", "api.openai.com", "/v1/responses"),
        ("openai-chat:gpt-4o", "api.openai.com", "/v1/chat/completions"),
        ("anthropic:claude-sonnet-5-5", "api.anthropic.com", "/v1/messages"),
        ("google:gemini-3.8-flash", "generativelanguage.googleapis.com", "/v1beta/models/gemini-3.8-flash"),
        ("google-gla:gemini-3.8-flash", "generativelanguage.googleapis.com", "/v1beta/models/gemini-3.8-flash"),
    ],
)
async def test_the_name_says_who_is_asked_once(model: str, host: str, path: str) -> None:
    url, body = await asked(model)
    assert url.host == host
    assert url.path.startswith(path)
    told = json.dumps(body)
    for expected in ("Be brief.", "What is this?", "Let me see.", "a cat", "The light went out.", "iVBORw", "look"):
        assert expected in told, expected


@pytest.mark.parametrize("model", ["gpt-5", "nobody:knows", "", ":", "openai:"])
async def test_an_unknown_model_is_an_error_that_names_it(model: str) -> None:
    client = ProviderModels(api_key="key")
    with pytest.raises(ModelError) as error:
        async for _ in client.stream(request(model)):
            pass
    assert not isinstance(error.value, ModelTrouble)
    await client.close()


async def test_a_missing_key_is_an_error_that_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    client = ProviderModels()
    with pytest.raises(ModelError, match="ANTHROPIC_API_KEY") as error:
        async for _ in client.stream(request("anthropic:claude-sonnet-5-5")):
            pass
    assert not isinstance(error.value, ModelTrouble)
    await client.close()


async def test_a_provider_gets_its_signature_back() -> None:
    details = {"part_kind": "thinking", "content": "hm", "signature": "sig-1", "provider_name": "anthropic"}
    messages: tuple[ConversationMessage, ...] = (
        UserMessage(parts=(TextPart(text="go"),)),
        AssistantMessage(
            parts=(
                ReasoningPart(text="hm", details=details),
                ToolCallPart(call_id="c1", name="look", args={}),
            )
        ),
        ToolMessage(results=(ToolResultPart(call_id="c1", name="look", output="dark", failed=True),)),
    )
    _, body = await asked("anthropic:claude-sonnet-5-5", messages)
    assert {"type": "thinking", "thinking": "hm", "signature": "sig-1"}.items() <= body["messages"][1]["content"][
        0
    ].items()
    assert body["messages"][2]["content"][0]["is_error"] is True


async def test_a_picture_that_is_gone_is_said_to_be() -> None:
    gone = Attachment(attachment_id="q", media_type="image/png", size=4)
    _, body = await asked("openai-chat:gpt-4o", (UserMessage(parts=(ImagePart(attachment=gone),)),))
    assert "not there any more" in json.dumps(body)
