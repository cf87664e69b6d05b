"""An agent on the OpenAI SDK: it looks back, streams the answer, and accounts for it.

`OPENAI_API_KEY=… sightline serve --agent openai_agent:agent`; any server that speaks the protocol will do, with
`OPENAI_BASE_URL`. A cancelled turn closes the stream, and the model stops.
"""

from __future__ import annotations

import os

from openai import AsyncOpenAI

from sightline import Turn
from sightline.session.model import UsageFigures

MODEL = os.environ.get("MODEL", "gpt-4.1-mini")
client = AsyncOpenAI()


async def agent(turn: Turn) -> None:
    earlier = [{"role": message.role, "content": message.content} for message in await turn.messages(newest=20)]
    asked = [{"role": message.role, "content": message.content} for message in turn.input]
    turn.model_request()
    stream = await client.chat.completions.create(
        model=MODEL, messages=[*earlier, *asked], stream=True, stream_options={"include_usage": True}
    )
    async with stream:
        async for chunk in stream:
            if chunk.choices:
                turn.text(chunk.choices[0].delta.content or "")
            if chunk.usage is not None:
                read, written = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
                turn.usage(MODEL, UsageFigures(input_tokens=read, output_tokens=written, requests=1))
