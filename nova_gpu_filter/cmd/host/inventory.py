# SPDX-License-Identifier: Apache-2.0

"""``nova-gpu-host inventory`` and ``show``."""

import json
import os

from nova_gpu_filter import exception
from nova_gpu_filter import sizes
from nova_gpu_filter.cmd.host import base
from nova_gpu_filter.cmd.host import command
from nova_gpu_filter.drawing import svg
from nova_gpu_filter.drawing import text
from nova_gpu_filter.host import address as address_lib
from nova_gpu_filter.host import hardware_picture
from nova_gpu_filter.host import link_matrix
from nova_gpu_filter.host.configuration import naming
from nova_gpu_filter.host.configuration import saving
from nova_gpu_filter.host.saved import inventory_json

_COLUMNS = (
    "Address",
    "Kind",
    "Name",
    "ID",
    "Type",
    "NUMA",
    "Group",
    "Driver",
    "VFs",
)
_LONG_COLUMNS = (
    "Subsystem",
    "Class",
    "Architecture",
    "Compute capability",
    "Override",
    "BARs",
    "Reset",
    "PCIe link",
    "Way",
    "Mdev types",
    "Interfaces",
)


def _format_or_dash(value) -> str:
    return "-" if value is None or value == "" else str(value)


def _format_vfs(function) -> str:
    if function.physfn is not None:
        return f"of {function.physfn}"
    if not function.is_pf:
        return "-"
    return f"{function.sriov_numvfs or 0}/{function.sriov_totalvfs}"


def _format_pcie(function) -> str:
    link = function.pcie_link
    if link is None or link.speed is None:
        return "-"
    width = link.width if link.width is not None else "?"
    return f"{link.speed.replace(' PCIe', '')} x{width}"


def _make_row(function) -> tuple[str, ...]:
    return (
        str(function.address),
        function.kind.value,
        _format_or_dash(function.product_name or function.class_name),
        function.ids,
        function.nova_type,
        _format_or_dash(function.numa_node),
        _format_or_dash(function.iommu_group),
        _format_or_dash(function.driver),
        _format_vfs(function),
    )


def _format_subsystem(function) -> str:
    if function.subvendor_id is None or function.subproduct_id is None:
        return "-"
    ids = f"{function.subvendor_id:04x}:{function.subproduct_id:04x}"
    return (
        f"{function.subsystem_name} [{ids}]"
        if (function.subsystem_name)
        else ids
    )


def _format_reset(function) -> str:
    if function.reset_methods is None:
        return "-"
    return " ".join(function.reset_methods) or "none"


def _format_way(function) -> str:
    if function.root is None:
        return "-"
    return " > ".join([function.root, *map(str, function.bridges)])


def _make_long_row(function) -> tuple[str, ...]:
    chip = function.chip
    return (
        _format_subsystem(function),
        f"{function.class_code:06x}",
        _format_or_dash(chip and chip.architecture),
        _format_or_dash(chip and chip.compute_capability),
        _format_or_dash(function.driver_override),
        sizes.format_size(function.bar_bytes) if function.bars else "-",
        _format_reset(function),
        _format_pcie(function),
        _format_way(function),
        _format_or_dash(
            " ".join(mdev.type_id for mdev in function.mdev_types)
        ),
        _format_or_dash(
            " ".join((*function.interfaces, *function.rdma_devices))
        ),
    )


class Inventory(base.HostCommand, command.Lister):
    """List GPUs, NVSwitches and RDMA NICs.

    Further functions of a card that has a GPU (audio, USB) are listed with
    it. VFs are counted at their PF, and listed with --vfs. With -f json or
    yaml everything is printed that is known, of every device and its links,
    unless columns are chosen with -c; "nova-gpu-host config" reads that JSON.
    """

    def get_parser(self, prog_name):
        """Describe the options."""
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

    def run(self, parsed_args):
        """Print drawings and traits here: they are no lists."""
        if (
            parsed_args.topology
            or parsed_args.traits
            or parsed_args.svg == "-"
        ):
            self._is_list_printed = False
        return super().run(parsed_args)

    _is_list_printed = True

    def take_action(self, parsed_args):
        """Read the host; write the drawings that were asked for."""
        _, host, host_links = base.read_host(self, parsed_args)
        self._read = (host, host_links)
        for problem in host.problems:
            self.warn(f"not read: {problem}")
        if host.names_from is None and host.functions:
            self.warn(
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
        columns = _COLUMNS + (_LONG_COLUMNS if parsed_args.long else ())
        rows = [
            _make_row(function)
            + (_make_long_row(function) if parsed_args.long else ())
            for function in host.functions
            if parsed_args.vfs or function.physfn is None
        ]
        if not rows:
            self.warn("no GPU, NVSwitch or RDMA NIC was found")
        return columns, rows

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
        self.warn(f"wrote {os.path.abspath(path)}")

    def produce_output(self, parsed_args, column_names, data):
        """Print the list, or the whole document as JSON or YAML."""
        if not self._is_list_printed:
            return 0
        if not parsed_args.columns:
            if parsed_args.formatter == "json":
                document = inventory_json.write(*self._read)
                self.app.stdout.write(json.dumps(document, indent=2) + "\n")
                return 0
            if parsed_args.formatter == "yaml":
                import yaml

                yaml.safe_dump(
                    inventory_json.write(*self._read),
                    self.app.stdout,
                    sort_keys=False,
                    default_flow_style=False,
                )
                return 0
        return super().produce_output(parsed_args, column_names, data)


class Show(base.HostCommand, command.ShowOne):
    """Show everything about one device.

    The address may be short (85:00.0). The first row says what lspci -nn
    would say.
    """

    def get_parser(self, prog_name):
        """Describe the options."""
        parser = super().get_parser(prog_name)
        base.add_host(parser)
        parser.add_argument("address", help="PCI address of the device")
        return parser

    def take_action(self, parsed_args):
        """Read the host, and pick the device."""
        address = address_lib.find(parsed_args.address)
        if address is None:
            raise exception.BadInput(
                source=parsed_args.address,
                reason="this is no PCI address, such as 0000:85:00.0",
            )
        _, host, host_links = base.read_host(self, parsed_args)
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
        values = {"lspci": entry.pop("lspci")}
        for key, value in entry.items():
            if key == "bars":
                value = " ".join(
                    f"BAR{bar.index}={sizes.format_size(bar.size)}"
                    for bar in function.bars
                )
            elif key == "bar_bytes":
                value = sizes.format_size(value)
            elif key == "mdev_types":
                value = "\n".join(
                    f"{mdev.type_id} {mdev.name}"
                    f" ({_format_or_dash(mdev.available)} available,"
                    f" {len(mdev.made)} made)"
                    for mdev in function.mdev_types
                )
            elif key == "pcie_link":
                value = value and (
                    f"{value['speed']} x{value['width']}, at most"
                    f" {value['max_speed']} x{value['max_width']}"
                )
            elif key == "relations":
                value = "\n".join(
                    f"{other} {link or 'unknown'}"
                    for other, link in value.items()
                )
            elif isinstance(value, list):
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
