# SPDX-License-Identifier: Apache-2.0

"""openstack gpu topology show, on a real Placement."""

import pytest


@pytest.mark.parametrize("host", ["hgx-1", "pix-1", "plain-1"])
def test_the_drawing_is_as_it_was_reviewed(small_cloud, golden, host):
    result = small_cloud.run("gpu", "topology", "show", host)
    assert (result.code, result.err) == (0, "")
    golden(f"topology-{host}.txt", result.out)


@pytest.mark.parametrize("host", ["hgx-1", "pix-1"])
def test_the_picture_is_as_it_was_reviewed(
    small_cloud, golden, host, tmp_path
):
    path = tmp_path / "host.svg"
    result = small_cloud.run(
        "gpu", "topology", "show", host, "--svg", str(path)
    )
    assert (result.code, result.out, result.err) == (0, "", "")
    golden(f"topology-{host}.svg", path.read_text())


def test_a_web_page_can_be_written(small_cloud, tmp_path):
    path = tmp_path / "host.html"
    result = small_cloud.run(
        "gpu", "topology", "show", "hgx-1", "--html", str(path)
    )
    assert (result.code, result.out, result.err) == (0, "", "")
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_a_file_that_cannot_be_written_is_one_line(small_cloud, tmp_path):
    path = tmp_path / "nowhere" / "host.svg"
    result = small_cloud.run(
        "gpu", "topology", "show", "hgx-1", "--svg", str(path)
    )
    assert (result.code, result.err) == (
        1,
        f"{path}: No such file or directory\n",
    )
