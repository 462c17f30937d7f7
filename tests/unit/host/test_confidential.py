# SPDX-License-Identifier: Apache-2.0

"""Confidential computing modes of GPUs, as NVIDIA's programs print them."""

import json
import shlex
import subprocess

import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.cmd.host import app
from nova_gpu_filter.host import cc_mode
from nova_gpu_filter.host.address import PciAddress
from tests import captures

FIRST, SECOND = "0000:1b:00.0", "0000:43:00.0"
SNP = "/sys/module/kvm_amd/parameters/sev_snp"
TDX = "/sys/module/kvm_intel/parameters/tdx"


def line(address, text):
    return (
        f"2025-09-16,12:34:15.925 INFO     GPU {address} H100 0x2330 BAR0"
        f" 0x7e042000000 {text}"
    )


HEADING = (
    "NVIDIA GPU Tools version v2025.07.21o\n"
    "Command line arguments: ['nvidia_gpu_tools.py', '--query-cc-mode']\n"
    f"Topo:\n  Intel root port 0000:37:01.0\n   GPU {FIRST} H100 0x2330\n"
)


@pytest.mark.parametrize(
    ("text", "modes"),
    [
        (line(FIRST, "CC mode is off"), ["off", None]),
        (line(SECOND, "CC mode is on"), [None, "on"]),
        (line(FIRST, "CC mode is devtools"), ["devtools", None]),
        (
            line(FIRST, "CC mode is invalid-devtools-only-fix-by-setting"),
            ["invalid-devtools-only-fix-by-setting", None],
        ),
        (
            f"{line(FIRST, 'CC mode is off')}\n"
            f"{line(FIRST, 'PPCIe mode is on')}\n"
            f"{line(SECOND, 'PPCIe mode is off')}",
            ["ppcie", "off"],
        ),
        (line(FIRST, "has CC mode on, some may not work"), ["on", None]),
        # Set, but active only after a reset.
        (
            f"{line(FIRST, 'has CC mode on, some may not work')}\n"
            f"{line(FIRST, 'CC mode set to off. It will be active later.')}",
            ["on", None],
        ),
        (
            f"{line(FIRST, 'has CC mode on, some may not work')}\n"
            f"{line(FIRST, 'CC mode set to off. It will be active later.')}\n"
            f"{line(FIRST, 'was reset to apply the new CC mode.')}",
            ["off", None],
        ),
        (
            f"{line(FIRST, 'CC settings:')}\n"
            "2024-01-04,04:04:24.293 INFO       enable = 1\n"
            "2024-01-04,04:04:24.293 INFO       enable-devtools = 0\n"
            "2024-01-04,04:04:24.293 INFO       enable-allow-inband = 1\n",
            ["on", None],
        ),
        ("CC status: OFF\n", ["off", "off"]),
        (
            "==============NVSMI CONF-COMPUTE LOG==============\n"
            "    CC State                   : ON\n"
            "    Multi-GPU Mode             : None\n",
            ["on", "on"],
        ),
    ],
)
def test_modes_are_read_as_they_are_printed(text, modes):
    found = cc_mode.parse("saved", HEADING + text)
    assert [
        found.get_mode(PciAddress.parse(one)) for one in (FIRST, SECOND)
    ] == modes


@pytest.mark.parametrize("text", ["", HEADING, "mode is on\n"])
def test_a_text_without_a_mode_is_refused(text):
    with pytest.raises(exception.BadInput, match="names no mode"):
        cc_mode.parse("saved", text)


@pytest.fixture
def check(build, tmp_path, capsys):
    """Check an HGX H100; gives what is said of the mode."""

    host = build("hgx_h100")

    def run(text=None, path=None, content=""):
        if path:
            host.write(path, content)
        arguments = ["check", "--sysfs-root", str(host.root), "-f", "value"]
        arguments += ["-c", "Severity", "-c", "Check", "-c", "Finding"]
        if text is not None:
            (tmp_path / "cc.txt").write_text(HEADING + text)
            arguments += ["--nvidia-cc", str(tmp_path / "cc.txt")]
        app.main(arguments)
        return [
            shown
            for shown in capsys.readouterr().out.splitlines()
            if " confidential " in shown
        ]

    return run


GPU = "0000:0f:00.0"


def test_a_mode_that_is_off_gives_no_finding(check):
    assert check() == []
    assert check(line(GPU, "CC mode is off")) == []
    assert check(line(GPU, "CC mode is off"), SNP, "Y") == []


@pytest.mark.parametrize(
    ("mode", "path", "severity", "words"),
    [
        ("CC mode is on", None, "error", "this host cannot run"),
        ("CC mode is on", SNP, "warning", "gives such guests no devices"),
        ("CC mode is devtools", TDX, "warning", "(CC devtools)"),
        ("PPCIe mode is on", None, "error", "protected PCIe (PPCIe)"),
        ("CC mode is invalid-devtools-only", None, "error", "no valid state"),
    ],
)
def test_a_gpu_for_confidential_guests_only_is_told(
    check, mode, path, severity, words
):
    (shown,) = check(line(GPU, mode), path, "Y")
    assert shown.startswith(f"{severity} confidential ")
    assert words in shown


def test_a_host_for_confidential_guests_asks_for_the_mode(check):
    (shown,) = check(path=SNP, content="Y")
    assert shown.startswith("note confidential ")
    assert check(path=SNP, content="N") == []


def test_the_mode_of_a_capture_is_used(check):
    (shown,) = check(path=cc_mode.CAPTURED, content=line(GPU, "CC mode is on"))
    assert shown.startswith("error confidential ")


@pytest.mark.parametrize(
    "text",
    [
        f"{line(FIRST, 'CC mode is devtools')}\n"
        f"{line(SECOND, 'PPCIe mode is on')}",
        "CC status: OFF\n",
    ],
)
def test_what_a_capture_keeps_of_modes_says_the_same(text):
    modes = cc_mode.parse("saved", text)
    assert cc_mode.parse("saved", cc_mode.write(modes)) == modes


def test_a_capture_with_modes_is_checked_as_the_host(build, tmp_path, capsys):
    host = build("hgx_h100")
    (tmp_path / "cc.txt").write_text(HEADING + line(GPU, "CC mode is on"))
    archive = tmp_path / "host.tar"
    root = ("--sysfs-root", str(host.root))
    given = ("--nvidia-cc", str(tmp_path / "cc.txt"))
    assert app.main(["capture", *root, *given, str(archive)]) == 0
    top = captures.unpack(archive, tmp_path / "there")
    capsys.readouterr()
    shown = []
    for options in ((*root, *given), ("--sysfs-root", str(top))):
        app.main(["check", *options, "-f", "value", "-c", "Finding"])
        shown.append(
            [
                one
                for one in capsys.readouterr().out.splitlines()
                if "encrypted memory" in one
            ]
        )
    assert shown[0] == shown[1] != []


def test_the_cure_asks_for_the_modes_and_gives_them(
    build, tmp_path, capsys, monkeypatch
):
    host = build("hgx_h100")
    host.write(SNP, "Y")
    monkeypatch.chdir(tmp_path)
    root = ("--sysfs-root", str(host.root))

    def check(*words):
        app.main([*words, "-f", "json"])
        return [
            one
            for one in json.loads(capsys.readouterr().out)
            if one["Check"] == "confidential"
        ]

    (asked,) = check("check", *root, "--all")
    ask, give = asked["Cure"]
    # NVIDIA's program, which the operator has here.
    (tmp_path / "nvidia_gpu_tools.py").write_text(
        f"print({HEADING + line(GPU, 'CC mode is on')!r})"
    )
    subprocess.run(["/bin/sh", "-ec", ask], check=True)
    program, *words = shlex.split(give)
    assert program == "nova-gpu-host"
    (found,) = check(*words)
    assert found["Severity"] == "warning"
    assert "gives such guests no devices" in found["Finding"]
