# SPDX-License-Identifier: Apache-2.0

"""``nova-gpu-host inventory`` and ``show``."""

from collections.abc import Callable
import json
import os

from nova_gpu_filter import exception
from nova_gpu_filter import sizes
from nova_gpu_filter.cmd.host import base
from nova_gpu_filter.cmd.host import command
from nova_gpu_filter.drawing import svg
from nova_gpu_filter.drawing import text
from nova_gpu_filter.host import hardware_picture
from nova_gpu_filter.host import link_matrix
from nova_gpu_filter.host.checks import peers
from nova_gpu_filter.host.configuration import naming
from nova_gpu_filter.host.configuration import saving
from nova_gpu_filter.host.inventory import Function
from nova_gpu_filter.host.saved import inventory_json


def _format_vfs(function: Function) -> str | None:
    if function.physfn is not None:
        return f"of {function.physfn}"
    if not function.is_pf:
        return None
    return f"{function.sriov_numvfs or 0}/{function.sriov_totalvfs}"


def _format_subsystem(function: Function) -> str | None:
    if function.subvendor_id is None or function.subproduct_id is None:
        return None
    ids = f"{function.subvendor_id:04x}:{function.subproduct_id:04x}"
    name = function.subsystem_name
    return f"{name} [{ids}]" if name else ids


def _format_bars(function: Function) -> str | None:
    return sizes.format_size(function.bar_bytes) if function.bars else None


def _format_pcie(function: Function) -> str | None:
    link = function.pcie_link
    if link is None or link.speed is None:
        return None
    width = link.width if link.width is not None else "?"
    return f"{link.speed.replace(' PCIe', '')} x{width}"


def _format_mdev_types(function: Function) -> str:
    return " ".join(mdev.type_id for mdev in function.mdev_types)


def _format_way(function: Function) -> str | None:
    if function.root is None:
        return None
    return " > ".join([function.root, *map(str, function.bridges)])


_COLUMNS: dict[str, Callable[[Function], object]] = {
    "Address": lambda one: one.address,
    "Kind": lambda one: one.kind and one.kind.value,
    "Name": lambda one: one.product_name or one.class_name,
    "ID": lambda one: one.ids,
    "Type": lambda one: one.nova_type,
    "NUMA": lambda one: one.numa_node,
    "Group": lambda one: one.iommu_group,
    "Driver": lambda one: one.driver,
    "VFs": _format_vfs,
}
_LONG_COLUMNS: dict[str, Callable[[Function], object]] = {
    "Subsystem": _format_subsystem,
    "Class": lambda one: f"{one.class_code:06x}",
    "Architecture": lambda one: one.chip and one.chip.architecture,
    "Compute capability": lambda one: one.chip and one.chip.compute_capability,
    "Override": lambda one: one.driver_override,
    "BARs": _format_bars,
    "Reset": peers.format_resets,
    "PCIe link": _format_pcie,
    "Way": _format_way,
    "Mdev types": lambda one: " ".join(
        mdev.type_id for mdev in one.mdev_types
    ),
    "Interfaces": lambda one: " ".join((*one.interfaces, *one.rdma_devices)),
}


def _format_or_dash(value: object) -> str:
    return "-" if value is None or value == "" else str(value)


class Inventory(command.Lister):
    """List GPUs, NVSwitches and RDMA NICs.

    Further functions of a card that has a GPU (audio, USB) are listed with
    it. VFs are counted at their PF, and listed with --vfs. With -f json or
    yaml everything is printed that is known, of every device and its links,
    unless columns are chosen with -c; "nova-gpu-host config" reads that JSON.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        base.add_host(parser)
        parser.add_argument(
            "--long", action="store_true", help="list more columns"
        )
        parser.add_argument(
            "--vfs", action="store_true", help="list the VFs, too"
        )
        parser.add_argument(
            "--topology",
            action="store_true",
            help="draw NUMA nodes, PCIe switches, devices and their links as"
            " text, in place of the list",
        )
        parser.add_argument(
            "--traits",
            action="store_true",
            help="print the traits of the host as a whole, one a line, in"
            " place of the list: of a bare metal node of Ironic",
        )
        parser.add_argument(
            "--svg",
            metavar="FILE",
            help="write the drawing as SVG to FILE; - prints it, in place of"
            " the list",
        )
        return parser

    def take_action(self, parsed_args):
        """Read the host; write the drawings that were asked for."""
        _, host, host_links = base.read_host(parsed_args)
        self._read = (host, host_links)
        for problem in host.problems:
            self.app.warn(f"not read: {problem}")
        if host.names_from is None and host.functions:
            self.app.warn(
                "no pci.ids was found, so devices have no names: install the"
                " package hwdata (or pci.ids on Debian and Ubuntu), or give a"
                " file with --pci-ids"
            )
        if parsed_args.traits:
            for trait in naming.list_host_traits(host.functions):
                self.app.stdout.write(f"{trait}\n")
        if parsed_args.topology:
            shown = hardware_picture.make(host, host_links)
            matrix = link_matrix.draw(host, host_links)
            self.app.stdout.write(text.draw(shown) + "\n")
            self.app.stdout.write(matrix and f"\n{matrix}")
        if parsed_args.svg:
            shown = hardware_picture.make(host, host_links)
            self._write_svg(parsed_args.svg, svg.draw(shown))
        columns = _COLUMNS | (_LONG_COLUMNS if parsed_args.long else {})
        rows = [
            [_format_or_dash(value(function)) for value in columns.values()]
            for function in host.functions
            if parsed_args.vfs or function.physfn is None
        ]
        if not rows:
            self.app.warn("no GPU, NVSwitch or RDMA NIC was found")
        return list(columns), rows

    def _write_svg(self, path: str, drawn: str) -> None:
        if path == "-":
            self.app.stdout.write(drawn)
            return
        try:
            with saving.replace(path, force=True) as file:
                file.write(drawn.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise exception.FileUnreadable(
                path=path, error=error.strerror or error
            ) from None
        self.app.warn(f"wrote {os.path.abspath(path)}")

    def produce_output(self, parsed_args, column_names, data):
        """Print the list, or the whole document as JSON or YAML."""
        if (
            parsed_args.topology
            or parsed_args.traits
            or parsed_args.svg == "-"
        ):
            # They have been printed in its place.
            return
        form = parsed_args.formatter
        if parsed_args.columns or form not in ("json", "yaml"):
            super().produce_output(parsed_args, column_names, data)
            return
        document = inventory_json.write(*self._read)
        if form == "json":
            self.app.stdout.write(json.dumps(document, indent=2) + "\n")
        else:
            import yaml

            yaml.safe_dump(
                document,
                self.app.stdout,
                sort_keys=False,
                default_flow_style=False,
            )


class Show(command.ShowOne):
    """Show everything about one device.

    The address may be short (85:00.0). The first row says what lspci -nn
    would say.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        base.add_host(parser)
        parser.add_argument("address", help="PCI address of the device")
        return parser

    def take_action(self, parsed_args):
        """Read the host, and pick the device."""
        text = parsed_args.address
        address = base.parse_address(text, text)
        _, host, host_links = base.read_host(parsed_args)
        function = host.by_address.get(address)
        if function is None:
            known = " ".join(str(device.address) for device in host.devices)
            raise exception.BadInput(
                source=str(address),
                reason="no GPU, NVSwitch or RDMA NIC, nor a function of a card"
                f" with a GPU; there are: {known or 'none'}",
            )
        document = inventory_json.write(host, host_links)
        (entry,) = [
            entry
            for entry in document["devices"]
            if entry["address"] == str(address)
        ]
        if parsed_args.formatter in ("json", "yaml"):
            return tuple(entry), tuple(entry.values())
        return self._flatten(host, function, entry)

    def _flatten(self, host, function, entry):
        """Give values as text, for a table."""
        link = entry["pcie_link"]
        texts = {
            "bars": peers.format_bars(function),
            "bar_bytes": sizes.format_size(function.bar_bytes),
            "mdev_types": "\n".join(
                f"{mdev.type_id} {mdev.name}"
                f" ({_format_or_dash(mdev.available)} available,"
                f" {len(mdev.made)} made)"
                for mdev in function.mdev_types
            ),
            "pcie_link": link
            and f"{link['speed']} x{link['width']}, at most"
            f" {link['max_speed']} x{link['max_width']}",
            "relations": "\n".join(
                f"{other} {way or 'unknown'}"
                for other, way in entry["relations"].items()
            ),
        }
        values = {"lspci": entry.pop("lspci")}
        for key, value in entry.items():
            value = texts.get(key, value)
            if isinstance(value, list):
                value = " ".join(map(str, value))
            values[key] = _format_or_dash(value)
        members = host.members_by_group.get(function.iommu_group, ())
        values["group_members"] = _format_or_dash(
            "\n".join(
                f"{member.address} {_format_or_dash(member.class_name)}"
                f" [{member.ids}] {_format_or_dash(member.driver)}"
                for member in members
            )
        )
        values["card"] = " ".join(
            str(other.address) for other in host.list_card_functions(function)
        )
        return tuple(values), tuple(values.values())
