"""Who may do what: asked of the application, which answers by returning, or by one of these exceptions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

from .messages import is_header_value

__all__ = ["AccessError", "Action", "Authorize", "ForbiddenError", "UnauthorizedError"]

# "base": the question whether this is a registry, by which clients find out how to log in; "catalog": the list of
# all repositories. Both are of no repository.
Action: TypeAlias = Literal["base", "catalog", "pull", "delete"]

# The framework's own request, the repository, what is to be done there.
Authorize: TypeAlias = Callable[[Any, str | None, Action], Awaitable[None]]


class AccessError(Exception):
    """The request is refused: always one of the two below."""


class UnauthorizedError(AccessError):
    """Nobody that is known asks: 401, with a challenge that tells the client how to log in.

    ``challenge`` is the value of ``WWW-Authenticate`` (RFC 9110, 11.6.1): ``Basic realm="registry"``, or
    ``Bearer realm="https://…/token",service="…",scope="repository:<name>:pull"``.
    """

    def __init__(self, challenge: str) -> None:
        if not challenge or not is_header_value(challenge):
            raise ValueError("a challenge is text of printable ASCII characters")
        super().__init__(challenge)
        self.challenge = challenge


class ForbiddenError(AccessError):
    """Who asks is known, and may not: 403."""
