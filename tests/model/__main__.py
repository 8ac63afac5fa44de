"""``python -m tests.model [FILLS CLEARS PUSHES]``: how many states there are, and whether one of them is wrong."""

from __future__ import annotations

import resource
import sys
import time

from .guard_model import CLUSTER, ONE_NODE, System, processes
from .packed import Packed


def main(fills: int = 3, clears: int = 2, pushes: int = 2) -> None:
    """Look at both topologies, where anybody crashes and where guards are lost."""
    for topology, protocol in (("one node", ONE_NODE), ("cluster", CLUSTER)):
        programs = processes(protocol, fills=fills, clears=clears, pushes=pushes)
        for what, guards_are_lost in (("crashes", False), ("lost guards", True)):
            system = System(
                programs, guards_are_lost=guards_are_lost, entries_are_lost=True, clears_end=guards_are_lost
            )
            begun = time.perf_counter()
            packed = Packed(system)
            found = packed.explore()
            seconds = time.perf_counter() - begun
            megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            verdict = "; ".join(packed.story(found.trace)) or "nothing is wrong"
            line = (
                f"{topology}, {what}: {found.states} states, {seconds:.1f} s, {megabytes} MB at most so far: {verdict}"
            )
            sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
