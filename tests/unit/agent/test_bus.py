# SPDX-License-Identifier: Apache-2.0

"""Resets through sysfs, and health before and after."""

import dataclasses

import pytest

from nova_gpu_filter.agent import bus as bus_lib
from nova_gpu_filter.agent import cleaning
from nova_gpu_filter.agent import states
from tests import sysfs_trees

GPU, OTHER = "0000:85:00.0", "0000:86:00.0"
PORT = "0000:84:08.0"


def place(address):
    return f"/sys/bus/pci/devices/{address}"


@pytest.fixture
def host(tmp_path):
    made = sysfs_trees.k2_host(tmp_path / "host")
    for address in (GPU, OTHER):
        made.write(f"{place(address)}/reset", "")
    made.write("/proc/sys/kernel/random/boot_id", "first")
    return made


@pytest.fixture
def bus(host):
    return bus_lib.Bus(str(host.root), reading_seconds=0.0)


def written(host, path):
    return host.path(path).resolve().read_text()


def test_a_device_is_reset_alone_where_the_kernel_can(host, bus):
    assert bus.reset(GPU, ()) is None
    assert written(host, f"{place(GPU)}/reset") == "1"


def test_what_cannot_be_reset_alone_is_reset_with_its_bus(host, bus):
    host.remove(f"{place(GPU)}/reset")
    host.write(f"{place(PORT)}/reset_subordinate", "")
    assert bus.reset(GPU, {OTHER}) is None
    assert written(host, f"{place(PORT)}/reset_subordinate") == "1"


def _audio(host, driver):
    host.add(
        sysfs_trees.Pci(
            "0000:85:00.1",
            PORT,
            "10de:0fbb",
            0x040300,
            driver=driver,
            reset=None,
        )
    )
    host.remove(f"{place(GPU)}/reset")
    host.write(f"{place(PORT)}/reset_subordinate", "")


def test_a_bus_with_a_function_in_use_is_not_reset(host, bus):
    _audio(host, "vfio-pci")
    assert "0000:85:00.1 is in use" in bus.reset(GPU, {"0000:85:00.1"})
    assert written(host, f"{place(PORT)}/reset_subordinate") == "\n"
    assert bus.reset(GPU, ()) is None


def test_a_bus_with_a_function_of_the_host_is_not_reset(host, bus):
    _audio(host, "snd_hda_intel")
    assert "the host uses 0000:85:00.1" in bus.reset(GPU, ())
    assert written(host, f"{place(PORT)}/reset_subordinate") == "\n"


def test_a_device_without_any_way_to_be_reset_says_so(host, bus):
    host.remove(f"{place(GPU)}/reset")
    problem = bus.reset(GPU, ())
    assert "the kernel has no such file" in problem
    assert f"{place(PORT)}/reset_subordinate" in problem


def test_a_device_that_is_gone_is_dead_and_cannot_be_reset(host, bus):
    host.remove(place(GPU))
    assert bus.find_dead([GPU, OTHER]) == {GPU}
    assert bus.reset(GPU, ()) == "it is not on the bus"
    assert bus.read_health(GPU).problems == ("it is not on the bus",)


def test_a_device_that_reads_all_ones_is_dead(host, bus):
    config = (0x11BF10DE).to_bytes(4, "little") + bytes(60)
    host.write(f"{place(GPU)}/config", config)
    assert bus.find_dead([GPU]) == set()
    host.write(f"{place(GPU)}/config", b"\xff" * 64)
    assert bus.find_dead([GPU]) == {GPU}
    assert "does not answer" in bus.read_health(GPU).problems[0]


def test_health_survives_the_ledger(bus):
    health = bus.read_health(GPU)
    assert health.problems == ()
    assert health.width == 16
    assert bus_lib.Health.load(health.dump()) == dataclasses.replace(
        health, problems=[]
    )
    assert bus_lib.compare(health, health, 1000) == ()


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[1]", '{"boot": 1}', "nonsense"),
        # Compared with its BARs, which are not there, a good device is bad.
        '{"boot": "b", "counters": {}}',
    ],
)
def test_another_text_is_no_health(text):
    assert bus_lib.Health.load(text) is None


def test_what_was_always_unusual_is_accepted_and_what_is_new_is_not(host, bus):
    host.write(f"{place(GPU)}/current_link_width", "8")
    narrow = bus.read_health(GPU)
    assert narrow.warnings
    assert bus_lib.compare(None, narrow, 1000) == ()
    assert bus_lib.compare(narrow, narrow, 1000) == ()
    host.write(f"{place(GPU)}/current_link_width", "4")
    found = bus_lib.compare(narrow, bus.read_health(GPU), 1000)
    assert "its link has x4, and had x8" in found


def test_a_bar_that_has_gone_is_a_problem(host, bus):
    before = bus.read_health(GPU)
    resource = host.path(f"{place(GPU)}/resource")
    lines = resource.read_text().splitlines()
    lines[2] = lines[-1]
    host.write(f"{place(GPU)}/resource", "\n".join(lines))
    found = bus_lib.compare(before, bus.read_health(GPU), 1000)
    assert any("its BARs are" in one for one in found)


COUNTS = [
    # file, count before, count now, is it a problem
    ("aer_dev_fatal", "DLP", 1, 1, False),
    ("aer_dev_fatal", "DLP", 1, 2, True),
    ("aer_dev_nonfatal", "CmpltTO", 0, 1, True),
    ("aer_dev_nonfatal", "UnsupReq", 0, 900, False),
    ("aer_dev_correctable", "BadTLP", 5000, 5999, False),
    ("aer_dev_correctable", "BadTLP", 5000, 6000, True),
    # It was removed and found again.
    ("aer_dev_fatal", "DLP", 7, 1, True),
]


@pytest.mark.parametrize(("name", "error", "before", "now", "is_bad"), COUNTS)
def test_only_errors_that_are_new_count(
    host, bus, name, error, before, now, is_bad
):
    host.write(f"{place(GPU)}/{name}", f"{error} {before}")
    first = bus.read_health(GPU)
    host.write(f"{place(GPU)}/{name}", f"{error} {now}")
    second = bus.read_health(GPU)
    assert bool(bus_lib.compare(first, second, 1000)) is is_bad
    assert bus.read_counters(GPU).counters == second.counters


def test_counters_begin_again_with_the_host(host, bus):
    host.write(f"{place(GPU)}/aer_dev_fatal", "DLP 3")
    first = bus.read_health(GPU)
    host.write("/proc/sys/kernel/random/boot_id", "second")
    assert bus_lib.compare(first, bus.read_health(GPU), 1000) == (
        "3 fatal PCIe errors",
    )


def test_a_pf_with_vfs_and_a_driver_of_the_host(host, bus):
    assert not bus.has_vfs(GPU)
    host.write(f"{place(GPU)}/sriov_numvfs", 4)
    assert bus.has_vfs(GPU)
    assert bus.is_for_guests(GPU)
    assert bus.is_nvidia_gpu(GPU)
    assert not bus.is_nvidia_gpu(PORT)


# -- cleaning

SMI = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
    --query-remapped-rows=remapped_rows.pending) echo {pending};;
    --query-gpu=gpu_recovery_action) {recovery};;
    --query*) echo 0;;
esac
"""


@pytest.fixture
def cleaner(bus, tmp_path):
    def make(**changes):
        made = cleaning.Cleaner(
            bus,
            hooks=str(tmp_path / "hooks"),
            hook_seconds=10.0,
            tool_seconds=10.0,
            settle_seconds=0.0,
            corrected_errors=1000,
            gpu_admin_tools="",
        )
        return dataclasses.replace(made, **changes)

    return make


RECORD = states.Record(
    GPU, states.State.CLEANING, "why", 1.0, "test", "server"
)


def _program(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_hooks_reset_and_checks_are_done_in_order(host, cleaner, tmp_path):
    log = tmp_path / "log"
    reset = host.path(f"{place(GPU)}/reset")
    for name in ("before.d", "after.d"):
        (tmp_path / "hooks" / name).mkdir(parents=True, mode=0o755)
        _program(
            tmp_path / "hooks" / name / "1",
            f'#!/bin/sh\necho {name} $GPU_AGENT_SERVER "$(cat {reset})"'
            f" >> {log}\n",
        )
    result = cleaner().clean(RECORD, (), False)
    assert result.problem is None
    assert bus_lib.Health.load(result.baseline).width == 16
    assert log.read_text() == "before.d server \nafter.d server 1\n"


def test_a_pf_whose_vfs_are_given_away_is_not_reset(host, cleaner):
    assert cleaner().clean(RECORD, (), True).problem is None
    assert written(host, f"{place(GPU)}/reset") == "\n"


def test_memory_is_cleared_by_nvidias_tool_before_the_reset(
    host, cleaner, tmp_path
):
    log = tmp_path / "log"
    tool = _program(tmp_path / "tool", f'#!/bin/sh\necho "$@" >> {log}\n')
    assert cleaner(gpu_admin_tools=tool).clean(RECORD, (), False).problem is (
        None
    )
    assert log.read_text() == (
        f"--gpu-bdf={GPU} --reset-with-sbr --clear-memory\n"
    )
    assert written(host, f"{place(GPU)}/reset") == "1"


@pytest.mark.parametrize(
    "text", ["#!/bin/sh\necho no GPU; exit 1\n", "#!/no/such\n"]
)
def test_memory_that_cannot_be_cleared_is_a_problem(cleaner, tmp_path, text):
    tool = _program(tmp_path / "tool", text)
    problem = cleaner(gpu_admin_tools=tool).clean(RECORD, (), False).problem
    assert problem.startswith(tool)


# cli/per_gpu.py and cli/per_device.py of gpu-admin-tools v2025.10.20: both end
# with 0.
@pytest.mark.parametrize(
    "message",
    [
        "Clearing memory not supported on GPU 0000:85:00.0 K2 0x11bf",
        "Cannot reset the GPU with SBR as the upstream bridge is not"
        " accessible",
    ],
)
def test_what_the_tool_logs_as_an_error_is_a_problem(
    cleaner, tmp_path, message
):
    tool = _program(
        tmp_path / "tool",
        "#!/bin/sh\n"
        "echo '2025-10-20,10:00:00.123 INFO     Selected GPU'\n"
        f"echo '2025-10-20,10:00:00.456 ERROR    {message}' >&2\n"
        "echo '2025-10-20,10:00:00.789 WARNING  more'\n",
    )
    result = cleaner(gpu_admin_tools=tool).clean(RECORD, (), False)
    assert result.problem == f"{tool}: {message}"


def test_a_device_whose_memory_nothing_has_cleared_says_so(
    host, cleaner, tmp_path
):
    def keeps_memory(is_shared=False, **changes):
        result = cleaner(**changes).clean(RECORD, (), is_shared)
        assert result.problem is None
        return result.keeps_memory

    tool = _program(tmp_path / "tool", "#!/bin/sh\n")
    assert keeps_memory()
    assert not keeps_memory(is_shared=True)
    assert not keeps_memory(gpu_admin_tools=tool)
    # Which leaves GPUs alone that the host uses.
    _bind(host, "nvidia")
    assert keeps_memory(gpu_admin_tools=tool)
    (tmp_path / "hooks" / "before.d").mkdir(parents=True, mode=0o755)
    assert keeps_memory()
    _program(tmp_path / "hooks" / "before.d" / "clear", "#!/bin/sh\n")
    assert not keeps_memory()


def _bind(host, driver):
    host.remove(f"{place(GPU)}/driver")
    host.mkdir(f"/sys/bus/pci/drivers/{driver}")
    resolved = host.path(place(GPU)).resolve()
    (resolved / "driver").symlink_to(
        host.path(f"/sys/bus/pci/drivers/{driver}")
    )


@pytest.mark.parametrize(
    ("pending", "recovery", "problem"),
    [
        ("No", "echo None", None),
        ("[N/A]", "echo N/A", None),
        # As an older driver says it.
        (
            "No",
            'echo Field \\"gpu_recovery_action\\" is not a valid field to'
            " query.; exit 2",
            None,
        ),
        ("Yes", "echo None", "remapped_rows.pending is Yes"),
        ("No", "echo Drain P2P", "gpu_recovery_action is Drain P2P"),
        ("No", "echo No devices were found; exit 6", "No devices were found"),
    ],
)
def test_a_gpu_of_the_vendors_driver_is_reset_and_asked_by_its_tool(
    host, cleaner, tmp_path, monkeypatch, pending, recovery, problem
):
    log = tmp_path / "log"
    (tmp_path / "bin").mkdir()
    _program(
        tmp_path / "bin/nvidia-smi",
        SMI.format(log=log, pending=pending, recovery=recovery),
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    _bind(host, "nvidia")
    found = cleaner().clean(RECORD, (), False).problem
    assert found == problem or problem in found
    assert log.read_text().startswith(f"--gpu-reset --id={GPU}\n")
    assert written(host, f"{place(GPU)}/reset") == "\n"
