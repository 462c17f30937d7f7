# SPDX-License-Identifier: Apache-2.0

import json

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.host.links import fabric_output
from tests import smi_files


def modules(partitions):
    return {
        partition.id: tuple(member.module_id for member in partition.members)
        for partition in partitions
    }


def test_the_partitions_of_an_hgx_board_are_read():
    text = smi_files.fmpm(smi_files.HGX_H100)
    assert modules(fabric_output.parse("x", text)) == smi_files.HGX_H100


def test_our_table_is_the_one_of_the_guide():
    partitions, _ = smi_files.read_guide()
    assert partitions == smi_files.HGX_H100


def test_words_before_the_json_are_passed_over():
    text = "Connected to fabric manager\n" + smi_files.fmpm({0: (1, 2)})
    assert modules(fabric_output.parse("x", text)) == {0: (1, 2)}


@pytest.mark.parametrize(
    ("bus_id", "address"),
    [
        ("00000000:86:00.0", "0000:86:00.0"),
        ("00000000:00:00.0", "None"),
        ("", "None"),
        ("garbage", "None"),
    ],
)
def test_a_pci_address_is_taken_where_fabric_manager_has_one(bus_id, address):
    text = smi_files.fmpm({0: (1,)}, {1: bus_id})
    assert str(fabric_output.parse("x", text)[0].members[0].address) == address


def changed(**changes):
    data = json.loads(smi_files.fmpm({0: (1, 2), 1: (1,)}))
    data["partitionInfo"][0].update(changes)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("fmpm: command not found", "not JSON"),
        ("[]", "no list 'partitionInfo'"),
        ("{}", "no list 'partitionInfo'"),
        (changed(partitionId="one"), "'partitionId' is no number"),
        (changed(partitionId=True), "'partitionId' is no number"),
        (changed(partitionId=1), "partition 1 is there twice"),
        (changed(gpuInfo=[]), "partition 0 has no list 'gpuInfo'"),
        (changed(gpuInfo=[1, 2]), "'physicalId' is no number"),
        (changed(numGpus=3), "numGpus is 3, but 2 GPUs"),
        (
            changed(gpuInfo=[{"physicalId": 1}, {"physicalId": 1}]),
            "partition 0 lists a GPU twice",
        ),
    ],
)
def test_what_is_no_list_of_partitions_is_refused(text, message):
    with pytest.raises(exception.BadInput) as raised:
        fabric_output.parse("fmpm.json", text)
    assert str(raised.value).startswith("fmpm.json: ")
    assert message in str(raised.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["partitionInfo", "partitionId", "gpuInfo", "physicalId"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_a_list_of_partitions_or_bad_input(data):
    try:
        partitions = fabric_output.parse("x", json.dumps(data))
    except exception.BadInput as exc:
        assert str(exc).startswith("x: ")  # noqa: PT017 (one of two ends)
    else:
        assert isinstance(partitions, tuple)
