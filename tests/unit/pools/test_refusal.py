# SPDX-License-Identifier: Apache-2.0

from nova_gpu_filter.pools import refusal


def too_few():
    return refusal.Refusal(
        refusal.Cause.TOO_FEW_DEVICES,
        request="h100",
        asked=4,
        specs=((("vendor_id", "10de"), ("product_id", "2330")),),
        free=6,
        dropped=(
            (refusal.Drop.PROPERTIES, 3),
            (refusal.Drop.UNREQUESTED_PF, 1),
        ),
        candidates=1,
    )


def test_description_accounts_for_every_free_device():
    assert too_few().left == 2
    assert refusal.describe(too_few()) == (
        "too few free devices: h100 asks for 4 (vendor_id=10de"
        " product_id=2330); 6 free, 3 with other ids or tags, 1 are physical"
        " functions, which were not requested; 2 left"
    )


def test_a_host_without_devices_needs_no_numbers():
    refused = refusal.Refusal(refusal.Cause.NO_PCI_DEVICES)
    assert refusal.describe(refused) == "no PCI devices"


def test_summary_counts_hosts_by_cause_the_most_frequent_first():
    refusals = [refusal.Refusal(refusal.Cause.NO_PCI_DEVICES)] * 9
    refusals += [too_few()] * 31
    assert refusal.summarize(refusals, 40) == (
        "0 of 40 hosts: 31 too few free devices, 9 no PCI devices"
    )


def test_summary_says_what_is_wrong_with_the_request():
    detail = "flavor gpu.2: gpu:link = 'nvlnk': must be one of nvlink, pix"
    refused = refusal.Refusal(refusal.Cause.BAD_EXTRA_SPEC, detail=detail)
    assert refusal.summarize([refused, refused], 2) == (
        "0 of 2 hosts: 2 flavor with a bad gpu:link, gpu:link_policy or"
        " gpu:spread"
        f" ({detail})"
    )


def test_summary_without_refusals_is_the_number_of_hosts():
    assert refusal.summarize([], 3) == "3 of 3 hosts"


def test_every_drop_has_a_cause():
    assert set(refusal.CAUSE_BY_DROP) == set(refusal.Drop)
