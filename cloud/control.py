# SPDX-License-Identifier: Apache-2.0

"""A cloud as a whole: start it, change it, end it."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from concurrent import futures
import contextlib
import json
import pathlib
import shutil
import time

from cloud import bootstrap
from cloud import configs
from cloud import files
from cloud import processes
from cloud import services
from cloud import state as states
from nova_gpu_filter.host.configuration import common_aliases
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.configuration import naming
from nova_gpu_filter.host.saved import inventory_json

INVENTORIES = pathlib.Path(__file__).parent / "hosts"
HGX_H100 = INVENTORIES / "hgx-h100.json"
GRID_K2 = INVENTORIES / "grid-k2.json"
HOSTS = {"hgx-1": HGX_H100, "hgx-2": HGX_H100}
"""What a cloud has unless other hosts are given."""

ALIASES = {"10de:2330": "h100", "10de:11bf": "a1"}
"""Short names for the devices of our own inventories."""

_STORES = ("mariadb", "epmd", "rabbitmq")

Report = Callable[[str], None]


class Cloud:
    """The services of a cloud and its configuration."""

    def __init__(
        self,
        directory: pathlib.Path | None = None,
        report: Report = lambda line: None,
    ) -> None:
        """Nothing is started yet.

        :param directory: what the cloud is known by; see
            :func:`cloud.state.default_directory`.
        :param report: is told of progress, a line a time.
        """
        self.state = states.State(directory or states.default_directory())
        self.files = configs.Configs(self.state)
        self.processes = processes.Processes(self.state)
        self.services = services.Services(self.state, self.files)
        self.bootstrap = bootstrap.Bootstrap(
            self.state, self.files, self.processes
        )
        self._report = report

    # The whole of it.

    @property
    def dead(self) -> list[str]:
        """Names of the processes that should run and do not."""
        return [
            name
            for name in self.processes.names
            if not self.processes.is_alive(name)
        ]

    @property
    def is_up(self) -> bool:
        """Whether it was started to the end, and all of it runs."""
        return bool(self.state.data.get("ready")) and not self.dead

    def up(
        self,
        hosts: Mapping[str, pathlib.Path] = HOSTS,
    ) -> None:
        """Start a new cloud.

        What is left of an old one is ended and removed first.

        :param hosts: inventory files by compute host.
        :raises CloudError: something did not start; all of it is ended then,
            and the logs stay.
        """
        self.down()
        shutil.rmtree(self.state.logs, ignore_errors=True)
        self.state.create()
        # The flavors of a new cloud ask for the one of HGX H100.
        self.set_aliases([*hosts.values(), HGX_H100])
        self.files.write_all()
        try:
            self._start_all(hosts)
        except BaseException:
            self.down()
            raise
        files.write(self.state)
        self.state.data["ready"] = True
        self.state.save()

    def down(self) -> None:
        """End everything, last started first, and remove its data."""
        names = self.processes.names[::-1]
        if names:
            self._report(f"Ending {', '.join(names)} ...")
        # Those that lose nothing are not waited for long, and not for each
        # other; then those that they use.
        stores = [name for name in names if name in _STORES]
        self.processes.stop(
            *(name for name in names if name not in stores),
            patience_seconds=10,
        )
        for name in stores:
            self.processes.stop(name)
        for name in ("data", "etc"):
            shutil.rmtree(self.state.directory / name, ignore_errors=True)
        for name in (*files.NAMES, "state.json"):
            (self.state.directory / name).unlink(missing_ok=True)
        self.state.data = {}

    def _start_all(self, hosts: Mapping[str, pathlib.Path]) -> None:
        steps = self.bootstrap
        self._all(
            ("an empty database", steps.database_files),
            ("files of the queue", steps.queue_files),
        )
        self._all(
            ("mariadb", lambda: self.start("mariadb")),
            ("rabbitmq", self._start_queue),
        )
        self._all(
            ("keystone", self._start_keystone),
            ("tables of nova", steps.nova_tables),
            ("tables of neutron", steps.neutron_tables),
            ("tables of placement", steps.placement_tables),
            ("tables of glance", steps.glance_tables),
        )
        self._all(
            *(
                (name, lambda name=name: self.start(name))
                for name in (
                    "placement",
                    "nova-conductor",
                    "nova-api",
                    "neutron",
                    "glance",
                    "nova-scheduler",
                )
            )
        )
        self._all(
            *(
                (f"nova-compute on {host}", self._starter(host, inventory))
                for host, inventory in hosts.items()
            ),
            ("an image and flavors", steps.image_and_flavors),
        )
        self._all(("compute hosts in their cell", steps.discover_hosts))

    def _starter(
        self, host: str, inventory: pathlib.Path
    ) -> Callable[[], None]:
        return lambda: self.start_host(host, inventory)

    def _start_queue(self) -> None:
        self.start("epmd")
        self.start("rabbitmq")

    def _start_keystone(self) -> None:
        self.bootstrap.keystone_tables()
        self.start("keystone")
        # Nova's user must be there before the scheduler is.
        self.bootstrap.accounts()

    def _all(self, *steps: tuple[str, Callable[[], None]]) -> None:
        """Do steps side by side; report each, and the time it took.

        :raises CloudError: one of them failed; the first is reported.
        """

        def run(name: str, do: Callable[[], None]) -> None:
            begin = time.monotonic()
            do()
            self._report(f"{name}: {time.monotonic() - begin:.0f} s")

        with futures.ThreadPoolExecutor(len(steps)) as pool:
            doing = [pool.submit(run, *step) for step in steps]
            for done in futures.as_completed(doing):
                done.result()

    # Single services.

    def _service(self, name: str) -> services.Service:
        makers: dict[str, Callable[[], services.Service]] = {
            "mariadb": self.services.mariadb,
            "epmd": self.services.epmd,
            "rabbitmq": self.services.rabbitmq,
            "keystone": self.services.keystone,
            "glance": self.services.glance,
            "placement": self.services.placement,
            "neutron": self.services.neutron,
            "nova-api": self.services.nova_api,
            "nova-conductor": self.services.nova_conductor,
            "nova-scheduler": self.services.nova_scheduler,
        }
        if name in makers:
            return makers[name]()
        kind, _, host = name.partition("@")
        if kind == "nova-scheduler":
            return self.services.nova_scheduler(host)
        return self.services.nova_compute(host)

    def start(
        self, name: str, service: services.Service | None = None
    ) -> None:
        """Start a service and wait until it is ready.

        :param name: ``nova-api``, ``nova-compute@hgx-1`` and so on.
        :param service: another way to start it than the usual one.
        :raises CloudError: it did not get ready.
        """
        service = service or self._service(name)
        self.processes.start(name, service.argv, service.env)
        self.wait(name)

    def wait(self, name: str) -> None:
        """Wait until a service that was started is ready.

        The workers of nova-scheduler have a connection to Placement from
        before the fork, and read each other's answers until the web server
        closes it. That is Nova's.
        """
        self.processes.wait(name, self._service(name).is_ready)
        if name.startswith("nova-scheduler"):
            time.sleep(services.KEEPALIVE_SECONDS + 1)

    def restart(self, *names: str) -> None:
        """End services as ``systemctl`` does, and start them again."""
        self.processes.stop(*names)
        for name in names:
            service = self._service(name)
            self.processes.start(name, service.argv, service.env)
        for name in names:
            self.wait(name)

    # Compute hosts.

    def start_host(
        self,
        host: str,
        inventory: pathlib.Path,
        in_placement: bool = True,
        device_specs: str | None = None,
    ) -> None:
        """Start nova-compute on a new host, with devices of an inventory.

        :param in_placement: whether it reports them in Placement.
        :param device_specs: what to write in the place of what
            ``nova-gpu-host config`` writes.
        """
        self.write_host(host, inventory, in_placement, device_specs)
        self.start(f"nova-compute@{host}")

    def write_host(
        self,
        host: str,
        inventory: pathlib.Path,
        in_placement: bool = True,
        device_specs: str | None = None,
    ) -> None:
        """Write the files of a compute host; see :meth:`start_host`."""
        text = inventory.read_text()
        found = inventory_json.read(str(inventory), text)
        nova = self.files.path("nova")
        (nova / f"{host}.inventory.json").write_text(text)
        data = self.state.data_of(f"nova-{host}")
        (nova / f"{host}.conf").write_text(
            configs.render(
                {
                    "DEFAULT": {"host": host, "state_path": str(data)},
                    "oslo_concurrency": {"lock_path": str(data / "lock")},
                }
            )
        )
        (nova / f"{host}.pci.conf").write_text(
            device_specs or fragment.write(*found, self._offer(in_placement))
        )
        with self.state.lock:
            self.state.data["hosts"][host] = str(inventory)
            self.state.save()

    def remove_host(self, host: str) -> None:
        """End nova-compute on a host that has no servers, and forget it."""
        self.processes.stop(f"nova-compute@{host}")
        compute = bootstrap.connect(self.state).compute
        for service in compute.services(binary="nova-compute", host=host):
            compute.delete_service(service)
        with self.state.lock:
            self.state.data["hosts"].pop(host, None)
            self.state.save()

    def guests(self, host: str) -> dict[str, dict[str, str]]:
        """Read the domains that libvirt has on a host, by server UUID.

        :returns: ``name``, ``running`` and ``xml`` of each.
        """
        found = {}
        for path in (self.state.data_of("guests") / host).glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                found[path.stem] = json.loads(path.read_text())
        return found

    def set_aliases(self, inventories: Iterable[pathlib.Path]) -> None:
        """Have the aliases of some hosts in nova.conf when it is next written.

        An alias that no host has the devices of is drift.
        """
        found = [
            inventory_json.read(str(path), path.read_text())
            for path in dict.fromkeys(inventories)
        ]
        made, _hosts = common_aliases.make_aliases(
            found, self._offer(True), None
        )
        self.state.data["aliases"] = [json.dumps(alias) for alias in made]
        self.state.save()

    @staticmethod
    def _offer(in_placement: bool) -> fragment.Options:
        return fragment.Options(
            names=naming.Choices(aliases=ALIASES),
            report_in_placement=in_placement,
        )
