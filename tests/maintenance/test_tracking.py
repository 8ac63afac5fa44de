from __future__ import annotations

import pytest

from aioblobcache.maintenance.tracking import Changes
from aioblobcache.redis.resp import UnexpectedReplyError


def pushed(*push):
    changes = Changes()
    changes.pushed([*push])
    return dict(changes.counts)


def test_invalidated_keys_are_counted_by_kind():
    keys = [b"blobs::a", b"repository::n::blobs", b"repository::n::blobs::a", b"blobs::b", b"repository::n", b"blobs::"]
    assert pushed(b"invalidate", keys) == {"descriptors": 2, "memberships": 1, "overrides": 1}


def test_invalidation_without_keys_is_a_flush():
    assert pushed(b"invalidate", None) == {"flushes": 1}


@pytest.mark.parametrize("push", [[], [b"message", b"x", b"blobs::a"]])
def test_other_pushes_are_ignored(push):
    assert pushed(*push) == {}


@pytest.mark.parametrize("push", [[b"invalidate"], [b"invalidate", b"blobs::a"], [b"invalidate", [1]]])
def test_malformed_invalidation_is_an_error(push):
    with pytest.raises(UnexpectedReplyError):
        pushed(*push)
