# SPDX-License-Identifier: Apache-2.0

"""nova-scheduler and its Placement, each in a process of its own."""

import contextlib
import dataclasses
import functools
import gc
import inspect
import json
import multiprocessing
from multiprocessing import connection
import os
import pathlib
import threading
import time
from typing import Any
import uuid

from bench import damage
from bench import hgx_hosts
from bench import nova_hosts

_FOREVER_S = 10 * 365 * 86400
_NATIVE_THREADS = {
    "OS_NOVA_DISABLE_EVENTLET_PATCHING": "true",
    "OS_TEST_TIMEOUT": "0",
}
"""Both processes wait for pipes, which eventlet's hub does not see."""


@dataclasses.dataclass(frozen=True)
class Way:
    """How a cloud is asked."""

    name: str
    extends_placement: bool
    filter: str | None
    """In place of PciPassthroughFilter; None for no filter of PCI devices."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How requests of one kind went."""

    seconds: float
    placement_s: float
    """Of them in Placement."""
    covered: int
    """Hosts in Placement's answer."""
    damage: float
    best_damage: float
    """The least that any set of GPUs of any host does."""
    best_linked_damage: float
    """The least of those that are a whole fabric partition."""
    linked_percent: float
    """Servers that got one."""
    refused: str = ""
    """Why one of them was refused; all of them can be served."""


def _serve_placement(
    pipe: connection.Connection, way: Way, hosts: int
) -> None:
    """Answer over HTTP; on the pipe, say how much time was used so far."""
    os.environ |= _NATIVE_THREADS
    from wsgiref import simple_server

    from bench import placement as tuned
    from demo import threads  # noqa: F401
    from tests.functional.placement import service

    # Requests for one GPU are Placement's own in both.
    options = tuned.FAIR if way.extends_placement else tuned.TUNED

    class Quiet(simple_server.WSGIRequestHandler):
        def log_message(self, *_args: Any) -> None:
            pass

    def send_process_time() -> None:
        with contextlib.suppress(EOFError):
            while True:
                pipe.recv()
                pipe.send(time.process_time())

    with service.Placement(options) as placement:
        placement.replace_providers(hgx_hosts.list_providers(hosts))
        name = "ours" if way.extends_placement else "stock"
        server = simple_server.make_server(
            "127.0.0.1", 0, placement.applications[name], handler_class=Quiet
        )
        pipe.send(server.server_port)
        threading.Thread(target=send_process_time, daemon=True).start()
        server.serve_forever()


class Scheduler:
    """A scheduler and its Placement, in processes of their own."""

    def __init__(self, way: Way, hosts: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_run_scheduler, args=(theirs, way, hosts)
        )

    def __enter__(self) -> "Scheduler":
        self._process.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._pipe.close()
        self._process.join(60)
        self._process.kill()

    def ask(self, limit: int, k: int) -> Outcome:
        """Schedule a server of k GPUs."""
        self._pipe.send(("ask", limit, k))
        outcome: Outcome = self._pipe.recv()
        return outcome

    def grow(self, requests: int) -> tuple[float, float]:
        """Return the memory in MB before and after many requests."""
        self._pipe.send(("grow", requests))
        before, after = self._pipe.recv()
        return before, after


def _run_scheduler(pipe: connection.Connection, way: Way, hosts: int) -> None:
    os.environ |= _NATIVE_THREADS
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    placement = context.Process(
        target=_serve_placement, args=(theirs, way, hosts), daemon=True
    )
    placement.start()
    cloud = _Cloud(way, hosts, ours)
    try:
        with contextlib.suppress(EOFError):
            while True:
                what, *arguments = pipe.recv()
                pipe.send(getattr(cloud, what)(*arguments))
    finally:
        placement.kill()


class _Cloud:
    """Nova's database with hosts, and a scheduler that reads it."""

    def __init__(
        self, way: Way, hosts: int, placement: connection.Connection
    ) -> None:
        from demo import threads  # noqa: F401

        # isort: split

        from nova import context as nova_context
        from nova import test

        class Base(test.TestCase):
            def runTest(self) -> None:
                """Do nothing: unittest wants a test to have a method."""

        self._hosts, self._placement = hosts, placement
        self._base = Base("runTest")
        self._base.setUp()
        self._configure(way, placement.recv())
        self._context = nova_context.get_admin_context()
        nova_hosts.write_hosts(self._context, hosts)
        from nova.scheduler import manager

        self._manager = manager.SchedulerManager()
        # Without what oslo.messaging makes of exceptions.
        self._select_destinations = functools.partial(
            inspect.unwrap(manager.SchedulerManager.select_destinations),
            self._manager,
        )

    def _configure(self, way: Way, port: int) -> None:
        from nova import conf as nova_conf
        from oslo_config import cfg

        self._url = f"http://127.0.0.1:{port}"
        conf = nova_conf.CONF
        self._set = self._base.flags
        from keystoneauth1 import loading

        loading.register_auth_conf_options(conf, "placement")
        conf.register_opts(
            loading.get_auth_plugin_conf_options("admin_token"),
            group="placement",
        )
        self._set(
            group="placement",
            auth_type="admin_token",
            endpoint=self._url,
            token="admin",  # noqa: S106
            endpoint_override=self._url,
        )
        filters = [
            name
            for name in cfg.CONF.filter_scheduler.enabled_filters
            if not name.endswith("PciPassthroughFilter")
        ]
        self._set(
            group="filter_scheduler",
            pci_in_placement=True,
            track_instance_changes=False,
            available_filters=["nova.scheduler.filters.all_filters"]
            + (
                ["nova_gpu_filter.scheduler.filters.all_filters"]
                if way.extends_placement
                else []
            ),
            enabled_filters=[
                *filters,
                "NUMATopologyFilter",
                *([way.filter] if way.filter else []),
            ],
            weight_classes=["nova.scheduler.weights.all_weighers"]
            + (
                ["nova_gpu_filter.scheduler.weights.all_weighers"]
                if way.extends_placement
                else []
            ),
        )
        self._set(service_down_time=_FOREVER_S)
        alias = {"name": "h100", "resource_class": hgx_hosts.RESOURCE_CLASS}
        self._set(group="pci", alias=[json.dumps(alias)])

    def ask(self, limit: int, k: int) -> Outcome:
        """Schedule a server of k GPUs, and take it back."""
        self._set(group="scheduler", max_placement_results=limit)
        return self._schedule(k)

    def grow(self, requests: int) -> tuple[float, float]:
        """Return the memory in MB after a tenth of the requests, when all
        that is cached is there, and after all."""
        for number in range(requests):
            self._schedule(4)
            if number == requests // 10:
                before = _memory_mb()
        return before, _memory_mb()

    def _placement_s(self) -> float:
        self._placement.send("how much?")
        seconds: float = self._placement.recv()
        return seconds

    def _schedule(self, k: int) -> Outcome:
        from nova import exception

        spec_obj, uuid_ = self._request(k)
        covered: list[int] = []
        ask = self._manager.placement_client.get_allocation_candidates

        def count(*args: Any, **kwargs: Any) -> Any:
            answer = ask(*args, **kwargs)
            covered.append(
                len(
                    {
                        summary["root_provider_uuid"]
                        for summary in answer[1].values()
                    }
                )
            )
            return answer

        gc.collect()
        self._manager.placement_client.get_allocation_candidates = count
        placement_s, start = self._placement_s(), time.process_time()
        try:
            ((selection, *_),) = self._select_destinations(
                self._context,
                spec_obj=spec_obj,
                instance_uuids=[uuid_],
                return_objects=True,
                return_alternates=True,
            )
        except exception.NoValidHost as exc:
            return Outcome(0.0, 0.0, covered[-1], 0.0, 0.0, 0.0, 0.0, str(exc))
        finally:
            seconds = time.process_time() - start
            placement_s = self._placement_s() - placement_s
            self._manager.placement_client.get_allocation_candidates = ask
        self._take_back(uuid_)
        free, mask = self._chosen(selection)
        masks = set(hgx_hosts.place_servers(self._hosts))
        return Outcome(
            seconds + placement_s,
            placement_s,
            covered[-1],
            damage.measure(free, mask),
            min(damage.find_least(k, found, False) for found in masks),
            min(damage.find_least(k, found, True) for found in masks),
            100.0 * damage.is_linked(mask),
        )

    def _request(self, k: int) -> tuple[Any, str]:
        """Make what nova-api and nova-conductor make of a flavor."""
        from nova import objects
        from nova.pci import request as pci_request

        flavor = objects.Flavor(
            id=k,
            flavorid=str(k),
            name=f"h100.{k}",
            vcpus=hgx_hosts.VCPUS_A_GPU * k,
            memory_mb=hgx_hosts.RAM_MB_A_GPU * k,
            root_gb=10,
            ephemeral_gb=0,
            swap=0,
            vcpu_weight=0,
            rxtx_factor=1.0,
            disabled=False,
            is_public=True,
            description=None,
            extra_specs={"pci_passthrough:alias": f"h100:{k}"},
        )
        uuid_ = str(uuid.uuid4())
        return objects.RequestSpec.from_components(
            self._context,
            uuid_,
            objects.ImageMeta(properties=objects.ImageMetaProps()),
            flavor,
            None,
            pci_request.get_pci_requests_from_flavor(flavor),
            {},
            None,
            None,
            project_id="project",
            user_id="user",
        ), uuid_

    def _take_back(self, consumer: str) -> None:
        client = self._manager.placement_client
        client.delete_allocation_for_instance(
            self._context, consumer, force=True
        )

    def _chosen(self, selection: Any) -> tuple[int, int]:
        """Return which GPUs of the chosen host were free, and are claimed."""
        number = int(selection.nodename.rpartition("-")[2])
        claimed = json.loads(selection.allocation_request)["allocations"]
        mask = sum(
            1 << gpu
            for gpu in range(hgx_hosts.GPUS)
            if hgx_hosts.make_uuid(hgx_hosts.device_name(number, gpu))
            in claimed
        )
        return hgx_hosts.place_servers(self._hosts)[number], mask


def _memory_mb() -> float:
    gc.collect()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
