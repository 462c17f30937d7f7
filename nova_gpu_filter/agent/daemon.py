# SPDX-License-Identifier: Apache-2.0

"""The daemon: makes everything from the options, and passes until it ends."""

from collections.abc import Sequence
from concurrent import futures
import fcntl
import logging
import os
import signal
import socket
import threading
from typing import IO
from typing import Any
from typing import Final

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from oslo_config import cfg

from nova_gpu_filter import exception
from nova_gpu_filter.agent import bus as bus_lib
from nova_gpu_filter.agent import cleaning
from nova_gpu_filter.agent import domains as domains_lib
from nova_gpu_filter.agent import errors
from nova_gpu_filter.agent import keeper as keeper_lib
from nova_gpu_filter.agent import ledger as ledger_lib
from nova_gpu_filter.agent import providers as providers_lib
from nova_gpu_filter.agent import requests as requests_lib
from nova_gpu_filter.agent.fabric import service as fabric_lib
from nova_gpu_filter.conf import gpu_agent
from nova_gpu_filter.fleet import api
from nova_gpu_filter.fleet import fabric_traits
from nova_gpu_filter.host import hook_programs
from nova_gpu_filter.nova_rules import conf_files

LOG = logging.getLogger(__name__)

DEFAULT_NOVA_CONF: Final = "/etc/nova/nova.conf"
_PLACEMENT: Final = "placement"
_FIRST_PAUSE: Final = 1.0
"""Seconds after a pass that failed; doubled up to the interval."""


def read_options(paths: Sequence[str]) -> Any:
    """Read the options, from nova.conf and files beside it.

    :returns: an oslo.config ``ConfigOpts``.
    :raises GpuFilterError: a file cannot be read, or an option is wrong.
    """
    conf = cfg.ConfigOpts()
    gpu_agent.register_opts(conf)
    # Those that Nova registers, with its defaults (nova/conf/utils.py).
    loading.register_session_conf_options(conf, _PLACEMENT)
    loading.register_auth_conf_options(conf, _PLACEMENT)
    loading.register_adapter_conf_options(conf, _PLACEMENT)
    conf.set_default("service_type", _PLACEMENT, group=_PLACEMENT)
    conf.set_default(
        "valid_interfaces", ["internal", "public"], group=_PLACEMENT
    )
    with conf_files.read_into(conf, paths):
        for name in conf.gpu_agent:
            # A value that is none is found now, and not in the night.
            getattr(conf.gpu_agent, name)
    return conf


def connect_placement(conf: Any) -> Any:
    """Make a keystoneauth adapter of ``[placement]``, as Nova does.

    :raises AgentError: there are no credentials.
    """
    try:
        auth = loading.load_auth_from_conf_options(conf, _PLACEMENT)
        session = loading.load_session_from_conf_options(
            conf, _PLACEMENT, auth=auth
        )
        adapter = loading.load_adapter_from_conf_options(
            conf, _PLACEMENT, session=session, auth=auth
        )
    except ksa_exceptions.ClientException as error:
        raise errors.AgentError(
            reason=f"[placement] of nova.conf: {error}"
        ) from error
    if auth is None and not conf.placement.endpoint_override:
        raise errors.AgentError(
            reason="nova.conf has no credentials for Placement: set"
            " [placement]auth_type, auth_url, username, password,"
            " project_name and the domains"
        )
    return adapter


class Daemon:
    """All parts of the agent, as the options say."""

    def __init__(
        self,
        conf: Any,
        adapter: Any,
        domains: domains_lib.Domains,
        root: str = "/",
        paths: Sequence[str] = (),
    ) -> None:
        """Open the ledger and the socket.

        :param adapter: a keystoneauth adapter of Placement.
        :param root: where the files of the host are.
        :param paths: configuration files, with ``[pci]device_spec``.
        :raises AgentError: another agent is running, the ledger or the
            socket cannot be made, or NVIDIA's tool is not where it should be.
        """
        options = conf.gpu_agent
        _check_tool(options.gpu_admin_tools)
        self._options = options
        self._domains = domains
        self._adapter = adapter
        self._root = root
        self._awake = threading.Event()
        self._ended = threading.Event()
        self._pool = futures.ThreadPoolExecutor(
            options.workers, thread_name_prefix="cleaning"
        )
        self._lock_file = self._lock(f"{options.ledger}.lock")
        self._ledger = ledger_lib.Ledger(options.ledger)
        if self._ledger.is_new:
            LOG.warning(
                "The ledger %s is new: devices that are reserved in Placement"
                " are quarantined, all others are cleaned",
                options.ledger,
            )
        self._said: str | None = None
        """Why the traits of the host were not set."""
        self.fabric: fabric_lib.Service | None = None
        if options.fabric_manager:
            self.fabric = fabric_lib.Service(
                options, paths, self._ledger, domains, self._awake.set, root
            )
        self._requests = requests_lib.Requests(self._awake.set, self.fabric)
        # Guests can start before Placement and libvirt have answered.
        self._server = requests_lib.Server(options.socket, self._requests)
        self._server.start()
        if self.fabric is not None:
            self.fabric.start()

    @staticmethod
    def _lock(path: str) -> IO[str]:
        """Make sure that no other agent has the same ledger."""
        try:
            os.makedirs(os.path.dirname(path) or ".", 0o700, exist_ok=True)
            file = open(path, "w", encoding="ascii")  # noqa: SIM115
        except OSError as error:
            raise errors.LedgerUnusable(
                path=path, error=error.strerror or error
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise errors.AgentError(
                reason=f"{path} is locked: another nova-gpu-agent is running"
            ) from error
        return file

    def _prepare(self) -> keeper_lib.Keeper:
        """Make what needs the name of this compute node.

        :raises CannotRead: libvirt does not answer.
        """
        options = self._options
        hostname = options.hypervisor_hostname or self._domains.read_hostname()
        LOG.info("This compute node is %s in Placement", hostname)
        has_hooks = cleaning.has_hooks(options.hooks)
        if not options.gpu_admin_tools and not has_hooks:
            LOG.warning(
                "Memory of devices is not cleared between two servers: set"
                " [gpu_agent]gpu_admin_tools, or have a hook do it in %s",
                os.path.join(options.hooks, hook_programs.BEFORE),
            )
        bus = bus_lib.Bus(self._root)
        placement = (self._adapter, "Placement", providers_lib.MICROVERSION)
        return keeper_lib.Keeper(
            self._ledger,
            providers_lib.Providers(
                api.make_getter(*placement),
                api.make_sender(*placement),
                hostname,
            ),
            self._domains,
            bus,
            cleaning.Cleaner(
                bus,
                hooks=options.hooks,
                hook_seconds=options.hook_timeout,
                tool_seconds=options.tool_timeout,
                settle_seconds=options.settle_timeout,
                corrected_errors=options.corrected_errors,
                gpu_admin_tools=options.gpu_admin_tools,
            ),
            submit=lambda clean: self._pool.submit(self._guard, clean),
            all_devices=options.devices == "all",
            reserve_in_use=options.reserve_in_use,
            corrected_errors=options.corrected_errors,
        )

    def _guard(self, clean: Any) -> None:
        try:
            clean()
        except Exception:
            LOG.exception("A cleaning failed")
        # What it has left is seen to at once.
        self._awake.set()

    def stop(self, *_signal: object) -> None:
        """End; cleanings that have begun are begun again next time."""
        self._ended.set()
        self._awake.set()

    def wake(self) -> None:
        """Have a pass made now."""
        self._awake.set()
        if self.fabric is not None:
            self.fabric.wake()

    def run(self) -> None:
        """Make passes until :meth:`stop`."""
        # That Placement or libvirt is away is no failure of the start.
        _notify_systemd("READY=1")
        pause = _FIRST_PAUSE
        while not self._ended.is_set():
            self._awake.clear()
            if self._make_pass():
                pause = _FIRST_PAUSE
                wait = self._options.interval
                _notify_systemd("STATUS=managing devices")
            else:
                wait = pause = min(pause * 2, self._options.interval)
                _notify_systemd("STATUS=nothing is changed, see the log")
            self._awake.wait(wait)
        self.close()

    def _make_pass(self) -> bool:
        try:
            keeper = self._requests.keeper
            if keeper is None:
                keeper = self._requests.keeper = self._prepare()
            is_done = keeper.run_once()
            if is_done and self.fabric is not None:
                self._set_traits(keeper, self.fabric)
            return is_done
        except exception.GpuFilterError as error:
            LOG.warning("Pass stopped: %s", error)
        except Exception:
            LOG.exception("A pass failed")
        return False

    def _set_traits(
        self, keeper: keeper_lib.Keeper, fabric: fabric_lib.Service
    ) -> None:
        """Say in Placement how the fabric of this host is."""
        try:
            wanted = fabric.name_traits(keeper.get_consumers())
            if keeper.placement.set_root_traits(wanted, fabric_traits.is_ours):
                shown = ", ".join(sorted(wanted)) or "none of the fabric"
                LOG.info("Traits of this host: %s", shown)
            self._said = None
        except exception.GpuFilterError as error:
            # They stay as they are, and devices are managed all the same.
            if self._said != str(error):
                LOG.warning("Traits of this host: %s", error)
            self._said = str(error)

    def close(self) -> None:
        """Give everything back."""
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        if self.fabric is not None:
            self.fabric.stop()
        self._pool.shutdown(cancel_futures=True)
        self._ledger.close()
        self._lock_file.close()


def _check_tool(path: str) -> None:
    """Find out now what would quarantine each GPU after its next use."""
    if path and not (os.path.isfile(path) and os.access(path, os.X_OK)):
        raise errors.AgentError(
            reason=f"[gpu_agent]gpu_admin_tools = {path}: it is no executable"
            " file; give the path of nvidia_gpu_tools.py, and chmod +x it"
        )


def _notify_systemd(text: str) -> None:
    """Send a state to systemd, where it has started us (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    if path.startswith("@"):
        path = f"\0{path[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        try:
            connection.sendto(text.encode(), path)
        except OSError as error:
            LOG.debug("systemd does not listen: %s", error)


def run(paths: Sequence[str]) -> None:
    """Run the daemon until a signal ends it.

    :raises AgentError: it cannot start.
    """
    conf = read_options(paths)
    domains = domains_lib.connect(conf.gpu_agent.libvirt_uri)
    daemon = Daemon(conf, connect_placement(conf), domains, paths=paths)
    if isinstance(domains, domains_lib.Libvirt):
        domains.watch(daemon.wake)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, daemon.stop)
    daemon.run()
