# SPDX-License-Identifier: Apache-2.0

"""Texts that somebody would write who wants to do harm, and ways to run us."""

import contextlib
import copy
import io
import json
import re
import shlex
import subprocess
import tempfile

from hypothesis import strategies as st
from oslo_config import cfg

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
# Copies: a harness that changes a document puts values into each other.
values = st.sampled_from(VALUES).map(copy.deepcopy)

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


_OPTIONS = {
    "pci": (
        cfg.MultiStrOpt("device_spec", default=[]),
        cfg.MultiStrOpt("alias", default=[]),
        cfg.BoolOpt("report_in_placement", default=False),
    ),
    "filter_scheduler": (cfg.BoolOpt("pci_in_placement", default=False),),
}
_ONE_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*")
_HEX = r"[0-9a-f]{4}:[0-9a-f]{4}"
_ADDRESS = r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
# modprobe.d(5), udev(7) and the kernel's parameters.
_GRAMMARS = {
    "--modprobe": rf"#.*|options vfio-pci ids={_HEX}(,{_HEX})*"
    r"|softdep [A-Za-z0-9_-]+ pre:( [A-Za-z0-9_-]+)+|blacklist nouveau",
    "--udev": r'#.*|ACTION=="add", SUBSYSTEM=="pci", (ATTR\{\[pci/'
    rf'{_ADDRESS}\]driver_override\}}|KERNEL=="{_ADDRESS}",'
    r' ATTR\{driver_override\})="[a-z0-9_-]+"',
    "--cmdline": rf"[a-z_.]+=[a-z0-9_-]+( [a-z_.]+=[a-z0-9_-]+)*"
    rf"( vfio-pci\.ids={_HEX}(,{_HEX})*)?( rd\.driver\.pre=vfio-pci)?|",
}
# All that a cure may have run.
_COMMANDS = frozenset(
    [
        "cat",
        "driverctl",
        "dracut",
        "echo",
        "egrep",
        "fi",
        "grep",
        "grub2-mkconfig",
        "grubby",
        "if",
        "install",
        "lspci",
        "mkinitcpio",
        "modprobe",
        "nova-gpu-host",
        "nova-manage",
        "nvidia-smi",
        "printf",
        "reboot",
        "rmmod",
        "sed",
        "setpci",
        "sh",
        "sudo",
        "sysctl",
        "systemctl",
        "tee",
        "then",
        "true",
        "udevadm",
        "update-grub",
        "update-initramfs",
        "virsh",
    ]
)


def check_nova_conf(text):
    """Refuse what Nova would read otherwise than we mean it."""
    for line in text.splitlines():
        assert not line or line.startswith(("#", *_LIVE)), line
    conf = cfg.ConfigOpts()
    for group, options in _OPTIONS.items():
        conf.register_opts(options, group=group)
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(text)
        file.flush()
        conf(
            ["--config-file", file.name],
            default_config_files=[],
            default_config_dirs=[],
        )
        for value in (*conf.pci.device_spec, *conf.pci.alias):
            for key, word in json.loads(value).items():
                assert re.fullmatch("[a-z_]+", key)
                assert isinstance(word, str)
                assert _ONE_LINE.fullmatch(word), word


def check_boot_text(option, text):
    """Refuse a line that modprobe, udev or the kernel reads otherwise."""
    for line in text.splitlines():
        assert re.fullmatch(_GRAMMARS[option], line), line


def check_shell(lines):
    """Refuse commands that bash does not parse, or that we did not write."""
    done = subprocess.run(
        ["bash", "-n"],
        input="\n".join(lines).encode("utf-8", "surrogateescape"),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for line in lines:
        assert len(line.splitlines()) <= 1, line
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        is_first = True
        for word in lexer:
            if set(word) <= set("();<>|&"):
                is_first = not set(word) & set("<>")
                continue
            if is_first and "=" not in word:
                assert word.lstrip("$`") in _COMMANDS, line
            is_first = False
