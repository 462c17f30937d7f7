# SPDX-License-Identifier: Apache-2.0

"""Texts that somebody would write who wants to do harm, and ways to run us."""

import contextlib
import io

from hypothesis import strategies as st

from nova_gpu_filter import printable
from nova_gpu_filter.cmd.host import app

NEW_LINE = "x\n[DEFAULT]\nevil = 1\x1b]0;x\x07"
TEXTS = (
    NEW_LINE,
    "x\r[DEFAULT]\revil = 1",
    "x\u2028[DEFAULT]\u2028evil = 1\x85evil = 2",
    "$(touch evil);`evil`'\"|&><",
    "\x1b[2J\x9b31m",
    "\u202eevil",
    "\ud800",
    "",
    " ",
    "${evil} %(evil)s $my_ip",
    "a" * 5000,
    "../" * 1000,
    "9" * 5000,
    "0-99999",
)
VALUES = (
    *TEXTS,
    None,
    True,
    0,
    -1,
    1 << 70,
    1.5,
    float("nan"),
    [],
    {},
    [[]],
    {"a": 1},
    "0000:00:00.0",
    "ffff:ff:1f.7",
    "NV18",
    "gpu",
)

texts = st.sampled_from(TEXTS) | st.text(max_size=40)
values = st.sampled_from(VALUES)

_LIVE = (
    "[pci]",
    "[filter_scheduler]",
    "device_spec = {",
    "alias = {",
    "report_in_placement = true",
    "pci_in_placement = true",
)


def run(*arguments):
    """Run nova-gpu-host; gives exit code, output, errors."""
    output, errors = io.StringIO(), io.StringIO()
    # argparse has the streams of the process.
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        code = app.HostApp().run(list(map(str, arguments)))
    return code, output.getvalue(), errors.getvalue()


def check_run(result):
    """Refuse a traceback, a fault of our own, a character for a terminal."""
    code, output, errors = result
    assert code in (0, 1, 2, 3)
    assert "unexpected error" not in errors
    assert "Traceback" not in errors
    for text in (output, errors):
        assert text == printable.escape(text, keep="\n\t")
    if code == 3:
        assert len(errors.splitlines()) == 1, errors


def check_nova_conf(text):
    """Refuse a line that is no comment and none of the options we write."""
    for line in text.splitlines():
        assert not line or line.startswith(("#", *_LIVE)), line
