# SPDX-License-Identifier: Apache-2.0

"""Why a host takes a server, or why not, and what would change that.

Every cause and every cure is tried in a copy of the host: what is named as a
cause keeps the server out, and with what is named as a cure it fits. What
Placement or another filter refuses before, our filter never sees.
"""

from collections.abc import Iterable
from collections.abc import Sequence

from nova_gpu_filter.fleet import causes
from nova_gpu_filter.fleet import cures as cures_
from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import holdings as holdings_
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet import verdict


def explain_host(
    host: model.Host,
    wanted: demand.Demand,
    holdings: Sequence[holdings_.Holding],
    gates: Sequence[verdict.Gate] = (),
) -> verdict.Verdict:
    """Explain one host.

    :param holdings: what others have of it.
    :param gates: what else refuses the server there.
    """
    servers = 0 if gates else host_fit.count_fitting(host, wanted)
    if servers:
        return verdict.Verdict(host.name, servers)
    opened = causes.open_host(host, wanted)
    openings = [*causes.list_obstacles(host, wanted), *gates]
    reasons = [opening.reason for opening in openings]
    if host_fit.fits(opened, wanted):
        return verdict.Verdict(
            host.name, 0, tuple(reasons), cures=_sort_cures(openings, [None])
        )
    others = cures_.list_other_flavors(opened, wanted)
    empty = causes.make_empty(opened)
    if not host_fit.fits(empty, wanted):
        return verdict.Verdict(
            host.name,
            0,
            tuple(causes.describe_never(empty, wanted)),
            cures=_sort_cures(openings, others),
            can_fit=False,
        )
    reasons += causes.describe_shortages(opened, wanted)
    ways = cures_.find_ways(opened, wanted, holdings)
    return verdict.Verdict(
        host.name,
        0,
        tuple(reasons),
        tuple(cures_.name_blockers(opened, wanted, ways)),
        _sort_cures(openings, [*others, *cures_.list_ways(ways)]),
    )


def _sort_cures(
    openings: Sequence[verdict.Gate], cures: Iterable[verdict.Cure | None]
) -> tuple[verdict.Cure, ...]:
    """Put before each cure what has to change beside it."""
    before = [opening.cure for opening in openings]
    rank = sum(opening.rank for opening in openings)
    return tuple(
        sorted(
            verdict.Cure(
                rank + (cure.rank if cure else 0),
                cure.loss if cure else 0,
                " and ".join([*before, *([cure.text] if cure else [])]),
            )
            for cure in cures
        )
    )
