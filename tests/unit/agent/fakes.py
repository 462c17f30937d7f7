# SPDX-License-Identifier: Apache-2.0

"""A libvirt for the tests, and what listens on the agent's socket."""

import contextlib
import json
import socket
import threading
import uuid


class Daemon:
    """Listens where nova-gpu-agent does, and answers as it is told."""

    def __init__(self, directory, answer=b""):
        """Listen.

        :param answer: the line that answers each question, also later ones.
        """
        self.path = str(directory / "agent.sock")
        self.answer = answer
        self.asked = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            connection, _ = self._socket.accept()
            with connection, connection.makefile("rwb") as file:
                self.asked.append(json.loads(file.readline()))
                # Who asks may have hung up.
                with contextlib.suppress(OSError):
                    file.write(self.answer)
                    file.flush()


class LibvirtError(Exception):
    """As libvirt.libvirtError."""

    def __init__(self, text, code=1):
        super().__init__(text)
        self._code = code

    def get_error_code(self):
        """Return the code."""
        return self._code


def domain_xml(*addresses):
    """Write the XML of a domain with PCI devices, as far as it is read."""
    devices = ""
    for address in addresses:
        domain, bus, rest = address.split(":")
        slot, function = rest.split(".")
        devices += (
            "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
            f"<address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}'"
            f" function='0x{function}'/></source></hostdev>"
        )
    return f"<domain type='kvm'><devices>{devices}</devices></domain>"


class Domain:
    """A domain."""

    def __init__(self, *addresses, xml=None):
        self.uuid = str(uuid.uuid4())
        self.xml = xml or domain_xml(*addresses)
        self.error = None
        self.is_active = True

    def XMLDesc(self):
        """Return its XML."""
        if self.error:
            raise self.error
        return self.xml

    def UUIDString(self):
        """Return its UUID."""
        return self.uuid


class Libvirt:
    """The module, and its one connection."""

    libvirtError = LibvirtError
    VIR_ERR_NO_DOMAIN = 42
    VIR_ERR_HOOK_SCRIPT_FAILED = 70
    VIR_DOMAIN_EVENT_ID_LIFECYCLE = 0
    VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED = 15
    VIR_DOMAIN_EVENT_ID_DEVICE_ADDED = 19
    VIR_CONNECT_LIST_DOMAINS_ACTIVE = 1

    def __init__(self, hostname="gpu-1"):
        self.domains = []
        self.is_away = False
        self.opened = 0
        self.callbacks = []
        self.hostname = hostname

    def openReadOnly(self, uri):
        """Connect."""
        self._answer()
        self.opened += 1
        self.uri = uri
        return self

    def listAllDomains(self, flags=0):
        """List the domains; with a flag those that run."""
        self._answer()
        return [one for one in self.domains if one.is_active or not flags]

    def getHostname(self):
        """Return the name of the host."""
        self._answer()
        return self.hostname

    def domainEventRegisterAny(self, _domain, _event, callback, _opaque):
        """Note who wants to know."""
        self.callbacks.append(callback)

    def setKeepAlive(self, _interval, _count):
        """Do nothing."""

    def virEventRegisterDefaultImpl(self):
        """Do nothing."""

    def virEventRunDefaultImpl(self):
        """Wait for an event that never comes."""
        threading.Event().wait()

    def _answer(self):
        if self.is_away:
            raise LibvirtError("no connection driver available")
