# SPDX-License-Identifier: Apache-2.0

"""Options of the group ``[gpu_filter]``, read by nova-scheduler."""

from oslo_config import cfg

gpu_filter_group = cfg.OptGroup(
    "gpu_filter",
    title="GPU filter options",
    help="""
How GpuPciPassthroughFilter decides which hosts and which of their devices can
serve a request. Read by nova-scheduler.
""",
)

gpu_filter_opts = [
    cfg.StrOpt(
        "pool_matcher",
        default="nova",
        help="""
The pool matcher: what decides which allocation candidates of a host its free
PCI devices can serve.

``nova``
  gives the same answers as Nova's own PciPassthroughFilter, faster.

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
]


def register_opts(conf):
    """Register the group and its options with ``conf``."""
    conf.register_group(gpu_filter_group)
    conf.register_opts(gpu_filter_opts, group=gpu_filter_group)


def list_opts():
    """List the group for oslo-config-generator."""
    return [(gpu_filter_group, gpu_filter_opts)]
