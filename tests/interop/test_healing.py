"""What operators of docker-registry 2.8.2 have lived with since 2019, and its cure: a garbage collection removes
what the cache goes on promising, so that a push succeeds whose image cannot be pulled."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from aioblobcache import Digest
from aioblobcache.cli.sample import build_image
from aioblobcache.maintenance import Audit, AuditOptions, Fault, Keyspace, StorageTruth
from tests.support.docker_registry import BLOB, DATA, GONE, KEPT, NAME, TAG, break_by_garbage_collection
from tests.support.serve_process import run
from tests.support.servers import REDIS, VALKEY
from tests.support.waiting import until_server_says

pytestmark = pytest.mark.anyio

# What is under way takes less.
SOON = "0.2"


@pytest.fixture
def audit(server, registry):
    """The command, on the registry's storage and cache; its exit status and what it found."""

    async def audit(*options):
        arguments = ("audit", str(registry.root), "--cache", server.url, "--confirm-after", SOON, "--json", *options)
        done = await anyio.to_thread.run_sync(run, *arguments)
        return done, json.loads(done.stdout) if done.stdout else None

    return audit


def entries(faults):
    return {(fault["kind"], fault["repository"], fault["digest"]) for fault in faults}


def lost(image, name):
    """An image whose data is gone, as the cache has it."""
    everywhere = {("missing-data", None, digest) for digest in image.content}
    return everywhere | {("missing-data", name, blob.digest) for blob in image.blobs}


async def test_audit_heals_a_garbage_collection_while_the_registry_runs(registry, image, audit):
    healthy = build_image([{f"bin/{number}": str(number)} for number in range(30)])
    await registry.push(healthy, "library/healthy", TAG)
    await break_by_garbage_collection(registry, image, NAME, TAG)

    done, found = await audit()
    assert done.returncode == 1
    assert entries(found["faults"]) == lost(image, NAME)

    done, found = await audit("--fix", "--max-fixes", "20")
    assert done.returncode == 0
    assert entries(found["removed"]) == lost(image, NAME)

    await registry.push(image, NAME, TAG)
    assert await registry.content(NAME, TAG) == image.content
    assert await registry.content("library/healthy", TAG) == healthy.content
    done, found = await audit()
    assert (done.returncode, found["faults"]) == (0, [])


def whatever_the_image(text):
    """Digests and sizes depend on the zlib that packed the layers."""
    return re.sub(r"\d+ bytes", "some bytes", re.sub(r"sha256:[0-9a-f]{64}", "sha256:…", text))


@pytest.mark.parametrize("server", [VALKEY, pytest.param(REDIS, marks=pytest.mark.slow)], indirect=True)
async def test_commands_of_the_healing_page_print_what_it_shows(registry, image):
    """Its commands, on a registry with the symptom; what they print is what stands there."""
    for number in range(3):  # so that the seven wrong entries are less than a tenth
        layers = [{f"bin/{number}-{part}": str(part)} for part in range(35)]
        await registry.push(build_image(layers), f"library/app{number}", TAG)
    await break_by_garbage_collection(registry, image, NAME, TAG)
    text = (Path(__file__).parents[2] / "docs/howto/heal-after-gc.md").read_text()
    commands = re.findall(r"```sh\n(.*?)\n```\n\n```text\n(.*?)```", text, re.DOTALL)
    assert len(commands) == 2
    for (line, shown), status in zip(commands, (1, 0), strict=True):
        program, *arguments = line.replace("/etc/docker/registry/config.yml", str(registry.config)).split()
        assert program == "aioblobcache"
        done = await anyio.to_thread.run_sync(lambda arguments=arguments: run(*arguments, AIOBLOBCACHE_URL=""))
        assert done.returncode == status
        printed = whatever_the_image(done.stdout.replace("\t", "  ")).splitlines()
        assert [line for line in whatever_the_image(shown).splitlines() if line != "…" and line not in printed] == []
    await registry.push(image, NAME, TAG)
    assert await registry.content(NAME, TAG) == image.content


async def test_audit_removes_nothing_above_its_safety_limit(registry, image, audit, client):
    await break_by_garbage_collection(registry, image, NAME, TAG)
    before = {key async for key in client.scan_iter()}
    done, found = await audit("--fix")
    assert done.returncode == 3
    assert "7 of 7 entries are wrong (100%, more than 10%): nothing was removed" in done.stderr
    assert "--max-fixes 7" in done.stderr
    assert found["removed"] == []
    assert {key async for key in client.scan_iter()} == before


async def test_pulls_and_pushes_succeed_during_a_repair(registry, image, audit):
    """Pulls and pushes go on all through the repair."""
    steady = build_image([{f"steady/{number}": str(number)} for number in range(20)])
    await registry.push(steady, "library/steady", TAG)
    await break_by_garbage_collection(registry, image, NAME, TAG)
    pulled = pushed = 0

    async def pull():
        nonlocal pulled
        while True:
            await registry.pull("library/steady", TAG)
            pulled += 1

    async def push():
        nonlocal pushed
        while True:
            await registry.push(build_image([{"pushed": str(pushed)}]), "library/pushed", f"v{pushed}")
            await registry.pull("library/pushed", f"v{pushed}")
            pushed += 1

    async with going_on(pull, push):
        for _ in range(3):
            done, found = await audit("--fix", "--max-fixes", "20")
            assert done.returncode == 0, done.stderr
        pulls, pushes = pulled, pushed

        async def two_more():
            return pulled >= pulls + 2 and pushed >= pushes + 2

        await until_server_says(two_more)
        await registry.push(image, NAME, TAG)
        assert await registry.content(NAME, TAG) == image.content
        done, found = await audit()
        assert (done.returncode, found["faults"]) == (0, [])


@asynccontextmanager
async def going_on(*work):
    """Run these beside; what one of them fails with is raised."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one()) for one in work]
        yield
        for task in tasks:
            task.cancel()


async def test_a_healthy_registry_has_no_faults(registry, delete_leaves_membership, audit):
    """After pushes, pulls, mounts, pushes by sha512 and deletes there is much that looks odd, and nothing wrong."""
    images = [build_image([{"base": "the same in all"}, {"own": str(number)}]) for number in range(20)]
    for number, one in enumerate(images):
        name = f"library/image{number % 7}"
        await registry.push(one, name, f"v{number}")
        if number % 2:
            await registry.pull(name, f"v{number}")
    for number in range(3):
        await registry.mount_blob(f"mounted/{number}", images[number].layers[1].digest, f"library/image{number}")
    alias = await registry.push_blob("by/sha512", DATA, "sha512")
    await registry.describe("by/sha512", alias)
    await registry.push_blob(GONE, b"deleted")
    await registry.push_blob(KEPT, b"deleted")
    await registry.delete(GONE, Digest.of(b"deleted"))
    await registry.delete("library/image5", images[5].layers[1].digest)
    await registry.delete_manifest("library/image6", images[6].manifest.digest)

    done, found = await audit()
    assert (done.returncode, found["faults"], found["not_told"]) == (0, [], 0)
    done, found = await audit("--notes")
    assert (done.returncode, found["faults"]) == (0, [])
    kinds = {note["kind"] for note in found["notes"]}
    left = {"unlinked-member"} if delete_leaves_membership else set()
    assert kinds == {"global-only", "no-descriptor", "octet-stream", *left}
    noted = ("unlinked-member", GONE, Digest.of(b"deleted")) in entries(found["notes"])
    assert noted is delete_leaves_membership


async def test_deleted_blob_the_registry_serves_again_is_a_fault(registry, delete_leaves_membership, audit):
    """Deleted in one repository, it shows there again as soon as another one was read, if its membership was left."""
    await registry.push_blob(GONE, DATA)
    await registry.push_blob(KEPT, DATA)
    await registry.delete(GONE, BLOB.digest)
    await registry.describe(KEPT, BLOB.digest)
    assert await registry.describe(GONE, BLOB.digest) == (BLOB if delete_leaves_membership else None)
    _, found = await audit()
    shown = {("not-linked", GONE, BLOB.digest)} if delete_leaves_membership else set()
    assert entries(found["faults"]) == shown
    assert (await audit("--fix", "--max-fixes", "1"))[0].returncode == 0
    assert await registry.describe(KEPT, BLOB.digest) == BLOB
    assert await registry.describe(GONE, BLOB.digest) is None


async def test_pushes_and_deletes_under_way_are_no_faults(registry, client, storage):
    """Looked at again some seconds later, all is as it should be."""
    faults = []
    async with Keyspace(client) as keyspace:

        async def push_and_delete(number):
            for turn in range(15):
                data = f"{number} {turn}".encode()
                await registry.push_blob("library/busy", data)
                if turn % 2:
                    await registry.delete("library/busy", Digest.of(data))

        async def look():
            while True:
                audit = Audit(keyspace, StorageTruth(storage), AuditOptions(confirm_after=1.0))
                faults.extend((await audit.run()).faults)

        async with going_on(look):
            await asyncio.gather(*map(push_and_delete, range(4)))
    assert [fault for fault in faults if fault.kind in Fault] == []
