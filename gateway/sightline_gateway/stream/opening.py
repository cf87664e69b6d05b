"""Opening a feed for a transport: counted among the streams, or refused."""

from __future__ import annotations

from sightline_gateway.gateway import Gateway
from sightline_gateway.stream.asking import Wish
from sightline_gateway.stream.feed import Feed

__all__ = ["close_feed", "open_feed"]


async def open_feed(gateway: Gateway, wish: Wish) -> Feed:
    """The feed, open and counted; the caller closes it with `close_feed`.

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
        close_feed(gateway, feed)
        raise
    return feed


def close_feed(gateway: Gateway, feed: Feed) -> None:
    """Leave nothing of it behind. Idempotent."""
    feed.release()
    gateway.streams.remove(feed)
