from __future__ import annotations

import pickle

import pytest

import aioblobcache
from aioblobcache import (
    BlobCacheError,
    BlobUnknownError,
    CacheUnavailableError,
    ConfigurationError,
    CorruptEntryError,
    DigestFormatError,
    InvalidDescriptorError,
    LifecycleError,
    RepositoryNameError,
    StorageError,
    UnsupportedError,
)
from aioblobcache.errors import one_line, shorten

EXAMPLES = [
    (BlobUnknownError("sha256:ab", "foo/bar"), "blob sha256:ab is unknown in repository foo/bar"),
    (BlobUnknownError("sha256:ab"), "blob sha256:ab is unknown"),
    (
        CorruptEntryError("sha256:ab", "foo", "size is b'x'"),
        "blob sha256:ab is unknown in repository foo: its cache entry is malformed: size is b'x'",
    ),
    (
        CacheUnavailableError("127.0.0.1:6379", "no answer in time"),
        "cache at 127.0.0.1:6379 is unavailable: no answer in time",
    ),
    (DigestFormatError("x", "why"), "invalid digest 'x': why"),
    (InvalidDescriptorError(-1, "why"), "invalid descriptor -1: why"),
    (RepositoryNameError("X", "why"), "invalid repository name 'X': why"),
    (StorageError("a/b", "why"), "storage could not answer for a/b: why"),
    (ConfigurationError("why"), "why"),
    (LifecycleError("why"), "why"),
    (UnsupportedError("why"), "why"),
]


@pytest.mark.parametrize(("error", "message"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_an_error_keeps_its_message_when_pickled(error, message):
    assert str(error) == message
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert str(twin) == message
    assert twin.__dict__ == error.__dict__


def test_public_exceptions_share_one_base_class():
    public = [getattr(aioblobcache, name) for name in aioblobcache.__all__]
    exceptions = [thing for thing in public if isinstance(thing, type) and issubclass(thing, BaseException)]
    assert len(exceptions) == 14
    assert all(issubclass(exception, BlobCacheError) for exception in exceptions)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("short", "'short'"),
        ("a\r\nb", r"'a\r\nb'"),
        ("x" * 1000, f"'{'x' * 80}'… (1000 long)"),
        (b"x" * 1000, f"b'{'x' * 80}'… (1000 long)"),
        (7, "7"),
        (1.5, "1.5"),
        pytest.param(10**5000, "a value of type int", id="a huge int"),
        (None, "a value of type NoneType"),
        (["secret"], "a value of type list"),
    ],
)
def test_values_in_messages_are_escaped_and_short(value, shown):
    assert shorten(value) == shown


def test_foreign_text_becomes_one_short_printable_line():
    assert one_line("a\r\nb\t\x1b[31mc") == "a b ?[31mc"
    assert len(one_line("x" * 10_000_000)) == 300
