# SPDX-License-Identifier: Apache-2.0

import codecs

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.host import printed

TEXT = "\tGPU0\tGPU1\nGPU0\t X \tNV4\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
    ],
    ids=["utf-8", "utf-8 marked", "utf-16", "big endian", "le", "be"],
)
def test_a_text_is_decoded_however_it_was_encoded(data):
    assert printed.decode(data) == TEXT


@given(st.binary())
def test_any_bytes_are_decoded(data):
    assert isinstance(printed.decode(data), str)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff")))
def test_utf_8_stays_as_it_is(text):
    assert printed.decode(text.encode()) == text


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("> a\n>\n>  b\n", ["a", "", " b"]),
        (">> a\n> > b\n", ["a", "b"]),
        # A prompt is no mail.
        ("> nvidia-smi\na\n", ["> nvidia-smi", "a"]),
        ("a [1] \x1b[1;31mb\x1b[0m\n", ["a [1] b"]),
        ("", []),
    ],
)
def test_lines_are_as_they_were_printed(text, lines):
    assert printed.split_lines(text) == lines
