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
def test_an_error_says_what_happened_and_survives_pickling(error, message):
    assert str(error) == message
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert str(twin) == message
    assert twin.__dict__ == error.__dict__


def test_every_public_exception_has_the_one_root():
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


def test_another_programs_words_become_one_printable_line_of_bounded_length():
    assert one_line("a\r\nb\t\x1b[31mc") == "a b ?[31mc"
    assert len(one_line("x" * 10_000_000)) == 300
