# SPDX-License-Identifier: Apache-2.0

"""What the XML of a libvirt domain says of PCI devices."""

from lxml import etree


def hostdevs(xml: str) -> list[str]:
    """List the PCI addresses of the devices that a domain is given.

    :returns: ``dddd:bb:ss.f`` each, in the order of the XML; an address that
        stands there twice is listed twice.
    """
    found = []
    for source in etree.fromstring(xml).findall(
        "devices/hostdev/source/address"
    ):
        domain, bus, slot, function = (
            int(source.get(part), 16)
            for part in ("domain", "bus", "slot", "function")
        )
        found.append(f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}")
    return found
