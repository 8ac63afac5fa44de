from __future__ import annotations

import pytest
from obstore.store import LocalStore

from aioblobcache import CachedRegistry, MemoryBlobDescriptorCache
from aioblobcache.storage import RegistryStorage
from tests.registry_api.content import store
from tests.registry_api.serving import FRAMEWORKS, serving


@pytest.fixture
async def storage(tmp_path):
    storage = RegistryStorage(LocalStore(tmp_path / "registry", mkdir=True))
    await store(storage)
    return storage


@pytest.fixture
def registry(storage):
    """The storage behind a cache that has seen nothing."""
    return CachedRegistry(MemoryBlobDescriptorCache(), storage)


@pytest.fixture(params=list(FRAMEWORKS))
def framework(request):
    return request.param


@pytest.fixture
async def client(framework, registry):
    """Asks the registry, served by each framework in turn."""
    async with serving(framework, registry) as client:
        yield client
