# SPDX-License-Identifier: Apache-2.0

"""Options of the group ``[gpu_filter]``, read by nova-scheduler."""

import math

from oslo_config import cfg
from oslo_config import types

from nova_gpu_filter import exception

_DIGITS = 6
"""Of a number of devices in ``request_mix``, at most."""

gpu_filter_group = cfg.OptGroup(
    "gpu_filter",
    title="GPU filter options",
    help="""
How GpuPciPassthroughFilter decides which hosts and which of their devices can
serve a request. Read by nova-scheduler.
""",
)

request_mix_option = cfg.Opt(
    "request_mix",
    type=types.Dict(value_type=types.Float(min=0)),
    default={"1": 0.4, "2": 0.2, "4": 0.2, "8": 0.2},
    help="""
The request sizes to keep hosts ready for: pairs of a number of devices and a
weight, for example ``1:0.4,2:0.2,4:0.2,8:0.2``.

Device sets that are equally well linked are ordered by what they leave:
the fragmentation of a host is the number of its free devices that requests of
these sizes could not use, averaged with these weights. A size with weight 0,
or one that is not listed, is never kept free for. Weights need not sum to 1.
Give the shares of the sizes among the requests of your cloud.

nova-scheduler and, where it runs the extension, the Placement API read it,
each from its own configuration file: give both the same value.

Related options:

* ``[gpu_filter]pool_matcher`` in nova.conf must be ``topology`` for the choice
  of devices.
* ``[filter_scheduler]gpu_fragmentation_weight_multiplier`` weighs hosts by
  the same measure.
""",
)

gpu_filter_opts = [
    cfg.StrOpt(
        "pool_matcher",
        default="topology",
        help="""
The pool matcher: what decides which allocation candidates of a host its free
PCI devices can serve, and in which order Nova should try them.

``topology``
  accepts what ``nova`` accepts, refuses candidates that violate a required
  ``gpu:link`` of the flavor, and puts the best linked set of devices first,
  which is the one that the server gets. Where devices have no ``gpu_links``
  tag it goes by their NUMA nodes. It can choose only with
  ``[filter_scheduler]pci_in_placement``; without it nova-compute takes any.
``nova``
  gives the same answers as Nova's own PciPassthroughFilter, in the same
  order, faster. It ignores ``gpu:link``.

Other packages can add matchers as entry points in the namespace
``nova_gpu_filter.pool_matchers``. The name of a matcher that is not installed
or cannot be loaded stops nova-scheduler when it starts, with an error that
names the installed ones.

Related options:

* ``[filter_scheduler]enabled_filters`` must contain
  ``GpuPciPassthroughFilter``, or this option has no effect.
* ``[filter_scheduler]available_filters`` must contain
  ``nova_gpu_filter.scheduler.filters.all_filters`` beside Nova's own
  ``nova.scheduler.filters.all_filters``.
""",
    ),
    request_mix_option,
    cfg.IntOpt(
        "candidates_to_try",
        default=64,
        min=0,
        help="""
How many claims a request may try before Nova gives up: the number of hosts,
and of further device sets on them, that the filter lists at most.

Nova claims one allocation candidate of a host, and then goes on to the next
host. Requests of one moment see the same devices as free; one that loses every
claim fails with "No valid host", though there are free devices. So the filter
lists each host again, once for each further set of devices, behind all hosts:
sets without common devices and then others, as many for each host. Where as
many hosts have passed, none is listed again. When Nova comes to one of them,
Placement is asked which devices of the host are free by then, and the best set
of these is claimed, or none where none is left. Such a question, and a lost
claim, take as long as a request to Placement. 0 turns it off.

Related options:

* ``[gpu_filter]pool_matcher`` must be ``topology``.
* ``[filter_scheduler]weight_classes`` must contain
  ``nova_gpu_filter.scheduler.weights.all_weighers``, of which
  ``GpuFurtherSetWeigher`` puts further sets behind all hosts.
* With ``[filter_scheduler]host_subset_size`` above the number of hosts that
  have passed, none is listed again.
""",
    ),
]

_MULTIPLIER_HELP = """
Positive numbers prefer such hosts, negative ones avoid them, 0 turns the
weigher off. The weights of each weigher are brought to the range 0 to 1,
multiplied and added, so the multiplier says how much this one counts beside
Nova's. This one gives the best host of a request 1 and the worst 0, in equal
steps between, and all hosts the same for requests without devices.

The aggregate metadata key ``%(name)s`` overrides it for the hosts of an
aggregate; with several aggregates the least value is used.

Related options:

* ``[filter_scheduler]weight_classes`` must contain
  ``nova_gpu_filter.scheduler.weights.all_weighers`` beside
  ``nova.scheduler.weights.all_weighers``.
* ``[filter_scheduler]pci_weight_multiplier`` weighs hosts by their number of
  free PCI devices alone.
"""

filter_scheduler_opts = [
    cfg.FloatOpt(
        "gpu_fragmentation_weight_multiplier",
        default=200.0,
        help="""
Multiplier of GpuFragmentationWeigher, which prefers the host where the
request does the least damage: the one whose fragmentation
(``[gpu_filter]request_mix``) grows least, then the one where it takes least
from later requests for NVLink or fabric partitions, and among equals the one
with the fewest free devices. For flavors with ``gpu:spread`` it prefers the
host whose virtual functions are spread, or packed, best. With the default each
step counts more than the RAM, CPU and disk weighers of Nova together.
"""
        + _MULTIPLIER_HELP % {"name": "gpu_fragmentation_weight_multiplier"},
    ),
    cfg.FloatOpt(
        "gpu_topology_weight_multiplier",
        default=1000.0,
        help="""
Multiplier of GpuTopologyWeigher, which prefers the host whose best free set
of devices has the links that the flavor asks with ``gpu:link``: of requests
for ``nvlink`` or ``fabric`` the better the slowest pair, the better. Requests
without ``gpu:link``, or for one device, are not weighed.
"""
        + _MULTIPLIER_HELP % {"name": "gpu_topology_weight_multiplier"},
    ),
]


def register_opts(conf):
    """Register the options with ``conf``, those of the weighers beside
    Nova's own multipliers."""
    conf.register_group(gpu_filter_group)
    conf.register_opts(gpu_filter_opts, group=gpu_filter_group)
    conf.register_opts(filter_scheduler_opts, group="filter_scheduler")


def list_opts():
    """List groups and options for oslo-config-generator."""
    return [
        (gpu_filter_group, gpu_filter_opts),
        ("filter_scheduler", filter_scheduler_opts),
    ]


def read_request_mix(conf):
    """Read ``[gpu_filter]request_mix``.

    :returns: ((devices, weight), ...) by number of devices; weights sum to 1.
    :raises BadRequestMix: a size is no positive number, or no weight is
        above 0.
    """
    pairs = conf.gpu_filter.request_mix.items()
    mix = {}
    # oslo.config does not look into a dictionary that a program has set.
    for size, weight in sorted((str(key), str(one)) for key, one in pairs):
        if not size.isdecimal() or len(size) > _DIGITS or int(size) < 1:
            raise exception.BadRequestMix(
                problem=f"{size[:40]!r} is no number of devices"
            )
        try:
            number = float(weight)
        except ValueError:
            number = math.nan
        # Python reads "nan" and "inf" as numbers, too.
        if not 0 <= number < math.inf:
            raise exception.BadRequestMix(
                problem=f"{weight[:40]!r} is no weight"
            )
        if number:
            mix[int(size)] = number
    total = sum(mix.values())
    if not total:
        raise exception.BadRequestMix(problem="no weight is above 0")
    if math.isinf(total):
        raise exception.BadRequestMix(problem="the sum of the weights is none")
    return tuple((size, mix[size] / total) for size in sorted(mix))
