# SPDX-License-Identifier: Apache-2.0

"""openstack gpu explain, on a real Placement."""

import pytest

from tests.functional.fleet import adapters
from tests.functional.osc import worlds


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("explain-link.txt", ["--flavor", "h100.4.fabric"]),
        ("explain-few.txt", ["--flavor", "h100.8"]),
        ("explain-host.json", ["--flavor", "h100.8", "--host", "hgx-1"]),
        ("explain-server.txt", ["--server", "train-1"]),
        ("explain-no-devices.txt", ["--flavor", "small"]),
    ],
)
def test_output_is_as_it_was_reviewed(small_cloud, golden, name, arguments):
    form = ("-f", "json") if name.endswith("json") else ()
    result = small_cloud.run(
        "gpu", "explain", *arguments, *form, *worlds.alias_options()
    )
    assert result.code == 0
    golden(name, result.err + result.out)


class _Glance:
    def get(self, path, **_kwargs):
        assert path == "/images/cuda"
        return adapters.Response(
            200, {"id": "1", "trait:CUSTOM_CUDA": "required", "tags": []}
        )


def test_traits_of_an_image_count(small_cloud):
    small_cloud.adapters.image = _Glance()
    result = small_cloud.run(
        *("gpu", "explain", "--flavor", "h100.1", "--image", "cuda"),
        *("--host", "hgx-2", "-f", "value", "-c", "Reason"),
        *worlds.alias_options(),
    )
    assert result.code == 0
    assert result.out == "['trait CUSTOM_CUDA is required']\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--flavor", "x"), "no flavor 'x'; known: h100.1, h100.1.fabric,"),
        (("--server", "x"), "no server 'x'"),
        (
            ("--flavor", "h100.1"),
            "flavor h100.1 asks for alias h100, which is not in",
        ),
        (("--flavor", "small", "--host", "x"), "no host 'x'; known: hgx-1"),
    ],
)
def test_what_cannot_be_answered_is_one_line(small_cloud, arguments, line):
    result = small_cloud.run(
        *("gpu", "explain", *arguments, "--alias", worlds.ALIASES[1])
    )
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(line)
    assert result.err.count("\n") == 1


def test_a_server_or_a_flavor_is_needed(small_cloud):
    assert small_cloud.run("gpu", "explain").code == 2
