# SPDX-License-Identifier: Apache-2.0

"""Many servers at once: what a burst needs, and what is counted of it."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import pathlib
import re

from cloud import bootstrap
from cloud import control
from tests.cloud import user as users
from tests.cloud import views

GPUS = 8
"""Of each host."""

_CLAIM = re.compile(r'"PUT [^" ]*/allocations/[0-9a-f-]+" status: \d+')
"""A line of placement/requestlog.py: PUT is the scheduler's, DELETE and POST
are those of servers that end or move."""


def fill(user: users.User, fillers: Iterable[tuple[str, int]]) -> None:
    """Take GPUs away, as (host, GPUs), so that a burst finds just enough."""
    for number, (host, gpus) in enumerate(fillers):
        server = user.boot(f"filler-{number}", bootstrap.flavor(gpus), host)
        assert server["status"] == "ACTIVE", server


@contextlib.contextmanager
def second_scheduler(
    cloud: control.Cloud, user: users.User, host: str = "controller-2"
) -> Iterator[str]:
    """Run another nova-scheduler, with its workers, beside the first.

    :param host: the controller it is on, by name.
    """
    name = f"nova-scheduler@{host}"
    cloud.start(name)
    try:
        yield name
    finally:
        cloud.processes.stop(name)
        for service in user.compute.services(host=host):
            user.compute.delete_service(service)


def held_everywhere(cloud: control.Cloud) -> list[int]:
    """Count held GPUs in Nova, its pools, Placement and libvirt."""
    view = views.look(cloud)
    return [
        len(view.nova),
        len(view.states) - view.pools,
        len(view.placement),
        len(view.libvirt),
    ]


def count_free(view: views.View) -> dict[str, int]:
    """Count the GPUs of each host that no server has."""
    free: dict[str, int] = {}
    for host, address in view.states:
        is_free = (host, address) not in view.nova
        free[host] = free.get(host, 0) + is_free
    return free


def count_false(refused: Iterable[int], free: Mapping[str, int]) -> int:
    """Count servers that were refused although they fit.

    :param refused: how many GPUs each of them asked for.
    :param free: host -> free GPUs after all others have settled.
    """
    left = dict(free)
    found = 0
    for gpus in sorted(refused, reverse=True):
        # The fullest that will do, as larger ones are counted already.
        fits = [host for host, some in left.items() if some >= gpus]
        if fits:
            left[min(fits, key=left.__getitem__)] -= gpus
            found += 1
    return found


def count_claims(log: pathlib.Path, start: int) -> int:
    """Count what was written for claims, from some byte of Placement's log.

    A claim that lost a race within Placement is there once for each try.
    """
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    return len(_CLAIM.findall(text))
