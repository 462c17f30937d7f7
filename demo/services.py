# SPDX-License-Identifier: Apache-2.0

"""Nova and Placement in this process, from the fixtures that they ship."""

from collections.abc import Sequence
import logging
import pathlib

from demo import threads  # noqa: F401

# isort: split

import fixtures
from nova import conf as nova_conf
from nova.pci import request as pci_request
from nova.tests.functional.libvirt import base
from oslo_config import fixture as config_fixture
from placement import deploy
from sqlalchemy import pool

from demo import connection_pool
from demo import nova_paths
from nova_gpu_filter.placement import extension

CONF = nova_conf.CONF


class Services(base.ServersTestBase):
    """API, scheduler, conductor, computes and Placement, on SQLite.

    Nova's fixtures come as the base class of a test, so this is one. It is
    never run: :meth:`start` does its setUp, :meth:`stop` its cleanups.
    """

    ADMIN_API = True
    microversion = "latest"
    # Nova's base class would add these to the filters of nova.conf.
    ADDITIONAL_FILTERS: Sequence[str] = []

    def __init__(
        self,
        nova_conf_files: Sequence[pathlib.Path],
        placement_conf_files: Sequence[pathlib.Path],
        log_handlers: Sequence[tuple[str, int, logging.Handler]],
        extend_placement: bool = False,
    ) -> None:
        """Nothing is started yet.

        :param log_handlers: (logger, level, handler) to attach as soon as
            there is something to be logged.
        :param extend_placement: whether Placement runs behind our extension.
        """
        super().__init__("runTest")
        self._nova_conf_files = nova_conf_files
        self._placement_conf_files = placement_conf_files
        self._log_handlers = log_handlers
        self._extend_placement = extend_placement
        self.domain_xml: dict[str, dict[str, str]] = {}
        """By host, then by server UUID: what the driver gave to libvirt."""

    def runTest(self) -> None:
        """Do nothing: unittest wants a test to have a method."""

    def start(self) -> None:
        """Start everything but the compute hosts.

        :raises Exception: what stopped a service; nothing runs then.
        """
        # First in, last out: some services log while they are stopped, when
        # Nova's own logging fixture is gone.
        self.useFixture(fixtures.LogHandler(logging.NullHandler()))
        # oslo.db asks for it where the database is a file of SQLite.
        self.useFixture(
            fixtures.MockPatchObject(
                pool, "NullPool", connection_pool.ConnectionPool
            )
        )
        if self._extend_placement:
            # Nova's fixture of Placement takes its WSGI application there.
            load = deploy.loadapp
            self.useFixture(
                fixtures.MockPatchObject(
                    deploy,
                    "loadapp",
                    lambda conf: extension.wrap(load(conf), conf),
                )
            )
        try:
            self.setUp()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything and give back what was patched."""
        self.doCleanups()

    def configure(self, nova_conf_files: Sequence[pathlib.Path]) -> None:
        """Read other nova.conf files, as services do when they start."""
        for path in nova_conf_files:
            # oslo.config only warns of a file that is not there.
            path.stat()
        self._conf_fixture.set_config_files([str(p) for p in nova_conf_files])
        pci_request.get_alias_from_config.cache_clear()

    def restart_scheduler(self) -> None:
        """Stop nova-scheduler and start it with the present options."""
        self.scheduler.stop()
        self.scheduler = self._setup_scheduler_service()

    def _setup_services(self) -> None:
        # Called by Nova's setUp after its own options are set and before the
        # first service reads them.
        for name, level, handler in self._log_handlers:
            handler.setLevel(level)
            self.useFixture(
                fixtures.LogHandler(handler, name=name, nuke_handlers=False)
            )
            if name:
                self.useFixture(_LoggerLevel(name, logging.DEBUG))
        self.flags(
            api_paste_config=str(nova_paths.api_paste_file()), group="wsgi"
        )
        # Nova parses the aliases once a process.
        self.addCleanup(pci_request.get_alias_from_config.cache_clear)
        self._conf_fixture = self.useFixture(config_fixture.Config(CONF))
        self.configure(self._nova_conf_files)
        self.placement.fixture.conf_fixture.set_config_files(
            [str(path) for path in self._placement_conf_files]
        )
        # Copying disks between hosts is not what is shown here, and Nova's
        # fake libvirt has none.
        self.useFixture(
            fixtures.MockPatch(
                "nova.virt.libvirt.driver.LibvirtDriver"
                ".migrate_disk_and_power_off",
                return_value="{}",
            )
        )
        # Where a device spec names an address, Nova looks in the sysfs of this
        # machine whether it is a physical function with virtual ones.
        self.useFixture(
            fixtures.MockPatch(
                "nova.pci.utils.is_physical_function", return_value=False
            )
        )
        super()._setup_services()

    def _get_connection(self, *args, hostname=None, **kwargs):
        # Called by Nova's start_compute, with the host name last.
        hostname = hostname or args[-1]
        connection = super()._get_connection(*args, **kwargs)
        written = self.domain_xml.setdefault(hostname, {})
        define_xml = connection.defineXML

        def record_and_define(xml: str):
            domain = define_xml(xml)
            written[domain.UUIDString()] = xml
            return domain

        connection.defineXML = record_and_define
        return connection


class _LoggerLevel(fixtures.Fixture):
    """Let a logger pass records from a level up, until cleaned up."""

    def __init__(self, name: str, level: int) -> None:
        super().__init__()
        self._logger = logging.getLogger(name)
        self._level = level

    def _setUp(self) -> None:
        self.addCleanup(self._logger.setLevel, self._logger.level)
        self._logger.setLevel(self._level)
