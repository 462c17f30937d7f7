# SPDX-License-Identifier: Apache-2.0

"""What a program has printed, in whatever form somebody has saved it.

Redirected by PowerShell it is UTF-16 with a byte order mark, recorded by
``script`` it has the escape sequences of the terminal, in a mail each line
begins with ``>``, and a web page shows the escape character as nothing or
as ``^[``.
"""

import codecs
from collections.abc import Iterable
import re
from typing import Final

_MARKS: Final = (
    # (byte order mark, encoding); Unicode Standard, section 23.8.
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ESCAPES = re.compile(
    # ECMA-48 and xterm's control sequences: control sequences such as
    # colors, titles of windows, character sets.
    r"\x1b\[[0-9;?]*[A-Za-z]"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[()][A-Za-z0-9]"
    # Colors whose escape character was lost or made visible.
    r"|(?:\^\[|\u241b)?\[[0-9;]{0,16}m"
)
_QUOTES = re.compile(r"(?: ?>)+ ?")


def decode(data: bytes) -> str:
    """Decode what was saved as UTF-8 or UTF-16.

    :returns: text without a byte order mark; bytes that are no text are
        replaced.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    # UTF-16 without a mark: of ASCII text every second byte is zero.
    pairs = max(len(data) // 2, 1)
    for encoding, zeros in (
        ("utf-16-le", data[1::2]),
        ("utf-16-be", data[::2]),
    ):
        if zeros.count(0) * 2 > pairs:
            return data.decode(encoding, "replace")
    return data.decode("utf-8", "replace")


def split_lines(text: str) -> list[str]:
    """Split the output of a program into lines, as it printed them.

    Escape sequences are left out, as is the ``>`` of a mail where all lines
    with text have it. The spaces of a web page are spaces.
    """
    text = _ESCAPES.sub("", text).removeprefix("\ufeff")
    lines = text.replace("\u00a0", " ").splitlines()
    quotes = [_QUOTES.match(line) for line in lines]
    if any(quotes) and all(
        quote or not line.strip()
        for quote, line in zip(quotes, lines, strict=True)
    ):
        return [
            line[quote.end() :] if quote else ""
            for quote, line in zip(quotes, lines, strict=True)
        ]
    return lines


def join_lines(lines: Iterable[str]) -> str:
    """Write lines as a program prints them, each with its end."""
    return "".join(f"{line}\n" for line in lines)
