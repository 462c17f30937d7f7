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
    ],
)
def test_the_middle_is_left_out(text, most, expected):
    shortened = short_names.shorten(text, most)
    assert shortened == expected
    assert len(shortened) <= most
