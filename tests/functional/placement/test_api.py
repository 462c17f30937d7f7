# SPDX-License-Identifier: Apache-2.0

"""The extension as a client of the Placement API sees it."""

import json
import logging
import os
import pathlib
import re
import subprocess
import sys

import pytest

from nova_gpu_filter.placement import trees
from tests.functional.placement import questions
from tests.functional.placement import service

GPU = questions.GPU
query = questions.query
hosts = questions.hosts
device_sets = questions.device_sets
MISSING = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def hgx(placement):
    """Three hosts with four GPUs."""
    placement.replace_providers(hosts(3, 4))
    placement.set_option("max_sets_per_tree", 16, "gpu_filter")
    return placement


def test_an_answer_has_the_headers_of_placement_and_one_of_ours(hgx):
    path = f"/allocation_candidates?{query(2)}"
    stock, ours = hgx.stock(path), hgx.ours(path)
    assert stock.status == ours.status == 200
    vary = {"Content-Length", "Last-Modified", "x-openstack-request-id"}
    assert {k: v for k, v in ours.headers.items() if k not in vary} == {
        **{k: v for k, v in stock.headers.items() if k not in vary},
        "X-GPU-Candidates": "composed",
    }
    assert set(ours.headers) == {*stock.headers, "X-GPU-Candidates"}
    assert ours.headers["Content-Length"] == str(len(ours.body))
    assert ours.headers["x-openstack-request-id"].startswith("req-")


@pytest.mark.parametrize(
    "text",
    [
        query(2, "limit=0"),
        query(2, "limit=x"),
        query(2, "unknown=1"),
        query(2, "required_0=CUSTOM_NO_SUCH"),
        query(2, "required_0=CUSTOM_NO_SUCH", "required_1=CUSTOM_NO_SUCH"),
        query(2, "required_5=CUSTOM_A"),
        query(2, "same_subtree=_7"),
        query(2, "root_required=CUSTOM_NO_SUCH"),
        query(2, "root_required=A", "root_required=B"),
        query(2, "required=%FF"),
        query(2, "in_tree_0=x", "in_tree_1=x"),
        query(2, policy="most"),
        query(2).replace("&group_policy=none", ""),
        query(2).replace(GPU, "CUSTOM_NO_SUCH"),
        query(2).replace(f"{GPU}:1", f"{GPU}:-1"),
        query(2).replace(f"{GPU}:1", f"{GPU}:many"),
        query(2).replace("VCPU:1", "VCPU:0"),
        query(2).replace("VCPU:1", "VCPU"),
    ],
)
def test_a_bad_query_has_the_error_of_placement(hgx, text):
    path = f"/allocation_candidates?{text}"
    stock, ours = hgx.stock(path), hgx.ours(path)
    assert stock.status == 400
    assert ours.status == 400
    assert not ours.is_composed

    def errors(response):
        [error] = response.json["errors"]
        return {k: v for k, v in error.items() if k != "request_id"}

    assert errors(ours) == errors(stock)


@pytest.mark.parametrize("digits", [19, 100, 4300, 5000])
def test_a_limit_of_many_digits_is_no_error_of_ours(hgx, digits, caplog):
    path = f"/allocation_candidates?{query(2)}&limit={'9' * digits}"
    stock = hgx.stock(path)
    caplog.clear()
    ours = hgx.ours(path)
    assert ours.status == stock.status
    if ours.is_composed:
        assert len(device_sets(ours)) == 3 * 6
    assert not [
        record
        for record in caplog.records
        if record.name.startswith("nova_gpu")
        and record.levelno >= logging.WARNING
    ]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Auth-Token": None}, 401),
        ({"X-Auth-Token": "demo:demo", "X-Roles": "reader"}, 403),
        ({"OpenStack-API-Version": "placement 1.99"}, 406),
        ({"OpenStack-API-Version": "placement new"}, 400),
        ({"Accept": "text/html"}, 406),
    ],
)
def test_a_bad_request_has_the_error_of_placement(hgx, headers, status):
    path = f"/allocation_candidates?{query(2)}"
    stock = hgx.stock(path, headers=headers)
    ours = hgx.ours(path, headers=headers)
    assert (stock.status, ours.status) == (status, status)
    assert not ours.is_composed


@pytest.mark.parametrize(
    ("microversion", "is_composed"),
    [("1.25", False), ("1.33", False), ("1.34", True), ("latest", True)],
)
def test_microversions_without_mappings_are_left_to_placement(
    hgx, microversion, is_composed
):
    # Suffixes were numbers before 1.33.
    text = query(2).replace("_0=", "1=").replace("_1=", "2=")
    response = hgx.candidates(text, microversion=microversion)
    assert response.status == 200
    assert response.is_composed is is_composed


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/resource_providers"),
        ("POST", "/allocation_candidates"),
        ("HEAD", f"/allocation_candidates?{query(2)}"),
        ("GET", f"/allocation_candidates/?{query(2)}"),
        ("GET", f"/allocation_candidates?{query(1)}"),
        ("GET", "/allocation_candidates"),
    ],
)
def test_all_other_requests_are_left_to_placement(hgx, method, path):
    stock = hgx.stock(path, method=method)
    ours = hgx.ours(path, method=method)
    assert ours.status == stock.status
    assert set(ours.headers) == set(stock.headers)
    if ours.status == 200:
        assert ours.json == stock.json


def test_nothing_fits_is_an_empty_answer(hgx):
    response = hgx.candidates(query(5))
    assert response.is_composed
    assert response.json == {
        "allocation_requests": [],
        "provider_summaries": {},
    }


def test_a_tree_that_does_not_exist_is_an_empty_answer(hgx):
    trees_ = [f"in_tree_{i}={MISSING}" for i in range(2)]
    response = hgx.candidates(query(2, *trees_))
    assert response.is_composed
    assert response.json["allocation_requests"] == []


def test_with_0_sets_placement_answers_alone(hgx):
    hgx.set_option("max_sets_per_tree", 0, "gpu_filter")
    response = hgx.candidates(query(2))
    assert not response.is_composed
    # All orders in which two of four GPUs serve two groups.
    assert len(response.json["allocation_requests"]) == 3 * 12


def test_an_error_of_ours_is_logged_and_placement_answers(
    hgx, monkeypatch, caplog
):
    def fail(*_args):
        raise ZeroDivisionError("in a test")

    monkeypatch.setattr(trees, "read", fail)
    response = hgx.candidates(query(2))
    assert response.status == 200
    assert not response.is_composed
    assert len(response.json["allocation_requests"]) == 3 * 12
    [record] = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert query(2) in record.getMessage()
    assert record.exc_info


def test_a_request_is_one_line_in_the_log_of_requests(hgx, caplog):
    # Capacity above one, so that there are several inner queries.
    hgx.replace_providers(
        [
            service.Provider("a", None, {"VCPU": service.Inventory(8)}),
            service.Provider("b", "a", {GPU: service.Inventory(4)}),
        ]
    )
    # Tests of Nova in this process may have let everything be logged.
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        response = hgx.candidates(query(3))
    assert response.is_composed
    lines = [
        record.getMessage()
        for record in caplog.records
        if record.name == "placement.requestlog"
        and record.levelno == logging.INFO
    ]
    assert len(lines) == 1
    [line] = [
        record.getMessage()
        for record in caplog.records
        if record.name == "nova_gpu_filter.placement.extension"
    ]
    assert re.match(
        r"Composed 1 allocation candidates from 1 provider trees with 2 inner"
        r" queries in \d+\.\d+ seconds for GET /allocation_candidates\?",
        line,
    )


def test_why_a_request_is_left_to_placement_is_logged(hgx, caplog):
    with caplog.at_level(logging.DEBUG, "nova_gpu_filter"):
        hgx.candidates(query(1))
    [line] = [
        record.getMessage()
        for record in caplog.records
        if record.name == "nova_gpu_filter.placement.extension"
    ]
    assert line.startswith(
        "Allocation candidates are left to Placement, no equal groups: GET"
    )
    assert query(1) in line


def test_a_request_id_spreads_requests_over_equal_sets(hgx):
    def first(request_id):
        response = hgx.candidates(
            query(2), headers={"X-Openstack-Request-Id": request_id}
        )
        assert response.is_composed
        return device_sets(response)

    assert first("req-1") == first("req-1")
    assert len({tuple(first(f"req-{i}")) for i in range(8)}) > 1


def test_linked_devices_are_offered_first(placement):
    pairs = [
        service.Provider(
            f"gpu{i}",
            "host",
            {GPU: service.Inventory(1)},
            (f"CUSTOM_GPU_LINK_NV4_{i // 2}",),
        )
        for i in range(8)
    ]
    placement.replace_providers(
        [
            service.Provider("host", None, {"VCPU": service.Inventory(8)}),
            *pairs,
        ]
    )
    placement.set_option("max_sets_per_tree", 4, "gpu_filter")
    response = placement.candidates(query(2))
    assert response.is_composed
    assert set(device_sets(response)[:4]) == {
        frozenset(map(service.provider_uuid, (f"gpu{i}", f"gpu{i + 1}")))
        for i in (0, 2, 4, 6)
    }


def _partitions(hosts, whole):
    """Make hosts with two partitions of two GPUs; on all but one of them a
    GPU of each is used."""
    for number in range(hosts):
        name = f"host{number}"
        yield service.Provider(name, None, {"VCPU": service.Inventory(8)})
        for i, used in enumerate((0, 1, 0, 1)):
            is_used = used and number != whole
            yield service.Provider(
                f"{name}-gpu{i}",
                name,
                {GPU: service.Inventory(1, used=int(is_used))},
                ("CUSTOM_GPU_LINK_NV18_0", f"CUSTOM_GPU_FABRIC_{i // 2}_2"),
            )


@pytest.mark.parametrize(
    ("hosts", "limit", "runs"),
    [(40, 5, 20), (8, 1, int(os.environ.get("FUZZ_EXAMPLES", "200")))],
)
def test_the_only_whole_partition_is_within_the_limit(
    placement, record_property, hosts, limit, runs
):
    """What gpu:link=fabric finds among many hosts, whatever the request."""
    record_property("inputs", runs)
    whole = hosts // 2 - 1
    placement.replace_providers(_partitions(hosts, whole))
    sets = [
        {service.provider_uuid(f"host{whole}-gpu{i}") for i in pair}
        for pair in ((0, 1), (2, 3))
    ]
    first = set()
    for number in range(runs):
        response = placement.candidates(
            query(2, f"limit={limit}"),
            headers={"X-Openstack-Request-Id": f"req-{number}"},
        )
        assert response.is_composed
        found = device_sets(response)
        assert len(found) == limit
        assert found[0] in sets
        first.add(found[0])
    # Its two partitions are equal, and requests spread over them.
    assert len(first) == 2


_SERVED = """
import json, sys, webob
from nova_gpu_filter.placement.wsgi import application

def ask(path):
    request = webob.Request.blank(path)
    request.headers["X-Auth-Token"] = "admin"
    request.headers["OpenStack-API-Version"] = "placement latest"
    return request.get_response(application)

root = ask("/")
found = ask(sys.argv[1])
print(json.dumps([root.status_int, found.status_int, dict(found.headers)]))
"""


def serve(tmp_path: pathlib.Path, *lines: str):
    """Load the application as a WSGI server does, and ask it two questions.

    :param lines: more lines of its placement.conf.
    :returns: (both status codes, the headers of the second answer, the log).
    """
    (tmp_path / "placement.conf").write_text(
        "[placement_database]\n"
        f"connection = sqlite:///{tmp_path}/placement.sqlite\n"
        "sync_on_startup = true\n"
        "[api]\n"
        "auth_strategy = noauth2\n" + "\n".join(lines)
    )
    path = f"/allocation_candidates?{query(2).replace(GPU, 'PGPU')}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SERVED, path],
        env={**os.environ, "OS_PLACEMENT_CONFIG_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # oslo.log writes to standard output where it is given no other place.
    *log, last = done.stdout.splitlines()
    *codes, headers = json.loads(last)
    return codes, headers, log


def test_a_wsgi_server_finds_an_application(tmp_path):
    codes, headers, _ = serve(tmp_path)
    assert codes == [200, 200]
    assert headers["X-GPU-Candidates"] == "composed"


def test_the_application_reads_our_options_where_placement_reads_its(tmp_path):
    codes, headers, _ = serve(
        tmp_path, "[gpu_filter]", "max_sets_per_tree = 0"
    )
    assert codes == [200, 200]
    assert "X-GPU-Candidates" not in headers


@pytest.mark.parametrize(
    ("option", "value"), [("max_sets_per_tree", "-2"), ("request_mix", "a:1")]
)
def test_an_option_that_makes_no_sense_turns_the_extension_off(
    tmp_path, option, value
):
    codes, headers, log = serve(
        tmp_path, "[gpu_filter]", f"{option} = {value}"
    )
    assert codes == [200, 200]
    assert "X-GPU-Candidates" not in headers
    [line] = [line for line in log if option in line]
    assert "ERROR" in line
    assert "off until this is corrected" in line
