"""The operator's commands, as operators and scripts run them."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
from functools import partial
from pathlib import Path
from subprocess import PIPE

import anyio
import anyio.to_thread
import pytest

from aioblobcache import CacheUnavailableError, Digest
from aioblobcache.cli import healing, main
from aioblobcache.maintenance import AuditOptions, StorageTruth, Warm, WarmOptions, bench
from aioblobcache.redis.keys import descriptor_key, membership_key
from aioblobcache.storage import LinkedBlobs
from tests.support.cached_image import CONFIG, LAYER, MANIFEST, NAME, OTHER, lose, many
from tests.support.internals import set_limits
from tests.support.one_server import on_both_servers
from tests.support.ports import free_port
from tests.support.serve_process import COMMAND
from tests.support.waiting import until, until_server_says

pytestmark = pytest.mark.anyio

SOON = ("--confirm-after", "0.1")
NOBODY = Digest.of(b"stored nowhere")


@pytest.fixture
def command(server, capsys, monkeypatch):
    """Run a command on the server, in a thread of this process; its exit status, output and errors."""
    monkeypatch.setenv("AIOBLOBCACHE_URL", server.url)

    def status_of(arguments):
        try:
            main(arguments)
        except SystemExit as end:
            return end.code or 0
        return 0

    async def command(*arguments, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        status = await anyio.to_thread.run_sync(status_of, arguments)
        return status, *capsys.readouterr()

    return command


@pytest.fixture
def warm_at_once(monkeypatch):
    """Let ``warm`` look again at once: it has no option for that."""
    monkeypatch.setattr(healing, "WarmOptions", partial(WarmOptions, look_again_after=0))


def lines(text):
    return [line.split("\t") for line in text.splitlines()]


# --- by hand ---------------------------------------------------------------------------------------


async def test_set_stat_and_clear_one_entry(client, command):
    assert (await command("stat", NAME, LAYER))[:2] == (1, f"{LAYER}\tunknown\n")
    status, output, _ = await command("set", NAME, LAYER, "--size", "5", "--media-type", "a/b")
    assert (status, output) == (0, f"{LAYER}\tset\n")
    assert (await command("stat", NAME, LAYER))[:2] == (0, f"{LAYER}\t5\ta/b\n")
    assert (await command("stat", LAYER, CONFIG))[:2] == (1, f"{LAYER}\t5\ta/b\n{CONFIG}\tunknown\n")
    assert (await command("clear", NAME, LAYER))[:2] == (0, f"{LAYER}\tcleared\n")
    assert (await command("clear", LAYER))[:2] == (1, f"{LAYER}\twas not known\n")


async def test_set_stat_and_clear_print_json(client, command):
    _, output, _ = await command("set", LAYER, "--size", "5", "--json")
    descriptor = {"digest": LAYER, "size": 5, "media_type": "application/octet-stream"}
    assert json.loads(output) == descriptor
    _, output, _ = await command("stat", LAYER, CONFIG, "--json")
    assert json.loads(output) == [{"digest": LAYER, "descriptor": descriptor}, {"digest": CONFIG, "descriptor": None}]
    _, output, _ = await command("stat", NAME, LAYER, "--json", "--explain")
    [explained] = json.loads(output)
    assert explained["why"] == f"it is no member of {NAME}"
    assert len(explained["keys"]) == 5
    _, output, _ = await command("clear", LAYER, "--json")
    assert json.loads(output) == [{"digest": LAYER, "cleared": True}]


async def test_stat_explain_shows_the_keys(filled, command):
    status, output, _ = await command("stat", NAME, MANIFEST, "--explain")
    assert status == 0
    assert f"\trepository::{NAME}::blobs\tis a member\t\n" in output
    assert "every key that it takes is there" in output


@on_both_servers
async def test_info_prints_the_survey(filled, command):
    status, output, _ = await command("info", "--json")
    said = json.loads(output)
    assert (status, said["keys"]["descriptor"]["count"], said["members"]) == (0, 4, 8)
    status, output, _ = await command("info")
    assert ["global descriptors", "4"] in [line[:2] for line in lines(output)]
    assert ["near cache", "possible"] in lines(output)


async def test_bench_prints_a_sentence_or_json(client, command, monkeypatch):
    set_limits(monkeypatch, bench, TIMEOUT=60.0)  # the machine may be busy
    status, output, errors = await command("bench", "--seconds", "0.5", "--callers", "8")
    assert (status, errors) == (0, "")
    assert re.search(r"^One question alone takes \d+\.\d\d ms", output)
    assert await client.dbsize() == 0
    status, output, _ = await command("bench", "--seconds", "0.5", "--callers", "8", "--json")
    assert status == 0
    assert json.loads(output)["questions"] > 0


async def test_watch_prints_one_line_for_each_interval(client, command):
    status, output, _ = await command("watch", "--every", "0.1", "--count", "2")
    header, *rates = lines(output)
    assert (status, len(rates)) == (0, 2)
    assert all(len(line) == len(header) for line in rates)
    status, output, _ = await command("watch", "--every", "0.1", "--count", "2", "--json")
    assert [json.loads(line)["nodes"] for line in output.splitlines()] == [1, 1]


# --- audit -----------------------------------------------------------------------------------------


async def test_audit_of_a_correct_cache_succeeds(filled, folder, command):
    status, output, errors = await command("audit", folder, *SOON)
    assert (status, output, errors) == (0, "12 entries checked, 0 of them wrong.\n", "")


async def test_audit_lowers_its_priority(filled, folder, command, niceness):
    await command("audit", folder, *SOON)
    assert niceness == [max(10, os.getpriority(os.PRIO_PROCESS, 0))]


async def test_audit_prints_the_faults_and_writes_nothing(client, filled, storage, folder, command):
    lose(storage, LAYER)
    before = {key: await client.dump(key) async for key in client.scan_iter()}
    status, output, _ = await command("audit", folder, *SOON)
    assert status == 1
    found = sorted(tuple(line[:3]) for line in lines(output)[:-1])
    assert found == [("missing-data", name, LAYER) for name in ("(global)", NAME, OTHER)]
    assert lines(output)[-1] == ["12 entries checked, 3 of them wrong."]
    assert {key: await client.dump(key) async for key in client.scan_iter()} == before


async def test_audit_fix_prints_what_it_removed(filled, storage, folder, command):
    lose(storage, LAYER)
    status, output, _ = await command("audit", folder, *SOON, "--fix", "--max-fixes", "3")
    assert status == 0
    assert [line[0] for line in lines(output)[:-1]] == ["missing-data"] * 3 + ["removed"] * 3
    assert lines(output)[-1] == ["12 entries checked, 3 of them wrong, 3 removed."]
    assert (await command("audit", folder, *SOON))[0] == 0


async def test_max_fixes_leaves_the_remaining_faults(filled, storage, folder, command):
    lose(storage, LAYER)
    status, output, _ = await command("audit", folder, *SOON, "--fix", "--max-fixes", "1")
    assert status == 1
    assert lines(output)[-1] == ["12 entries checked, 3 of them wrong, 1 removed, 2 left by --max-fixes."]


async def test_audit_fix_refuses_above_the_safety_limit(client, filled, storage, folder, command):
    lose(storage, LAYER)
    before = await client.dbsize()
    status, output, errors = await command("audit", folder, *SOON, "--fix")
    assert status == 3
    assert errors == (
        "aioblobcache: 3 of 12 entries are wrong (25%, more than 10%): nothing was removed, for this may be another"
        " registry's storage or cache; if it is not, expect as many (--max-fixes 3)\n"
    )
    assert [line[0] for line in lines(output)[:-1]] == ["missing-data"] * 3
    assert lines(output)[-1] == ["12 entries checked, 3 of them wrong, 0 removed."]
    assert await client.dbsize() == before


async def test_audit_fix_does_not_empty_another_registrys_cache(server, folder, command, client, filled):
    """The registry's storage, and a cache that is another registry's."""
    for digest in await many(client, 100):
        await client.sadd(membership_key("another/registry"), digest)
    before = await client.dbsize()
    status, _, errors = await command("audit", folder, *SOON, "--fix")
    assert (status, "nothing was removed" in errors) == (3, True)
    assert await client.dbsize() == before


@pytest.mark.parametrize("root", ["elsewhere", "docker"])
@pytest.mark.parametrize("arguments", [("audit", "--fix", "--max-fixes", "1000"), ("warm",)], ids=["audit", "warm"])
async def test_wrong_storage_root_is_refused(client, filled, folder, command, arguments, root):
    before = await client.dbsize()
    name, *options = arguments
    status, output, errors = await command(name, folder, "--root", root, *options)
    refusal = f"storage has no repository below {root}/docker/registry/v2/repositories: another root, or nothing is"
    assert (status, output, errors) == (3, "", f"aioblobcache: {refusal} mounted there\n")
    assert await client.dbsize() == before


async def test_unreadable_folders_are_not_treated_as_absent(client, filled, storage, folder, server):
    blobs = storage.store.prefix / "docker/registry/v2/blobs/sha256"
    halves = sorted(blobs.iterdir())
    for folder_of_some in halves[::2]:
        folder_of_some.chmod(0)
    before = await client.dbsize()
    # Permissions bind root only without these.
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    arguments = [*bound, *COMMAND, "audit", folder, *SOON, "--fix", "--max-fixes", "1000", "--cache", server.url]
    done = await anyio.run_process(arguments, check=False)
    for folder_of_some in halves:
        folder_of_some.chmod(0o755)
    assert done.returncode == 3, done.stderr
    assert b"storage could not tell of" in done.stdout
    assert b"ermission denied" in done.stderr
    assert await client.dbsize() == before


async def test_notes_are_printed_on_request_with_status_zero(client, filled, folder, command):
    await client.hset(descriptor_key(CONFIG), "mediatype", "a/b")
    await client.delete(descriptor_key(LAYER))
    status, output, _ = await command("audit", folder, *SOON, "--notes")
    assert status == 0
    assert sorted(tuple(line[:3]) for line in lines(output)[:-1]) == [
        ("no-descriptor", name, LAYER) for name in (NAME, OTHER)
    ]


async def test_audit_prints_json(filled, storage, folder, command):
    lose(storage, LAYER)
    status, output, _ = await command("audit", folder, *SOON, "--json", "--repository", NAME)
    said = json.loads(output)
    assert (status, said["complete"], said["checked"], said["counts"]) == (1, True, 8, {"missing-data": 2})
    assert {fault["key"] for fault in said["faults"]} == {f"repository::{NAME}::blobs", f"blobs::{LAYER}"}
    assert said["removed"] is None


async def test_interrupted_audit_prints_how_to_continue(client, folder, server):
    await many(client, 2_000)  # nothing of it is stored
    arguments = [*COMMAND, "audit", folder, "--confirm-after", "3600", "--cache", server.url]
    interruptible = ["env", "--default-signal=INT", *arguments]
    await client.config_resetstat()
    audit = await asyncio.create_subprocess_exec(*interruptible, stdout=PIPE, stderr=PIPE)

    async def is_walking():
        return (await client.info("commandstats")).get("cmdstat_scan", {"calls": 0})["calls"] > 5

    try:
        await until_server_says(is_walking)
        audit.send_signal(signal.SIGINT)
        output, errors = (written.decode() for written in await audit.communicate())
    finally:
        if audit.returncode is None:
            audit.kill()
            await audit.wait()
    assert audit.returncode == 130
    assert output.endswith(" of them wrong, and not all of them yet.\n")
    # Every entry waits for its second look, so that nothing is passed over.
    assert errors == "Stopped. What was done is done; to go on: the same command\n"


@pytest.fixture
def stored(monkeypatch):
    """Let storage hold all blobs, of a byte each; the digests that it was asked about, a list for each question."""
    questions = []

    async def sizes(self, digests):
        questions.append(digests)
        return [1] * len(digests)

    monkeypatch.setattr(StorageTruth, "sizes", sizes)
    return questions


async def test_printed_hint_resumes_an_audit_where_it_stopped(client, folder, command, monkeypatch, stored):
    digests = await many(client, 2_000)

    async def sizes_until_redis_goes_away(self, digests):
        if len(stored) == 5:
            raise CacheUnavailableError("localhost:6379", "gone")
        stored.append(digests)
        return [1] * len(digests)

    with monkeypatch.context() as patch:
        patch.setattr(StorageTruth, "sizes", sizes_until_redis_goes_away)
        status, output, errors = await command("audit", folder)
    before = {digest for question in stored for digest in question}
    stored.clear()
    assert (status, output) == (3, f"{len(before)} entries checked, 0 of them wrong, and not all of them yet.\n")
    place = re.search(r"to go on: the same command --resume (\S+)\n", errors)[1]
    assert (await command("audit", folder, "--resume", place))[0] == 0
    after = {digest for question in stored for digest in question}
    assert before | after == set(digests)
    assert len(after) < len(digests)


async def test_malformed_resume_position_is_a_usage_error(folder, command):
    assert await command("audit", folder, "--resume", "nonsense") == (
        2,
        "",
        "aioblobcache: a place to resume at is what was printed, not 'nonsense'\n",
    )


async def test_confirm_after_reaches_the_audit(filled, folder, command, monkeypatch):
    made = []

    def options(**given):
        made.append(AuditOptions(**given))
        return made[-1]

    monkeypatch.setattr(healing, "AuditOptions", options)
    await command("audit", folder)
    await command("audit", folder, "--confirm-after", "0.25")
    assert [one.confirm_after for one in made] == [5.0, 0.25]


# --- warm and purge --------------------------------------------------------------------------------


async def test_warm_fills_and_purge_forgets(client, folder, command, warm_at_once):
    status, output, _ = await command("warm", folder)
    assert (status, output) == (0, "2 repositories with 8 links, 8 filled, 0 known already.\n")
    status, output, _ = await command("purge", "--repository", NAME)
    assert (status, output) == (0, "Forgotten: 4 descriptors, 4 memberships or sets of them, 4 media types.\n")
    status, output, _ = await command("purge", "--all", "--yes", "--json")
    assert json.loads(output) == {"descriptors": 0, "members": 1, "overrides": 4, "met": 5}
    assert {key async for key in client.scan_iter() if not key.startswith(b"aioblobcache::")} == set()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["purge"], "purge what?"),
        (["purge", "--all"], "--yes"),
        (["purge", "--all", "--yes", "--digest", LAYER], "purge what?"),
        (["stat"], "of which blob?"),
        (["stat", NAME], "of which blob?"),
        (["stat", "sha256:abc"], "invalid digest"),
        (["stat", "UPPER", LAYER], "invalid repository name"),
        (["set", LAYER, CONFIG, "--size", "1"], "one blob at a time"),
        (["set", LAYER, "--size", "-1"], "size is"),
        (["audit"], "which storage?"),
        (["audit", "nonsense://x"], "cannot open storage"),
        (["stat", LAYER, "--cache", "redis://:hush-hush@host:port"], "malformed"),
        (["stat", LAYER, "--cache", "memory://"], "nothing to look after"),
        (["stat", LAYER, "--registry-config", "/no/such/file"], "/no/such/file"),
        (["watch", "--every", "0"], "every is"),
        (["watch", "--count", "0"], "count is"),
        (["audit", "/tmp", "--confirm-after", "-1"], "confirm_after is"),
        (["warm", "/tmp", "--rate", "0"], "rate is"),
        (["bench", "--callers", "1"], "callers is"),
    ],
)
async def test_usage_errors_are_one_line_with_status_two(client, command, arguments, said):
    more = {"AIOBLOBCACHE_URL": ""} if "--registry-config" in arguments else {}
    status, output, errors = await command(*arguments, **more)
    assert (status, output) == (2, "")
    assert said in errors
    assert errors.count("\n") == 1
    assert "hush-hush" not in errors


async def test_missing_cache_url_is_a_usage_error(command):
    status, _, errors = await command("info", AIOBLOBCACHE_URL="")
    asked = "which cache? --cache URL, AIOBLOBCACHE_URL, or --registry-config FILE"
    assert (status, errors) == (2, f"aioblobcache: {asked}\n")


@pytest.mark.parametrize("arguments", [["info"], ["stat", LAYER], ["purge", "--all", "--yes"], ["bench"]])
async def test_unreachable_server_gives_status_three(command, arguments):
    port = free_port()
    status, _, errors = await command(*arguments, "--cache", f"redis://:hush-hush@127.0.0.1:{port}")
    assert status == 3
    assert f"127.0.0.1:{port} is unavailable" in errors
    assert "hush-hush" not in errors


async def test_registry_config_names_the_cache_and_storage(filled, folder, server, command, tmp_path):
    config = tmp_path / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {folder}\nredis:\n  addr: 127.0.0.1:{server.port}\n"
    )
    another = "redis://127.0.0.1:1"  # which is for commands that are told of no other
    status, output, errors = await command("audit", "--registry-config", str(config), AIOBLOBCACHE_URL=another)
    assert (status, output) == (0, "12 entries checked, 0 of them wrong.\n"), errors


@on_both_servers
async def test_documented_rights_suffice_for_every_command(client, filled, folder, server, command, warm_at_once):
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    granted = " ".join(re.search(r"ACL SETUSER registry (.*?)```", text, re.DOTALL)[1].split())
    besides = " ".join(re.search(r"for all its commands:\n\n```\n(.*?)```", text, re.DOTALL)[1].split())
    await client.execute_command("ACL", "SETUSER", "registry", *granted.split(), *besides.split())
    try:
        await client.set("of others", "x")
        url = f"redis://registry:password@127.0.0.1:{server.port}"
        for arguments, expected in [
            (["info"], 0),
            (["stat", NAME, LAYER, "--explain"], 0),
            (["audit", folder, *SOON, "--notes"], 0),
            (["purge", "--digest", LAYER], 0),
            (["audit", folder, *SOON, "--fix"], 0),
            (["warm", folder], 0),
            (["set", CONFIG, "--size", "1"], 0),
            (["audit", folder, *SOON, "--fix", "--max-fixes", "1"], 0),
            (["clear", NAME, CONFIG], 0),
            (["watch", "--count", "1", "--every", "0.1"], 0),
            (["bench", "--seconds", "0.5", "--callers", "8"], 0),
            (["purge", "--repository", NAME], 0),
            (["purge", "--all", "--yes"], 0),
        ]:
            status, output, errors = await command(*arguments, "--cache", url)
            assert (status, errors) == (expected, ""), (arguments, output)
            assert "not told" not in output.replace("policy not told", "")
    finally:
        await client.execute_command("ACL", "DELUSER", "registry")


# --- on a terminal ---------------------------------------------------------------------------------


def on_a_terminal(*arguments, **environment):
    """What a person would see, with the control sequences of the terminal."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=side, stderr=side, env={**os.environ, "COLUMNS": "120", **environment}
    )
    os.close(side)
    seen = b""
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # how Linux says that nobody writes any more
            break
        if not chunk:
            break
        seen += chunk
    os.close(main)
    process.wait(timeout=30)
    return seen.decode()


async def test_terminal_output_has_colours_unless_no_color_is_set(filled, storage, folder, server):
    lose(storage, LAYER)
    arguments = ("audit", folder, *SOON, "--cache", server.url)
    environment = {"TERM": "xterm-256color"}
    seen = await anyio.to_thread.run_sync(lambda: on_a_terminal(*arguments, **environment))
    assert "\x1b[31mmissing-data" in seen
    assert "entries checked, keys" in seen  # the progress
    plain = await anyio.to_thread.run_sync(lambda: on_a_terminal(*arguments, **environment, NO_COLOR="1"))
    assert "\x1b[31m" not in plain
    assert "missing-data" in plain


async def test_piped_output_contains_only_results(filled, folder, command):
    _, output, errors = await command("audit", folder, *SOON)
    assert "\x1b" not in output + errors
    assert errors == ""


async def test_help_of_every_command_has_an_example(command):
    _, output, _ = await command("--help")
    for name in ("info", "stat", "set", "clear", "audit", "warm", "purge", "watch", "bench"):
        assert re.search(rf"│ {name} ", output)
        status, helped, _ = await command(name, "--help")
        assert (status, f"aioblobcache {name}" in helped, "Example" in helped) == (0, True, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_scripts_name_the_commands(command, shell):
    status, script, _ = await command("completion", shell)
    assert status == 0
    assert all(name in script for name in ("audit", "--max-fixes", "purge"))
    if shell == "bash":
        assert (await anyio.run_process(["bash", "-n"], input=script.encode())).returncode == 0


async def test_failed_warm_up_prints_how_to_continue(client, folder, command, monkeypatch, warm_at_once):
    """Redis goes away for good in the second repository."""
    made, listed = [], LinkedBlobs.links

    def make(*arguments):
        made.append(Warm(*arguments))
        return made[-1]

    async def links(self):
        if self.name == OTHER:
            await until(lambda: made[0].report.last == NAME)
            raise CacheUnavailableError("localhost:6379", "gone")
        async for digest in listed(self):
            yield digest

    with monkeypatch.context() as patch:
        patch.setattr(healing, "Warm", make)
        patch.setattr(LinkedBlobs, "links", links)
        status, output, errors = await command("warm", folder)
    assert (status, output) == (3, "1 repositories with 4 links, 4 filled, 0 known already.\n")
    assert errors == (
        "aioblobcache: cache at localhost:6379 is unavailable: gone\n"
        f"Stopped. What was done is done; to go on: the same command --resume {NAME}\n"
    )
    status, output, _ = await command("warm", folder, "--resume", NAME)
    assert (status, output) == (0, "1 repositories with 4 links, 4 filled, 0 known already.\n")
