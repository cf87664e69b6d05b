"""Pictures are stored before the turn that shows them begins, and a disk that fails costs an attempt, not the work."""

from __future__ import annotations

import pytest

from sightline.errors import StoreUnavailable
from sightline.kernel import Limits
from sightline.queue.model import BatchState, Draft, ImageItem, TextItem, TurnInput, TurnInputPayload
from sightline.session.model import Attachment
from sightline.stores.memory import MemoryAttachments
from sightline.testing.clock import settled
from tests.core.worlds import Puppet, World, in_step, only_batch, running, watch

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + b"a picture"


class Pictures(MemoryAttachments):
    """Fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures
        self.puts = 0

    async def put(self, session_id: str, data: bytes, media_type: str) -> Attachment:
        self.puts += 1
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("disk full")
        return await super().put(session_id, data, media_type)


async def show(world: World) -> None:
    given = TurnInput((TextItem("look"), ImageItem("i")), {"i": PNG})
    await world.kernel.enqueue(Draft(session_id="s", payloads=(TurnInputPayload(given),)))
    await settled()


async def test_a_turn_begins_when_its_pictures_are_stored() -> None:
    puppet, pictures = Puppet(), Pictures()
    async with running(puppet, attachments=pictures) as world:
        watched = await watch(world)
        await show(world)
        assert watched.told == ["enqueued", "claimed", "turn_started"]
        [message] = puppet.turns[0].input
        assert isinstance(message.parts, list)
        name = message.parts[1]["attachment"]["attachment_id"]
        assert await puppet.turns[0].attachment(name) == PNG
        await puppet.ends()
        await in_step(world, watched)
        [stored] = (await world.view()).read_view.messages
        assert stored.parts == message.parts


async def test_a_disk_that_fails_costs_an_attempt_and_the_next_one_goes_well() -> None:
    puppet, pictures = Puppet(), Pictures(failures=1)
    async with running(puppet, attachments=pictures) as world:
        watched = await watch(world)
        await show(world)
        assert watched.told == ["enqueued", "claimed", "abandoned"]
        assert puppet.turns == []
        await world.clock.run_for(1.0)
        assert [turn.attempt for turn in puppet.turns] == [2]
        await puppet.ends()
        assert (await only_batch(world)).state is BatchState.COMPLETED
        await in_step(world, watched)


async def test_a_disk_that_never_works_lets_the_turn_be_given_up_as_failed() -> None:
    puppet, pictures = Puppet(), Pictures(failures=3)
    async with running(puppet, attachments=pictures, limits=Limits(max_attempts=3)) as world:
        await show(world)
        await world.clock.run_for(10.0)
        batch = await only_batch(world)
        assert (batch.state, batch.attempts, puppet.turns) == (BatchState.FAILED, 3, [])


async def test_pictures_go_with_their_session() -> None:
    puppet, pictures = Puppet(), Pictures()
    async with running(puppet, attachments=pictures) as world:
        await show(world)
        [message] = puppet.turns[0].input
        assert isinstance(message.parts, list)
        name = message.parts[1]["attachment"]["attachment_id"]
        await world.kernel.delete_session("s")
        with pytest.raises(Exception, match="has no attachment"):
            await pictures.get("s", name)
