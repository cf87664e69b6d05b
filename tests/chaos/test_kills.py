"""SIGKILL at random moments: what was accepted is done once, in order, and everybody who watched knows it."""

from __future__ import annotations

import asyncio
import random
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.served import Served, serving
from tests.chaos.watching import KINDS, Watcher
from tests.gateway.stream.folding import assert_same_view

pytestmark = [pytest.mark.anyio, pytest.mark.chaos, pytest.mark.timeout(180)]

SESSIONS = 20
WATCHED = 4
LEASE = 10.0
"""The default of `--session-lease`, in seconds: nothing a dead server held is held longer."""


@dataclass
class Author:
    """A client with a session of its own: one turn after the other until it is enough, each posted until the server has
    said yes.
    """

    served: Served
    session_id: str
    posting: asyncio.Event
    enough: asyncio.Event
    texts: list[str] = field(default_factory=list)
    accepted: list[dict[str, Any]] = field(default_factory=list)
    ambiguous: int = 0
    replayed: int = 0

    async def write(self, pause: float, chance: random.Random) -> None:
        async with self.served.client() as client:
            await self._until_yes(client, "PUT", "", {}, None)
            while not self.enough.is_set():
                await asyncio.sleep(chance.uniform(0, 2 * pause))
                number, text = len(self.texts), written(f"{self.session_id} {len(self.texts)}", chance)
                self.texts.append(text)
                answer = await self._until_yes(client, "POST", "/turns", {"input": text}, f"key-{number}")
                self.replayed += "idempotency-replayed" in answer.headers
                self.accepted.append(answer.json())

    async def _until_yes(
        self, client: httpx.AsyncClient, method: str, path: str, body: Any, key: str | None
    ) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        while True:
            try:
                asyncio.get_running_loop().call_soon(self.posting.set)
                answer = await client.request(
                    method, f"/v1/sessions/{self.session_id}{path}", json=body, headers=headers
                )
            except httpx.ConnectError:
                await asyncio.sleep(0.05)
            except httpx.TransportError:
                self.ambiguous += 1
            else:
                if answer.status_code < 300:
                    return answer
                assert answer.status_code == 503, answer.text


def written(place: str, chance: random.Random) -> str:
    """A text; most are like no other."""
    echo = f"echo this is said at {place} and nowhere else"
    return chance.choice([echo, f"stream {chance.randint(2, 60)} every {chance.randint(1, 15)} size 40"])


def assert_answers(text: str, answer: str) -> None:
    """The answer is all of what was asked for, every word once."""
    if text.startswith("echo "):
        assert answer == text.removeprefix("echo ")
    else:
        count = int(text.split()[1])
        pieces = re.findall(r"seq=(\d+) t=\d+ \.*", answer)
        assert pieces == [str(number) for number in range(count)]
        assert re.sub(r"seq=\d+ t=\d+ \.*", "", answer) == ""


async def assert_all_done(client: httpx.AsyncClient, author: Author) -> int:
    """Every accepted turn is in the transcript once, with its whole answer, in the order of acceptance.

    Returns how many attempts died on the way.
    """
    path = f"/v1/sessions/{author.session_id}"
    messages = (await client.get(f"{path}/messages?limit=1000")).json()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * len(author.texts)
    assert [message["content"] for message in messages[::2]] == author.texts
    for text, message in zip(author.texts, messages[1::2], strict=True):
        assert "status" not in message or message["status"] == "completed"
        assert_answers(text, message["content"])
    assert len({message["message_id"] for message in messages}) == len(messages)
    batches = (await client.get(f"{path}/queue?state=all")).json()["batches"]
    assert [batch["batch_id"] for batch in batches] == [batch["batch_id"] for batch in author.accepted]
    assert [batch["state"] for batch in batches] == ["completed"] * len(author.texts)
    turns = [message["turn_id"] for message in messages]
    assert turns[::2] == turns[1::2] == [batch["turn_id"] for batch in batches]
    return sum(batch["attempts"] - 1 for batch in batches)


async def idle(client: httpx.AsyncClient, session_id: str) -> dict[str, Any]:
    """The session's view once nothing is left to do."""
    while True:
        view: dict[str, Any] = (await client.get(f"/v1/sessions/{session_id}?messages=1000")).json()
        if view["status"] == "idle":
            return view
        await asyncio.sleep(0.05)


@pytest.mark.timeout(1_800)
async def test_kills_cost_no_accepted_turn_and_double_no_word(
    tmp_path: Path, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    kills: int = pytestconfig.getoption("--kills")
    chance = random.Random(2)
    async with serving(tmp_path, "--max-attempts", "1000") as served:
        posting, enough = asyncio.Event(), asyncio.Event()
        authors = [Author(served, f"s{number}", posting, enough) for number in range(SESSIONS)]
        watchers = [
            Watcher(served, author.session_id, transport) for author in authors[:WATCHED] for transport in KINDS
        ]
        async with served.client() as client:
            for author in authors[:WATCHED]:
                await client.put(f"/v1/sessions/{author.session_id}", json={})
        for watcher in watchers:
            watcher.start()
        writing = [asyncio.create_task(author.write(1.3, random.Random(author.session_id))) for author in authors]
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0.02, 0.7))
            if chance.random() < 0.5:
                posting.clear()
                waiting = asyncio.create_task(posting.wait())
                await asyncio.wait({waiting, *writing}, timeout=0.3, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                await asyncio.sleep(chance.uniform(0, 0.004))
            await served.kill()
            await served.start()
        enough.set()
        await asyncio.gather(*writing)
        async with served.client() as client:
            # Of what the last kill left claimed nothing waits for longer than a lease, and no turn runs for a second.
            async with asyncio.timeout(LEASE + len(authors) * 1.0):
                views = [await idle(client, author.session_id) for author in authors]
            died = sum([await assert_all_done(client, author) for author in authors])
        for watcher, view in zip(watchers, [view for view in views[:WATCHED] for _ in KINDS], strict=True):
            await watcher.reach(view["cursor"])
            assert_same_view(watcher.story.view(), view)
            # A life may be too short for a watcher to come back in it.
            assert kills / 2 < watcher.story.gaps <= kills
            await watcher.stop()
    assert died > kills / 2, "most kills interrupted a turn"
    assert sum(author.ambiguous for author in authors) > 0
    assert statistics.median(served.starts) < 2
    assert "Traceback" not in served.log
    facts = {
        "kills": kills,
        "turns": sum(len(author.texts) for author in authors),
        "attempts that died": died,
        "answers that were lost": sum(author.ambiguous for author in authors),
        "of those, replayed": sum(author.replayed for author in authors),
        "median seconds from start to listening": round(statistics.median(served.starts), 3),
    }
    for name, value in facts.items():
        record_property(name, value)
    print(facts)


async def test_an_interrupted_turn_is_taken_over_at_once_and_its_words_are_said_again_not_twice(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as served:
        watchers = {transport: Watcher(served, "s", transport) for transport in KINDS}
        async with served.client() as client:
            await client.put("/v1/sessions/s", json={})
            for watcher in watchers.values():
                watcher.start()
            await client.post("/v1/sessions/s/turns", json={"input": "stream 40 every 20"})
            await asyncio.gather(*(watcher.see(15) for watcher in watchers.values()))
        await served.kill()
        await served.start()
        loop = asyncio.get_running_loop()
        listening = loop.time()
        async with served.client() as client:
            while (view := (await client.get("/v1/sessions/s")).json())["live"] is None:
                assert view["status"] != "idle"
            assert loop.time() - listening < 1
            assert view["live"]["attempt"] == 2
            view = await idle(client, "s")
            [batch] = (await client.get("/v1/sessions/s/queue?state=all")).json()["batches"]
        assert batch["attempts"] == 2
        assert [message["role"] for message in view["read_view"]["messages"]] == ["user", "assistant"]
        assert_answers("stream 40 every 20", view["read_view"]["messages"][1]["content"])
        for watcher in watchers.values():
            await watcher.reach(view["cursor"])
            assert_same_view(watcher.story.view(), view)
            assert watcher.story.gaps == 1
            await watcher.stop()


DYING = """
import os
from sightline.agents.demo import demo
from sightline.observation.events import Committed
from sightline.observation.handle import RuntimeHandle
from sightline.stores.sqlite import SqliteStore

mark = os.path.join(os.path.dirname(__file__), "died")

def die():
    if not os.path.exists(mark):
        open(mark, "w").close()
        os._exit(137)

if "{moment}" == "after":
    publish = RuntimeHandle.publish
    def dying_publish(self, now, changes):
        if any(isinstance(change.data, Committed) for change in changes):
            die()
        return publish(self, now, changes)
    RuntimeHandle.publish = dying_publish
else:
    commit = SqliteStore.commit
    async def dying_commit(self, *args):
        die()
        return await commit(self, *args)
    SqliteStore.commit = dying_commit
"""


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_death_around_the_commit_neither_loses_nor_doubles_the_turn(tmp_path: Path, moment: str) -> None:
    (tmp_path / "dying.py").write_text(DYING.replace("{moment}", moment))
    async with serving(tmp_path, "--agent", "dying:demo") as served:
        watchers = {transport: Watcher(served, "s", transport) for transport in KINDS}
        async with served.client() as client:
            await client.put("/v1/sessions/s", json={})
            for watcher in watchers.values():
                watcher.start()
                await watcher.begun()
            await client.post("/v1/sessions/s/turns", json={"input": "echo once and only once"})
        await served.ended()
        assert all(event["kind"] != "committed" for event in watchers["sse"].story.since)
        await served.start()
        async with served.client() as client:
            view = await idle(client, "s")
            [batch] = (await client.get("/v1/sessions/s/queue?state=all")).json()["batches"]
        contents = [message["content"] for message in view["read_view"]["messages"]]
        assert contents == ["echo once and only once", "once and only once"]
        assert (batch["state"], batch["attempts"]) == ("completed", 2 if moment == "before" else 1)
        for watcher in watchers.values():
            await watcher.reach(view["cursor"])
            assert_same_view(watcher.story.view(), view)
            await watcher.stop()


POISON = """
import os
from sightline.agents.demo import demo

async def agent(turn):
    if turn.input[0].content == "poison":
        turn.text("dying now")
        os._exit(1)
    await demo(turn)
"""


async def test_a_turn_that_kills_its_server_is_given_up_after_three_attempts_and_the_server_lives_on(
    tmp_path: Path,
) -> None:
    (tmp_path / "poison.py").write_text(POISON)
    async with serving(tmp_path, "--agent", "poison:agent") as served:
        async with served.client() as client:
            for session_id in ("s", "other"):
                await client.put(f"/v1/sessions/{session_id}", json={})
            posted = [
                asyncio.create_task(client.post("/v1/sessions/s/turns", json={"input": "poison"})),
            ]
            await asyncio.gather(*posted, return_exceptions=True)
        deaths = 0
        while True:
            try:
                async with asyncio.timeout(3):
                    await served.ended()
            except TimeoutError:
                break
            deaths += 1
            assert deaths <= 3
            try:
                await served.start()
            except ChildProcessError:
                continue
        assert deaths == 3
        async with served.client() as client:
            view = await idle(client, "s")
            user, *answer = view["read_view"]["messages"]
            assert (user["role"], user["content"]) == ("user", "poison")
            assert [message["status"] for message in answer] == ["failed"] * len(answer)
            [batch] = (await client.get("/v1/sessions/s/queue?state=all")).json()["batches"]
            assert (batch["state"], batch["attempts"]) == ("failed", 3)
            assert batch["error"]["code"] == "engine_gave_up"
            for session_id in ("s", "other"):
                await client.post(f"/v1/sessions/{session_id}/turns", json={"input": "echo still here"})
                view = await idle(client, session_id)
                assert view["read_view"]["messages"][-1]["content"] == "still here"
        await served.kill()
        await served.start()
        async with served.client() as client:
            batches = (await client.get("/v1/sessions/s/queue?state=all")).json()["batches"]
            assert [batch["state"] for batch in batches] == ["failed", "completed"]
