"""Opening a feed for a transport: counted among the streams, or refused."""

from __future__ import annotations

from sightline_gateway.gateway import Gateway
from sightline_gateway.stream.asking import Wish
from sightline_gateway.stream.feed import Feed

__all__ = ["open_feed"]


async def open_feed(gateway: Gateway, wish: Wish) -> Feed:
    """The feed, open and counted; the caller releases it and takes it out of the streams.

    Raises ProblemError (`too_many_connections`, `draining`), SessionNotFound, SessionDeleted, StoreUnavailable.
    """
    feed = Feed(
        gateway.kernel,
        wish.session_id,
        messages=wish.query.messages,
        kinds=wish.kinds,
        max_bytes=gateway.settings.buffer_bytes,
    )
    gateway.streams.add(feed)
    try:
        await feed.open(wish.cursor, at_tail=wish.at_tail)
    except BaseException:
        gateway.streams.remove(feed)
        raise
    return feed
