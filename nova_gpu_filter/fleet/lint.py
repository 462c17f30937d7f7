# SPDX-License-Identifier: Apache-2.0

"""What is wrong with a flavor for GPUs, and the image that goes with it."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
import re

from oslo_utils import strutils

from nova_gpu_filter.fleet import demand
from nova_gpu_filter.fleet import errors
from nova_gpu_filter.fleet import fabric_traits
from nova_gpu_filter.fleet import flavor_resources
from nova_gpu_filter.fleet import guest_memory
from nova_gpu_filter.fleet import host_fit
from nova_gpu_filter.fleet import image_needs
from nova_gpu_filter.fleet import linked_devices
from nova_gpu_filter.fleet import memory_encryption
from nova_gpu_filter.fleet import model
from nova_gpu_filter.fleet.flavor_problem import FlavorProblem
from nova_gpu_filter.nova_rules import extra_specs
from nova_gpu_filter.nova_rules.alias import Alias
from nova_gpu_filter.severity import Severity
from nova_gpu_filter.topology import policy
from nova_gpu_filter.topology.links import Requirement
from nova_gpu_filter.topology.topology import make_mask


@dataclasses.dataclass(frozen=True)
class Question:
    """A flavor, and all that is known beside it."""

    flavor: model.Flavor
    aliases: Mapping[str, Alias]
    alias_source: str
    hosts: Sequence[model.Host] = ()
    products: Mapping[str, guest_memory.Product] = dataclasses.field(
        default_factory=dict
    )
    """What inventories of hosts say of devices, by UUID of the provider."""
    image: Mapping[str, str] | None = None
    """Properties of the image; None where no image was given."""


_CONSUMER = re.compile("geforce", re.IGNORECASE)


def check(question: Question) -> list[FlavorProblem]:
    """Find what is wrong with a flavor, errors first."""
    found = list(_check_without_devices(question))
    try:
        wanted = demand.calculate(
            question.flavor, question.aliases, question.alias_source
        )
    except errors.BadFlavor as exc:
        about = (
            key
            for key in question.flavor.extra_specs
            if exc.problem.startswith(f"{key} ")
        )
        found.append(
            FlavorProblem(
                Severity.ERROR, next(about, extra_specs.ALIAS_KEY), str(exc)
            )
        )
    else:
        specs, hosts = question.flavor.extra_specs, question.hosts
        image = question.image or {}
        found += flavor_resources.find_without_alias(specs, wanted, hosts)
        found += image_needs.find_host_problems(image, hosts)
        if wanted.devices:
            found += fabric_traits.find_problems(image, hosts)
        found += image_needs.find_video_problems(specs, image)
        found += flavor_resources.find_vgpu_problems(specs, hosts)
        if wanted.devices:
            found += _check_with_devices(question, wanted)
    order = list(Severity)
    return sorted(found, key=lambda finding: order.index(finding.severity))


def _check_without_devices(question: Question) -> Iterator[FlavorProblem]:
    specs = question.flavor.extra_specs
    if extra_specs.ALIAS_KEY in specs:
        return
    if policy.LINK_KEY in specs:
        yield FlavorProblem(
            Severity.WARNING,
            policy.LINK_KEY,
            f"has no effect without {extra_specs.ALIAS_KEY}",
        )
    yield from flavor_resources.find_spread_problems(specs, question.hosts)
    if specs.keys().isdisjoint(
        (policy.LINK_KEY, policy.SPREAD_KEY)
    ) and not flavor_resources.list_mediated(specs, question.hosts):
        yield FlavorProblem(
            Severity.NOTE,
            extra_specs.ALIAS_KEY,
            "the flavor asks for no device",
        )


def _check_with_devices(
    question: Question, wanted: demand.Demand
) -> Iterator[FlavorProblem]:
    specs = question.flavor.extra_specs
    yield from flavor_resources.find_twice(specs, wanted)
    yield from _check_counts(question.hosts, wanted)
    yield from _check_links(question.hosts, wanted)
    yield from _check_numa(question, wanted)
    yield from _check_consumer_cards(question, wanted)
    yield from _check_guest_memory(question, wanted)
    yield from memory_encryption.find_problems(specs, question.image or {})


def _check_counts(
    hosts: Sequence[model.Host], wanted: demand.Demand
) -> Iterator[FlavorProblem]:
    """Find aliases of which no host has enough devices, free or not."""
    if not hosts:
        return
    for asked in wanted.devices:
        most = max(
            sum(
                max(device.amount.capacity, device.amount.used)
                for device in host_fit.find_devices(host, asked).devices
            )
            for host in hosts
        )
        if most < asked.count:
            yield FlavorProblem(
                Severity.ERROR,
                extra_specs.ALIAS_KEY,
                f"{asked.alias.name}:{asked.count}, but no host has more than"
                f" {most} {asked.alias.resource_class}",
            )


def _check_links(
    hosts: Sequence[model.Host], wanted: demand.Demand
) -> Iterator[FlavorProblem]:
    link_policy, lead = wanted.link_policy, wanted.devices[0]
    if link_policy is None:
        return
    if lead.count == 1 and link_policy.link is not Requirement.FABRIC:
        yield FlavorProblem(
            Severity.NOTE,
            policy.LINK_KEY,
            f"one {lead.alias.name} has no links: every device will do",
        )
        return
    sizes: set[int] = set()
    for host in hosts:
        found = host_fit.find_devices(host, lead)
        sizes |= found.count_partitions().keys()
        if host_fit.count_sets(
            found.topology,
            found.topology.everything,
            lead.count,
            dataclasses.replace(link_policy, required=True),
        ):
            return
    if hosts:
        partitions = ""
        if link_policy.link is Requirement.FABRIC:
            shown = ", ".join(map(str, sorted(sizes)))
            partitions = (
                f"; fabric partitions have {shown} devices"
                if sizes
                else "; no host has fabric partitions"
            )
        yield FlavorProblem(
            Severity.ERROR if link_policy.required else Severity.WARNING,
            policy.LINK_KEY,
            f"no host has {lead.count} {lead.alias.name} with"
            f" {link_policy.link.value}, even with all of them free"
            f"{partitions}",
        )


def _check_numa(
    question: Question, wanted: demand.Demand
) -> Iterator[FlavorProblem]:
    """Find devices that must be on NUMA nodes too small for them."""
    specs = question.flavor.extra_specs
    lead = wanted.devices[0]
    numa_policy = specs.get(
        "hw:pci_numa_affinity_policy", lead.alias.numa_policy
    )
    nodes = _count_guest_nodes(specs)
    if numa_policy != "required" or nodes is None or not question.hosts:
        return
    known = False
    for host in question.hosts:
        found = host_fit.find_devices(host, lead)
        numbers = linked_devices.list_numa_nodes(found.devices)
        there = {number for number in numbers if number is not None}
        known = known or bool(there)
        for chosen in itertools.combinations(
            sorted(there), min(nodes, len(there))
        ):
            near = make_mask(
                bit for bit, n in enumerate(numbers) if n in chosen
            )
            if host_fit.count_sets(
                found.topology, near, lead.count, wanted.link_policy
            ):
                return
    if known:
        link = wanted.link_policy
        with_link = f" with gpu:link={link.link.value}" if link else ""
        yield FlavorProblem(
            Severity.ERROR,
            "hw:pci_numa_affinity_policy",
            f"required, with {nodes} guest NUMA node{'s' * (nodes > 1)}: no"
            f" host has {lead.count} {lead.alias.name}{with_link} on so few"
            " NUMA nodes; set preferred, or raise hw:numa_nodes",
        )


def _count_guest_nodes(specs: Mapping[str, str]) -> int | None:
    """Return how many NUMA nodes a guest has; None without NUMA topology.

    Some extra specs give it one though nobody asked for nodes
    (``numa_get_constraints`` in nova/virt/hardware.py).
    """
    text = specs.get("hw:numa_nodes", "")
    if text.isdigit():
        return int(text)
    implied = "hw:mem_page_size" in specs or specs.get("hw:cpu_policy") in (
        "dedicated",
        "mixed",
    )
    return 1 if implied else None


def _check_consumer_cards(
    question: Question, wanted: demand.Demand
) -> Iterator[FlavorProblem]:
    products = question.products
    names = {
        products[device.uuid].name or device.model
        if device.uuid in products
        else device.model
        for host in question.hosts
        for asked in wanted.devices
        for device in host_fit.find_devices(host, asked).devices
    }
    cards = sorted(filter(_CONSUMER.search, names))
    specs, image = question.flavor.extra_specs, question.image or {}
    hidden = (
        specs.get("hide_hypervisor_id"),
        specs.get("hw:hide_hypervisor_id"),
        image.get("img_hide_hypervisor_id"),
    )
    if cards and not any(map(strutils.bool_from_string, hidden)):
        yield FlavorProblem(
            Severity.WARNING,
            "hw:hide_hypervisor_id",
            f"{', '.join(cards)}: NVIDIA's drivers before 465 do not start in"
            " a guest on such cards unless the hypervisor is hidden; set it"
            " to true",
        )


def _check_guest_memory(
    question: Question, wanted: demand.Demand
) -> Iterator[FlavorProblem]:
    """Compare the address space of guests with what devices take of it."""
    total = 0
    for asked in wanted.devices:
        sizes = [
            question.products[device.uuid].bar_bytes
            for host in question.hosts
            for device in host_fit.find_devices(host, asked).devices
            if device.uuid in question.products
        ]
        if not sizes:
            yield FlavorProblem(
                Severity.NOTE,
                "hw:maxphysaddr_bits",
                f"how much address space {asked.alias.name} takes is not"
                " known: give the inventory of a host that has it with"
                " --inventory (nova-gpu-host inventory -f json)",
            )
            return
        total += max(sizes) * asked.count
    yield from guest_memory.find_problems(
        total,
        question.flavor.ram_mb << 20,
        question.flavor.extra_specs,
        question.image,
    )
