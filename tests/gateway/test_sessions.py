"""Sessions over HTTP: create, look, list, page back, delete (wire: section 3)."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.kernel import Limits
from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, Json, opened, until

pytestmark = pytest.mark.anyio

OBSERVATION = {
    "session_id",
    "revision",
    "cursor",
    "status",
    "policy",
    "metadata",
    "read_view",
    "live",
    "usage",
    "tools",
    "queue",
    "requests",
    "processes",
    "tasks",
}
ENTRY = {"session_id", "status", "revision", "updated_at_ms", "metadata", "pending", "title"}
USAGE = {"input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens", "requests"}


async def texts(inside: Inside, query: str = "") -> list[str]:
    view = (await inside.http.get(f"/v1/sessions/s{query}")).json()
    return [message["content"] for message in view["read_view"]["messages"]]


async def ids(inside: Inside, query: str = "") -> list[str]:
    page = (await inside.http.get(f"/v1/sessions{query}")).json()
    return [entry["session_id"] for entry in page["sessions"]]


async def status(inside: Inside) -> tuple[str, str]:
    """As the session itself says, and as the list says."""
    [entry] = (await inside.http.get("/v1/sessions")).json()["sessions"]
    return (await inside.http.get("/v1/sessions/s")).json()["status"], entry["status"]


# Creating


async def test_a_created_session_is_answered_with_its_place_and_its_observation(inside: Inside) -> None:
    response = await inside.http.post("/v1/sessions", json={"session_id": "a:b~c@d.e_f-9"})

    assert response.status_code == 201
    assert response.headers["location"] == "/v1/sessions/a:b~c@d.e_f-9"
    view = response.json()
    assert view.keys() == OBSERVATION | {"applied_through"}
    assert view["applied_through"] == view["cursor"] == response.headers["sightline-applied-through"]
    assert (view["session_id"], view["revision"], view["status"], view["live"]) == ("a:b~c@d.e_f-9", 0, "idle", None)
    assert view["read_view"] == {"messages": [], "agent_frame_id": "initial", "turn_index": 0, "truncated": False}
    assert view["usage"] == {"totals": dict.fromkeys(USAGE, 0), "by_model": {}}
    assert view["tools"] == {"generation": 0, "catalog": [], "error": None}
    assert (await inside.http.get(response.headers["location"])).status_code == 200


async def test_a_session_without_an_id_gets_one(inside: Inside) -> None:
    made = [(await inside.http.post("/v1/sessions", json={})).json()["session_id"] for _ in range(3)]

    assert made == sorted(set(made))


async def test_policy_and_metadata_are_kept_and_shown(inside: Inside) -> None:
    given = {"policy": {"model": "x", "deep": [1, {"a": None}]}, "metadata": {"owner": "Zoë", "n": -(2**63) + 1}}
    await inside.http.post("/v1/sessions", json={"session_id": "s", **given})

    view = (await inside.http.get("/v1/sessions/s")).json()

    assert {name: view[name] for name in given} == given
    [entry] = (await inside.http.get("/v1/sessions")).json()["sessions"]
    assert entry["metadata"] == given["metadata"]


async def test_an_id_that_is_taken_is_a_conflict_for_post(inside: Inside) -> None:
    await inside.http.post("/v1/sessions", json={"session_id": "s"})

    response = await inside.http.post("/v1/sessions", json={"session_id": "s"})

    assert_problem(response, 409, "session_exists")


async def test_put_creates_once_and_then_finds(inside: Inside) -> None:
    first = await inside.http.put("/v1/sessions/s", json={"metadata": {"n": 1}})
    second = await inside.http.put("/v1/sessions/s", json={"session_id": "s", "metadata": {"n": 2}})

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.headers["location"] == "/v1/sessions/s"
    assert second.json()["metadata"] == {"n": 1}
    assert second.json().keys() == OBSERVATION | {"applied_through"}
    assert second.headers["sightline-applied-through"] == second.json()["cursor"]


async def test_put_refuses_another_id_in_its_body(inside: Inside) -> None:
    problem = assert_problem(await inside.http.put("/v1/sessions/s", json={"session_id": "t"}), 400, "invalid_field")

    assert problem["field"] == "session_id"
    assert_problem(await inside.http.get("/v1/sessions/s"), 404, "session_not_found")


# Looking


async def test_an_unknown_session_is_not_found(inside: Inside) -> None:
    assert_problem(await inside.http.get("/v1/sessions/nobody"), 404, "session_not_found")


async def test_an_observation_shows_the_turn_that_runs(inside: Inside) -> None:
    await inside.session()
    batch = await inside.running_turn(text="go on", key="k")
    await inside.puppet.does(lambda turn: turn.reasoning("hm"))
    await inside.puppet.says("one ")
    await inside.puppet.says("two")

    view = (await inside.http.get("/v1/sessions/s")).json()

    assert view.keys() == OBSERVATION
    assert view["status"] == "running"
    live = view["live"]
    assert live.keys() == {
        "turn_id",
        "attempt",
        "started_at_ms",
        "boundary",
        "input",
        "segments",
        "text",
        "reasoning",
        "tool_calls",
        "protocol_iteration",
    }
    assert (live["turn_id"], live["attempt"], live["boundary"]) == (batch["turn_id"], 1, "idle")
    assert (live["text"], live["reasoning"]) == ("one two", "hm")
    assert live["input"] == [{"role": "user", "content": "go on", "source_key": "host:k"}]
    assert [(part["channel"], part["text"]) for part in live["segments"]] == [("reasoning", "hm"), ("text", "one two")]
    [summary] = view["queue"]
    assert summary == {
        "batch_id": batch["batch_id"],
        "enqueue_seq": batch["enqueue_seq"],
        "state": "claimed",
        "kind": "turn_input",
        "preview": "go on",
        "delivery_policy": "after_current_turn_commit",
        "slot_policy": "exclusive",
        "available_at_ms": batch["available_at_ms"],
        "source_key": "host:k",
        "turn_id": batch["turn_id"],
    }
    await inside.puppet.ends()


async def test_an_observation_shows_what_a_turn_left_behind(inside: Inside) -> None:
    await inside.session()
    batch = await inside.finished_turn(says="hi", text="hello")

    view = (await inside.http.get("/v1/sessions/s")).json()

    assert (view["status"], view["live"], view["queue"], view["revision"]) == ("idle", None, [], 1)
    assert view["read_view"]["turn_index"] == 1
    user, assistant = view["read_view"]["messages"]
    assert (user["role"], user["content"], user["turn_id"]) == ("user", "hello", batch["turn_id"])
    assert (assistant["role"], assistant["content"], assistant["turn_id"]) == ("assistant", "hi", batch["turn_id"])


async def test_a_failed_turn_keeps_its_input_and_what_was_said_so_far(inside: Inside) -> None:
    await inside.session()
    batch = await inside.running_turn(text="try")
    await inside.puppet.says("half")
    await inside.puppet.fails(RuntimeError("broke"))
    await inside.ended(batch["batch_id"])

    view = (await inside.http.get("/v1/sessions/s")).json()

    assert [(m["role"], m["content"], m.get("status")) for m in view["read_view"]["messages"]] == [
        ("user", "try", None),
        ("assistant", "half", "failed"),
    ]


async def test_the_etag_changes_with_the_cursor(inside: Inside) -> None:
    await inside.session()
    first = await inside.http.get("/v1/sessions/s")
    again = await inside.http.get("/v1/sessions/s")
    await inside.finished_turn()
    later = await inside.http.get("/v1/sessions/s")

    assert first.headers["etag"] == again.headers["etag"] != later.headers["etag"]
    assert first.headers["etag"].startswith('"')
    assert first.headers["etag"].endswith('"')


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '"other",W/{} , "x"', "*"])
async def test_a_known_etag_is_answered_with_nothing_new(inside: Inside, form: str) -> None:
    await inside.session()
    tag = (await inside.http.get("/v1/sessions/s")).headers["etag"]

    response = await inside.http.get("/v1/sessions/s", headers={"If-None-Match": form.format(tag)})

    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["etag"] == tag


async def test_an_etag_is_for_one_number_of_messages(inside: Inside) -> None:
    await inside.session()
    await inside.finished_turn()
    tag = (await inside.http.get("/v1/sessions/s?messages=1")).headers["etag"]

    response = await inside.http.get("/v1/sessions/s?messages=2", headers={"If-None-Match": tag})

    assert response.status_code == 200


async def test_messages_keeps_the_newest_and_says_that_it_cut(inside: Inside) -> None:
    await inside.session()
    for n in range(3):
        await inside.finished_turn(says=f"answer {n}", text=f"question {n}")

    for count, kept, truncated in [
        (0, [], True),
        (1, ["answer 2"], True),
        (3, ["answer 1", "question 2", "answer 2"], True),
        (6, [f"{word} {n}" for n in range(3) for word in ("question", "answer")], False),
        (10_000, [f"{word} {n}" for n in range(3) for word in ("question", "answer")], False),
    ]:
        view = (await inside.http.get(f"/v1/sessions/s?messages={count}")).json()
        assert [message["content"] for message in view["read_view"]["messages"]] == kept
        assert view["read_view"]["truncated"] is truncated


async def test_messages_may_ask_for_more_than_memory_holds() -> None:
    async with opened(limits=Limits(keep_messages=2)) as inside:
        await inside.session()
        for n in range(3):
            await inside.finished_turn(says=f"answer {n}", text=f"question {n}")

        assert await texts(inside, "?messages=2") == ["question 2", "answer 2"]
        assert await texts(inside, "?messages=5") == ["answer 0", "question 1", "answer 1", "question 2", "answer 2"]
        assert len(await texts(inside)) == 6


# Status and title


async def test_the_status_is_derived_alike_for_the_session_and_its_entry(inside: Inside) -> None:
    await inside.session()
    assert await status(inside) == ("idle", "idle")

    await inside.turn(available_at_ms=2**62)
    assert await status(inside) == ("queued", "queued")

    batch = await inside.running_turn()
    assert await status(inside) == ("running", "running")

    await inside.puppet.ends()
    await inside.ended(batch["batch_id"])
    assert await status(inside) == ("queued", "queued")


async def test_the_title_is_the_first_line_of_the_first_input_that_ran(inside: Inside) -> None:
    await inside.session()
    [entry] = (await inside.http.get("/v1/sessions")).json()["sessions"]
    assert entry["title"] == ""

    await inside.finished_turn(text=f"\n  Plan {'x' * 100}\nmore")
    await inside.finished_turn(text="something else")

    [entry] = (await inside.http.get("/v1/sessions")).json()["sessions"]
    assert entry["title"].startswith("Plan xxx")
    assert len(entry["title"]) == 80
    assert entry["title"].endswith("…")


# Listing


async def test_an_entry_has_the_fields_of_the_wire(inside: Inside) -> None:
    await inside.session(metadata={"a": 1})
    await inside.turn(available_at_ms=2**62)

    page = (await inside.http.get("/v1/sessions")).json()

    assert page.keys() == {"sessions", "next"}
    [entry] = page["sessions"]
    assert entry.keys() == ENTRY
    assert (entry["session_id"], entry["revision"], entry["pending"]) == ("s", 0, 1)


async def test_the_list_begins_with_the_newest_activity(inside: Inside) -> None:
    for name in ("a", "b", "c"):
        await inside.session(name)
    assert await ids(inside) == ["c", "b", "a"]

    await inside.finished_turn(session="a")

    assert await ids(inside) == ["a", "c", "b"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_paging_loses_and_doubles_nothing_while_sessions_come(inside: Inside, limit: int) -> None:
    made = [f"s{n}" for n in range(7)]
    for name in made:
        await inside.session(name)
    seen: list[str] = []
    after: str | None = None
    while True:
        query = f"?limit={limit}" + ("" if after is None else f"&after={after}")
        page = (await inside.http.get("/v1/sessions" + query)).json()
        assert len(page["sessions"]) <= limit
        seen += [entry["session_id"] for entry in page["sessions"]]
        after = page["next"]
        if after is None:
            break
        await inside.session(f"late-{len(seen)}")

    assert seen == list(reversed(made))


async def test_the_list_can_be_of_one_status(inside: Inside) -> None:
    for name in ("idle", "queued", "running"):
        await inside.session(name)
    await inside.turn(session="queued", available_at_ms=2**62)
    await inside.running_turn(session="running")

    for name in ("idle", "queued", "running"):
        assert await ids(inside, f"?status={name}") == [name]
    assert await ids(inside, "?status=waiting") == []
    await inside.puppet.ends()


async def test_paging_one_status_fills_its_pages(inside: Inside) -> None:
    for n in range(6):
        await inside.session(f"s{n}")
        if n % 2:
            await inside.turn(session=f"s{n}", available_at_ms=2**62)

    first = (await inside.http.get("/v1/sessions?status=queued&limit=2")).json()
    second = (await inside.http.get(f"/v1/sessions?status=queued&limit=2&after={first['next']}")).json()

    assert [entry["session_id"] for entry in first["sessions"] + second["sessions"]] == ["s5", "s3", "s1"]
    assert second["next"] is None


async def test_no_sessions_are_an_empty_page(inside: Inside) -> None:
    assert (await inside.http.get("/v1/sessions")).json() == {"sessions": [], "next": None}


# Messages


async def test_messages_are_paged_back_oldest_first(inside: Inside) -> None:
    await inside.session()
    for n in range(3):
        await inside.finished_turn(says=f"answer {n}", text=f"question {n}")
    everything = await texts(inside)

    pages: list[Json] = []
    before: str | None = None
    while not pages or before is not None:
        query = "?limit=4" + ("" if before is None else f"&before={before}")
        pages.append((await inside.http.get(f"/v1/sessions/s/messages{query}")).json())
        before = pages[-1]["next"]

    assert [page.keys() for page in pages] == [{"messages", "next"}] * 2
    newest, oldest = ([message["content"] for message in page["messages"]] for page in pages)
    assert newest == everything[2:]
    assert oldest == everything[:2]
    assert pages[0]["next"] == pages[0]["messages"][0]["message_id"]


async def test_a_page_that_ends_with_the_oldest_message_is_the_last(inside: Inside) -> None:
    await inside.session()
    await inside.finished_turn()

    page = (await inside.http.get("/v1/sessions/s/messages?limit=2")).json()

    assert len(page["messages"]) == 2
    assert page["next"] is None


async def test_a_session_without_messages_has_an_empty_page(inside: Inside) -> None:
    await inside.session()
    assert (await inside.http.get("/v1/sessions/s/messages")).json() == {"messages": [], "next": None}


async def test_messages_before_an_id_that_is_none_of_them_are_refused(inside: Inside) -> None:
    await inside.session()
    await inside.session("t")
    await inside.finished_turn(session="t")
    elsewhere = (await inside.http.get("/v1/sessions/t/messages")).json()["messages"][0]["message_id"]

    for before in ("nothing", elsewhere, "%00"):
        problem = assert_problem(await inside.http.get(f"/v1/sessions/s/messages?before={before}"), 400)
        assert (problem["code"], problem["field"]) == ("invalid_field", "before")


# Deleting

USES: list[tuple[str, str, Any]] = [
    ("GET", "/v1/sessions/s", None),
    ("PUT", "/v1/sessions/s", {}),
    ("POST", "/v1/sessions", {"session_id": "s"}),
    ("DELETE", "/v1/sessions/s", None),
    ("GET", "/v1/sessions/s/messages", None),
    ("POST", "/v1/sessions/s/turns", {"input": "x"}),
    ("GET", "/v1/sessions/s/queue", None),
    ("GET", "/v1/sessions/s/queue/some-batch", None),
    ("DELETE", "/v1/sessions/s/queue/some-batch", None),
    ("DELETE", "/v1/sessions/s/queue?from=some-batch", None),
    ("POST", "/v1/sessions/s/cancel", {}),
    ("POST", "/v1/sessions/s/cancel", {"idempotency_key": "k"}),
    ("GET", "/v1/sessions/s/events", None),
    ("GET", "/v1/sessions/s/events?cursor=now", None),
]


async def test_a_deleted_session_is_gone_for_good_and_everywhere(inside: Inside) -> None:
    await inside.session()
    await inside.finished_turn()

    response = await inside.http.delete("/v1/sessions/s")

    assert response.status_code == 204
    assert response.content == b""
    assert await ids(inside) == []
    for method, path, body in USES:
        assert_problem(await inside.http.request(method, path, json=body), 410, "session_deleted")


async def test_what_never_was_is_not_found_and_not_gone(inside: Inside) -> None:
    for method, path, body in USES:
        if method != "PUT" and path != "/v1/sessions":
            assert_problem(await inside.http.request(method, path, json=body), 404, "session_not_found")


async def test_deleting_stops_the_turn_that_runs(inside: Inside) -> None:
    await inside.session()
    await inside.running_turn()

    assert (await inside.http.delete("/v1/sessions/s")).status_code == 204

    await until(lambda: inside.puppet.cancelled == 1)
    assert_problem(await inside.http.get("/v1/sessions/s"), 410, "session_deleted")
