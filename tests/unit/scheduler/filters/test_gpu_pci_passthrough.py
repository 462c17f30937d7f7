# SPDX-License-Identifier: Apache-2.0

from importlib import metadata
import logging
from unittest import mock

from nova import objects
from nova.pci import stats
from nova.scheduler import filters
from nova.scheduler import host_manager
from nova.scheduler.filters import pci_passthrough_filter
from oslo_config import fixture as config_fixture
from oslo_utils.fixture import uuidsentinel as uuids
import pytest
from stevedore import extension

from nova_gpu_filter import conf
from nova_gpu_filter import exception
from nova_gpu_filter.pools import alike
from nova_gpu_filter.pools import matcher
from nova_gpu_filter.pools.matchers import nova
from nova_gpu_filter.scheduler.filters import gpu_pci_passthrough


@pytest.fixture
def gpu_filter():
    return gpu_pci_passthrough.GpuPciPassthroughFilter()


class FailingMatcher(matcher.PoolMatcher):
    def match(self, host, requests, mappings):
        raise ZeroDivisionError("of no use")


class ReversingMatcher(matcher.PoolMatcher):
    def match(self, host, requests, mappings):
        return matcher.Match([*range(len(mappings))][::-1])


@pytest.fixture
def filter_with(monkeypatch):
    """Make the filter with a matcher that is registered and configured."""
    conf.register_opts(gpu_pci_passthrough.CONF)
    with config_fixture.Config(gpu_pci_passthrough.CONF) as config:

        def make(value):
            point = metadata.EntryPoint("theirs", value, matcher.NAMESPACE)
            monkeypatch.setitem(
                extension.ExtensionManager.ENTRY_POINT_CACHE,
                matcher.NAMESPACE,
                [point],
            )
            config.config(group="gpu_filter", pool_matcher="theirs")
            return gpu_pci_passthrough.GpuPciPassthroughFilter()

        yield make


def host(name, free=0, candidates=(), pci_stats=None):
    """A host state with ``free`` H100, each its own provider gpu<n>."""
    state = host_manager.HostState(name, name, uuids.cell)
    state.pci_stats = pci_stats or stats.PciDeviceStats(
        objects.NUMATopology(cells=[]),
        objects.PciDevicePoolList(
            objects=[
                objects.PciDevicePool(
                    vendor_id="10de",
                    product_id="2330",
                    numa_node=0,
                    count=1,
                    tags={"dev_type": "type-PCI", "rp_uuid": f"gpu{index}"},
                )
                for index in range(free)
            ]
        ),
    )
    state.allocation_candidates = list(candidates)
    return state


def candidate(*rp_uuids):
    return {
        "mappings": {f"{uuids.req}-{n}": [u] for n, u in enumerate(rp_uuids)}
    }


def asking(count, **hints):
    return objects.RequestSpec(
        instance_uuid=uuids.instance,
        scheduler_hints=hints,
        pci_requests=objects.InstancePCIRequests(
            requests=[
                objects.InstancePCIRequest(
                    count=count,
                    request_id=uuids.req,
                    alias_name="h100",
                    spec=[{"vendor_id": "10de", "product_id": "2330"}],
                )
            ]
        ),
    )


def test_is_a_drop_in_for_the_stock_filter():
    stock = pci_passthrough_filter.PciPassthroughFilter
    ours = gpu_pci_passthrough.GpuPciPassthroughFilter
    assert ours.RUN_ON_REBUILD == stock.RUN_ON_REBUILD
    assert issubclass(ours, stock.__bases__)
    assert issubclass(ours, filters.CandidateFilterMixin)


@pytest.mark.parametrize(
    "pci_requests", [None, objects.InstancePCIRequests(requests=[])]
)
def test_a_request_without_devices_passes_every_host(gpu_filter, pci_requests):
    spec_obj = objects.RequestSpec(pci_requests=pci_requests)
    hosts = [host("a"), host("b", free=8)]
    assert gpu_filter.filter_all(hosts, spec_obj) == hosts
    assert gpu_filter.host_passes(hosts[0], spec_obj)


def test_keeps_the_candidates_that_the_pools_can_serve(gpu_filter):
    good = [candidate("gpu1", "gpu0"), candidate("gpu0", "gpu1")]
    state = host("a", free=2, candidates=[good[0], candidate("gpu7"), good[1]])
    assert gpu_filter.host_passes(state, asking(2))
    assert state.allocation_candidates == good


def test_a_refused_host_has_no_candidate_left(gpu_filter):
    state = host("a", free=2, candidates=[candidate("gpu6", "gpu7")])
    assert not gpu_filter.host_passes(state, asking(2))
    assert state.allocation_candidates == []


def test_rebuild_passes_without_asking(gpu_filter):
    spec_obj = asking(8, _nova_check_type=["rebuild"])
    assert gpu_filter.filter_all([host("a")], spec_obj) != []


def test_a_host_without_pci_statistics_is_refused(gpu_filter):
    state = host("a")
    state.pci_stats = None
    assert not gpu_filter.host_passes(state, asking(1))


def test_logs_one_summary_a_request_and_one_reason_a_host(gpu_filter, caplog):
    caplog.set_level(logging.DEBUG)
    without_devices = host("none", candidates=[candidate("gpu0")])
    without_devices.pci_stats = None
    hosts = [
        host("full", free=1, candidates=[candidate("gpu0", "gpu1")]),
        without_devices,
        host("fits", free=2, candidates=[candidate("gpu0", "gpu1")]),
    ]
    assert gpu_filter.filter_all(hosts, asking(2)) == [hosts[2]]
    info = [r.getMessage() for r in caplog.records if r.levelname == "INFO"]
    assert info == [
        "GpuPciPassthroughFilter: 1 of 3 hosts:"
        " 1 no PCI devices, 1 too few free devices"
    ]
    refused = [m for m in caplog.messages if "refused" in m]
    assert len(refused) == 2
    assert "full" in refused[0]
    assert "h100 asks for 2" in refused[0]


def test_no_summary_when_every_host_passes(gpu_filter, caplog):
    caplog.set_level(logging.INFO)
    gpu_filter.filter_all([host("a", 1, [candidate("gpu0")])], asking(1))
    assert caplog.messages == []


class TestStatisticsOfAnotherKind:
    """What is no plain PciDeviceStats may decide otherwise: it is asked."""

    class Strict(stats.PciDeviceStats):
        def support_requests(self, requests, provider_mapping, cells=None):
            return provider_mapping == candidate("gpu1")["mappings"]

    def test_are_asked_themselves(self, gpu_filter):
        candidates = [candidate("gpu0"), candidate("gpu1")]
        strict = self.Strict(objects.NUMATopology(cells=[]))
        state = host("a", candidates=candidates, pci_stats=strict)
        assert gpu_filter.host_passes(state, asking(1))
        assert state.allocation_candidates == candidates[1:]


class TestMatcher:
    def test_that_fails_makes_the_filter_ask_nova(self, filter_with, caplog):
        gpu_filter = filter_with(f"{__name__}:FailingMatcher")
        good = candidate("gpu0")
        state = host("a", free=1, candidates=[candidate("gpu5"), good])
        assert gpu_filter.host_passes(state, asking(1))
        assert state.allocation_candidates == [good]
        assert not gpu_filter.host_passes(host("b"), asking(1))
        assert "pool_matcher" in caplog.text

    def test_that_fails_is_blamed_on_those_who_provide_it(
        self, filter_with, caplog
    ):
        theirs = filter_with(f"{__name__}:FailingMatcher")
        theirs.host_passes(host("a"), asking(1))
        assert "The pool matcher 'theirs'" in caplog.text
        assert f"report this to the providers of {__name__}." in caplog.text

    def test_of_ours_that_fails_is_blamed_on_nobody_else(
        self, filter_with, caplog, monkeypatch
    ):
        ours = "nova_gpu_filter.pools.matchers.nova:NovaPoolMatcher"
        broken = filter_with(ours)
        monkeypatch.setattr(
            nova.NovaPoolMatcher, "match", FailingMatcher.match
        )
        broken.host_passes(host("a"), asking(1))
        assert "Please report this." in caplog.text

    def test_is_not_blamed_for_candidates_that_cannot_be_narrowed(
        self, gpu_filter, caplog, monkeypatch
    ):
        monkeypatch.setattr(
            alike,
            "keep_some_of_each_kind",
            mock.Mock(side_effect=ZeroDivisionError("of no use")),
        )
        candidates = [candidate("gpu0"), candidate("gpu7"), candidate("gpu1")]
        state = host("a", free=2, candidates=candidates)
        spec_obj = asking(1)
        spec_obj.numa_topology = objects.InstanceNUMATopology(cells=[])
        spec_obj.numa_topology.cells = [objects.InstanceNUMACell(id=0)]
        assert gpu_filter.host_passes(state, spec_obj)
        assert len(state.allocation_candidates) == 2
        assert "Candidates of (a, a)" in caplog.text
        assert "pool matcher" not in caplog.text

    def test_order_is_the_order_of_the_candidates(self, filter_with):
        gpu_filter = filter_with(f"{__name__}:ReversingMatcher")
        candidates = [candidate("gpu0"), candidate("gpu1")]
        state = host("a", free=2, candidates=candidates)
        assert gpu_filter.host_passes(state, asking(1))
        assert state.allocation_candidates == candidates[::-1]

    def test_that_is_missing_stops_the_scheduler_at_start(self):
        conf.register_opts(gpu_pci_passthrough.CONF)
        with config_fixture.Config(gpu_pci_passthrough.CONF) as config:
            config.config(group="gpu_filter", pool_matcher="novva")
            with pytest.raises(exception.PoolMatcherNotFound, match="novva"):
                gpu_pci_passthrough.GpuPciPassthroughFilter()
