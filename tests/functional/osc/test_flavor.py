# SPDX-License-Identifier: Apache-2.0

"""openstack gpu flavor check, on a real Placement."""

import json

import pytest

from nova_gpu_filter.host import inventory
from nova_gpu_filter.host.address import PciAddress
from nova_gpu_filter.host.links import linking
from nova_gpu_filter.host.saved import inventory_json
from tests.functional.fleet import adapters
from tests.functional.osc import worlds
from tests.unit.fleet import builders

GIB = 1 << 30


@pytest.fixture
def hgx_inventory(tmp_path):
    """Return a file with what nova-gpu-host writes of hgx-1."""
    host = inventory.Inventory(
        hostname="hgx-1.example.org",
        functions=tuple(
            inventory.Function(
                address=PciAddress(0, bus, 0, 0),
                kind=inventory.Kind.GPU,
                class_code=0x030200,
                vendor_id=0x10DE,
                product_id=0x2330,
                bars=(
                    inventory.Bar(0, 16 << 20, True, True),
                    inventory.Bar(2, 128 * GIB, True, True),
                ),
            )
            for bus in builders.BUSES
        ),
    )
    path = tmp_path / "hgx-1.json"
    path.write_text(json.dumps(inventory_json.write(host, linking.join(host))))
    return path


class _Glance:
    def get(self, path, **_kwargs):
        properties = {
            "/images/good": {
                "hw_firmware_type": "uefi",
                "hw_machine_type": "q35",
            },
            "/images/bad": {"hw_machine_type": "pc"},
            "/images": {
                "images": [
                    {"id": "1", "name": "good"},
                    {"id": "2", "name": "bad"},
                ]
            },
        }.get(path)
        if properties is None:
            return adapters.Response(
                404 if "?" not in path else 200, {"images": []}
            )
        return adapters.Response(200, {"id": path, **properties})


def _check(small_cloud, *arguments):
    small_cloud.adapters.image = _Glance()
    return small_cloud.run(
        *("gpu", "flavor", "check", *arguments), *worlds.alias_options()
    )


def test_output_is_as_it_was_reviewed(small_cloud, golden, hgx_inventory):
    result = _check(
        small_cloud,
        *("h100.8", "--inventory", str(hgx_inventory), "--image", "bad"),
    )
    assert (result.code, result.err) == (0, "")
    golden("flavor-check.txt", result.out)


def test_a_good_flavor_has_no_findings(small_cloud, hgx_inventory):
    result = _check(
        small_cloud,
        *("h100.1", "--inventory", str(hgx_inventory), "--image", "good"),
        *("-f", "json"),
    )
    assert result.code == 0
    # 128 GiB and 16 MiB do not fit into what 40 bits give.
    assert [row["Key"] for row in json.loads(result.out)] == [
        "hw:maxphysaddr_mode"
    ]
    result = _check(small_cloud, "small", "-f", "json")
    assert [row["Severity"] for row in json.loads(result.out)] == ["note"]


def test_an_error_ends_with_exit_code_1(small_cloud):
    result = small_cloud.run(
        *("gpu", "flavor", "check", "l40s.1", "-f", "json"),
        *("--alias", worlds.ALIASES[0]),
    )
    assert result.code == 1
    (row,) = json.loads(result.out)
    assert row["Severity"] == "error"
    assert row["Finding"].startswith("flavor l40s.1 asks for alias l40s")
    assert result.err == ""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("x",), "no flavor 'x'; known: h100.1"),
        (("small", "--image", "x"), "no image 'x'"),
        (
            ("small", "--inventory", "/nowhere"),
            "/nowhere: No such file or directory",
        ),
        (
            ("small", "--inventory", "/dev/null"),
            "/dev/null: this is no JSON: Expecting value",
        ),
    ],
)
def test_what_cannot_be_checked_is_one_line(small_cloud, arguments, line):
    result = _check(small_cloud, *arguments)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(line)
    assert result.err.count("\n") == 1
