# SPDX-License-Identifier: Apache-2.0

"""Which domain of libvirt has which device.

A connection that only reads suffices. Events only shorten the time until the
next pass: each pass reads everything, so that a lost event does not matter.
"""

import abc
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import importlib
import logging
import subprocess
import threading
import time
from typing import Any
from typing import Final
from xml.etree import ElementTree

from nova_gpu_filter.agent import errors
from nova_gpu_filter.host import address as address_lib

LOG = logging.getLogger(__name__)

_SECONDS: Final = 60
"""How long virsh may take to answer."""
_PAUSE: Final = 10
"""Seconds after an error of the loop of events."""


class Domains(abc.ABC):
    """What can say which domains have devices.

    Each method raises :class:`errors.CannotRead` where libvirt does not
    answer.
    """

    def read_holders(self) -> dict[str, str]:
        """Read who has devices: PCI address -> UUID of the domain."""
        return {
            address: uuid
            for uuid, addresses in self._read(only_running=False).items()
            for address in addresses
        }

    def read_running(self) -> dict[str, frozenset[str]]:
        """Read what runs: UUID of a domain -> its PCI addresses."""
        return self._read(only_running=True)

    @abc.abstractmethod
    def read_hostname(self) -> str:
        """Read the name by which Nova knows this compute node.

        It is that of libvirt (``get_available_nodes`` of
        nova/virt/libvirt/driver.py).
        """

    @abc.abstractmethod
    def _read(self, only_running: bool) -> dict[str, frozenset[str]]:
        """Read UUID of a domain -> its PCI addresses."""


def parse_hostdevs(xml: str) -> Iterator[str]:
    """Read which PCI devices a domain has, interfaces of VFs included.

    :raises CannotRead: it is no XML of a domain.
    """
    try:
        root = ElementTree.fromstring(xml)  # noqa: S314 - libvirt wrote it
    except (ElementTree.ParseError, ValueError) as error:
        # The second: halves of surrogate pairs, which no encoding has.
        raise errors.CannotRead(
            source="libvirt, XML of a domain", error=error
        ) from error
    for device in root.iterfind("./devices/*"):
        kind = (device.tag, device.get("type"))
        if kind in (("hostdev", "pci"), ("interface", "hostdev")):
            for place in device.iterfind("./source/address"):
                yield from _read_address(place)


def _read_address(place: ElementTree.Element) -> Iterator[str]:
    numbers = (
        int(place.get(name, "0"), 0)
        for name in ("domain", "bus", "slot", "function")
    )
    try:
        yield str(address_lib.PciAddress(*numbers))
    except ValueError:
        LOG.warning("libvirt has no PCI address: %s", place.attrib)


class Libvirt(Domains):
    """Asks libvirt by its Python binding."""

    def __init__(self, uri: str, libvirt: Any) -> None:
        """Connect with the first question.

        :param libvirt: the module ``libvirt``.
        """
        self._uri = uri
        self._libvirt = libvirt
        self._connection: Any = None
        self._lock = threading.Lock()
        self._on_event: Callable[[], None] | None = None

    def _read(self, only_running: bool) -> dict[str, frozenset[str]]:
        flags = 0
        if only_running:
            flags = self._libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE

        found = {}
        with self._connect() as connection:
            for domain in connection.listAllDomains(flags):
                try:
                    xml = domain.XMLDesc()
                except self._libvirt.libvirtError as error:
                    code = error.get_error_code()
                    if code == self._libvirt.VIR_ERR_NO_DOMAIN:
                        # It has gone since it was listed.
                        continue
                    raise
                found[domain.UUIDString()] = frozenset(parse_hostdevs(xml))
        return found

    def read_hostname(self) -> str:
        with self._connect() as connection:
            return str(connection.getHostname())

    @contextlib.contextmanager
    def _connect(self) -> Iterator[Any]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                yield self._connection
            except self._libvirt.libvirtError as error:
                # It may have been restarted: connect anew next time.
                self._connection = None
                raise errors.CannotRead(
                    source=f"libvirt ({self._uri})", error=error
                ) from error

    def _open(self) -> Any:
        connection = self._libvirt.openReadOnly(self._uri)
        if self._on_event is not None:
            on_event = self._on_event
            # A server that is suspended gives its devices back, and gets them
            # again, while its domain is running (suspend and resume of
            # nova/virt/libvirt/driver.py).
            for event in (
                self._libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                self._libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
                self._libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
            ):
                connection.domainEventRegisterAny(
                    None, event, lambda *_details: on_event(), None
                )
            connection.setKeepAlive(5, 3)
        return connection

    def watch(self, on_event: Callable[[], None]) -> None:
        """Call a function, in another thread, when a domain changes.

        To be called before the first question.
        """
        self._libvirt.virEventRegisterDefaultImpl()
        self._on_event = on_event

        def run() -> None:
            while True:
                try:
                    self._libvirt.virEventRunDefaultImpl()
                except self._libvirt.libvirtError:
                    LOG.exception("Events of libvirt cannot be read")
                    time.sleep(_PAUSE)

        threading.Thread(target=run, name="libvirt", daemon=True).start()


class Virsh(Domains):
    """Asks libvirt by its command, where the Python binding is missing."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def _read(self, only_running: bool) -> dict[str, frozenset[str]]:
        listing = (
            ("list", "--uuid") if only_running else ("list", "--all", "--uuid")
        )
        found = {}
        for uuid in self._ask(*listing).split():
            try:
                xml = self._ask("dumpxml", uuid)
            except errors.CannotRead:
                if uuid not in self._ask(*listing).split():
                    # It has gone since it was listed.
                    continue
                raise
            found[uuid] = frozenset(parse_hostdevs(xml))
        return found

    def read_hostname(self) -> str:
        return self._ask("hostname").strip()

    def _ask(self, *arguments: str) -> str:
        command = ("virsh", "--readonly", "--connect", self._uri, *arguments)
        try:
            done = subprocess.run(  # noqa: S603
                command,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise errors.CannotRead(
                source=" ".join(command), error=error
            ) from error
        if done.returncode:
            raise errors.CannotRead(
                source=" ".join(command),
                error=" ".join(done.stderr.split())
                or f"it ended with {done.returncode}",
            )
        return done.stdout


def connect(uri: str) -> Domains:
    """Choose how to ask libvirt, by what is installed."""
    try:
        libvirt = importlib.import_module("libvirt")
    except ImportError:
        LOG.info("libvirt-python is not installed: virsh is asked instead")
        return Virsh(uri)
    # It prints each error to standard error otherwise.
    libvirt.registerErrorHandler(lambda *_error: None, None)
    return Libvirt(uri, libvirt)
