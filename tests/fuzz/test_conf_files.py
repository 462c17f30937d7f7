# SPDX-License-Identifier: Apache-2.0

"""Configuration files of services, as each of our programs reads them."""

import pathlib
import tempfile

from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter import exception
from nova_gpu_filter import printable
from nova_gpu_filter.agent import daemon
from nova_gpu_filter.exporter import settings
from nova_gpu_filter.nova_rules import pci_options
from nova_gpu_filter.osc import scheduler_rules
from nova_gpu_filter.status import limits
from tests.fuzz import hostile

READERS = {
    "nova-gpu-host check": lambda path: pci_options.read(path),
    "nova-gpu-exporter": lambda path: settings.read_scope([path], [], []),
    "openstack gpu": lambda path: scheduler_rules.read([path]),
    "nova-gpu-status": limits.read,
    "nova-gpu-agent": lambda path: daemon.read_options([path]),
}
OPTIONS = {
    "DEFAULT": ("log_file", "pci_passthrough_whitelist", "my_ip"),
    "pci": ("device_spec", "alias", "report_in_placement"),
    "gpu_filter": ("request_mix", "max_sets_per_tree", "pool_matcher"),
    "gpu_agent": ("devices", "fabric_manager", "interval", "hooks", "ledger"),
    "devices": ("enabled_mdev_types", "enabled_vgpu_types"),
    "mdev_nvidia-35": ("device_addresses", "mdev_class"),
    "libvirt": ("live_migration_permit_post_copy",),
    "filter_scheduler": ("enabled_filters",),
    "scheduler": ("image_metadata_prefilter",),
    "quota": ("driver", "unified_limits_resource_list"),
    "placement": ("max_allocation_candidates", "auth_type"),
    "workarounds": ("optimize_for_wide_provider_trees",),
}
VALUES = hostile.texts | st.sampled_from(
    [
        *("1", "-1", "true", "maybe", "1:0.4,2:0.6", "1:nan", "1:1e999"),
        *("0:1", ":", "nvidia-35,nvidia-35", "a]b", "${", "$$", "$alias"),
        *("${pci.alias}", "[" * 3000, '{"a":' * 2000, '{"name": 5}'),
        *('{"name": "a", "vendor_id": "10de"}', '{"address": "*:*"}'),
    ]
)
LINES = st.sampled_from(list(OPTIONS)).flatmap(
    lambda group: st.lists(
        st.builds(
            "{}{}{}".format,
            st.sampled_from(OPTIONS[group]),
            st.sampled_from([" = ", "=", ":", ""]),
            VALUES,
        ),
        max_size=4,
    ).map(lambda options: "\n".join([f"[{group}]", *options]))
)
FILES = st.tuples(
    st.lists(LINES | hostile.texts, max_size=5).map(
        lambda parts: "\n".join(parts).encode("utf-8", "surrogatepass")
    ),
    st.sampled_from([b"", b"", b"", b"\n# \xff"]),
).map(b"".join)


@given(text=FILES, reader=st.sampled_from(sorted(READERS)))
@example(text=b"# \xff", reader="openstack gpu")
@example(
    text=b"[placement]\nmax_allocation_candidates =\n",
    reader="nova-gpu-status",
)
@example(
    text=b"[scheduler]\nimage_metadata_prefilter=x", reader="openstack gpu"
)
@example(
    text=b"[gpu_filter]\nrequest_mix = 1:nan\n", reader="nova-gpu-exporter"
)
@example(text=b"[pci]\nalias = $alias\n", reader="nova-gpu-host check")
def test_a_file_is_read_or_the_error_names_it(text, reader):
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "x.conf"
        path.write_bytes(text)
        try:
            READERS[reader](str(path))
        except (exception.GpuFilterError, limits.UnreadableError) as error:
            line = printable.join_lines(str(error))
            assert "x.conf" in line or "[pci]alias" in line or "mix" in line
            # A text of 5,000 characters is among the values.
            assert len(line) < 30_000


@pytest.mark.parametrize("reader", sorted(READERS))
def test_a_device_is_no_configuration_file(reader):
    # It would be read without an end.
    with pytest.raises((exception.GpuFilterError, limits.UnreadableError)):
        READERS[reader]("/dev/zero")


@pytest.mark.parametrize(
    "mix",
    ["1:nan", "1:inf", "1:1e308,2:1e308", "9999999:1", "9" * 5000 + ":1"],
)
def test_a_mix_of_no_finite_numbers_is_refused(mix, tmp_path):
    path = tmp_path / "nova.conf"
    path.write_text(f"[gpu_filter]\nrequest_mix = {mix}\n")
    with pytest.raises(exception.BadRequestMix):
        settings.read_scope([str(path)], [], [])
