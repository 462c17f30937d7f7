# SPDX-License-Identifier: Apache-2.0

"""Mediated devices (vGPUs) that a nova.conf offers, and Nova's reading."""

import itertools
import json

from nova.compute import provider_config
from nova.conf import devices as nova_devices
from oslo_config import cfg
import pytest
import yaml

from nova_gpu_filter.cmd.host import app
from nova_gpu_filter.host.checks import conf_device_specs
from nova_gpu_filter.host.checks import conf_mdevs
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from nova_gpu_filter.nova_rules import pci_options
from tests import captures
from tests.sysfs_trees import Host
from tests.sysfs_trees import Pci

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
A, B, PLAIN = "0000:84:00.0", "0000:85:00.0", "0000:86:00.0"
TYPES = (("nvidia-35", "GRID T4-2B", 8), ("nvidia-36", "GRID T4-8Q", 2))


@pytest.fixture
def host(tmp_path):
    """Two T4 whose driver makes mediated devices, and one for guests."""
    found = Host(tmp_path / "host", "mdev-1")
    found.nodes(1)
    found.iommu()
    for number, (address, mdev) in enumerate(
        ((A, TYPES), (B, TYPES), (PLAIN, ()))
    ):
        port = found.bridge(f"0000:80:0{number + 1}.0", "pci0000:80")
        found.add(
            Pci(
                address,
                port,
                "10de:1eb8",
                0x030200,
                group=number + 10,
                driver="nvidia" if mdev else "vfio-pci",
                mdev=mdev,
            )
        )
    return found


@pytest.fixture
def config(host, capsys):
    def run(*arguments):
        code = app.main(["--sysfs-root", str(host.root), "config", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def read_as_nova(path):
    """Read the types as nova-compute does."""
    conf = cfg.ConfigOpts()
    nova_devices.register_opts(conf)
    conf(["--config-file", str(path)], default_config_files=[])
    nova_devices.register_dynamic_opts(conf)
    return {
        one: (
            conf[f"mdev_{one}"].device_addresses,
            conf[f"mdev_{one}"].mdev_class,
        )
        for one in conf.devices.enabled_mdev_types
    }


@pytest.mark.parametrize(
    ("arguments", "types"),
    [
        (["--mdev-type", "nvidia-35"], {"nvidia-35": ([A, B], "VGPU")}),
        (["--mdev-type", "GRID T4-8Q"], {"nvidia-36": ([A, B], "VGPU")}),
        (
            ["--mdev-type", "nvidia-35", "--mdev-type", f"nvidia-36={B}"],
            {"nvidia-35": ([A], "VGPU"), "nvidia-36": ([B], "VGPU")},
        ),
        (
            [
                *("--mdev-type", f"nvidia-35={B}"),
                *("--mdev-class", "nvidia-35=CUSTOM_VGPU_T4"),
            ],
            {"nvidia-35": ([B], "CUSTOM_VGPU_T4")},
        ),
    ],
)
def test_nova_reads_what_was_asked_for(config, tmp_path, arguments, types):
    code, output, _ = config(*arguments)
    assert code == 0
    path = tmp_path / "nova.conf"
    path.write_text(output)
    assert read_as_nova(path) == types
    # The other GPUs are offered as a whole, and these are not.
    carriers = {
        address for addresses, _ in types.values() for address in addresses
    }
    for address in (A, B, PLAIN):
        assert (f'"address": "{address}"' in output) is (
            address not in carriers
        )


def test_nothing_else_need_be_offered(config):
    code, output, errors = config("--mdev-type", "nvidia-35", "--device", A)
    assert code == 0
    assert "[devices]" in output
    # Nor is anything said of it.
    for word in ("[pci]", "device_spec", "gpu_links", "NVLink"):
        assert word not in output + errors


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--mdev-type", "nvidia-99"], "there are: nvidia-35 (GRID T4-2B)"),
        (["--mdev-type", "nvidia-35=x"], "'x' is no PCI address"),
        (["--mdev-type", f"nvidia-35={PLAIN}"], "does not offer nvidia-35"),
        (
            ["--mdev-type", "nvidia-35", "--mdev-type", "GRID T4-2B"],
            "given twice",
        ),
        (
            ["--mdev-type", f"nvidia-35={A}", "--mdev-type", f"nvidia-36={A}"],
            "carries nvidia-35 already",
        ),
        (
            ["--mdev-type", "nvidia-35", "--mdev-type", "nvidia-36"],
            "every device that offers it carries another type",
        ),
        (
            ["--mdev-type", "nvidia-35", "--mdev-class", "nvidia-35=vgpu"],
            "give TYPE=CLASS",
        ),
        (
            [
                *("--mdev-type", "nvidia-35"),
                *("--mdev-class", "nvidia-35=CUSTOM_A"),
                *("--mdev-class", "GRID T4-2B=CUSTOM_B"),
            ],
            "has the class CUSTOM_A already",
        ),
        (["--mdev-class", "nvidia-35=VGPU"], "needs --mdev-type"),
        (["--provider-config", "mdev-1"], "needs --mdev-type"),
        (["--provider-config", ""], "name the resource provider"),
        (
            ["--mdev-type", "nvidia-35", "--provider-config", ""],
            "name the resource provider",
        ),
        (["--udev", "--mdev-type", "nvidia-35"], "nova.conf of a compute"),
        (
            ["--role", "controller", "--mdev-type", "nvidia-35"],
            "nova.conf of a compute",
        ),
    ],
)
def test_what_cannot_be_is_one_line(config, arguments, reason):
    code, output, errors = config(*arguments)
    assert (code, output) == (3, "")
    assert reason in errors
    assert errors.count("\n") == 1


def test_nova_takes_the_provider_config(config, tmp_path):
    code, output, _ = config(
        "--mdev-type", f"nvidia-35={A}", "--provider-config", "mdev-1.example"
    )
    assert code == 0
    (tmp_path / "providers").mkdir()
    (tmp_path / "providers" / "vgpu.yaml").write_text(output)
    found = provider_config.get_provider_configs(str(tmp_path / "providers"))
    (provider,) = found.values()
    assert provider["identification"] == {
        "name": "mdev-1.example_pci_0000_84_00_0"
    }
    assert list(provider["traits"]["additional"]) == [
        "CUSTOM_VGPU_TYPE_GRID_T4_2B"
    ]
    assert yaml.safe_load(output)["meta"] == {"schema_version": "1.0"}


def findings(host, tmp_path, text):
    path = tmp_path / "nova.conf"
    path.write_text(text)
    options = pci_options.read(str(path))
    files = tree.Tree(str(host.root))
    found = reader.read(files)
    return [
        (one.severity, one.summary)
        for one in itertools.chain(
            conf_mdevs.check(found, options),
            conf_device_specs.check(found, found.functions, options),
        )
    ]


_OFFERED = f'[pci]\ndevice_spec = {{"address": "{PLAIN}"}}\n'


@pytest.mark.parametrize(
    ("devices", "severity", "words"),
    [
        ("enabled_mdev_types = nvidia-99", WARNING, "no device of this host"),
        (
            f"enabled_mdev_types = nvidia-35\n[mdev_nvidia-35]\n"
            f"device_addresses = {PLAIN}",
            WARNING,
            "does not offer nvidia-35",
        ),
        (
            "enabled_mdev_types = nvidia-35\n[vgpu_nvidia-35]\n"
            "device_addresses = 0000:99:00.0",
            WARNING,
            "is no GPU of this host",
        ),
        (
            "enabled_vgpu_types = nvidia-35\n[mdev_nvidia-35]\n"
            "device_addresses = 84:00.0",
            WARNING,
            "Nova compares addresses as text",
        ),
        (
            f"enabled_mdev_types = nvidia-35, nvidia-36\n[mdev_nvidia-35]\n"
            f"device_addresses = {A}\n[mdev_nvidia-36]\n"
            f"device_addresses = {A}",
            ERROR,
            "nova-compute does not start",
        ),
        # Also if no device offers one of them.
        (
            f"enabled_mdev_types = nvidia-35, nvidia-99\n[mdev_nvidia-35]\n"
            f"device_addresses = {A}\n[mdev_nvidia-99]\n"
            f"device_addresses = {A}",
            ERROR,
            "nova-compute does not start",
        ),
        (
            "enabled_mdev_types = nvidia-35, nvidia-36",
            WARNING,
            "Nova does not use nvidia-36",
        ),
    ],
)
def test_types_are_compared_with_the_host(
    host, tmp_path, devices, severity, words
):
    found = findings(host, tmp_path, f"[devices]\n{devices}\n")
    assert [one for one, text in found if words in text] == [severity]


@pytest.mark.parametrize(
    ("devices", "cures"),
    [
        (
            f"enabled_mdev_types = nvidia-99\n[mdev_nvidia-99]\n"
            f"device_addresses = {A}",
            {"# take nvidia-99 out of [devices]enabled_mdev_types in "},
        ),
        (
            f"enabled_mdev_types = nvidia-35\n[mdev_nvidia-35]\n"
            f"device_addresses = {PLAIN}",
            {"nova-gpu-host config --mdev-type nvidia-35"},
        ),
        (
            "enabled_mdev_types = nvidia-35, nvidia-36",
            {
                "# write all types anew: nova-gpu-host config --mdev-type"
                " TYPE=ADDRESS,... for each"
            },
        ),
    ],
)
def test_a_cure_that_is_a_command_works_and_loses_no_type(
    config, host, tmp_path, devices, cures
):
    path = tmp_path / "nova.conf"
    path.write_text(f"[devices]\n{devices}\n")
    found = [
        cure.removesuffix(str(path))
        for one in conf_mdevs.check(
            reader.read(tree.Tree(str(host.root))),
            pci_options.read(str(path)),
        )
        for cure in one.cures
    ]
    assert set(found) == cures
    assert len(found) == 1
    for cure in found:
        if not cure.startswith("#"):
            assert config(*cure.split()[2:])[0] == 0


UUIDS = (
    "4b20d080-1b54-4048-85b3-a6a62d165c01",
    "4b20d080-1b54-4048-85b3-a6a62d165c02",
)


def fill(host, made, available):
    """Have GPU A carry mediated devices, and have room for so many more."""
    for type_id, uuids in made.items():
        for uuid in uuids:
            host.make_mdev(A, type_id, uuid)
    for type_id, number in available.items():
        host.write(
            f"/sys/bus/pci/devices/{A}/mdev_supported_types/{type_id}"
            "/available_instances",
            number,
        )


def rooms(host, tmp_path, text):
    """Tell what is said of devices without room, and its cures."""
    path = tmp_path / "nova.conf"
    path.write_text(f"[devices]\n{text}\n")
    return [
        (one.severity, one.summary, one.cures)
        for one in conf_mdevs.check(
            reader.read(tree.Tree(str(host.root))), pci_options.read(str(path))
        )
        if "can have no more" in one.summary
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"enabled_mdev_types = nvidia-36\n[mdev_nvidia-36]\n"
        f"device_addresses = {A},{B}",
        "enabled_mdev_types = nvidia-36",
        f"enabled_mdev_types = nvidia-36, nvidia-35\n[mdev_nvidia-35]\n"
        f"device_addresses = {B}",
    ],
)
def test_devices_of_another_type_are_in_the_way(host, tmp_path, config, text):
    fill(host, {"nvidia-35": UUIDS}, {"nvidia-35": 6, "nvidia-36": 0})
    assert "left now on" not in config("--mdev-type", "nvidia-35")[2]
    assert (
        f"no nvidia-36 left now on {A}:"
        in (config("--mdev-type", "nvidia-36")[2])
    )
    ((severity, summary, cures),) = rooms(host, tmp_path, text)
    assert severity is WARNING
    assert summary.startswith(f"{A} can have no more nvidia-36 beside")
    assert "2 of nvidia-35" in summary
    name = "mdev_4b20d080_1b54_4048_85b3_a6a62d165c0{}_0000_84_00_0"
    assert cures == tuple(
        f"virsh nodedev-{action} {name.format(number)}"
        for number in (1, 2)
        for action in ("destroy", "undefine")
    )


def test_a_type_that_its_driver_makes_none_of_is_told(host, tmp_path):
    fill(host, {}, {"nvidia-35": 0, "nvidia-36": 0})
    ((_, summary, cures),) = rooms(
        host, tmp_path, "enabled_mdev_types = nvidia-36"
    )
    assert "there are no mediated devices of it" in summary
    assert cures == ("# look for the reason: dmesg",)


@pytest.mark.parametrize(
    ("made", "available"),
    [
        # All are made; drivers may mix types; and there is room.
        ({"nvidia-36": UUIDS}, {"nvidia-36": 0}),
        ({"nvidia-35": UUIDS}, {"nvidia-36": 1}),
        ({}, {}),
    ],
)
def test_a_gpu_that_is_full_of_its_own_type_is_right(
    host, tmp_path, made, available
):
    fill(host, made, available)
    for text in (
        "enabled_mdev_types = nvidia-36",
        f"enabled_mdev_types = nvidia-36\n[mdev_nvidia-36]\n"
        f"device_addresses = {A}",
    ):
        assert rooms(host, tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        (f"[mdev_nvidia-35]\ndevice_addresses = {A}", NOTE),
        ("", NOTE),
        # It is this one that is to be given away whole.
        (f"[mdev_nvidia-35]\ndevice_addresses = {B}", WARNING),
    ],
)
def test_what_nova_conf_offers_is_not_bound_away(
    host, tmp_path, capsys, text, severity
):
    path = tmp_path / "nova.conf"
    path.write_text(f"[devices]\nenabled_mdev_types = nvidia-35\n{text}\n")
    app.main(
        [
            *("--sysfs-root", str(host.root), "check", "-f", "json"),
            *("--nova-conf", str(path)),
        ]
    )
    (found,) = (
        row
        for row in json.loads(capsys.readouterr().out)
        if row["Device"] == A and "makes mediated devices" in row["Finding"]
    )
    assert found["Severity"] == severity.value
    assert bool(found["Cure"]) is (severity is WARNING)


def test_a_capture_has_what_was_made(host, tmp_path, capsys):
    fill(host, {"nvidia-35": UUIDS}, {"nvidia-35": 6, "nvidia-36": 0})
    archive = tmp_path / "host.tar.gz"
    assert (
        app.main(["--sysfs-root", str(host.root), "capture", str(archive)])
        == 0
    )
    capsys.readouterr()
    unpacked = captures.unpack(archive, tmp_path / "unpacked")
    gpu = reader.read(tree.Tree(str(unpacked))).gpus[0]
    # Names that could be a secret of the host have others in a capture.
    assert [
        (one.type_id, one.available, len(one.made)) for one in gpu.mdev_types
    ] == [("nvidia-35", 6, 2), ("nvidia-36", 0, 0)]
    assert not {*UUIDS} & {*gpu.mdev_types[0].made}


@pytest.mark.parametrize("selector", [f"address: {A}", "id: 10de:1eb8"])
def test_a_type_of_theirs_is_not_for_the_file_of_vfs(
    host, tmp_path, capsys, selector
):
    path = tmp_path / "vgpu.yaml"
    path.write_text(
        f"physical_functions:\n  - {selector}\n    vfs: 2\n"
        "    type: GRID T4-2B\n"
    )
    code = app.main(
        [
            *("--sysfs-root", str(host.root), "vgpu", "plan"),
            *("-f", "json", "--file", str(path)),
        ]
    )
    (row,) = json.loads(capsys.readouterr().out)
    assert (code, row["Status"]) == (2, "refused")
    assert f"the driver of {A}" in row["Reason"]
    assert "nova-gpu-host config --mdev-type" in row["Reason"]
    assert PLAIN not in row["Reason"]


def test_a_host_for_mediated_devices_alone_is_no_error(host, tmp_path):
    text = "[devices]\nenabled_mdev_types = nvidia-35\n"
    found = findings(host, tmp_path, text)
    assert [severity for severity, _ in found] == [NOTE]
    assert [severity for severity, _ in findings(host, tmp_path, "")] == [
        ERROR
    ]


def test_what_config_writes_is_quiet(config, host, tmp_path):
    _, output, _ = config("--mdev-type", "nvidia-35")
    assert findings(host, tmp_path, output) == []
