# SPDX-License-Identifier: Apache-2.0

"""Device specs of a nova.conf against machines."""

import os

import pytest

from nova_gpu_filter import exception
from nova_gpu_filter.host.checks import conf_device_specs
from nova_gpu_filter.host.checks import findings
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.sysfs import reader
from nova_gpu_filter.host.sysfs import tree
from nova_gpu_filter.nova_rules import pci_options
from tests import sysfs_trees

ERROR, WARNING = Severity.ERROR, Severity.WARNING


@pytest.fixture
def check(tmp_path):
    """Check device specs against a machine's files."""

    def check_specs(host, *specs, placement=False):
        files = tree.Tree(str(host.root))
        text = "[pci]\n" + "".join(f"device_spec = {spec}\n" for spec in specs)
        if placement:
            text += "report_in_placement = true\n"
        path = tmp_path / "nova.conf"
        path.write_text(text)
        return list(
            conf_device_specs.check(
                reader.read(files),
                reader.read(files, everything=True).functions,
                pci_options.read(str(path)),
            )
        )

    return check_specs


def one(found, words):
    (finding,) = [one for one in found if words in one.summary]
    return finding


H100 = '{"vendor_id": "10de", "product_id": "2330"}'


def test_specs_that_fit_the_host_give_no_findings(build, check):
    host = build("hgx_h100")
    assert check(host, H100) == []
    assert check(host, H100, placement=True) == []


def test_a_spec_that_matches_nothing_is_told_with_its_line(build, check):
    spec = '{"vendor_id": "10de", "product_id": "2331"}'
    finding = one(check(build("hgx_h100"), H100, spec), "matches nothing")
    assert finding.severity is WARNING
    assert finding.evidence[0].content == spec


def test_a_spec_behind_another_adds_nothing(build, check):
    found = check(
        build("k2_host"), '{"vendor_id": "10de"}', '{"product_id": "11bf"}'
    )
    assert "earlier ones match 0000:85:00.0 (GRID K2)" in (
        one(found, "adds nothing").summary
    )


def test_gpus_that_no_spec_matches_are_told(build, check):
    found = check(build("k2_host"), '{"address": "0000:85:00.0"}')
    assert [(one.device, one.severity) for one in found] == [
        ("0000:86:00.0", WARNING)
    ]


def test_a_node_without_specs_is_told(build, check):
    finding = one(check(build("k2_host")), "is not set")
    assert finding.severity is ERROR
    assert finding.cures == ("nova-gpu-host config",)


@pytest.mark.parametrize(
    ("machine", "spec", "words"),
    [
        (
            "hgx_h100",
            '{"address": "*:*:*.*"}',
            "network cards: 0000:0d:00.0 (ConnectX-7)",
        ),
        ("hgx_h100", "{}", "bridges: 0000:0a:01.0"),
        (
            "hgx_h100",
            '{"vendor_id": "1000", "product_id": "c030"}',
            "bridges: ",
        ),
        (
            "rtx_with_audio_and_usb",
            '{"vendor_id": "10de"}',
            "other functions of a card: 0000:01:00.1",
        ),
        (
            "laptop",
            '{"address": "*:*:*.*"}',
            "the display of the host's console: 0000:00:02.0",
        ),
    ],
)
def test_specs_that_match_too_much_are_told(
    build, check, machine, spec, words
):
    found = check(build(machine), spec)
    assert one(found, f"matches too much: {words}").severity is WARNING


def test_a_disk_among_the_matches_is_told(build, check):
    host = build("k2_host")
    host.add(
        sysfs_trees.Pci("0000:02:00.0", "pci0000:00", "8086:0953", 0x010802)
    )
    found = check(host, "{}")
    assert "0000:02:00.0" in (
        one(found, "neither GPU nor network card").summary
    )


@pytest.mark.parametrize(
    ("placement", "severity"), [(False, WARNING), (True, ERROR)]
)
def test_a_pf_with_its_vfs_is_told(build, check, placement, severity):
    found = check(
        build("flex_with_vfs", vfs=3),
        '{"vendor_id": "8086", "product_id": "56c0"}',
        placement=placement,
    )
    finding = one(found, "a PF and 3 of its VFs")
    assert (finding.severity, finding.device) == (severity, "0000:4d:00.0")
    assert "name the addresses of the VFs" in finding.cures[0]


def test_the_address_of_a_pf_matches_its_vfs_too(build, check):
    found = check(build("flex_with_vfs", vfs=3), '{"address": "0000:4d:00.0"}')
    assert one(found, "a PF and 3 of its VFs")


def test_a_pf_and_its_vfs_in_two_specs_are_told(build, check):
    found = check(
        build("flex_with_vfs", vfs=1),
        '{"address": "0000:4d:00.1"}',
        '{"address": "0000:4d:00.0", "product_id": "56c0"}',
        placement=True,
    )
    assert one(found, "by different device specs").severity is ERROR


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        (
            ('"resource_class": "A"', '"resource_class": "B"'),
            "different resource classes CUSTOM_A, CUSTOM_B",
        ),
        (('"traits": "A"', '"traits": "A,B"'), "different sets of traits"),
        (
            ('"live_migratable": "yes"', '"live_migratable": "no"'),
            "different sets of traits",
        ),
        (
            ('"resource_class": "A"', '"managed": "no"'),
            "different resource classes CUSTOM_A, CUSTOM_PCI_8086_56C0",
        ),
    ],
)
def test_contradictions_on_one_pf_are_told(build, check, tags, words):
    specs = [
        f'{{"address": "0000:4d:00.{index}", {tag}}}'
        for index, tag in enumerate(tags, start=1)
    ]
    found = check(build("flex_with_vfs", vfs=2), *specs, placement=True)
    finding = one(found, words)
    assert (finding.severity, finding.device) == (ERROR, "0000:4d:00.0")


def test_names_that_nova_makes_equal_are_no_contradiction(build, check):
    found = check(
        build("flex_with_vfs", vfs=2),
        '{"address": "0000:4d:00.1", "resource_class": "flex"}',
        '{"address": "0000:4d:00.2", "resource_class": "CUSTOM_FLEX"}',
        placement=True,
    )
    assert found == []


def test_devname_and_placement_exclude_each_other(build, check):
    host = build("hgx_h100")
    spec = '{"devname": "ibs0", "product_id": "1021"}'
    assert (
        one(
            check(host, H100, spec, placement=True), "exclude each other"
        ).severity
        is ERROR
    )
    assert check(host, H100, spec) == []


@pytest.mark.parametrize(
    ("tag", "severity", "words"),
    [
        ('"gpu_link": "pix:0"', WARNING, "unknown tag gpu_link"),
        ('"colour": "red"', WARNING, "unknown tag colour"),
        ('"gpu_links": "pix:a"', ERROR, "gpu_links 'pix:a'"),
        ('"traits": "A, B"', WARNING, "becomes part of the trait: ' B'"),
        ('"managed": "perhaps"', ERROR, "neither yes nor no"),
        ('"one_time_use": "yes"', ERROR, "needs [pci]report_in_placement"),
    ],
)
def test_tags_that_are_wrong_are_told(build, check, tag, severity, words):
    spec = f'{{"vendor_id": "10de", "product_id": "11bf", {tag}}}'
    assert one(check(build("k2_host"), spec), words).severity is severity


@pytest.mark.parametrize(
    "spec",
    [
        "{",
        "[1]",
        '{"vendor_id": "zz"}',
        '{"address": "1:2:3:4.5"}',
        '{"address": "0000:85:00.0", "devname": "eth0"}',
    ],
)
def test_specs_that_nova_refuses_are_errors(build, check, spec):
    finding = one(check(build("k2_host"), spec), "does not start")
    assert finding.severity is ERROR


def test_equal_links_for_several_devices_are_told(build, check):
    spec = H100[:-1] + ', "gpu_links": "pix:0,fabric:11/1"}'
    found = check(build("hgx_h100"), spec)
    assert one(found, "gives the same gpu_links to")
    assert one(found, "more than 1 devices name it").severity is ERROR


# Files


def write(tmp_path, text, name="nova.conf"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_options_are_read_as_nova_reads_them(tmp_path):
    options = pci_options.read(
        write(
            tmp_path,
            "[DEFAULT]\ndebug = true\n[pci]\n"
            "device_spec = {}\ndevice_spec = {\n  }\n"
            "alias = {}\nreport_in_placement = yes\n",
        )
    )
    assert options.device_specs == ("{}", "{\n}")
    assert options.aliases == ("{}",)
    assert options.report_in_placement


@pytest.mark.parametrize(
    "text",
    [
        "[pci]\npassthrough_whitelist = {}\n",
        "[DEFAULT]\npci_passthrough_whitelist = {}\n",
    ],
)
def test_former_names_are_read_too(tmp_path, text):
    assert pci_options.read(write(tmp_path, text)).device_specs == ("{}",)


def test_files_of_a_directory_are_read_together(tmp_path):
    folder = tmp_path / "nova.conf.d"
    folder.mkdir()
    write(folder, "[pci]\ndevice_spec = {}\n", "gpu.conf")
    main = write(tmp_path, "[pci]\nreport_in_placement = true\n")
    options = pci_options.read(main, str(folder))
    assert options.device_specs == ("{}",)
    assert options.report_in_placement


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no section\n", "nova.conf"),
        ("[pci]\nreport_in_placement = perhaps\n", "perhaps"),
        ("[pci\n", "nova.conf"),
    ],
)
def test_what_is_no_configuration_is_refused_with_its_name(
    tmp_path, text, words
):
    with pytest.raises(exception.BadInput) as raised:
        pci_options.read(write(tmp_path, text))
    assert words in str(raised.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(exception.FileUnreadable, match="No such file"):
        pci_options.read(str(tmp_path / "none"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_is_not_ours_to_read_is_told_with_a_hint(tmp_path):
    path = write(tmp_path, "")
    os.chmod(path, 0)
    with pytest.raises(exception.FileUnreadable, match="run this with sudo"):
        pci_options.read(path)


def test_a_file_of_other_bytes_is_refused(tmp_path):
    path = tmp_path / "nova.conf"
    path.write_bytes(b"[pci]\ndevice_spec = \xff\xfe\n")
    with pytest.raises(exception.BadInput):
        pci_options.read(str(path))


def test_the_worst_finding_decides_the_exit_code(build, check):
    host = build("k2_host")
    assert findings.compute_exit_code(check(host, "{")) == 2
    assert findings.compute_exit_code(check(host, "{}")) == 1
    k2 = '{"vendor_id": "10de", "product_id": "11bf"}'
    assert findings.compute_exit_code(check(host, k2)) == 0
