"""Pictures in input: taken as base64, kept as attachments, shown by reference (wire: section 4)."""

from __future__ import annotations

import base64

import pytest

from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, Json

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + b"a picture"
GIF = b"GIF89a" + b"another"


def picture(data: bytes = PNG) -> str:
    return base64.b64encode(data).decode()


LOOK: Json = {
    "items": [
        {"type": "text", "text": "look"},
        {"type": "image_ref", "id": "i"},
        {"type": "text", "text": ""},
        {"type": "text", "text": "nice?"},
    ],
    "image_blobs": {"i": picture()},
}


async def post(inside: Inside, given: Json) -> Json:
    response = await inside.http.post("/v1/sessions/s/turns", json={"input": given})
    answer: Json = response.raise_for_status().json()
    return answer


async def test_a_picture_becomes_a_part_of_the_message_and_can_be_fetched(inside: Inside) -> None:
    await inside.session()
    batch = await post(inside, LOOK)
    await inside.puppet.begun()
    live = (await inside.http.get("/v1/sessions/s")).json()["live"]
    [message] = live["input"]
    assert message["content"] == "look\nnice?"
    assert [(part["id"], part["type"]) for part in message["parts"]] == [
        ("queued.p0", "text"),
        ("queued.p1", "image"),
        ("queued.p2", "text"),
    ]
    attachment = message["parts"][1]["attachment"]
    assert (attachment["media_type"], attachment["size"]) == ("image/png", len(PNG))
    assert await inside.puppet.turns[0].attachment(attachment["attachment_id"]) == PNG

    await inside.puppet.ends()
    await inside.ended(batch["batch_id"])

    [stored] = (await inside.http.get("/v1/sessions/s")).json()["read_view"]["messages"]
    assert stored["parts"] == message["parts"]
    response = await inside.http.get(f"/v1/sessions/s/attachments/{attachment['attachment_id']}")
    assert response.content == PNG
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-security-policy"] == "default-src 'none'; sandbox"
    again = await inside.http.get(response.request.url, headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_answers_name_pictures_and_leave_their_bytes_out(idle: Inside) -> None:
    await idle.session()

    batch = await post(idle, LOOK)

    assert batch["items"][0]["payload"]["input"] == {"items": LOOK["items"]}
    assert (await idle.batch(batch["batch_id"]))["items"] == batch["items"]
    [listed] = (await idle.http.get("/v1/sessions/s/queue")).json()["batches"]
    assert listed["items"] == batch["items"]
    cancelled = (await idle.http.delete(f"/v1/sessions/s/queue?from={batch['batch_id']}")).json()["cancelled"]
    assert cancelled[0]["items"] == batch["items"]


async def test_a_picture_alone_is_an_input(inside: Inside) -> None:
    await inside.session()
    given = {"items": [{"type": "image_ref", "id": "i"}], "image_blobs": {"i": picture(GIF)}}
    batch = await post(inside, given)
    await inside.puppet.begun()
    await inside.puppet.ends()
    await inside.ended(batch["batch_id"])
    [message] = (await inside.http.get("/v1/sessions/s")).json()["read_view"]["messages"]
    assert (message["content"], message["parts"][0]["attachment"]["media_type"]) == ("", "image/gif")


async def test_the_same_request_with_another_picture_is_another_content(idle: Inside) -> None:
    await idle.session()

    async def send(data: bytes) -> int:
        given = {**LOOK, "image_blobs": {"i": picture(data)}}
        headers = {"Idempotency-Key": "k"}
        response = await idle.http.post("/v1/sessions/s/turns", json={"input": given}, headers=headers)
        return response.status_code

    assert [await send(PNG), await send(PNG), await send(PNG + b"!")] == [202, 200, 422]


@pytest.mark.parametrize(
    ("items", "blobs", "fields"),
    [
        ([{"type": "image_ref", "id": "i"}], {}, ["input.items[0].id"]),
        ([{"type": "image_ref", "id": "i"}], None, ["input.items[0].id"]),
        ([{"type": "text", "text": "t"}], {"i": picture()}, ["input.image_blobs.i"]),
        ([{"type": "image_ref", "id": "i"}], {"i": "not base64!"}, ["input.image_blobs.i"]),
        ([{"type": "image_ref", "id": "i"}], {"i": "é"}, ["input.image_blobs.i"]),
        ([{"type": "image_ref", "id": "i"}], {"i": picture(b"<svg>")}, ["input.image_blobs.i"]),
        ([{"type": "image_ref", "id": "i"}], {"i": ""}, ["input.image_blobs.i"]),
        ([{"type": "text", "text": ""}], {}, ["input"]),
        (
            [{"type": "image_ref", "id": "a"}, {"type": "image_ref", "id": "b"}],
            {"b": "?", "c": picture()},
            ["input.items[0].id", "input.image_blobs.b", "input.image_blobs.c"],
        ),
    ],
)
async def test_what_is_wrong_with_pictures_is_said_by_field(
    idle: Inside, items: list[Json], blobs: Json | None, fields: list[str]
) -> None:
    await idle.session()
    given: Json = {"items": items} if blobs is None else {"items": items, "image_blobs": blobs}

    problem = assert_problem(await idle.http.post("/v1/sessions/s/turns", json={"input": given}), 400, "invalid_field")

    assert [error["field"] for error in problem["errors"]] == fields
    assert (await idle.http.get("/v1/sessions/s/queue")).json() == {"batches": []}


async def test_a_picture_of_another_session_is_not_found(inside: Inside) -> None:
    await inside.session()
    await inside.session("other")
    batch = await post(inside, LOOK)
    await inside.puppet.begun()
    await inside.puppet.ends()
    await inside.ended(batch["batch_id"])
    view = (await inside.http.get("/v1/sessions/s")).json()
    name = view["read_view"]["messages"][0]["parts"][1]["attachment"]["attachment_id"]
    path = f"attachments/{name}"
    assert (await inside.http.get(f"/v1/sessions/s/{path}")).status_code == 200
    assert_problem(await inside.http.get(f"/v1/sessions/other/{path}"), 404, "attachment_not_found")
    assert_problem(await inside.http.get(f"/v1/sessions/nobody/{path}"), 404, "session_not_found")
    assert_problem(await inside.http.get("/v1/sessions/s/attachments/..%2Fx"), 404)
    await inside.http.delete("/v1/sessions/s")
    assert_problem(await inside.http.get(f"/v1/sessions/s/{path}"), 410, "session_deleted")
