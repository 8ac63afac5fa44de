"""The commands that compare a cache with storage, or fill and empty it: audit, warm, purge."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from ..errors import ConfigurationError
from ..maintenance import (
    Audit,
    AuditOptions,
    AuditReport,
    Finding,
    Keyspace,
    Position,
    PurgeReport,
    RepairReport,
    StorageTruth,
    Warm,
    WarmOptions,
    WarmReport,
    purge_all,
    purge_digest,
    purge_repository,
    repair,
    require_registry,
)
from ..maintenance.truth import is_wanted
from ..storage import RegistryStorage
from .embedded import sigterm_exits
from .screen import Screen
from .target import FINDINGS, FINE, NOTHING_SAID, UNAVAILABLE, Target, run_behind

__all__ = ["audit", "purge", "warm"]


def audit(
    storage: str | None = None,
    /,
    *,
    repository: str | None = None,
    fix: Annotated[bool, Parameter(negative="")] = False,
    max_fixes: int | None = None,
    notes: Annotated[bool, Parameter(negative="")] = False,
    resume: str | None = None,
    confirm_after: float = 5.0,
    root: str = "",
    target: Target = NOTHING_SAID,
) -> int:
    """Find what the cache says and storage contradicts; with --fix, make the cache forget it.

    Nothing is written without --fix, and with it entries are only ever removed: the next pull or push reads storage.
    Exit status 0: nothing is wrong, or all that was is removed. 1: something is wrong. 3: something could not be
    looked at, or a brake held.

    Examples: `aioblobcache audit /var/lib/registry --cache redis://localhost`,
    `aioblobcache audit --registry-config /etc/docker/registry/config.yml --fix`

    Parameters
    ----------
    storage
        Where the registry keeps its blobs: a folder, s3://bucket, gs://bucket, az://container.
    repository
        Only repositories that match, for example 'library/*'.
    fix
        Remove what is wrong, each after one more look at storage.
    max_fixes
        Remove so many at most; said, it is also permission to go on where more than a tenth is wrong.
    notes
        Show as well what is unusual and harmless.
    resume
        Go on at a place that a stopped audit printed.
    confirm_after
        Seconds until what looks wrong is looked at again: pushes and deletes under way are no faults.
    root
        The folder or prefix within the storage: what Distribution calls rootdirectory.
    """
    screen = Screen(target.as_json)
    removed: list[Finding] = []
    report = AuditReport()
    repaired = RepairReport() if fix else None

    def found(finding: Finding) -> None:
        screen.line(
            finding.kind.value,
            finding.name or "(global)",
            finding.digest or "",
            finding.detail or finding.meaning,
            style="red" if finding.is_fault else "dim",
        )

    def is_removed(finding: Finding) -> None:
        removed.append(finding)
        screen.line("removed", finding.name or "(global)", finding.digest or finding.key, style="green")

    async def work() -> None:
        nonlocal report
        place = None if resume is None else Position.parse(resume)
        options = AuditOptions(repositories=repository, with_notes=notes, confirm_after=confirm_after)
        opened = target.open_storage(storage, root)
        await require_registry(opened)
        async with target.opened() as (_, keyspace):
            auditing = Audit(keyspace, StorageTruth(opened), options, on_finding=found)
            report = auditing.report
            total = keyspace.size if place is None else None
            async with screen.counting(lambda: f"{report.checked:,} entries checked, keys", lambda: report.keys, total):
                await auditing.run(place)
            if repaired is not None and report.faults:
                async with screen.counting(
                    lambda: f"{repaired.removed:,} removed, faults", lambda: repaired.done, len(report.faults)
                ):
                    await repair(auditing, keyspace, most=max_fixes, report=repaired, on_removed=is_removed)

    def tell() -> None:
        _say_how_it_stands(report, repaired, screen)
        _write(report, repaired, removed, screen)

    def hint() -> str:
        return "" if report.is_complete or report.position is None else f" --resume {report.position}"

    run_and_tell(work, tell, lambda: report.checked, hint, screen)
    return _status(report, repaired)


def run_and_tell(
    work: Callable[[], Coroutine[Any, Any, None]],
    tell: Callable[[], None],
    done: Callable[[], int],
    hint: Callable[[], str],
    screen: Screen,
) -> None:
    """Do the work, and tell how far it got, whatever ends it.

    ``done``: how much there is to tell; ``hint``: what the command takes to go on there.
    """
    try:
        with sigterm_exits():
            run_behind(work())
    except (KeyboardInterrupt, SystemExit) as end:
        was_stopped = isinstance(end, KeyboardInterrupt)
        if was_stopped or done():
            tell()
        if was_stopped or hint():  # behind a brake there is nothing to go on with
            screen.aside(f"Stopped. What was done is done; to go on: the same command{hint()}")
        raise
    tell()


def _status(report: AuditReport, repaired: RepairReport | None) -> int:
    if report.not_told or (repaired is not None and repaired.not_told):
        return UNAVAILABLE
    left = report.fault_count - (0 if repaired is None else repaired.removed + repaired.gone)
    return FINDINGS if left > 0 else FINE


def _say_how_it_stands(report: AuditReport, repaired: RepairReport | None, screen: Screen) -> None:
    said = [f"{report.checked:,} entries checked, {report.fault_count:,} of them wrong"]
    if repaired is not None:
        said.append(f"{repaired.removed:,} removed")
        if repaired.gone:
            said.append(f"{repaired.gone:,} right again by themselves")
        if repaired.left:
            said.append(f"{repaired.left:,} left by --max-fixes")
    if report.not_told:
        said.append(f"storage could not tell of {report.not_told:,}")
    if report.interruptions:
        said.append(f"Redis was away {report.interruptions} times")
    _say_what_was_not_told([trouble.reason for trouble in report.troubles], report.not_told, screen)
    screen.say(", ".join(said) + ("." if report.is_complete else ", and not all of them yet."))


def _say_what_was_not_told(reasons: Sequence[str], count: int, screen: Screen) -> None:
    for reason in reasons[:5]:
        screen.aside(f"not looked at: {reason}")
    if count > 5:
        screen.aside(f"… and {count - 5:,} more")


def _write(report: AuditReport, repaired: RepairReport | None, removed: list[Finding], screen: Screen) -> None:
    if screen.as_json:
        screen.document(
            {
                "checked": report.checked,
                "complete": report.is_complete,
                "faults": [_as_data(finding) for finding in report.faults],
                "notes": [_as_data(finding) for finding in report.notes],
                "counts": {kind.value: count for kind, count in report.counts.items()},
                "not_told": report.not_told,
                "troubles": [attrs.asdict(trouble) for trouble in report.troubles],
                "interruptions": report.interruptions,
                "resume": None if report.is_complete or report.position is None else str(report.position),
                "removed": None if repaired is None else [_as_data(finding) for finding in removed],
            }
        )


def _as_data(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind.value,
        "repository": finding.name,
        "digest": finding.digest,
        "key": finding.key,
        "detail": finding.detail or finding.meaning,
    }


def warm(
    storage: str | None = None,
    /,
    *,
    repository: str | None = None,
    rate: float | None = None,
    resume: str = "",
    root: str = "",
    target: Target = NOTHING_SAID,
) -> int:
    """Fill the cache from storage, before anybody asks. Do not run it during a garbage collection.

    What is cached already stays as it is, and what was cleared lately is left alone. All that was filled is looked at
    once more, some seconds later, and cleared if it has vanished.

    Example: `aioblobcache warm s3://bucket --root registry --cache redis://localhost --rate 2000`

    Parameters
    ----------
    storage
        Where the registry keeps its blobs: a folder, s3://bucket, gs://bucket, az://container.
    repository
        Only repositories that match, for example 'library/*'.
    rate
        Blobs a second, at most.
    resume
        The repository after which to go on, as a stopped run printed it.
    root
        The folder or prefix within the storage: what Distribution calls rootdirectory.
    """
    screen = Screen(target.as_json)
    report = WarmReport()

    async def work() -> None:
        nonlocal report
        options = WarmOptions(repositories=repository, rate=rate)
        opened = target.open_storage(storage, root)
        await require_registry(opened)
        async with target.opened() as (_, keyspace):
            warming = Warm(keyspace, opened, options)
            report = warming.report
            async with screen.counting(
                lambda: f"{report.seen:,} links, {report.filled:,} filled, repositories",
                lambda: report.repositories,
                partial(_count, opened, resume, repository),
            ):
                await warming.run(resume)

    def tell() -> None:
        _say_what_was_filled(report, screen)
        screen.document(attrs.asdict(report))

    run_and_tell(
        work, tell, lambda: report.repositories, lambda: f" --resume {report.last}" if report.last else "", screen
    )
    return UNAVAILABLE if report.not_told else FINE


async def _count(storage: RegistryStorage, after: str, pattern: str | None) -> int:
    return len([name async for name in storage.repositories(after=after) if is_wanted(name, pattern)])


def _say_what_was_filled(report: WarmReport, screen: Screen) -> None:
    _say_what_was_not_told(report.troubles, report.not_told, screen)
    said = [
        f"{report.repositories:,} repositories with {report.seen:,} links",
        f"{report.filled:,} filled",
        f"{report.known:,} known already",
    ]
    for count, what in (
        (report.refused, "cleared lately or filled by others"),
        (report.absent, "without data"),
        (report.vanished, "vanished meanwhile, and cleared again"),
        (report.not_told, "that storage could not tell of"),
    ):
        if count:
            said.append(f"{count:,} {what}")
    screen.say(", ".join(said) + ".")


def purge(
    *,
    repository: str | None = None,
    digest: str | None = None,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    yes: Annotated[bool, Parameter(negative="")] = False,
    target: Target = NOTHING_SAID,
) -> int:
    """Make the cache forget a repository, a blob everywhere, or everything. Storage is not touched.

    Only keys of this layout are removed. What is asked for next is read from storage.

    Examples: `aioblobcache purge --repository library/demo`, `aioblobcache purge --digest sha256:…`,
    `aioblobcache purge --all --yes`

    Parameters
    ----------
    repository
        Its memberships and media types, and its members' global descriptors.
    digest
        The blob's global descriptor, and what each repository has of it.
    all_
        Everything.
    yes
        Needed for everything: the storage will be asked for each blob again.
    """
    screen = Screen(target.as_json)
    report = PurgeReport()

    async def work() -> None:
        if [repository is not None, digest is not None, all_].count(True) != 1:
            raise ConfigurationError("purge what? one of --repository NAME, --digest DIGEST, --all")
        if all_ and not yes:
            raise ConfigurationError("--all makes storage answer for every blob again: say --yes as well")
        async with (
            target.opened() as (_, keyspace),
            screen.counting(
                lambda: "keys and members", lambda: report.met, keyspace.size if repository is None else None
            ),
        ):
            await _purge(keyspace, repository, digest, report)

    def tell() -> None:
        _say_what_is_forgotten(report, screen)
        screen.document(attrs.asdict(report))

    run_and_tell(work, tell, lambda: report.met, lambda: "", screen)
    return FINE


async def _purge(keyspace: Keyspace, repository: str | None, digest: str | None, report: PurgeReport) -> None:
    if repository is not None:
        await purge_repository(keyspace, repository, report)
    elif digest is not None:
        await purge_digest(keyspace, digest, report)
    else:
        await purge_all(keyspace, report)


def _say_what_is_forgotten(report: PurgeReport, screen: Screen) -> None:
    screen.say(
        f"Forgotten: {report.descriptors:,} descriptors, {report.members:,} memberships or sets of them,"
        f" {report.overrides:,} media types."
    )
