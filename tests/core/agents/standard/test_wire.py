"""The standard agent against a provider on a real socket that misbehaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from msgspec import UNSET, structs

from sightline.agents.standard import Patience, StandardAgent, tool
from sightline.agents.standard.model import ModelRequest, Text
from sightline.agents.standard.providers import ProviderModels
from sightline.kernel import Kernel
from sightline.session.model import Message, UsageFigures
from sightline.turn.conversation import TextPart, UserMessage
from tests.core.agents.standard.openai_server import (
    DONE,
    Answer,
    OpenAIServer,
    calling,
    chunk,
    openai_server,
    refusing,
    saying,
    streaming,
    usage,
)
from tests.core.worlds import draft

pytestmark = pytest.mark.anyio

# A busy machine is no silent provider: only where silence is the matter, little of it is enough.
IMPATIENT = Patience(attempts=3, first_pause=0.01, longest_asked=0.01, silence=30)
VERY_IMPATIENT = structs.replace(IMPATIENT, silence=1.5)


@tool
async def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


@dataclass
class Served:
    kernel: Kernel
    provider: OpenAIServer

    async def ask(self, text: str = "go") -> Message:
        """The answer to it, once the turn has ended."""
        written = await self.kernel.enqueue(draft(text))
        ended = await self.kernel.wait_for_batch("s", written.batch.batch_id, 20)
        assert not ended.state.is_open
        return (await self.kernel.observe("s")).read_view.messages[-1]


@asynccontextmanager
async def served(*answers: Answer, patience: Patience = IMPATIENT) -> AsyncIterator[Served]:
    async with openai_server(*answers) as provider:
        agent = StandardAgent(
            model="openai:some-model",
            client=ProviderModels(base_url=provider.base_url),
            tools=[add],
            instructions="Be brief.",
            patience=patience,
        )
        kernel = Kernel(agent=agent)
        await kernel.create_session("s")
        await kernel.start()
        try:
            yield Served(kernel, provider)
        finally:
            await kernel.stop()
            await agent.close()


async def test_a_turn_with_a_tool_goes_over_the_wire_and_back() -> None:
    async with served(calling("c1", "add", '{"a": 1,', ' "b": 2}'), saying("It is 3.")) as scene:
        answer = await scene.ask("1 + 2?")
        assert (answer.content, answer.status) == ("Itis3.", UNSET)
        assert answer.parts is not UNSET
        assert (answer.parts[0]["args"], answer.parts[0]["output"]) == ({"a": 1, "b": 2}, 3)
        assert (await scene.kernel.observe("s")).usage.by_model == {
            "openai:some-model": UsageFigures(input_tokens=10, output_tokens=8, requests=2)
        }
    first, second = scene.provider.requests
    assert (first["model"], first["stream"]) == ("some-model", True)
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert first["tools"][0]["function"]["name"] == "add"
    called, answered = second["messages"][-2:]
    assert called["tool_calls"][0]["id"] == answered["tool_call_id"] == "c1"
    assert answered["content"] == "3"


async def test_a_provider_is_reached_through_the_proxy_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with openai_server(saying("There.")) as proxy:
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("http_proxy", proxy.base_url.removesuffix("/v1"))
        client = ProviderModels(base_url="http://provider.invalid/v1", api_key="key")
        request = ModelRequest(model="m", instructions="", messages=(UserMessage(parts=(TextPart(text="go"),)),))
        said = [event.text async for event in client.stream(request) if isinstance(event, Text)]
        await client.close()
    assert (said, [request["model"] for request in proxy.requests]) == (["There."], ["m"])


GARBAGE = streaming(b"data: {not json\n\n", b"\xff\xfe\x00 what\n\n")
NO_STREAM = streaming(b"<html>Welcome to the captive portal</html>")
EARLY = streaming(chunk(content="Half an ans"))
CUT = streaming(chunk(content="Half an ans"), cut=True)
STALL = streaming(chunk(content="Half an ans"), stall=True)


def patience_with(trouble: Answer) -> Patience:
    return VERY_IMPATIENT if trouble is STALL else IMPATIENT


WRONG_SHAPE = streaming(b'data: {"choices": "none"}\n\n', DONE)


@pytest.mark.parametrize(
    "trouble",
    [
        refusing(429, "rate_limit_exceeded"),
        refusing(429, headers="retry-after: 3600\r\n"),
        refusing(500),
        refusing(503),
        GARBAGE,
        NO_STREAM,
        EARLY,
        CUT,
        STALL,
        WRONG_SHAPE,
    ],
    ids=["429", "429-an-hour", "500", "503", "garbage", "no-stream", "early-end", "cut", "stall", "wrong-shape"],
)
async def test_what_may_pass_is_tried_again_and_leaves_no_trace_in_the_answer(trouble: Answer) -> None:
    async with served(trouble, saying("Well"), patience=patience_with(trouble)) as scene:
        _, opening = await scene.kernel.subscribe("s", None, lambda: None)
        answer = await scene.ask()
        assert (answer.content, answer.status, len(scene.provider.requests)) == ("Well", UNSET, 2)
        entries = opening.subscription.take(1 << 30)
        assert not isinstance(entries, str)
        told = b"".join(entry.payload for entry in entries)
        assert b'"type":"retry_status"' in told
        assert (b'"type":"retracted"' in told) == (trouble in (EARLY, CUT, STALL))
        opening.subscription.close()


@pytest.mark.parametrize("trouble", [refusing(500), GARBAGE, CUT, STALL], ids=["500", "garbage", "cut", "stall"])
async def test_what_does_not_pass_fails_the_turn(trouble: Answer) -> None:
    async with served(trouble, trouble, trouble, patience=patience_with(trouble)) as scene:
        answer = await scene.ask()
        assert answer.status == "failed"
        assert answer.error is not UNSET
        assert answer.error.code == "provider_error"
        assert answer.error.message.startswith("the model did not answer in 3 attempts")


@pytest.mark.parametrize(
    ("answer", "code", "sentence"),
    [
        (refusing(400, "context_length_exceeded", "maximum context length is 10"), "context_overflow", "context"),
        (refusing(400, "invalid_request_error", "no such thing"), "provider_error", "no such thing"),
        (refusing(401, "invalid_api_key", "who are you"), "provider_error", "who are you"),
        (refusing(404, "model_not_found", "no such model"), "provider_error", "no such model"),
        (streaming(chunk(content="Half"), chunk("length"), DONE), "incomplete", "cut off"),
        (streaming(chunk("content_filter"), DONE), "content_filter", "filter"),
        (streaming(b"data: " + b"x" * 10_000_000 + b"\n\n"), "provider_error", "line of more than"),
        (streaming(chunk(content="y" * 10_000_000), chunk("stop"), DONE), "provider_error", "line of more than"),
    ],
    ids=["overflow", "bad-request", "key", "no-model", "length", "filter", "10-mb-garbage", "10-mb-text"],
)
async def test_what_will_not_pass_fails_at_once_with_its_reason(answer: Answer, code: str, sentence: str) -> None:
    async with served(answer) as scene:
        message = await scene.ask()
        assert message.error is not UNSET
        assert (message.status, message.error.code) == ("failed", code)
        assert sentence in message.error.message
        assert len(scene.provider.requests) == 1


async def test_a_line_of_a_megabyte_is_just_a_long_line() -> None:
    long = "z" * 1_000_000
    async with served(streaming(chunk(content=long), chunk("stop"), usage(1, 1), DONE)) as scene:
        assert (await scene.ask()).content == long


async def test_arguments_that_are_no_json_are_told_to_the_model() -> None:
    async with served(calling("c1", "add", '{"a": 1, "b"'), saying("Sorry")) as scene:
        assert (await scene.ask()).content == "Sorry"
    [result] = [message for message in scene.provider.requests[1]["messages"] if message["role"] == "tool"]
    assert "do not fit" in result["content"]


async def test_cancelling_hangs_up() -> None:
    async with served(STALL, patience=Patience()) as scene:
        written = await scene.kernel.enqueue(draft("go"))
        async for item in scene.kernel.watch("s"):
            if b"Half an ans" in repr(item).encode():
                break
        await scene.kernel.cancel_turn("s")
        await scene.provider.hung_up.wait()
        await scene.kernel.wait_for_batch("s", written.batch.batch_id, 20)
        answer = (await scene.kernel.observe("s")).read_view.messages[-1]
        assert (answer.content, answer.status) == ("Half an ans", "cancelled")
