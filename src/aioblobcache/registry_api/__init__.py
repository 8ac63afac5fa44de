"""The pull half of the OCI Distribution Specification v1.1, whatever web framework it is served by.

``aioblobcache.contrib.starlette`` and ``aioblobcache.contrib.aiohttp`` put it behind theirs. Needs the extra
``storage``.
"""

from .access import AccessError, Action, Authorize, ForbiddenError, UnauthorizedError
from .api import RegistryApi, RegistryOptions
from .messages import Request, Response

__all__ = [
    "AccessError",
    "Action",
    "Authorize",
    "ForbiddenError",
    "RegistryApi",
    "RegistryOptions",
    "Request",
    "Response",
    "UnauthorizedError",
]
