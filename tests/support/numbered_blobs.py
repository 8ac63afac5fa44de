"""Many blobs by their number, each with an answer of its own in each scope."""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import Redis

from aioblobcache import Descriptor, Digest

NAME = "foo/bar"

# In the server, since a set for each of a hundred thousand takes longer than what is tested.
_FILL = """
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
    local digest = string.format('sha256:%064x', number)
    local size = string.format('%d', ARGV[3] * 1000000 + number)
    redis.call('HSET', 'blobs::' .. digest, 'digest', digest, 'size', size, 'mediatype', 'text/x-' .. number)
    redis.call('SADD', KEYS[1], digest)
    redis.call('HSET', KEYS[1] .. '::' .. digest, 'mediatype', 'application/x-' .. number)
end
"""


def digest_of(number: int) -> Digest:
    return Digest(f"sha256:{number:064x}")


def globally(number: int, generation: int = 1) -> Descriptor:
    """What the registry answers about the blob of this number."""
    return Descriptor(digest_of(number), generation * 1_000_000 + number, f"text/x-{number}")


def scoped(number: int, generation: int = 1) -> Descriptor:
    """What the repository answers about it."""
    return Descriptor(digest_of(number), generation * 1_000_000 + number, f"application/x-{number}")


async def put(url: str, numbers: range, generation: int = 1) -> None:
    """Put the blobs into both scopes, over a connection of its own."""
    async with Redis.from_url(url) as client:
        # A few at a time: a server that is busy with one script for long answers BUSY.
        for start in range(numbers.start, numbers.stop, 10_000):
            stop = min(start + 10_000, numbers.stop)
            await client.eval(_FILL, 1, f"repository::{NAME}::blobs", start, stop, generation)


def assert_same(found: Sequence[object], expected: Sequence[object]) -> None:
    """The one list is the other. Of lists as long as these pytest would work out the difference for minutes."""
    assert len(found) == len(expected)
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one == other, f"at place {place}"
