"""Looking after the cache of a registry: what it holds, what is wrong with it, and what to do about it.

What the command ``aioblobcache`` does, for programs. Everything takes a :class:`Keyspace`, opened on a client of
redis-py, and what concerns storage a :class:`~aioblobcache.storage.RegistryStorage`.
"""

from ..redis.cached import Cached, CachedInRepository, Subject
from ..redis.keyspace import Keyspace, Page, Position
from .audit import Audit, AuditOptions, AuditReport, Trouble
from .explain import Explanation, KeyState, explain
from .findings import Fault, Finding, InRepository, Note
from .purge import PurgeReport, purge_all, purge_digest, purge_repository
from .repair import RepairRefusedError, RepairReport, repair, require_few_faults, require_registry
from .survey import KindOfKey, Survey, survey
from .truth import StorageTruth, Truth
from .warm import Warm, WarmOptions, WarmReport

__all__ = [
    "Audit",
    "AuditOptions",
    "AuditReport",
    "Cached",
    "CachedInRepository",
    "Explanation",
    "Fault",
    "Finding",
    "InRepository",
    "KeyState",
    "Keyspace",
    "KindOfKey",
    "Note",
    "Page",
    "Position",
    "PurgeReport",
    "RepairRefusedError",
    "RepairReport",
    "StorageTruth",
    "Subject",
    "Survey",
    "Trouble",
    "Truth",
    "Warm",
    "WarmOptions",
    "WarmReport",
    "explain",
    "purge_all",
    "purge_digest",
    "purge_repository",
    "repair",
    "require_few_faults",
    "require_registry",
    "survey",
]
