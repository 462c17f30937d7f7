# SPDX-License-Identifier: Apache-2.0

"""Names for which there is too little room."""

import pytest

from nova_gpu_filter.drawing import short_names


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("train-1", 7, "train-1"),
        ("train-large-42", 10, "train-\N{HORIZONTAL ELLIPSIS}-42"),
        (
            "train-large-model-42 (resize, source)",
            34,
            "train-large\N{HORIZONTAL ELLIPSIS}el-42 (resize, source)",
        ),
        # No room for what is in the brackets.
        (
            "x (resize, source, error)",
            12,
            "x (resiz\N{HORIZONTAL ELLIPSIS}or)",
        ),
        ("abc", 1, "\N{HORIZONTAL ELLIPSIS}"),
        # A dot beside the mark would read as a part of it.
        ("abcde.ghijklm", 9, "abcde\N{HORIZONTAL ELLIPSIS}lm"),
        ("abcdefghijk.m", 9, "abcdef\N{HORIZONTAL ELLIPSIS}m"),
        ("学习训练集群", 8, "学习\N{HORIZONTAL ELLIPSIS}群"),
    ],
)
def test_the_middle_is_left_out(text, most, expected):
    shortened = short_names.shorten(text, most)
    assert shortened == expected
    assert short_names.count_columns(shortened) <= most


def test_room_is_what_is_measured():
    shortened = short_names.shorten(
        "iiiiWWWWiiii", 8, "-", lambda t: t.count("W")
    )
    assert shortened == "iiiiWWWWiiii"
    shortened = short_names.shorten(
        "WWWWWWWWiiii", 4, "", lambda t: t.count("W")
    )
    assert shortened.count("W") == 4
