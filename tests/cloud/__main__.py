# SPDX-License-Identifier: Apache-2.0

"""``python -m tests.cloud``: bursts on real services, as production has them.

Starts a cloud of five hosts with eight GPUs, has servers asked for at once
round after round, with the workers of one nova-scheduler and of several, and
prints how many were refused and what was claimed. ``make bench-cloud``.
"""

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import os
import statistics
import sys
import time
import traceback

from bench import report
from cloud import bootstrap
from cloud import control
from cloud import errors
from tests.cloud import bursts
from tests.cloud import conftest
from tests.cloud import user as users
from tests.cloud import views
from tests.cloud import waiting

HOSTS = {f"hgx-{number}": control.HGX_H100 for number in range(1, 6)}
_FULL = tuple((host, bursts.GPUS) for host in ("hgx-3", "hgx-4", "hgx-5"))
_PATIENCE_SECONDS = 900.0


@dataclasses.dataclass(frozen=True)
class Burst:
    """Servers that are asked for at once."""

    name: str
    sizes: tuple[int, ...]
    """GPUs of each server."""
    fillers: tuple[tuple[str, int], ...] = ()
    """(host, GPUs) that others have."""


BURSTS = (
    Burst("10x1", (1,) * 10, (*_FULL, ("hgx-1", 4), ("hgx-2", 2))),
    Burst("6x2", (2,) * 6, (*_FULL, ("hgx-2", 4))),
    Burst("40x1", (1,) * 40),
    Burst("mixed", (1,) * 12 + (2,) * 6 + (4,) * 4),
    Burst("mixed-8-spare", (1,) * 12 + (2,) * 6 + (4,) * 2),
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one round."""

    refused: int
    false: int
    """Of these, a host had enough free GPUs."""
    claims: int
    seconds: float
    """Until all had settled."""
    faults: frozenset[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bursts; return 1 if a server was refused for nothing."""
    args = _parser().parse_args(argv)
    os.environ["CLOUD_SCHEDULER_WORKERS"] = str(args.workers)
    cloud = control.Cloud(report=_say)
    if cloud.is_up:
        print(
            "bursts: a cloud is up, with other hosts and workers; end it with"
            " 'make cloud-down' first",
            file=sys.stderr,
        )
        return 1
    result = _make_report(args)
    try:
        with cloud.state.exclusive():
            cloud.up(HOSTS)
        try:
            _run_all(cloud, args, result)
        finally:
            with cloud.state.exclusive():
                cloud.down()
    except (AssertionError, errors.CloudError) as error:
        result.errors.append(str(error) or traceback.format_exc())
    finally:
        _say(result.as_text())
    return int(bool(result.errors))


def _run_all(
    cloud: control.Cloud, args: argparse.Namespace, result: report.Report
) -> None:
    user = users.User(cloud)
    chosen = [b for b in BURSTS if not args.burst or b.name in args.burst]
    for controllers in args.controllers:
        with _schedulers(cloud, user, controllers):
            for burst in chosen:
                _measure(cloud, user, burst, controllers, args, result)
    conftest.assert_audit_is_clean(cloud)


@contextlib.contextmanager
def _schedulers(
    cloud: control.Cloud, user: users.User, controllers: int
) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for number in range(2, controllers + 1):
            stack.enter_context(
                bursts.second_scheduler(cloud, user, f"controller-{number}")
            )
        yield


def _measure(
    cloud: control.Cloud,
    user: users.User,
    burst: Burst,
    controllers: int,
    args: argparse.Namespace,
    result: report.Report,
) -> None:
    """Repeat one burst and add a row."""
    bursts.fill(user, burst.fillers)
    outcomes = []
    for number in range(args.rounds):
        outcome = _do_round(cloud, user, burst)
        outcomes.append(outcome)
        _say(
            f"{burst.name}, {controllers} controllers, round {number + 1}:"
            f" {outcome.refused} refused, {outcome.false} of them falsely,"
            f" {outcome.claims} claims, {outcome.seconds:.0f} s"
            f"{''.join(f'; {fault}' for fault in sorted(outcome.faults))}"
        )
    asked = len(burst.sizes) * args.rounds
    false = sum(outcome.false for outcome in outcomes)
    result.rows.append(
        {
            "controllers": controllers,
            "burst": burst.name,
            "asked": asked,
            "refused": sum(outcome.refused for outcome in outcomes),
            "false": false,
            "claims": sum(outcome.claims for outcome in outcomes) / asked,
            "seconds": statistics.median(o.seconds for o in outcomes),
        }
    )
    if false:
        result.errors.append(
            f"{burst.name}, {controllers} controllers: {false} refused falsely"
        )
    assert user.delete(user.servers(), _PATIENCE_SECONDS) == []
    conftest.assert_nothing_held(cloud)


def _do_round(cloud: control.Cloud, user: users.User, burst: Burst) -> Outcome:
    """Ask for the servers, count, and delete them again.

    :raises AssertionError: a GPU has two servers, or servers and GPUs are not
        the same in Nova, Placement and libvirt.
    """
    log = cloud.processes.log("placement")
    start, begin = log.stat().st_size, time.monotonic()
    uuids = user.boot_at_once([bootstrap.flavor(size) for size in burst.sizes])
    asked = {
        uuid: size
        for uuid, size in zip(uuids, burst.sizes, strict=True)
        if uuid is not None
    }
    assert len(asked) == len(burst.sizes), "the API did not take all servers"
    servers = user.settle(asked, patience_seconds=_PATIENCE_SECONDS)
    seconds = time.monotonic() - begin
    claims = bursts.count_claims(log, start)
    failed = {s["id"] for s in servers if s["status"] != "ACTIVE"}
    # The last allocations of what has failed go after the server has.
    assert waiting.until(lambda: views.look(cloud).disagreements() == [])
    outcome = Outcome(
        len(failed),
        bursts.count_false(
            [asked[uuid] for uuid in failed],
            bursts.count_free(views.look(cloud)),
        ),
        claims,
        seconds,
        frozenset(user.fault(uuid) for uuid in failed),
    )
    assert user.delete(asked, _PATIENCE_SECONDS) == []
    # A server is gone before its allocations are.
    held = sum(gpus for _, gpus in burst.fillers)
    assert waiting.until(
        lambda: bursts.held_everywhere(cloud) == [held] * 4
    ), bursts.held_everywhere(cloud)
    return outcome


def _make_report(args: argparse.Namespace) -> report.Report:
    return report.Report(
        f"Servers with GPUs asked for at once, {args.rounds} rounds,"
        f" {args.workers} workers of nova-scheduler a controller",
        {
            "controllers": "controllers",
            "burst": "burst",
            "asked": "servers",
            "refused": "refused",
            "false": "of them falsely",
            "claims": "claims a server",
            "seconds": "median s a round",
        },
        notes=(
            "Five hosts with eight GPUs, of which other servers have all that"
            " a burst does not need; mixed: 12 servers with one GPU,",
            "6 with two and 4 (2) with four. Falsely: a host had enough free"
            " GPUs when all had settled. Claims: writes in Placement's log.",
        ),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cloud",
        description="Bursts of servers on real services, counted.",
    )
    parser.add_argument(
        "--rounds", type=_natural, default=10, help="of each burst (10)"
    )
    parser.add_argument(
        "--controllers",
        type=_natural,
        nargs="+",
        default=[1, 2],
        metavar="N",
        help="run all bursts with so many nova-scheduler services (1 2)",
    )
    parser.add_argument(
        "--workers",
        type=_natural,
        default=8,
        help="of each nova-scheduler (8)",
    )
    parser.add_argument(
        "--burst",
        action="append",
        choices=[burst.name for burst in BURSTS],
        help="only this one; may be given several times",
    )
    return parser


def _natural(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
