# SPDX-License-Identifier: Apache-2.0

"""nova-gpu-host, as an operator runs it."""

import errno
import json
import os
import subprocess
import sys
import tarfile

import pytest
import yaml

from nova_gpu_filter.cmd.host import app
from tests import captures
from tests import sysfs_trees
from tests.unit.host import test_linking

COMMANDS = ("inventory", "show", "check", "config", "capture", "vgpu")


@pytest.fixture
def run(capsys):
    """Run the application; gives exit code, output and errors."""

    def run_command(*arguments):
        code = app.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


@pytest.fixture
def build(tmp_path):
    def build_machine(name, **options):
        return sysfs_trees.MACHINES[name](tmp_path / name, **options)

    return build_machine


@pytest.fixture
def root(build):
    """The directory of a machine's files."""

    def root_of(name):
        return build(name).root

    return root_of


def test_without_arguments_the_commands_are_listed(run):
    code, output, _ = run()
    assert code == 0
    for command in COMMANDS:
        assert f"  {command}" in output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_its_options_explained(run, command):
    code, output, _ = run(command, "--help")
    assert code == 0
    assert "--sysfs-root DIR" in output
    assert "None" not in output


# Inventory


def test_the_table_has_a_row_for_each_device(run, root):
    code, output, errors = run("--sysfs-root", root("k2_host"), "inventory")
    assert (code, errors) == (0, "")
    assert output.count("GK104GL [GRID K2]") == 2


def test_the_root_may_stand_behind_the_command(run, root):
    place = root("k2_host")
    before = run("--sysfs-root", place, "inventory", "-f", "value")
    after = run("inventory", "--sysfs-root", place, "-f", "value")
    assert before == after
    assert before[1]


@pytest.mark.parametrize(
    ("form", "load"), [("json", json.loads), ("yaml", yaml.safe_load)]
)
def test_json_and_yaml_hold_everything(run, root, form, load):
    _, output, _ = run(
        "--sysfs-root", root("k2_host"), "inventory", "-f", form
    )
    document = load(output)
    assert [device["lspci"] for device in document["devices"]] == [
        "85:00.0 VGA compatible controller [0300]: NVIDIA Corporation"
        " GK104GL [GRID K2] [10de:11bf] (rev a1)",
        "86:00.0 VGA compatible controller [0300]: NVIDIA Corporation"
        " GK104GL [GRID K2] [10de:11bf] (rev a1)",
    ]


def test_chosen_columns_are_chosen_in_json_too(run, root):
    _, output, _ = run(
        *("--sysfs-root", root("k2_host"), "inventory"),
        *("-f", "json", "-c", "Address"),
    )
    assert json.loads(output) == [
        {"Address": "0000:85:00.0"},
        {"Address": "0000:86:00.0"},
    ]


def test_vfs_are_listed_where_they_are_asked_for(run, root):
    place = root("flex_with_vfs")
    command = ("--sysfs-root", place, "inventory", "-f", "value")
    assert len(run(*command)[1].splitlines()) == 1
    assert len(run(*command, "--vfs")[1].splitlines()) == 32


def test_the_topology_is_drawn_in_place_of_the_table(run, root):
    _, output, _ = run(
        "--sysfs-root", root("k2_host"), "inventory", "--topology"
    )
    assert output.startswith("k2-1: 2 GPUs")
    assert "+--" not in output


def test_the_drawing_is_written_as_svg(run, root, tmp_path):
    path = tmp_path / "k2.svg"
    code, output, errors = run(
        "--sysfs-root", root("k2_host"), "inventory", "--svg", path
    )
    assert code == 0
    assert path.read_text().startswith("<?xml")
    assert "GRID K2" in output
    assert f"wrote {path}" in errors


def test_the_drawing_is_printed_alone(run, root):
    _, output, _ = run(
        "--sysfs-root", root("k2_host"), "inventory", "--svg", "-"
    )
    assert output.startswith("<?xml")
    assert output.endswith("</svg>\n")


def test_links_are_taken_from_saved_outputs(run, root, tmp_path):
    (tmp_path / "topo").write_text(test_linking.NV18)
    (tmp_path / "q").write_text(test_linking.QUERY[1])
    (tmp_path / "fmpm").write_text(test_linking.FABRIC[1])
    _, output, _ = run(
        *("--sysfs-root", root("hgx_h100"), "inventory", "--topology"),
        *("--nvidia-smi-topo", tmp_path / "topo"),
        *("--nvidia-smi-q", tmp_path / "q"),
        *("--fabric", tmp_path / "fmpm"),
    )
    assert "NV18  fabric\n" in output
    assert "5/2" in output


def test_without_names_the_operator_is_told_how_to_get_them(
    run, build, monkeypatch
):
    from nova_gpu_filter.host.sysfs import pci_ids

    host = build("k2_host")
    monkeypatch.setattr(pci_ids, "load", lambda *trees: pci_ids.EMPTY)
    code, output, errors = run("--sysfs-root", host.root, "inventory")
    assert code == 0
    assert "10de:11bf" in output
    assert "install the package hwdata (or pci.ids" in errors


def test_names_that_the_terminal_cannot_show_are_no_error(root, tmp_path):
    names = tmp_path / "pci.ids"
    names.write_bytes(b"10de  \xff\n\t11bf  GK104GL [K2 \xc3\xa9]\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "nova_gpu_filter.cmd.host"),
            *("--sysfs-root", root("k2_host"), "inventory"),
            *("--pci-ids", names, "-f", "value", "-c", "Name"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0
    assert done.stdout == "GK104GL [K2 \\xe9]\n" * 2


def test_names_are_taken_from_the_file_that_is_given(run, root, tmp_path):
    names = tmp_path / "pci.ids"
    names.write_text("10de  Somebody\n\t11bf  GK104GL [My K2]\n")
    _, output, _ = run(
        *("--sysfs-root", root("k2_host"), "inventory"),
        *("--pci-ids", names, "-f", "value", "-c", "Name"),
    )
    assert output == "GK104GL [My K2]\nGK104GL [My K2]\n"


# Show


def test_show_tells_everything_about_one_device(run, root):
    _, output, _ = run(
        "--sysfs-root", root("k2_host"), "show", "85:00.0", "-f", "shell"
    )
    assert (
        'lspci="85:00.0 VGA compatible controller [0300]: NVIDIA Corporation'
        ' GK104GL [GRID K2] [10de:11bf] (rev a1)"' in output
    )
    for line in (
        'architecture="Kepler"',
        'compute_capability="3.0"',
        'subsystem_name="GRID K2 board"',
        'iommu_group="41"',
        'relations="0000:86:00.0 PIX"',
        'bar_bytes="176 MiB"',
    ):
        assert line in output


# Check


@pytest.mark.parametrize(
    ("machine", "code", "verdict"),
    [
        ("hgx_h100", 0, "hgx-1: READY ("),
        ("k2_host", 1, "k2-1: READY, WITH WARNINGS ("),
        ("laptop", 2, "laptop: NOT READY ("),
    ],
)
def test_check_exits_with_its_verdict(run, root, machine, code, verdict):
    result, output, _ = run("--sysfs-root", root(machine), "check")
    assert result == code
    assert output.splitlines()[-1].startswith(verdict)


def test_the_report_groups_devices_and_repeats_no_command(run, root):
    _, output, _ = run("--sysfs-root", root("a100_bridge_pairs"), "check")
    assert (
        "ERROR driver 0000:01:00.0 0000:21:00.0 0000:81:00.0 0000:a1:00.0"
        in output
    )
    assert output.count("cure: modprobe vfio-pci\n") == 1
    assert output.count("driver/unbind") == 4


def test_an_error_of_the_host_makes_every_device_not_ready(run, root):
    _, output, _ = run("--sysfs-root", root("vm_without_iommu"), "check")
    assert "0000:01:00.0  A100 PCIe 40GB: not ready\n" in output


def test_check_as_json_has_evidence_and_cures_as_lists(run, root):
    code, output, _ = run(
        "--sysfs-root", root("laptop"), "check", "-f", "json"
    )
    assert code == 2
    first = json.loads(output)[0]
    assert first["Severity"] == "error"
    assert first["Device"] == "0000:01:00.0"
    assert first["Evidence"] == [
        "/sys/bus/pci/devices/0000:01:00.0/driver: nouveau"
    ]
    assert first["Cure"][0] == "modprobe vfio-pci"


@pytest.mark.parametrize("form", ["table", "yaml", "value", "csv"])
def test_check_prints_every_form_with_the_same_exit_code(run, root, form):
    code, output, _ = run("--sysfs-root", root("laptop"), "check", "-f", form)
    assert code == 2
    assert "nouveau" in output


def test_what_is_well_is_told_where_it_is_asked_for(run, root):
    place = root("hgx_h100")
    assert "OK " not in run("--sysfs-root", place, "check")[1]
    _, output, _ = run("--sysfs-root", place, "check", "--all")
    assert "OK iommu" in output
    assert "OK interrupt-remapping" in output


def test_one_device_is_checked_alone(run, root):
    code, output, _ = run(
        "--sysfs-root", root("laptop"), "check", "--device", "00:02.0"
    )
    assert code == 2
    assert "0000:01:00.0" not in output


def test_a_nova_conf_is_held_against_the_hardware(run, root, tmp_path):
    path = tmp_path / "nova.conf"
    path.write_text('[pci]\ndevice_spec = {"vendor_id": "1002"}\n')
    code, output, _ = run(
        "--sysfs-root", root("hgx_h100"), "check", "--nova-conf", path
    )
    assert code == 1
    assert "matches nothing" in output
    assert "no device_spec matches this H100" in output


# Config


def test_config_prints_a_device_spec_for_each_gpu(run, root):
    code, output, _ = run("--sysfs-root", root("k2_host"), "config")
    specs = [
        json.loads(line.partition(" = ")[2])
        for line in output.splitlines()
        if line.startswith("device_spec")
    ]
    assert code == 0
    assert [spec["address"] for spec in specs] == [
        "0000:85:00.0",
        "0000:86:00.0",
    ]
    assert {spec["gpu_links"] for spec in specs} == {"pix:0"}


def test_config_tells_what_is_not_known_of_links(run, root):
    _, _, errors = run("--sysfs-root", root("a100_bridge_pairs"), "config")
    assert "NVLink: unknown" in errors


def test_config_warns_where_a_driver_cannot_migrate(run, root):
    _, output, errors = run(
        "--sysfs-root", root("k2_host"), "config", "--live-migratable"
    )
    assert '"live_migratable": "yes"' in output
    assert "cannot migrate them: 0000:85:00.0 0000:86:00.0" in errors


def test_config_writes_one_time_use_only_with_placement(run, root):
    of_host = ("--sysfs-root", root("k2_host"), "config", "--one-time-use")
    code, output, errors = run(*of_host)
    assert (code, output) == (3, "")
    assert "--one-time-use: needs --report-in-placement" in errors
    code, output, _ = run(*of_host, "--report-in-placement")
    assert code == 0
    assert output.count('"one_time_use": "true"') == 2


@pytest.fixture
def inventories(run, root, tmp_path):
    """Saved inventories of several machines."""

    def save(*machines):
        paths = []
        for machine in machines:
            _, output, _ = run(
                "--sysfs-root", root(machine), "inventory", "-f", "json"
            )
            path = tmp_path / f"{machine}.json"
            path.write_text(output)
            paths.append(path)
        return paths

    return save


def test_a_controller_gets_aliases_for_several_hosts(run, inventories):
    code, output, errors = run(
        "config",
        "--role",
        "controller",
        *inventories("k2_host", "hgx_h100"),
    )
    assert (code, errors) == (0, "")
    aliases = [
        json.loads(line.partition(" = ")[2])
        for line in output.splitlines()
        if line.startswith("alias")
    ]
    assert [alias["name"] for alias in aliases] == [
        "grid-k2",
        "h100-sxm5-80gb",
    ]


def test_drift_is_told_beside_the_aliases(run, inventories, tmp_path):
    (path,) = inventories("k2_host")
    other = tmp_path / "other.json"
    other.write_text(
        path.read_text()
        .replace('"hostname": "k2-1"', '"hostname": "k2-2"')
        .replace('"6.8.0-60-generic"', '"5.15.0"')
    )
    _, output, errors = run("config", "--role", "controller", path, other)
    assert "drift: k2-2: kernel 5.15.0" in errors
    assert "# Drift: k2-2: kernel 5.15.0" in output


def test_a_compute_fragment_is_made_of_an_inventory(run, root, inventories):
    (path,) = inventories("k2_host")
    live = run("--sysfs-root", path.parent / "k2_host", "config")
    assert run("config", path) == live


def test_config_writes_a_file_and_keeps_the_old_one(run, root, tmp_path):
    place = root("k2_host")
    path = tmp_path / "gpu.conf"
    command = ("--sysfs-root", place, "config", "--write", path)
    code, output, errors = run(*command)
    assert (code, output) == (0, "")
    assert f"wrote {path}" in errors
    first = path.read_text()
    _, _, errors = run(*command, "--managed", "no")
    (backup,) = [
        name for name in os.listdir(tmp_path) if name.endswith(".bak")
    ]
    assert (tmp_path / backup).read_text() == first
    assert backup in errors
    assert '"managed": "no"' in path.read_text()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--cmdline", "intel_iommu=on iommu=pt vfio-pci.ids=10de:11bf"),
        ("--modprobe", "options vfio-pci ids=10de:11bf"),
        ("--udev", "[pci/0000:85:00.0]driver_override"),
    ],
)
def test_settings_for_boot_are_printed(run, root, option, words):
    code, output, _ = run("--sysfs-root", root("k2_host"), "config", option)
    assert code == 0
    assert words in output


# Capture


def test_a_capture_can_be_examined_elsewhere(run, root, tmp_path):
    place = root("k2_host")
    path = tmp_path / "k2.tar.gz"
    code, _, errors = run("--sysfs-root", place, "capture", path)
    assert code == 0
    assert str(path) in errors
    elsewhere = captures.unpack(path, tmp_path / "elsewhere")
    names = ("--pci-ids", place / "usr/share/hwdata/pci.ids")
    command = ("inventory", "--topology", *names)
    assert elsewhere.name == "k2-1"
    assert run("--sysfs-root", elsewhere, *command) == run(
        "--sysfs-root", place, *command
    )


def test_a_captured_nvidia_smi_is_used_by_itself(run, root, tmp_path):
    (tmp_path / "topo").write_text(test_linking.PAIRS)
    place = root("a100_bridge_pairs")
    path = tmp_path / "a100.tar"
    run(
        *("--sysfs-root", place, "capture", path),
        *("--nvidia-smi-topo", tmp_path / "topo"),
    )
    elsewhere = captures.unpack(path, tmp_path / "elsewhere")
    _, output, _ = run(*("--sysfs-root", elsewhere, "inventory", "--topology"))
    assert "GPU0  X     NV12  SYS   SYS" in output


def test_a_capture_is_not_overwritten(run, root, tmp_path):
    place = root("k2_host")
    path = tmp_path / "k2.tar"
    path.write_text("mine")
    code, _, errors = run("--sysfs-root", place, "capture", path)
    assert code == 3
    assert "is there already" in errors
    assert path.read_text() == "mine"
    assert run("--sysfs-root", place, "capture", path, "--force")[0] == 0


def test_what_a_capture_would_hold_is_shown(run, root, tmp_path):
    place = root("k2_host")
    code, output, errors = run("--sysfs-root", place, "capture", "--show")
    assert code == 0
    assert not errors
    path = tmp_path / "k2.tar"
    run("--sysfs-root", place, "capture", path)
    shown = [
        line.split(" -> ")[0].rstrip("/")
        for line in output.splitlines()
        if not line.startswith(" ")
    ]
    with tarfile.open(path) as archive:
        held = [member.name for member in archive.getmembers()]
    assert [f"k2-1{one}" for one in shown] == held
    assert "    BOOT" not in output
    assert "\n/proc/cmdline\n    REMOVED" in output


def test_nothing_is_left_of_a_capture_that_fails(
    run, root, tmp_path, monkeypatch
):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", fail)
    place = root("k2_host")
    path = tmp_path / "captures" / "k2.tar"
    path.parent.mkdir()
    code, _, errors = run("--sysfs-root", place, "capture", path)
    assert code == 3
    assert "No space left on device" in errors
    assert not os.listdir(path.parent)


# What goes wrong


BAD = [
    (("bogus",), "'bogus' is no command; commands are"),
    (("--bogus", "inventory"), "unrecognized arguments: --bogus"),
    (("inventory", "--bogus"), "unrecognized arguments: --bogus"),
    (("inventory", "-f", "xml"), "invalid choice: 'xml'"),
    (("inventory", "--sysfs-root", "/none"), "no such directory"),
    (("--sysfs-root", "/none", "check"), "no such directory"),
    (("inventory", "--pci-ids", "/none"), "/none: No such file"),
    (("inventory", "--pci-ids", "/dev/null"), "this is no pci.ids"),
    (("inventory", "--nvidia-smi-topo", "/none"), "/none: No such file"),
    (("inventory", "--nvidia-smi-topo", "/"), "/: Is a directory"),
    (("inventory", "--nvidia-smi-topo", "{empty}"), "no output of"),
    (("inventory", "--nvidia-smi-q", "{empty}"), "no output of"),
    (("inventory", "--fabric", "{empty}"), "not JSON"),
    (("inventory", "--baseboard", "x"), "not known; known are"),
    (("inventory", "--run-nvidia-smi"), "cannot be given with --sysfs-root"),
    (("inventory", "--svg", "/none/x.svg"), "No such file"),
    (("show",), "the following arguments are required"),
    (("show", "x"), "this is no PCI address"),
    (("show", "99:00.0"), "there are: 0000:85:00.0 0000:86:00.0"),
    (("check", "--nova-conf", "/none"), "/none: No such file"),
    (("check", "--device", "99:00.0"), "there are: 0000:85:00.0"),
    (("check", "-c", "Device"), "columns can be chosen with -f table"),
    (("config", "--role", "x"), "invalid choice: 'x'"),
    (("config", "--device", "x"), "this is no PCI address"),
    (("config", "--device", "99:00.0"), "there are: 0000:85:00.0"),
    (("config", "/none"), "/none: No such file"),
    (("config", "{empty}"), "this is no JSON"),
    (("config", "--role", "controller", "{empty}"), "this is no JSON"),
    (("config", "--modprobe", "{empty}"), "not an inventory"),
    (("config", "--modprobe", "--write", "/none"), "is for nova.conf"),
    (("config", "--modprobe", "--udev"), "not allowed with"),
    (("config", "--write", "/none/x"), "No such file"),
    (("config", "--write", "{empty}"), "would be replaced as a whole"),
    (("config", "--alias", "x=y"), "give a NAME"),
    (("capture", "/none/x.tar"), "No such file"),
    (("capture", "x.tar", "--baseboard", "x"), "is not captured"),
    (("capture", "x.tar", "--show"), "--show: writes no file"),
    (("config", "--resource-class=---"), "--resource-class ---: it has no"),
    (("config", "--resource-class", "10de:11bf=\u20ac"), "it has no letter"),
    (("config", "--resource-class", "A" * 256), "at most 255 characters"),
    (("config", "--alias", "h100:2"), "cannot ask for an alias with ':'"),
    (("config", "--alias", "a\nb"), "control characters"),
    (("config", "/dev/zero"), "/dev/zero: larger than 64 MiB"),
    (("inventory", "--fabric", "/dev/zero"), "larger than 4 MiB"),
    (("check", "--nova-conf", "/dev/zero"), "/dev/zero: is a device"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD)
def test_every_mistake_is_one_clear_line_and_exit_code_3(
    run, root, tmp_path, arguments, words
):
    (tmp_path / "empty").write_text("")
    place = root("k2_host")
    filled = [
        argument.format(empty=tmp_path / "empty") for argument in arguments
    ]
    code, output, errors = run("--sysfs-root", place, *filled)
    assert code == 3
    assert output == ""
    assert words in errors
    assert errors.count("\n") == 1
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["inventory", "check", "config"])
def test_a_root_without_sysfs_is_refused(run, tmp_path, command):
    code, output, errors = run("--sysfs-root", tmp_path, command)
    assert (code, output) == (3, "")
    assert errors == (
        f"nova-gpu-host: {tmp_path}: no directory sys in it; --sysfs-root"
        " takes the directory that holds sys, proc and etc\n"
    )


def test_a_host_without_pci_is_told(run, tmp_path):
    (tmp_path / "sys").mkdir()
    code, _, errors = run("--sysfs-root", tmp_path, "inventory")
    assert code == 0
    assert "/sys/bus/pci/devices is not there" in errors


def test_a_host_without_devices_gets_no_fragment(run, tmp_path):
    sysfs_trees.Host(tmp_path)
    code, output, errors = run("--sysfs-root", tmp_path, "config")
    assert (code, output) == (3, "")
    assert "there is no device to offer" in errors


def test_a_fault_of_ours_is_one_line_and_a_traceback_with_debug(
    run, root, monkeypatch
):
    from nova_gpu_filter.host.sysfs import reader

    def fail(*arguments):
        raise RuntimeError("a fault")

    place = root("k2_host")
    monkeypatch.setattr(reader, "read", fail)
    code, _, errors = run("--sysfs-root", place, "inventory")
    assert code == 3
    assert errors.count("\n") == 1
    assert "unexpected error: RuntimeError('a fault')" in errors
    _, _, errors = run("--debug", "--sysfs-root", place, "inventory")
    assert "Traceback" in errors


def test_a_wrong_option_is_no_answer_of_check(run, root):
    code, _, _ = run("--log", "x", "--sysfs-root", root("hgx_h100"), "check")
    assert code == 3


# The real machine


@pytest.mark.parametrize(
    "arguments",
    [
        ("inventory",),
        ("inventory", "-f", "json"),
        ("inventory", "--topology"),
        ("inventory", "--svg", "-"),
        ("check",),
    ],
)
def test_this_machine_can_be_read(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "nova_gpu_filter.cmd.host", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in ((0, 1, 2) if "check" in arguments else (0,))
    assert "Traceback" not in done.stderr


def test_a_live_nvidia_smi_is_asked_where_it_is_asked_for(
    run, tmp_path, monkeypatch
):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'No devices were found'; exit 6\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    code, _, errors = run("inventory", "--run-nvidia-smi")
    assert code == 3
    assert "nvidia-smi topo -m: exit code 6: No devices were found" in errors


def test_a_missing_nvidia_smi_is_told(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, errors = run("inventory", "--run-nvidia-smi")
    assert code == 3
    assert "nvidia-smi is not installed" in errors
