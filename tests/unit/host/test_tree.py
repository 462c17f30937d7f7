# SPDX-License-Identifier: Apache-2.0

import os

import pytest

from nova_gpu_filter.host.sysfs import tree


@pytest.fixture
def root(tmp_path):
    """A copy of a host's files beside a file that is none of them."""
    (tmp_path / "secret").write_text("of this machine")
    (tmp_path / "copy" / "sys").mkdir(parents=True)
    (tmp_path / "copy" / "sys" / "file").write_text(" text\n")
    return tmp_path / "copy"


def test_a_text_is_read_without_white_space_around_it(root):
    assert tree.Tree(str(root)).read("/sys/file") == "text"


def test_a_missing_file_is_none_and_no_problem(root):
    files = tree.Tree(str(root))
    assert files.read("/sys/none") is None
    assert files.list_entries("/none") == ()
    assert files.problems == {}


def test_bytes_of_another_encoding_do_not_stop_the_reading(root):
    (root / "sys" / "odd").write_bytes(b"caf\xe9\0\n")
    assert (
        tree.Tree(str(root)).read("/sys/odd") == "caf\N{REPLACEMENT CHARACTER}"
    )


@pytest.mark.parametrize(
    "target",
    [
        "../../secret",
        "../../../../../../../../secret",
        "/secret",
        "{outside}",
    ],
)
def test_no_link_leads_out_of_the_root(root, target):
    outside = str(root.parent / "secret")
    (root / "sys" / "link").symlink_to(target.format(outside=outside))
    assert tree.Tree(str(root)).read("/sys/link") is None


def test_a_directory_link_does_not_lead_out_of_the_root_either(root):
    (root / "out").symlink_to("../..", target_is_directory=True)
    files = tree.Tree(str(root))
    assert files.read("/out/secret") is None
    assert files.read("/out/sys/file") == "text"


def test_absolute_links_are_those_of_the_host(root):
    (root / "sys" / "link").symlink_to("/sys/file")
    assert tree.Tree(str(root)).read("/sys/link") == "text"


def test_links_that_go_round_lead_nowhere(root):
    (root / "sys" / "a").symlink_to("b")
    (root / "sys" / "b").symlink_to("a")
    files = tree.Tree(str(root))
    assert files.read("/sys/a") is None
    assert not files.exists("/sys/a/below")


def test_a_pipe_in_a_copy_is_not_waited_for(root):
    os.mkfifo(root / "sys" / "pipe")
    assert tree.Tree(str(root)).read("/sys/pipe") == ""


def test_a_directory_in_the_place_of_a_file_is_a_problem(root):
    (root / "sys" / "dir").mkdir()
    files = tree.Tree(str(root))
    assert files.read("/sys/dir") is None
    assert files.problems == {"/sys/dir": "Is a directory"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_is_not_ours_to_read_is_a_problem(root):
    (root / "sys" / "file").chmod(0)
    files = tree.Tree(str(root))
    assert files.read("/sys/file") is None
    assert files.problems == {"/sys/file": "Permission denied"}


def test_a_number_may_have_a_base_and_must_be_one(root):
    (root / "sys" / "hex").write_text("0x10\n")
    files = tree.Tree(str(root))
    assert files.read_number("/sys/hex") == 16
    assert files.read_number("/sys/file") is None
    assert files.problems == {"/sys/file": "'text' is not a number"}


def test_long_files_are_read_up_to_the_limit(root):
    (root / "sys" / "long").write_bytes(b"x" * 300_000)
    files = tree.Tree(str(root))
    assert len(files.read_bytes("/sys/long")) == 300_000
    assert len(files.read_bytes("/sys/long", 5000)) == 5000
