# SPDX-License-Identifier: Apache-2.0

"""How many more servers fit on a cloud, alone and as a mix.

See :mod:`host_fit` for what is counted.
"""

from collections.abc import Sequence
import dataclasses

from nova_gpu_filter.fleet import claims
from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import model


@dataclasses.dataclass(frozen=True)
class Capacity:
    """How many servers of one flavor fit."""

    wanted: demand.Demand
    by_host: tuple[tuple[str, int], ...]
    """(host, servers), by name; without the hosts on which none fits."""
    in_mix: int = 0
    """Servers of it when all flavors take turns, see :func:`count_mix`."""

    @property
    def servers(self) -> int:
        """Over the cloud, if nothing else is started."""
        return sum(number for _, number in self.by_host)


def count_servers(
    hosts: Sequence[model.Host], demands: Sequence[demand.Demand]
) -> list[Capacity]:
    """Count for each flavor, alone and as a mix of all of them."""
    found = []
    mixed = count_mix(hosts, demands)
    for wanted, in_mix in zip(demands, mixed, strict=True):
        numbers = (
            (host.name, host_fit.count_fitting(host, wanted)) for host in hosts
        )
        found.append(
            Capacity(
                wanted,
                tuple((name, number) for name, number in numbers if number),
                in_mix,
            )
        )
    return found


def count_mix(
    hosts: Sequence[model.Host], demands: Sequence[demand.Demand]
) -> list[int]:
    """Count the servers of each flavor when they come one of each in turn,
    those with most devices first.

    Each goes to a host that it fills best and takes the devices that our
    matcher would choose; a flavor that fits no more is left out of the turns.
    So it is what a scheduler with our weighers reaches, not the most that
    could be reached by moving servers.

    :returns: servers, in the order of the flavors.
    """
    counts = [0] * len(demands)
    hosts_left = list(hosts)
    # By flavor, the hosts that may still have room for it, fullest last.
    fitting = [
        sorted(
            (
                number
                for number, host in enumerate(hosts_left)
                if host_fit.count_fitting(host, wanted)
            ),
            key=lambda number: -_count_free_devices(hosts_left[number]),
        )
        for wanted in demands
    ]
    # In each turn the large ones first: they find the fewest places.
    open_ = sorted(
        range(len(demands)),
        key=lambda place: -sum(d.count for d in demands[place].devices),
    )
    while open_:
        for place in list(open_):
            if _place(hosts_left, fitting[place], demands[place]):
                counts[place] += 1
            else:
                open_.remove(place)
    return counts


def _place(
    hosts_left: list[model.Host], candidates: list[int], wanted: demand.Demand
) -> bool:
    """Put a server on the last candidate that has room for it; those that
    have none are no candidates any more."""
    while candidates:
        number = candidates[-1]
        if host_fit.count_fitting(hosts_left[number], wanted):
            try:
                hosts_left[number] = claims.add_server(
                    hosts_left[number], wanted
                )
            except ValueError:
                # What its aliases or groups share is enough for each only.
                pass
            else:
                return True
        candidates.pop()
    return False


def _count_free_devices(host: model.Host) -> int:
    return sum(device.is_free for device in host.devices)
