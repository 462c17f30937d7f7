# SPDX-License-Identifier: Apache-2.0

import os
import threading

import pytest

from nova_gpu_filter import files


def test_a_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"a" * 2048)
    assert files.read_bytes(path, 2048) == b"a" * 2048
    with pytest.raises(OSError, match="larger than") as caught:
        files.read_bytes(path, 2047)
    assert caught.value.strerror == "larger than 2 KiB, and not read"
    assert caught.value.filename == path


def test_a_device_without_an_end_is_not_read():
    with pytest.raises(OSError, match="larger than 1 MiB"):
        files.read_bytes("/dev/zero", files.MIB)
    with pytest.raises(OSError, match="is a device"):
        files.check_size("/dev/zero")


def test_a_pipe_is_read_to_its_end(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"x" * 200_000,))
    writer.start()
    assert len(files.read_bytes(path)) == 200_000
    writer.join()


def test_a_file_that_another_library_reads_is_measured(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"a" * 11)
    files.check_size(path, 11)
    with pytest.raises(OSError, match="larger than 10 B"):
        files.check_size(path, 10)
