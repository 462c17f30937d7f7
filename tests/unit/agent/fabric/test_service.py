# SPDX-License-Identifier: Apache-2.0

"""The agent's part for the fabric, made of its options."""

import os

import pytest

from nova_gpu_filter.agent.fabric import client
from nova_gpu_filter.agent.fabric import fmpm
from nova_gpu_filter.agent.fabric import service


@pytest.mark.parametrize("path", ["fmpm", "/none/fmpm", "libnone.so.1"])
def test_neither_library_nor_fmpm_is_one_line_with_the_cure(
    monkeypatch, tmp_path, path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(client.NoLibrary) as caught:
        service.connect(path, "127.0.0.1")
    text = str(caught.value)
    assert text.startswith(f"[gpu_agent]fabric_library = {path}: ")
    assert "install" in text
    assert "unset [gpu_agent]fabric_manager" in text
    assert "\n" not in text


@pytest.mark.parametrize("path", ["fmpm", "libnone.so.1"])
def test_fmpm_in_the_path_is_used(monkeypatch, tmp_path, path):
    program = tmp_path / "fmpm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join((str(tmp_path), os.defpath)))
    assert isinstance(service.connect(path, "127.0.0.1"), fmpm.Fmpm)
