"""Repository names, by the grammar of the OCI Distribution Specification v1.1 ("Pulling manifests")."""

from __future__ import annotations

import re
from typing import Final

from .errors import RepositoryNameError

__all__ = ["validate_repository_name"]

# The specification allows more, but hostname and name together have to fit in 255 for many clients.
_LONGEST: Final = 255

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_VALID: Final = re.compile(f"{_COMPONENT}(?:/{_COMPONENT})*")


def validate_repository_name(name: str) -> str:
    """Return ``name`` unchanged if it is a repository name, such as ``library/debian``.

    A valid name has no colon, no upper case, no empty or dotted path component: it can extend
    neither a key nor a path.

    :raises RepositoryNameError: anything else, and names of more than 255 characters.
    """
    if not isinstance(name, str):
        raise RepositoryNameError(name, "a repository name is a str")
    if len(name) > _LONGEST:
        raise RepositoryNameError(name, f"longer than {_LONGEST} characters")
    if _VALID.fullmatch(name) is None:
        raise RepositoryNameError(name, "expected lower-case letters and digits in components split by '/'")
    return name
