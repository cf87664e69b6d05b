"""Every attachment store keeps pictures by what they are, each session its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.errors import AttachmentNotFound, StoreUnavailable
from sightline.session.port import AttachmentStore
from sightline.stores.attachment_files import FileAttachments
from sightline.stores.memory import MemoryAttachments

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + b"a picture"


def memory(_: Path) -> AttachmentStore:
    return MemoryAttachments()


def files(folder: Path) -> AttachmentStore:
    return FileAttachments(folder / "pictures")


MAKES = pytest.mark.parametrize("make", [memory, files], ids=lambda make: make.__name__)


@MAKES
async def test_what_was_put_is_there_under_a_name_that_follows_from_it(
    make: Callable[[Path], AttachmentStore], tmp_path: Path
) -> None:
    store = make(tmp_path)
    attachment = await store.put("a:b/../c", PNG, "image/png")
    assert (attachment.media_type, attachment.size) == ("image/png", len(PNG))
    assert await store.put("a:b/../c", PNG, "image/png") == attachment
    assert await store.get("a:b/../c", attachment.attachment_id) == (attachment, PNG)


@MAKES
async def test_sessions_do_not_see_each_others_pictures_and_take_theirs_with_them(
    make: Callable[[Path], AttachmentStore], tmp_path: Path
) -> None:
    store = make(tmp_path)
    attachment = await store.put("a", PNG, "image/png")
    with pytest.raises(AttachmentNotFound):
        await store.get("b", attachment.attachment_id)
    await store.put("b", PNG, "image/png")
    await store.delete_session("a")
    await store.delete_session("a")
    with pytest.raises(AttachmentNotFound):
        await store.get("a", attachment.attachment_id)
    assert (await store.get("b", attachment.attachment_id))[1] == PNG


@MAKES
@pytest.mark.parametrize("name", ["", "sha256:", "sha256:xyz", "../../etc/passwd", "sha256:" + "0" * 64])
async def test_names_that_nobody_gave_are_not_found(
    make: Callable[[Path], AttachmentStore], tmp_path: Path, name: str
) -> None:
    with pytest.raises(AttachmentNotFound):
        await make(tmp_path).get("a", name)


async def test_a_disk_that_does_not_take_a_picture_is_said_so_and_leaves_no_half_of_it(tmp_path: Path) -> None:
    blocked = tmp_path / "pictures"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(StoreUnavailable):
        await FileAttachments(blocked).put("a", PNG, "image/png")
    store = FileAttachments(tmp_path / "others")
    attachment = await store.put("a", PNG, "image/png")
    [folder] = (tmp_path / "others").iterdir()
    assert [path.name for path in folder.iterdir()] == [attachment.attachment_id.removeprefix("sha256:")]
