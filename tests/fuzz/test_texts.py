# SPDX-License-Identifier: Apache-2.0

"""Outputs of programs, tags and options: texts that others write."""

import json

from hypothesis import given
from hypothesis import strategies as st

from nova_gpu_filter import exception
from nova_gpu_filter import printable
from nova_gpu_filter.host import cc_mode
from nova_gpu_filter.host.links import fabric_output
from nova_gpu_filter.host.links import smi
from nova_gpu_filter.nova_rules import alias
from nova_gpu_filter.nova_rules import device_spec
from nova_gpu_filter.topology import codec
from tests import smi_files
from tests.fuzz import hostile
from tests.unit.host import test_linking

CC = "0000:85:00.0 CC mode is on\n  CC status : OFF\n"
OUTPUTS = (
    (smi.parse_topo, test_linking.NV18),
    (smi.parse_topo, test_linking.PAIRS),
    (smi.parse_query, test_linking.QUERY[1]),
    (fabric_output.parse, smi_files.fmpm(smi_files.HGX_H100)),
    (cc_mode.parse, CC),
)
WORDS = ("GPU0", "GPU1", "NIC0", "X", "NV18", "PIX", "N/A", "0-31", "GPU")


@st.composite
def damaged(draw, text):
    """A text of which words were taken out, doubled and replaced."""
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 6))):
        number = draw(st.integers(0, len(lines) - 1))
        words = lines[number].split("\t")
        index = draw(st.integers(0, len(words) - 1))
        how = draw(st.sampled_from(["word", "line", "twice", "none"]))
        if how == "word":
            words[index] = draw(hostile.texts | st.sampled_from(WORDS))
        lines[number] = "\t".join(words)
        if how == "line":
            lines[number] = draw(hostile.texts)
        elif how == "twice":
            lines.insert(number, lines[number])
        elif how == "none" and len(lines) > 1:
            del lines[number]
    return draw(st.sampled_from(["\n", "\r\n", "\x0b"])).join(lines)


def check_message(error):
    """Refuse a message that does not fit on one line of a terminal."""
    text = printable.join_lines(str(error))
    assert text
    assert len(text.splitlines()) == 1
    assert printable.escape(text) == text


@given(
    st.sampled_from(OUTPUTS).flatmap(
        lambda one: st.tuples(st.just(one[0]), damaged(one[1]) | hostile.texts)
    )
)
def test_outputs_of_programs(case):
    parse, text = case
    try:
        parse("x.txt", text)
    except exception.GpuFilterError as error:
        check_message(error)


LINKS = st.builds(
    "{}:{}".format,
    st.sampled_from(["nv1", "nv18", "NV4", "pix", "pxb", "phb", "node", "sys"])
    | hostile.texts,
    st.integers(-1, 300) | hostile.texts,
)
PARTITIONS = st.builds(
    "fabric:{}/{}".format, st.integers(0, 70), st.integers(0, 70)
)
TAGS = (
    st.lists(LINKS | PARTITIONS | hostile.texts, max_size=8).map(",".join)
    | hostile.texts
)


@given(TAGS)
def test_the_tag_of_links(text):
    try:
        found = codec.parse_text("0000:85:00.0", text)
    except codec.LinkTextError as error:
        check_message(error)
        return
    again = codec.format_text(found)
    assert codec.parse_text("x", again) == found
    assert codec.parse_traits("x", codec.format_traits(found)) == found


@given(
    st.lists(
        st.builds(
            "{}{}".format,
            st.sampled_from(
                [codec.LINK_TRAIT_PREFIX, codec.FABRIC_TRAIT_PREFIX, ""]
            ),
            st.from_regex(r"\A[A-Z0-9_]{0,12}\Z") | hostile.texts,
        ),
        max_size=6,
    )
)
def test_the_traits_of_links(traits):
    try:
        found = codec.parse_traits("0000:85:00.0", traits)
    except codec.LinkTextError as error:
        check_message(error)
        return
    assert set(codec.format_traits(found)) <= set(traits)


KEYS = st.sampled_from(
    [
        "address",
        "alias",
        "capability_type",
        "device_type",
        "devname",
        "gpu_links",
        "live_migratable",
        "managed",
        "name",
        "numa_policy",
        "physical_network",
        "product_id",
        "resource_class",
        "traits",
        "vendor_id",
    ]
)
VALUES = (
    st.sampled_from(
        [
            "10de",
            "0x10de",
            "*:85:*.*",
            "0000:85:00.0",
            "type-PF",
            "socket",
            "yes",
            {"domain": ".*", "bus": "(", "slot": "**", "function": "9"},
            {"domain": hostile.NEW_LINE},
        ]
    )
    | hostile.values
)
OBJECTS = st.dictionaries(KEYS | hostile.texts, VALUES, max_size=8)


@given((OBJECTS | st.lists(OBJECTS, max_size=3)).map(json.dumps) | TAGS)
def test_options_of_nova(text):
    try:
        specs = list(device_spec.parse(text))
    except device_spec.SpecError as error:
        check_message(error)
    else:
        read = json.loads(text)
        assert len(specs) == (len(read) if isinstance(read, list) else 1)
    try:
        found = alias.parse(text)
    except alias.AliasError as error:
        check_message(error)
    else:
        assert found.name is not None
