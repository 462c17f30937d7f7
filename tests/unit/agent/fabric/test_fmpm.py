# SPDX-License-Identifier: Apache-2.0

"""Fabric Manager, asked by the program fmpm."""

import json

import pytest

from nova_gpu_filter.agent.fabric import fabric_manager
from nova_gpu_filter.agent.fabric import fmpm
from nova_gpu_filter.host.address import PciAddress

PROGRAM = """#!/bin/sh
echo "$@" >> {path}/asked
case "$3" in
  -l) cat {path}/list ;;
  *) cat {path}/answer; exit $(cat {path}/code) ;;
esac
"""


@pytest.fixture
def fabric(tmp_path):
    program = tmp_path / "fmpm"
    program.write_text(PROGRAM.format(path=tmp_path))
    program.chmod(0o755)
    answer(tmp_path, "", 0)
    say_active(tmp_path, False)
    return fmpm.Fmpm(str(program), "/run/fm.sock", 10.0)


def answer(path, text, code):
    (path / "answer").write_text(text)
    (path / "code").write_text(str(code))


def say_active(path, is_active):
    gpus = [{"physicalId": 1, "pciBusId": "00000000:00:00.0"}]
    listed = {
        "partitionInfo": [
            {"partitionId": 7, "isActive": int(is_active), "gpuInfo": gpus}
        ]
    }
    (path / "list").write_text(json.dumps(listed))


def asked(path):
    return (path / "asked").read_text().splitlines()


def test_each_call_is_an_option(fabric, tmp_path):
    [one] = fabric.list_partitions()
    assert (one.id, one.is_active) == (7, False)
    fabric.activate(7)
    fabric.deactivate(7)
    fabric.set_activated([9, 7])
    address = "--unix-domain-socket /run/fm.sock"
    assert asked(tmp_path) == [
        f"{address} -l",
        f"{address} -a 7",
        f"{address} -d 7",
        f"{address} --set-activated-list 7,9",
    ]
    assert fabric.connections == 1


def test_what_is_active_already_is_activated(fabric, tmp_path):
    answer(tmp_path, "Failed to activate partition. fmReturn: -7", 249)
    with pytest.raises(
        fabric_manager.FabricError, match=r"FM_ST_IN_USE \(-7\)"
    ):
        fabric.activate(7)
    say_active(tmp_path, True)
    fabric.activate(7)


@pytest.mark.parametrize(
    "text",
    [
        "Failed to connect to Fabric Manager instance.",
        "Failed to list partitions. fmReturn: -8",
    ],
)
def test_one_that_is_starting_is_asked_again_and_may_be_another(
    fabric, tmp_path, text
):
    fabric.activate(7)
    answer(tmp_path, text, 1)
    with pytest.raises(fabric_manager.NotReady):
        fabric.activate(7)
    answer(tmp_path, "", 0)
    fabric.activate(7)
    assert fabric.connections == 2, "it is told what is active"


def test_a_list_that_is_none_and_a_program_that_is_none(fabric, tmp_path):
    (tmp_path / "list").write_text("{}")
    with pytest.raises(fabric_manager.Misconfigured, match="partitionInfo"):
        fabric.list_partitions()
    gone = fmpm.Fmpm("/nonexistent/fmpm", "127.0.0.1", 1.0)
    with pytest.raises(fabric_manager.Misconfigured, match="No such file"):
        gone.list_partitions()


def test_a_program_that_fails_without_a_code_is_no_fault_of_a_partition(
    fabric, tmp_path
):
    answer(tmp_path, "fmpm: unrecognized option '-a'", 1)
    with pytest.raises(
        fabric_manager.Misconfigured, match="unrecognized option"
    ):
        fabric.activate(7)


def test_partitions_of_vgpus_need_the_library(fabric):
    with pytest.raises(fabric_manager.Misconfigured, match=r"libnvfm\.so"):
        fabric.activate(7, [PciAddress(0, 1, 0, 4)])
