"""What every provider of blob descriptors must show, to be run against yours.

Inherit the class that fits, override its one fixture, and let pytest collect it::

    from aioblobcache.conformance import GuardedCacheConformance

    class TestMyProvider(GuardedCacheConformance):
        @pytest.fixture
        async def provider(self):
            async with MyProvider() as provider:   # empty, for every test anew
                yield provider

:class:`BlobDescriptorCacheConformance` is the contract of ``BlobDescriptorCacheProvider``: that of
Distribution's own suite (``cachecheck``), as later releases corrected it. A provider that has
``take_token`` and ``fill`` runs :class:`GuardedCacheConformance`, which contains it.

Needs pytest; the tests are run by the plugin that anyio brings.
"""

# The one place where this package asserts: these are tests.
# ruff: noqa: S101

from __future__ import annotations

from typing import Any

import pytest

from .descriptor import Descriptor
from .digest import Digest
from .errors import BlobUnknownError, InvalidDescriptorError, InvalidDigestError, RepositoryNameError
from .interfaces import BlobDescriptorCacheProvider, BlobDescriptorService, GuardedCacheProvider

__all__ = ["BlobDescriptorCacheConformance", "GuardedCacheConformance"]

OCTETS = "application/octet-stream"
JSON = "application/json"


def digest_of(text: str, algorithm: str = "sha256") -> Digest:
    return Digest.of(text.encode(), algorithm)


def descriptor_of(text: str, media_type: str = OCTETS) -> Descriptor:
    return Descriptor(digest_of(text), len(text), media_type)


async def assert_unknown(service: BlobDescriptorService, digest: Digest) -> None:
    with pytest.raises(BlobUnknownError) as caught:
        await service.stat(digest)
    assert caught.value.digest == digest


@pytest.mark.anyio
class BlobDescriptorCacheConformance:
    """The three operations, in both scopes."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def provider(self) -> Any:
        """An empty provider, entered. Override this."""
        raise NotImplementedError("override the fixture 'provider' with one that yields your provider, empty")

    async def test_an_empty_cache_knows_nothing(self, provider: BlobDescriptorCacheProvider) -> None:
        digest = digest_of("nothing", "sha384")
        repository = provider.repository_scoped("foo/bar")
        await assert_unknown(provider, digest)
        await assert_unknown(repository, digest)
        for service in (provider, repository):
            with pytest.raises(BlobUnknownError):
                await service.clear(digest)

    async def test_the_miss_names_its_repository(self, provider: BlobDescriptorCacheProvider) -> None:
        digest = digest_of("nothing")
        with pytest.raises(BlobUnknownError) as scoped:
            await provider.repository_scoped("foo/bar").stat(digest)
        with pytest.raises(BlobUnknownError) as globally:
            await provider.stat(digest)
        assert scoped.value.repository == "foo/bar"
        assert globally.value.repository is None

    @pytest.mark.parametrize("name", ["", "UPPER", "a//b", "a/", "/a", "a:b", "a::blobs", "../a", "a\n", "a" * 256])
    async def test_an_invalid_repository_name_is_refused(
        self, provider: BlobDescriptorCacheProvider, name: str
    ) -> None:
        with pytest.raises(RepositoryNameError):
            provider.repository_scoped(name)

    @pytest.mark.parametrize("digest", ["", "sha384:abc", "sha256:" + "G" * 64, "md5:" + "0" * 32, "sha256"])
    async def test_an_invalid_digest_is_refused(self, provider: BlobDescriptorCacheProvider, digest: str) -> None:
        for service in (provider, provider.repository_scoped("foo/bar")):
            with pytest.raises(InvalidDigestError):
                await service.stat(digest)
            with pytest.raises(InvalidDigestError):
                await service.set_descriptor(digest, descriptor_of("x"))
            with pytest.raises(InvalidDigestError):
                await service.clear(digest)

    async def test_a_plain_str_digest_is_accepted(self, provider: BlobDescriptorCacheProvider) -> None:
        repository = provider.repository_scoped("foo/bar")
        descriptor = descriptor_of("plain")
        await repository.set_descriptor(str(descriptor.digest), descriptor)
        assert await repository.stat(str(descriptor.digest)) == descriptor

    async def test_a_refused_set_writes_nothing(self, provider: BlobDescriptorCacheProvider) -> None:
        digest, other = digest_of("one"), digest_of("other")
        refused: list[Any] = [
            Descriptor(digest, 3, ""),  # no media type
            Descriptor(other, 3, OCTETS),  # same algorithm, another value
            None,
            {"digest": digest, "size": 3, "media_type": OCTETS},
        ]
        for service in (provider, provider.repository_scoped("foo/bar")):
            for descriptor in refused:
                with pytest.raises(InvalidDescriptorError):
                    await service.set_descriptor(digest, descriptor)
                await assert_unknown(service, digest)
                await assert_unknown(service, other)

    async def test_what_is_set_in_a_repository_is_read_there_and_globally(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        descriptor = descriptor_of("layer")
        await provider.repository_scoped("foo/bar").set_descriptor(descriptor.digest, descriptor)
        assert await provider.repository_scoped("foo/bar").stat(descriptor.digest) == descriptor
        assert await provider.stat(descriptor.digest) == descriptor

    async def test_a_blob_is_known_only_in_repositories_that_hold_it(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        descriptor = descriptor_of("layer")
        await provider.repository_scoped("foo/bar").set_descriptor(descriptor.digest, descriptor)
        for name in ("foo", "foo/ba", "foo/bar/x", "other"):
            await assert_unknown(provider.repository_scoped(name), descriptor.digest)

    async def test_a_global_set_links_no_repository(self, provider: BlobDescriptorCacheProvider) -> None:
        descriptor = descriptor_of("global")
        await provider.set_descriptor(descriptor.digest, descriptor)
        assert await provider.stat(descriptor.digest) == descriptor
        await assert_unknown(provider.repository_scoped("foo/bar"), descriptor.digest)

    async def test_a_blob_set_by_another_algorithm_is_read_by_both_digests(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        repository = provider.repository_scoped("foo/bar")
        alias, descriptor = digest_of("layer", "sha384"), descriptor_of("layer")
        await repository.set_descriptor(alias, descriptor)
        for service in (repository, provider):
            assert await service.stat(alias) == descriptor
            assert await service.stat(descriptor.digest) == descriptor

    async def test_a_global_set_by_another_algorithm_is_read_by_its_key_alone(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        alias, descriptor = digest_of("layer", "sha384"), descriptor_of("layer")
        await provider.set_descriptor(alias, descriptor)
        assert await provider.stat(alias) == descriptor
        await assert_unknown(provider, descriptor.digest)

    async def test_a_second_media_type_changes_the_repository_only(self, provider: BlobDescriptorCacheProvider) -> None:
        repository = provider.repository_scoped("foo/bar")
        alias, first, second = digest_of("x", "sha384"), descriptor_of("x"), descriptor_of("x", JSON)
        await repository.set_descriptor(alias, first)
        await repository.set_descriptor(alias, second)
        for digest in (alias, first.digest):
            assert await repository.stat(digest) == second
            assert await provider.stat(digest) == first

    async def test_repositories_have_media_types_of_their_own(self, provider: BlobDescriptorCacheProvider) -> None:
        one, other = provider.repository_scoped("one"), provider.repository_scoped("other")
        digest = digest_of("x")
        await one.set_descriptor(digest, descriptor_of("x", JSON))
        await other.set_descriptor(digest, descriptor_of("x", OCTETS))
        assert (await one.stat(digest)).media_type == JSON
        assert (await other.stat(digest)).media_type == OCTETS
        assert (await provider.stat(digest)).media_type == JSON

    async def test_a_set_overwrites_the_size(self, provider: BlobDescriptorCacheProvider) -> None:
        repository = provider.repository_scoped("foo/bar")
        digest = digest_of("x")
        await repository.set_descriptor(digest, Descriptor(digest, 1, OCTETS))
        await repository.set_descriptor(digest, Descriptor(digest, 2, OCTETS))
        assert (await repository.stat(digest)).size == 2
        assert (await provider.stat(digest)).size == 2

    @pytest.mark.parametrize("size", [0, 2**63 - 1])
    async def test_sizes_are_kept_exactly(self, provider: BlobDescriptorCacheProvider, size: int) -> None:
        descriptor = Descriptor(digest_of("x"), size, OCTETS)
        await provider.repository_scoped("foo/bar").set_descriptor(descriptor.digest, descriptor)
        assert await provider.repository_scoped("foo/bar").stat(descriptor.digest) == descriptor

    async def test_a_global_clear_makes_the_blob_unknown(self, provider: BlobDescriptorCacheProvider) -> None:
        repository = provider.repository_scoped("foo/bar")
        descriptor = descriptor_of("x")
        await repository.set_descriptor(descriptor.digest, descriptor)
        await provider.clear(descriptor.digest)
        await assert_unknown(provider, descriptor.digest)
        await assert_unknown(repository, descriptor.digest)
        with pytest.raises(BlobUnknownError):
            await provider.clear(descriptor.digest)

    async def test_a_scoped_clear_makes_the_blob_unknown(self, provider: BlobDescriptorCacheProvider) -> None:
        repository = provider.repository_scoped("foo/bar")
        descriptor = descriptor_of("x")
        await repository.set_descriptor(descriptor.digest, descriptor)
        await repository.clear(descriptor.digest)
        await assert_unknown(repository, descriptor.digest)
        await assert_unknown(provider, descriptor.digest)
        with pytest.raises(BlobUnknownError):
            await repository.clear(descriptor.digest)

    async def test_a_cleared_blob_stays_unknown_when_it_is_set_through_another_repository(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        """The hole of Distribution before 3.1.0 (CVE-2026-35172)."""
        descriptor = descriptor_of("x")
        cleared, other = provider.repository_scoped("foo/bar"), provider.repository_scoped("other")
        await cleared.set_descriptor(descriptor.digest, descriptor)
        await cleared.clear(descriptor.digest)
        await other.set_descriptor(descriptor.digest, descriptor)
        assert await other.stat(descriptor.digest) == descriptor
        await assert_unknown(cleared, descriptor.digest)

    async def test_a_repository_cannot_clear_what_it_does_not_hold(self, provider: BlobDescriptorCacheProvider) -> None:
        descriptor = descriptor_of("x")
        holder, stranger = provider.repository_scoped("foo/bar"), provider.repository_scoped("stranger")
        await holder.set_descriptor(descriptor.digest, descriptor)
        with pytest.raises(BlobUnknownError):
            await stranger.clear(descriptor.digest)
        assert await holder.stat(descriptor.digest) == descriptor
        assert await provider.stat(descriptor.digest) == descriptor

    async def test_a_clear_leaves_other_blobs_alone(self, provider: BlobDescriptorCacheProvider) -> None:
        repository = provider.repository_scoped("foo/bar")
        cleared, kept = descriptor_of("cleared"), descriptor_of("kept")
        for descriptor in (cleared, kept):
            await repository.set_descriptor(descriptor.digest, descriptor)
        await repository.clear(cleared.digest)
        assert await repository.stat(kept.digest) == kept

    async def test_a_blob_can_be_set_again_after_a_clear(self, provider: BlobDescriptorCacheProvider) -> None:
        repository = provider.repository_scoped("foo/bar")
        first, second = descriptor_of("x"), descriptor_of("x", JSON)
        await repository.set_descriptor(first.digest, first)
        await repository.clear(first.digest)
        await repository.set_descriptor(second.digest, second)
        assert await repository.stat(first.digest) == second
        assert await provider.stat(first.digest) == second


class GuardedCacheConformance(BlobDescriptorCacheConformance):
    """Fills under guard as well: what a read-through needs."""

    @pytest.fixture(params=["global", "scoped"])
    def service(self, request: pytest.FixtureRequest, provider: Any) -> Any:
        return provider if request.param == "global" else provider.repository_scoped("foo/bar")

    async def test_a_fill_with_its_token_is_read(self, service: Any) -> None:
        descriptor = descriptor_of("x")
        token = await service.take_token(descriptor.digest)
        assert token.permits_fill
        assert await service.fill(descriptor.digest, descriptor, token)
        assert await service.stat(descriptor.digest) == descriptor

    async def test_peek_says_what_stat_says_or_nothing(self, service: Any) -> None:
        blob = descriptor_of("peeked at")
        assert service.peek(blob.digest) is None
        await service.set_descriptor(blob.digest, blob)
        assert await service.stat(blob.digest) == blob
        assert service.peek(blob.digest) in (blob, None)
        await service.clear(blob.digest)
        assert service.peek(blob.digest) is None
        with pytest.raises(InvalidDigestError):
            service.peek("sha256:abc")

    async def test_misses_of_one_blob_share_a_token(self, service: Any) -> None:
        one, other = digest_of("one"), digest_of("other")
        assert await service.take_token(one) == await service.take_token(one)
        assert await service.take_token(one) != await service.take_token(other)

    async def test_a_token_is_spent_by_its_fill(self, service: Any) -> None:
        descriptor = descriptor_of("x")
        token = await service.take_token(descriptor.digest)
        await service.fill(descriptor.digest, descriptor, token)
        assert not await service.fill(descriptor.digest, descriptor, token)
        assert await service.take_token(descriptor.digest) != token

    async def test_a_clear_of_an_unknown_blob_refuses_the_fill_under_way(self, service: Any) -> None:
        descriptor = descriptor_of("x")
        token = await service.take_token(descriptor.digest)
        with pytest.raises(BlobUnknownError):
            await service.clear(descriptor.digest)
        assert not await service.fill(descriptor.digest, descriptor, token)
        await assert_unknown(service, descriptor.digest)

    async def test_a_clear_refuses_the_fill_under_way(self, service: Any) -> None:
        descriptor = descriptor_of("x")
        token = await service.take_token(descriptor.digest)
        await service.set_descriptor(descriptor.digest, descriptor)
        await service.clear(descriptor.digest)
        assert not await service.fill(descriptor.digest, descriptor, token)
        await assert_unknown(service, descriptor.digest)

    async def test_a_tombstone_permits_no_fill(self, service: Any) -> None:
        descriptor = descriptor_of("x")
        with pytest.raises(BlobUnknownError):
            await service.clear(descriptor.digest)
        token = await service.take_token(descriptor.digest)
        assert not token.permits_fill
        assert not await service.fill(descriptor.digest, descriptor, token)
        await assert_unknown(service, descriptor.digest)

    async def test_every_clear_leaves_a_tombstone_of_its_own(self, service: Any) -> None:
        digest = digest_of("x")
        met = []
        for _ in range(2):
            with pytest.raises(BlobUnknownError):
                await service.clear(digest)
            met.append(await service.take_token(digest))
        assert met[0] != met[1]

    async def test_another_blobs_token_permits_nothing(self, service: Any) -> None:
        descriptor = descriptor_of("x")
        await service.take_token(descriptor.digest)
        token = await service.take_token(digest_of("other"))
        assert not await service.fill(descriptor.digest, descriptor, token)
        await assert_unknown(service, descriptor.digest)

    async def test_a_set_pays_no_heed_to_a_tombstone_and_leaves_it_standing(self, service: Any) -> None:
        descriptor = descriptor_of("x")
        with pytest.raises(BlobUnknownError):
            await service.clear(descriptor.digest)
        await service.set_descriptor(descriptor.digest, descriptor)
        assert await service.stat(descriptor.digest) == descriptor
        assert not (await service.take_token(descriptor.digest)).permits_fill

    async def test_a_fill_writes_under_its_key_alone(self, service: Any) -> None:
        alias, descriptor = digest_of("x", "sha512"), descriptor_of("x")
        assert await service.fill(alias, descriptor, await service.take_token(alias))
        assert await service.stat(alias) == descriptor
        await assert_unknown(service, descriptor.digest)

    async def test_an_invalid_fill_is_refused(self, service: Any) -> None:
        digest = digest_of("x")
        token = await service.take_token(digest)
        for descriptor in (Descriptor(digest, 1, ""), descriptor_of("other")):
            with pytest.raises(InvalidDescriptorError):
                await service.fill(digest, descriptor, token)
        await assert_unknown(service, digest)

    async def test_a_global_clear_refuses_a_scoped_fill_under_way(self, provider: GuardedCacheProvider) -> None:
        repository = provider.repository_scoped("foo/bar")
        descriptor = descriptor_of("x")
        token = await repository.take_token(descriptor.digest)
        with pytest.raises(BlobUnknownError):
            await provider.clear(descriptor.digest)
        assert not await repository.fill(descriptor.digest, descriptor, token)
        await assert_unknown(repository, descriptor.digest)

    async def test_a_scoped_clear_refuses_a_global_fill_under_way(self, provider: GuardedCacheProvider) -> None:
        repository = provider.repository_scoped("foo/bar")
        descriptor = descriptor_of("x")
        token = await provider.take_token(descriptor.digest)
        await repository.set_descriptor(descriptor.digest, descriptor)
        await repository.clear(descriptor.digest)
        assert not await provider.fill(descriptor.digest, descriptor, token)
        assert not (await provider.take_token(descriptor.digest)).permits_fill
        await assert_unknown(provider, descriptor.digest)

    async def test_a_scoped_clear_refuses_a_fill_of_another_repository(self, provider: GuardedCacheProvider) -> None:
        cleared, other = provider.repository_scoped("foo/bar"), provider.repository_scoped("other")
        descriptor = descriptor_of("x")
        token = await other.take_token(descriptor.digest)
        await cleared.set_descriptor(descriptor.digest, descriptor)
        await cleared.clear(descriptor.digest)
        assert not await other.fill(descriptor.digest, descriptor, token)
        await assert_unknown(other, descriptor.digest)

    async def test_a_repository_that_does_not_hold_a_blob_hinders_no_other(
        self, provider: GuardedCacheProvider
    ) -> None:
        holder, stranger = provider.repository_scoped("foo/bar"), provider.repository_scoped("stranger")
        descriptor = descriptor_of("x")
        token = await holder.take_token(descriptor.digest)
        with pytest.raises(BlobUnknownError):
            await stranger.clear(descriptor.digest)
        assert await holder.fill(descriptor.digest, descriptor, token)

    async def test_fills_of_one_blob_in_two_repositories_do_not_hinder_each_other(
        self, provider: GuardedCacheProvider
    ) -> None:
        descriptor = descriptor_of("x")
        repositories = [provider.repository_scoped(name) for name in ("one", "other")]
        tokens = [await repository.take_token(descriptor.digest) for repository in repositories]
        for repository, token in zip(repositories, tokens, strict=True):
            assert await repository.fill(descriptor.digest, descriptor, token)
            assert await repository.stat(descriptor.digest) == descriptor

    async def test_a_token_of_another_scope_permits_nothing(self, provider: GuardedCacheProvider) -> None:
        repository = provider.repository_scoped("foo/bar")
        descriptor = descriptor_of("x")
        assert not await provider.fill(descriptor.digest, descriptor, await repository.take_token(descriptor.digest))
        assert not await repository.fill(descriptor.digest, descriptor, await provider.take_token(descriptor.digest))

    async def test_repository_services_are_equal_by_provider_and_name(self, provider: GuardedCacheProvider) -> None:
        assert provider.repository_scoped("foo/bar") == provider.repository_scoped("foo/bar")
        assert hash(provider.repository_scoped("foo/bar")) == hash(provider.repository_scoped("foo/bar"))
        assert provider.repository_scoped("foo/bar") != provider.repository_scoped("foo/baz")

    async def test_stat_many_returns_the_known_ones(self, service: Any) -> None:
        known = [descriptor_of(text) for text in ("a", "b", "c")]
        for descriptor in known:
            await service.set_descriptor(descriptor.digest, descriptor)
        asked = [descriptor.digest for descriptor in known] + [digest_of("unknown"), known[0].digest]
        assert await service.stat_many(asked) == {descriptor.digest: descriptor for descriptor in known}
        assert await service.stat_many([]) == {}
        with pytest.raises(InvalidDigestError):
            await service.stat_many([known[0].digest, "garbage"])
