"""The write scripts: each is one atomic step on the server, and is called by its hash.

The ``.lua`` files say what they take and return at their heads. They need Redis 7.0 or Valkey 7.2.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import Final

import attrs

__all__ = [
    "CLEAR_GLOBAL",
    "CLEAR_SCOPED",
    "COMMANDS",
    "FOR_CLUSTER",
    "FOR_ONE_NODE",
    "LINK",
    "UNLINK",
    "WRITE_DESCRIPTOR",
    "WRITE_GLOBAL",
    "WRITE_OVERRIDE",
    "WRITE_SCOPED",
    "Script",
]

_INCLUDE: Final = "-- include: entry.lua\n"


@attrs.frozen
class Script:
    """A script's source and its SHA-1, by which EVALSHA calls it."""

    source: bytes
    sha: bytes

    @classmethod
    def load(cls, name: str) -> Script:
        """Read a script of this package, with what the scripts share put in."""
        folder = resources.files(__name__)
        shared = (folder / "entry.lua").read_text("ascii")
        source = (folder / name).read_text("ascii").replace(_INCLUDE, shared).encode("ascii")
        return cls(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode("ascii"))


# One step for all keys of an entry, or of a global one, which in a Cluster lie in one slot.
WRITE_GLOBAL: Final = Script.load("write_global.lua")
WRITE_SCOPED: Final = Script.load("write_scoped.lua")
CLEAR_GLOBAL: Final = Script.load("clear_global.lua")
CLEAR_SCOPED: Final = Script.load("clear_scoped.lua")

# The steps for a repository's entry where its keys lie in several slots.
WRITE_DESCRIPTOR: Final = Script.load("write_descriptor.lua")
WRITE_OVERRIDE: Final = Script.load("write_override.lua")
LINK: Final = Script.load("link.lua")
UNLINK: Final = Script.load("unlink.lua")

FOR_ONE_NODE: Final = (WRITE_GLOBAL, WRITE_SCOPED, CLEAR_GLOBAL, CLEAR_SCOPED)
FOR_CLUSTER: Final = (WRITE_GLOBAL, CLEAR_GLOBAL, WRITE_DESCRIPTOR, WRITE_OVERRIDE, LINK, UNLINK)

# What they call, all of them together.
COMMANDS: Final = tuple(
    sorted(
        {
            command.decode().lower()
            for script in (*FOR_ONE_NODE, *FOR_CLUSTER)
            for command in re.findall(rb"redis\.call\('(\w+)'", script.source)
        }
    )
)
