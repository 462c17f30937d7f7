# SPDX-License-Identifier: Apache-2.0

"""The file that declares virtual functions."""

import copy

from hypothesis import given
from hypothesis import strategies as st
import yaml

from nova_gpu_filter import exception
from nova_gpu_filter import printable
from nova_gpu_filter.host.vgpu import declaration
from tests.fuzz import hostile
from tests.fuzz import test_inventory_json
from tests.fuzz import test_scenario

DOCUMENT = {
    "physical_functions": [
        {"address": "0000:41:00.0", "vfs": "16", "type": "NVIDIA L40S-4Q"},
        {"id": "10de:2235", "vfs": "4", "autoprobe": "false"},
        {"slot": "3", "vfs": "8", "type": "1234", "mig": "true"},
    ]
}
ODD = (
    *("&a [*a]", "*a", "? [a]\n: b", "{", "!!python/name:os.system x"),
    *("<<: {}", "\t", "%YAML 9", "---\n", test_scenario.LAUGHS, ": : :"),
)
VALUES = hostile.values | st.integers(-3, 99) | hostile.texts


def check(text):
    try:
        rows = declaration.parse("vgpu.yaml", text)
    except exception.GpuFilterError as error:
        line = printable.join_lines(str(error))
        assert "vgpu.yaml" in line
        assert len(line) < 20_000
        return
    for row in rows:
        assert 0 <= row.vfs <= 0xFFFF
        assert row.selector


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(test_inventory_json.places(DOCUMENT))), VALUES
        ),
        max_size=4,
    )
)
def test_any_damage_is_one_line(changes):
    document = copy.deepcopy(DOCUMENT)
    for place, value in changes:
        try:
            test_inventory_json.change(document, place, value)
        except (KeyError, IndexError, TypeError):
            continue
    check(yaml.safe_dump(document))


@st.composite
def damaged(draw):
    """Draw the text of the file, with other text at some places."""
    found = yaml.safe_dump(DOCUMENT)
    odd = st.sampled_from(ODD)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(found)))
        end = place + draw(st.integers(0, 9))
        found = found[:place] + draw(odd | hostile.texts) + found[end:]
    return found


@given(damaged() | st.just("[" * 5000) | hostile.texts)
def test_any_text_is_rows_or_one_line(text):
    check(text)
