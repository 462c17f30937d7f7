# SPDX-License-Identifier: Apache-2.0

"""What nova-scheduler and nova-api load of us."""

from collections.abc import Iterator
from collections.abc import Sequence
from importlib import metadata

from nova.scheduler import filters
from nova.scheduler import weights

from nova_gpu_filter import conf as gpu_conf
from nova_gpu_filter import exception
from nova_gpu_filter.pools import loader
from nova_gpu_filter.status import results
from nova_gpu_filter.status.node import Node
from nova_gpu_filter.topology import policy

FILTER = "GpuPciPassthroughFilter"
STOCK_FILTER = "PciPassthroughFilter"
NUMA_FILTER = "NUMATopologyFilter"
ALL_FILTERS = "nova_gpu_filter.scheduler.filters.all_filters"
ALL_WEIGHERS = "nova_gpu_filter.scheduler.weights.all_weighers"
WEIGHERS = {
    "GpuFragmentationWeigher": "gpu_fragmentation_weight_multiplier",
    "GpuTopologyWeigher": "gpu_topology_weight_multiplier",
}
"""Our weighers, and the options of ``[filter_scheduler]`` that weigh them."""
FURTHER_SET_WEIGHER = "GpuFurtherSetWeigher"


def check_filter(node: Node) -> results.Result:
    """Look whether our filter is enabled, and load all as Nova does."""
    options = node.conf.filter_scheduler
    try:
        loaded = filters.HostFilterHandler().get_matching_classes(
            options.available_filters
        )
    except Exception as exc:  # whatever a module raises when it is imported
        return results.fail(
            f"[filter_scheduler]available_filters cannot be loaded, and"
            f" nova-scheduler does not start: {exc}"
        )
    enabled = options.enabled_filters
    available = {cls.__name__ for cls in loaded}
    missing = [name for name in enabled if name not in available]
    if missing:
        cure = (
            f"add the line available_filters = {ALL_FILTERS}"
            if FILTER in missing
            else "name what provides them in available_filters"
        )
        return results.fail(
            f"[filter_scheduler]enabled_filters names {', '.join(missing)},"
            f" which available_filters does not provide, and nova-scheduler"
            f" does not start: {cure}."
        )
    if FILTER in enabled:
        return results.succeed()
    if STOCK_FILTER in enabled:
        return results.warn(
            f"[filter_scheduler]enabled_filters has {STOCK_FILTER}, so Nova"
            f" decides without links: write {FILTER} in its place."
        )
    return results.fail(
        f"[filter_scheduler]enabled_filters has no {FILTER}: add it, or no"
        " host is refused for its PCI devices."
    )


def check_order(node: Node) -> results.Result:
    """Look at the place of our filter among those that look at devices."""
    enabled = list(node.conf.filter_scheduler.enabled_filters)
    if FILTER not in enabled:
        return results.does_not_apply(f"{FILTER} is not enabled.")
    return results.combine(_find_order_problems(enabled))


def _find_order_problems(enabled: list[str]) -> Iterator[results.Result]:
    if NUMA_FILTER in enabled[: enabled.index(FILTER)]:
        yield results.warn(
            f"[filter_scheduler]enabled_filters has {NUMA_FILTER} before"
            f" {FILTER}: put {FILTER} first, it is the cheaper of the two and"
            " leaves fewer candidates to the other."
        )
    if STOCK_FILTER in enabled:
        yield results.succeed(
            f"[filter_scheduler]enabled_filters also has {STOCK_FILTER}:"
            " harmless, but every host is asked twice, once the slow way;"
            " remove it."
        )


def check_weighers(node: Node) -> results.Result:
    """Look whether our weighers take part."""
    options = node.conf.filter_scheduler
    try:
        loaded = _load_weighers(options.weight_classes)
    except Exception as exc:  # whatever a module raises when it is imported
        return results.fail(
            f"[filter_scheduler]weight_classes cannot be loaded, and"
            f" nova-scheduler does not start: {exc}"
        )
    missing = [name for name in WEIGHERS if name not in loaded]
    if missing:
        return results.warn(
            f"[filter_scheduler]weight_classes is without"
            f" {' and '.join(missing)}, so hosts are compared by less than"
            f" they could be: add {ALL_WEIGHERS}."
        )
    return results.combine(
        results.succeed(f"[filter_scheduler]{name} is 0, which turns it off.")
        for name in WEIGHERS.values()
        if not options[name]
    )


def _load_weighers(paths: Sequence[str]) -> set[str]:
    """Load weighers as Nova does; return the names of the classes."""
    classes = weights.HostWeightHandler().get_matching_classes(paths)
    return {cls.__name__ for cls in classes}


def check_lost_claims(node: Node) -> results.Result:
    """Look whether a request that loses its claims tries other devices.

    See ``_add_views`` of the filter for what it takes.
    """
    options = node.conf.filter_scheduler
    if FILTER not in options.enabled_filters:
        return results.does_not_apply(f"{FILTER} is not enabled.")
    try:
        loaded = _load_weighers(options.weight_classes)
    except Exception:  # whatever a module raises when it is imported
        return results.does_not_apply(
            "weight_classes cannot be loaded, see above."
        )
    return results.combine(_find_lost_claims(node, loaded))


def _find_lost_claims(
    node: Node, weighers: set[str]
) -> Iterator[results.Result]:
    if FURTHER_SET_WEIGHER not in weighers:
        yield results.warn(
            "[filter_scheduler]weight_classes is without"
            f" {FURTHER_SET_WEIGHER}, so a server whose devices another one"
            " takes first may get \"No valid host\" though there are others:"
            f" add {ALL_WEIGHERS}."
        )
    if not node.conf.gpu_filter.candidates_to_try:
        yield results.succeed(
            "[gpu_filter]candidates_to_try is 0, which turns it off."
        )
    subset = node.conf.filter_scheduler.host_subset_size
    if subset > 1:
        yield results.succeed(
            f"[filter_scheduler]host_subset_size is {subset}: where fewer"
            " hosts have free devices, no other devices are tried after a lost"
            " claim, and where a later filter leaves fewer hosts, a server may"
            " get devices that are not the best of its host."
        )


def check_matcher(node: Node) -> results.Result:
    """Load the pool matcher, and read the mix of requests."""
    try:
        loader.load(node.conf.gpu_filter.pool_matcher)
        gpu_conf.request_mix(node.conf)
    except exception.GpuFilterError as exc:
        return results.fail(str(exc))
    return results.succeed()


def check_validators(node: Node) -> results.Result:
    """Look whether nova-api would find the validators of our extra specs.

    Nova's own registry of them is not asked: importing ``nova.api`` replaces
    the threads of a process in some releases.
    """
    group = "nova.api.extra_spec_validators"
    module = "nova_gpu_filter.scheduler.extra_spec_validators"
    points = metadata.entry_points(group=group)
    if any(point.value == module for point in points):
        return results.succeed()
    return results.fail(
        f"The package in this environment has no entry point in {group}, so"
        f" that nova-api takes every value of {policy.LINK_KEY} and"
        f" {policy.LINK_POLICY_KEY} in a flavor: install nova-gpu-filter"
        " again."
    )
