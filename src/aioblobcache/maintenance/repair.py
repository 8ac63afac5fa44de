"""Removing what an audit found wrong, and the brakes that keep a mistake from emptying a cache that is in use.

Nothing is ever written but the tombstones of clears: the next stat reads storage and fills.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from ..errors import BlobCacheError, StorageError
from ..redis.keyspace import Keyspace
from ..storage import RegistryStorage
from .audit import Audit, AuditReport
from .findings import Finding
from .truth import at_once

__all__ = ["RepairRefusedError", "RepairReport", "repair", "require_few_faults", "require_registry"]

# A cache in which more is wrong is more likely compared with a storage that is not its own.
_MOST_FAULTS: Final = 0.1

# The same of what storage could not tell.
_MOST_UNTOLD: Final = 0.1

_AT_ONCE: Final = 16


class RepairRefusedError(BlobCacheError):
    """A brake: nothing was removed; the message says why, and what to do if it was right all the same."""


@attrs.define
class RepairReport:
    """What became of the faults so far."""

    removed: int = 0
    gone: int = 0  # not wrong any more when they were looked at once more
    not_told: int = 0  # storage could not tell any more
    left: int = 0  # by the limit

    @property
    def done(self) -> int:
        """How many faults were looked at once more."""
        return self.removed + self.gone + self.not_told


async def require_registry(storage: RegistryStorage) -> None:
    """Refuse a storage that holds no registry: a wrong root, an empty bucket, a folder on which nothing is mounted.

    :raises RepairRefusedError: there is no repository, or they cannot be listed.
    """
    where = storage.layout.repositories
    try:
        async for _ in storage.repositories():
            return
    except StorageError as error:
        raise RepairRefusedError(f"the repositories below {where} cannot be listed: {error.reason}") from error
    raise RepairRefusedError(f"storage has no repository below {where}: another root, or nothing is mounted there")


def require_few_faults(report: AuditReport, most: int | None) -> None:
    """Refuse what looks like a comparison with another registry's storage; ``most`` is how many faults are expected.

    :raises RepairRefusedError: more than a tenth of what was checked is wrong and nobody expects it, or storage could
        not tell of more than a tenth.
    """
    untold = report.not_told / report.checked if report.checked else 0.0
    if untold > _MOST_UNTOLD:
        raise RepairRefusedError(
            f"storage could not tell of {report.not_told:,} of {report.checked:,} entries: nothing was removed"
        )
    if most is None and report.fault_share > _MOST_FAULTS:
        count = report.fault_count
        raise RepairRefusedError(
            f"{count:,} of {report.checked:,} entries are wrong ({report.fault_share:.0%}, more than"
            f" {_MOST_FAULTS:.0%}): nothing was removed, for this may be another registry's storage or cache;"
            f" if it is not, expect as many (--max-fixes {count})"
        )


async def repair(
    audit: Audit,
    keyspace: Keyspace,
    *,
    most: int | None = None,
    report: RepairReport | None = None,
    on_removed: Callable[[Finding], None] = lambda finding: None,
) -> RepairReport:
    """Remove what ``audit`` has found wrong and is still wrong when storage is asked once more, right before.

    ``most``: no more than so many are removed. Cancelled, it leaves ``report`` as far as it got; what is removed is
    removed, and what is not is found again by the next audit.

    :raises RepairRefusedError: a brake, see :func:`require_few_faults`.
    :raises CacheUnavailableError: the cache was away for too long, or refused.
    """
    report = report or RepairReport()
    require_few_faults(audit.report, most)

    async def remove(finding: Finding) -> None:
        now = await audit.look_again(finding)
        if now is not None and now.is_fault:
            # Unknown by then is as good: asked twice, since an answer was lost, it is the second that is told of.
            await keyspace.clear(now.name, now.digest)
            report.removed += 1
            on_removed(now)
        else:
            report.gone += 1

    # What is global goes first and by itself: a clear in a repository takes the global fields along, and would make
    # them look as if they had become right by themselves.
    for is_global in (True, False):
        pending = [finding for finding in reversed(audit.report.faults) if (finding.name is None) is is_global]
        while pending:
            permitted = _AT_ONCE if most is None else min(_AT_ONCE, most - report.removed)
            if permitted <= 0:
                report.left += len(pending)
                break
            piece = [pending.pop() for _ in range(min(permitted, len(pending)))]
            outcomes = await at_once(remove, piece, permitted)
            report.not_told += sum(isinstance(outcome, StorageError) for outcome in outcomes)
    return report
