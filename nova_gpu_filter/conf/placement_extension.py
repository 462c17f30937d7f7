# SPDX-License-Identifier: Apache-2.0

"""Options of the group ``[gpu_filter]`` that the Placement API reads."""

from oslo_config import cfg

from nova_gpu_filter.conf import gpu_filter

placement_extension_group = cfg.OptGroup(
    "gpu_filter",
    title="GPU filter options of the Placement extension",
    help="""
How the Placement extension composes allocation candidates for requests with
many equal devices. Read by the Placement API where it runs
``nova_gpu_filter.placement.wsgi``, from placement.conf.
""",
)

placement_extension_opts = [
    cfg.IntOpt(
        "max_sets_per_tree",
        default=16,
        min=-1,
        help="""
How many allocation candidates the Placement extension gives for one provider
tree, that is, for one compute host.

Each has another set of devices: the best linked ones first, and among them
always sets that divide the free devices between several instances. Nova needs
more than one where several instances are created at once, or where a filter
such as NUMATopologyFilter refuses some of the sets. Placement alone gives as
many as there are: 1,680 for 4 of 8 devices.

There are more where that many would leave out a set of NUMA nodes that can
serve the request: a guest with NUMA topology can be tied to it. Nodes are
known by the traits that ``nova-gpu-host config`` writes. Of devices without
them every set is given, 70 for 4 of 8 devices, unless these are more than
1,000.

``-1``
  gives every set. An answer then grows with the number of sets, 12,870 for 8
  of 16 devices, up to the limit that Nova asks for.
``0``
  turns the extension off: Placement answers every request alone.
any other number
  gives so many. More cost time on hosts of which few can serve the
  request; with many hosts Nova's limit is divided between the hosts anyway.

Related options:

* ``[scheduler]max_placement_results`` in nova.conf: the limit that Nova asks
  for. Each host that can serve a request is in the answer as long as there
  are no more hosts than that.
* ``[placement]max_allocation_candidates`` bounds the answers of the extension,
  too, but each host keeps one candidate.
""",
    ),
    cfg.BoolOpt(
        "retry_allocation_writes",
        default=True,
        help="""
Send a write of allocations again as a whole when another request was faster.

Placement 13 to 16 tries such a write again within the same database
transaction, which does not see what the other request wrote: the same device
can then be given to several servers. With this option each try is a
transaction of its own, as many as
``[placement]allocation_conflict_retry_count`` says.

``False`` leaves these requests to Placement as it is. Do that only with a
Placement that has been repaired.
""",
    ),
    gpu_filter.request_mix_option,
]


def register_opts(conf):
    """Register the group and its options with ``conf``."""
    conf.register_group(placement_extension_group)
    conf.register_opts(
        placement_extension_opts, group=placement_extension_group
    )


def list_opts():
    """List the group for oslo-config-generator."""
    return [(placement_extension_group, placement_extension_opts)]
