# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import socket
import stat

import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.host.configuration import fragment
from nova_gpu_filter.host.configuration import saving

OURS = f"{fragment.MARK} on x.\n"


def test_a_new_file_is_written_for_all_to_read(tmp_path):
    path = tmp_path / "gpu.conf"
    assert saving.save(str(path), "text") is None
    assert path.read_text() == "text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["gpu.conf"]


def test_a_file_of_ours_is_kept_as_a_copy(tmp_path):
    path = tmp_path / "gpu.conf"
    path.write_text(OURS)
    path.chmod(0o640)
    backup = saving.save(str(path), "new")
    assert path.read_text() == "new"
    with open(backup) as file:
        assert file.read() == OURS
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(os.stat(backup).st_mode) == 0o640


def test_copies_do_not_overwrite_each_other(tmp_path):
    path = tmp_path / "gpu.conf"
    path.write_text(OURS)
    copies = {saving.save(str(path), OURS + str(n)) for n in range(4)}
    assert len(copies) == 4
    assert len(os.listdir(tmp_path)) == 5


def test_a_file_of_others_is_not_replaced_unless_forced(tmp_path):
    path = tmp_path / "nova.conf"
    path.write_text("[DEFAULT]\n")
    with pytest.raises(exception.BadInput, match=r"nova\.conf\.d"):
        saving.save(str(path), "new")
    assert path.read_text() == "[DEFAULT]\n"
    backup = saving.save(str(path), "new", force=True)
    with open(backup) as file:
        assert file.read() == "[DEFAULT]\n"
    assert path.read_text() == "new"


def test_the_target_of_a_link_is_replaced_and_not_the_link(tmp_path):
    (tmp_path / "real.conf").write_text(OURS)
    link = tmp_path / "gpu.conf"
    link.symlink_to("real.conf")
    saving.save(str(link), "new")
    assert link.is_symlink()
    assert (tmp_path / "real.conf").read_text() == "new"


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "gpu.conf"
    path.write_text(OURS)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        saving.save(str(path), "new")
    assert path.read_text() == OURS
    assert not [name for name in os.listdir(tmp_path) if name[0] == "."]


def test_a_missing_directory_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        saving.save(str(tmp_path / "none" / "gpu.conf"), "text")


@pytest.fixture(params=["save", "replaced"])
def write(request):
    """Write a file, replacing what is there."""

    def write_file(path):
        if request.param == "save":
            saving.save(str(path), "new", force=True)
        else:
            with saving.replace(str(path), force=True) as file:
                file.write(b"new")

    return write_file


def test_what_is_no_regular_file_stays_as_it_is(tmp_path, write):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    paths = [tmp_path / name for name in ("fifo", "directory", "socket")]
    for path in [*paths, pathlib.Path("/dev/null")]:
        mode = path.lstat().st_mode
        with pytest.raises(exception.BadInput, match="is no regular file"):
            write(path)
        assert path.lstat().st_mode == mode
    assert len(os.listdir(tmp_path)) == 3


def test_a_link_to_another_directory_is_not_followed(tmp_path, write):
    (tmp_path / "etc").mkdir()
    outside = tmp_path / "shadow"
    outside.write_text(OURS)
    link = tmp_path / "etc" / "gpu.conf"
    for target in ("../shadow", "../not-there", "/dev/null"):
        link.symlink_to(target)
        with pytest.raises(exception.BadInput, match="in another directory"):
            write(link)
        link.unlink()
    assert outside.read_text() == OURS
    assert sorted(os.listdir(tmp_path)) == ["etc", "shadow"]


def test_links_that_go_round_are_refused(tmp_path, write):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises((exception.BadInput, OSError)):
        write(tmp_path / "a")
    assert (tmp_path / "a").is_symlink()


def test_mode_is_kept_and_nothing_else_is_left(tmp_path, write):
    path = tmp_path / "gpu.conf"
    path.write_text(OURS)
    path.chmod(0o600)
    write(path)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not [name for name in os.listdir(tmp_path) if name[0] == "."]


def test_a_file_that_is_not_complete_does_not_appear(tmp_path):
    def fail():
        with saving.replace(str(tmp_path / "x.tar")) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_there_is_replaced_only_if_forced(tmp_path):
    path = tmp_path / "x.tar"
    with saving.replace(str(path)) as file:
        file.write(b"one")
    with (
        pytest.raises(exception.BadInput, match="is there already"),
        saving.replace(str(path)),
    ):
        pass
    assert path.read_text() == "one"
