"""What a right answer is."""

from __future__ import annotations

from typing import Any

from .corpus import Blob
from .peers.interface import Answer

__all__ = ["WrongAnswerError", "is_right", "require"]


class WrongAnswerError(Exception):
    """A peer answered something else than what is kept."""


def is_right(answer: Answer, blob: Blob) -> bool:
    """Whether it is what is kept of the blob."""
    return answer.digest == blob.digest and answer.size == blob.size and answer.media_type == blob.media_type


def require(right: bool, answer: Any, blob: Blob) -> None:
    """Raise :class:`WrongAnswerError` unless the answer is right."""
    if not right:
        raise WrongAnswerError(f"{answer!r:.500} where {blob} is kept")
