from __future__ import annotations

import pytest

from tests.support.registry_content import registry, storage
from tests.support.serving import FRAMEWORKS, serving

__all__ = ["registry", "storage"]


@pytest.fixture(params=list(FRAMEWORKS))
def framework(request):
    return request.param


@pytest.fixture
async def client(framework, registry):
    """Asks the registry, served by each framework in turn."""
    async with serving(framework, registry) as client:
        yield client
