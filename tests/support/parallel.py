"""How pytest-xdist shares the tests among its workers: module by module, and what needs the machine one by one.

A module stays together, since its fixtures start servers. Every worker has servers of its own (each is a pytest
session) and its own ports (`tests.support.ports`).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

WHOLE_MACHINE = "whole_machine"

# What pytest-xdist appends to the name of a test that has a group; behind parameters, which end with a bracket.
GROUP = re.compile(r"@([\w-]+)$")

# Most of the time a test waits for a server.
WORKERS_PER_PROCESSOR = 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers ``--numprocesses=auto`` starts; pytest-xdist's own variable overrides it."""
    return int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") or WORKERS_PER_PROCESSOR * (os.cpu_count() or 1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Return a scheduler that gives each worker whole modules, and the tests of a group to one worker."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            group = GROUP.search(nodeid)
            return group[1] if group else nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # the order of collection: the number of tests says little about their time
    return ByModule(config, log)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist, which reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group what needs the whole machine, and begin with it: it would be the last to end."""
    for item in items:
        if item.get_closest_marker(WHOLE_MACHINE):
            item.add_marker(pytest.mark.xdist_group(WHOLE_MACHINE))
    items.sort(key=lambda item: item.get_closest_marker(WHOLE_MACHINE) is None)
