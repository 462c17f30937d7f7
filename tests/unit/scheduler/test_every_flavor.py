# SPDX-License-Identifier: Apache-2.0

"""Filter and weighers on whatever flavor Nova's own validators let through."""

import copy
import logging
import os
import random

import hypothesis
from hypothesis import strategies as st
from nova import objects
from nova.api.validation.extra_specs import validators
from nova.pci import request as pci_request
from nova.pci import stats
from nova.scheduler import host_manager
from nova.scheduler import weights
from nova.scheduler.filters import pci_passthrough_filter
from oslo_config import cfg
from oslo_config import fixture as config_fixture
from oslo_utils.fixture import uuidsentinel as uuids
import pytest

from nova_gpu_filter import conf
from nova_gpu_filter.scheduler.filters import gpu_pci_passthrough
from nova_gpu_filter.scheduler.weights import gpu_fragmentation
from nova_gpu_filter.scheduler.weights import gpu_topology
from nova_gpu_filter.topology import policy
from tests import machines
from tests import pools

ALIASES = [
    '{"name": "h100", "vendor_id": "10de", "product_id": "2330"}',
    '{"name": "nic", "vendor_id": "15b3", "product_id": "1021",'
    ' "numa_policy": "preferred"}',
    '{"name": "same", "vendor_id": "10de", "product_id": "2330",'
    ' "device_type": "type-PCI"}',
]
COUNTS = ("0", "00", "1", "2", "3", "4", "8", "9", "99", "9" * 30, "\u0663")
MACHINES = (
    machines.hgx_h100(),
    machines.hgx_h100_partitions(),
    machines.dgx1_v100(),
    machines.bridge_pairs_four_numa_nodes(),
)

flavors = st.fixed_dictionaries(
    {
        "pci_passthrough:alias": st.lists(
            st.tuples(
                st.sampled_from(("h100", "nic", "same")),
                st.sampled_from(COUNTS),
            ),
            min_size=1,
            max_size=3,
        ).map(lambda asked: ",".join(":".join(one) for one in asked)),
    },
    optional={
        "gpu:link": st.sampled_from(policy.LINK_VALUES),
        "gpu:link_policy": st.sampled_from(policy.LINK_POLICY_VALUES),
        "hw:pci_numa_affinity_policy": st.sampled_from(
            ("required", "preferred", "legacy", "socket")
        ),
    },
)


@pytest.fixture(scope="module")
def config():
    conf.register_opts(cfg.CONF)
    with config_fixture.Config(cfg.CONF) as fixture:
        fixture.config(group="pci", alias=ALIASES)
        yield


def host_states(choose, requests):
    """Make hosts with some free devices, and candidates of some of them."""
    hosts = []
    for number in range(3):
        name = f"host-{number}"
        state = host_manager.HostState(name, name, uuids.cell)
        state.uuid = getattr(uuids, name)
        machine = choose.choice(MACHINES)
        free = choose.sample(range(machine.n), choose.randint(0, machine.n))
        state.pci_stats = stats.PciDeviceStats(objects.NUMATopology(cells=[]))
        state.pci_stats.pools = pools.of(
            machine,
            sorted(free),
            in_placement=choose.random() < 0.7,
            count=choose.choice((1, 1, 1, 4)),
        )
        state.allocation_candidates = [
            {"mappings": mapping(choose, requests)}
            for _ in range(choose.randint(0, 4))
        ]
        hosts.append(state)
    return hosts


def mapping(choose, requests):
    """Give each device of each request a provider, as Placement would."""
    providers = [f"gpu{device}" for device in range(8)]
    choose.shuffle(providers)
    return {"": [uuids.root]} | {
        f"{asked.request_id}-{number}": [providers.pop()]
        for asked in requests
        for number in range(min(asked.count, 8))
        if providers
    }


@hypothesis.settings(
    deadline=None,
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "75")),
    # The same each time by themselves; "make fuzz" looks for others.
    derandomize="FUZZ_EXAMPLES" not in os.environ,
)
@hypothesis.given(
    flavors, st.randoms(use_true_random=False), st.sampled_from((0.0, 2.0))
)
@hypothesis.example(
    extra_specs={"pci_passthrough:alias": "h100:0"},
    choose=random.Random(1),
    multiplier=0.0,
)
def test_nothing_raises_and_nothing_is_accepted_that_stock_refuses(
    config, extra_specs, choose, multiplier
):
    for name, value in extra_specs.items():
        validators.validate(name, value)
    flavor = objects.Flavor(name="gpu", extra_specs=extra_specs)
    pci_requests = pci_request.get_pci_requests_from_flavor(flavor)
    spec_obj = objects.RequestSpec(
        instance_uuid=uuids.instance,
        flavor=flavor,
        scheduler_hints={},
        pci_requests=pci_requests,
    )
    cfg.CONF.set_override(
        "gpu_fragmentation_weight_multiplier", multiplier, "filter_scheduler"
    )
    hosts = host_states(choose, pci_requests.requests)
    stock = pci_passthrough_filter.PciPassthroughFilter()
    accepted = {h.host for h in stock.filter_all(copied(hosts), spec_obj)}

    errors = Errors()
    logging.getLogger().addHandler(errors)
    try:
        gpu_filter = gpu_pci_passthrough.GpuPciPassthroughFilter()
        passed = list(gpu_filter.filter_all(copied(hosts), spec_obj))
        for weighed in (passed, hosts):
            weights.HostWeightHandler().get_weighed_objects(
                [
                    gpu_fragmentation.GpuFragmentationWeigher(),
                    gpu_topology.GpuTopologyWeigher(),
                ],
                weighed,
                spec_obj,
            )
    finally:
        logging.getLogger().removeHandler(errors)

    assert errors.messages == []
    names = {state.host for state in passed}
    assert names <= accepted
    if not extra_specs.keys() & {"gpu:link", "gpu:link_policy"}:
        assert names == accepted


def copied(hosts):
    return copy.deepcopy(hosts)


class Errors(logging.Handler):
    """Keeps what is logged when something of ours fails."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.messages = []

    def emit(self, record):
        self.messages.append(self.format(record))
