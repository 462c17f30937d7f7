# SPDX-License-Identifier: Apache-2.0

"""Requests to nova-gpu-agent, and what libvirt gives its hook."""

import contextlib
import io
import json
import socket
import sys

from demo import threads  # noqa: F401

# isort: split

from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter import exception
from nova_gpu_filter import printable
from nova_gpu_filter.agent import domains
from nova_gpu_filter.agent import libvirt_hook
from nova_gpu_filter.agent import requests
from tests.functional.agent import worlds
from tests.functional.placement import service
from tests.fuzz import hostile
from tests.unit.agent import fakes

GPU = worlds.GPUS[0]
COMMANDS = (
    *("list", "show", "quarantine", "release", "clean"),
    *("fabric-prepare", "fabric-release", "fabric-list", "", None, 1, []),
)
REQUESTS = st.fixed_dictionaries(
    {"command": st.sampled_from(COMMANDS) | hostile.values},
    optional={
        "device": st.just(GPU) | hostile.values | hostile.texts,
        "reason": hostile.values | hostile.texts,
        "uuid": hostile.values,
        "xml": hostile.values,
    },
)
LINES = st.one_of(
    REQUESTS.map(lambda found: json.dumps(found).encode()),
    hostile.values.map(lambda found: json.dumps(found).encode()),
    st.binary(max_size=60),
    st.sampled_from([b"[" * 100_000, b"1" * 5000, b"\xff", b"{}" * 9]),
).map(lambda line: line.replace(b"\n", b""))


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    """Run an agent that answers; gives its socket and its ledger."""
    path = tmp_path_factory.mktemp("agent")
    with service.Placement() as placement:
        world = worlds.World(placement, path)
        world.run(2)
        answers = requests.Requests(lambda: None)
        answers.keeper = world.keeper
        server = requests.Server(str(path / "socket"), answers)
        server.start()
        yield str(path / "socket"), world.ledger
        server.shutdown()
        server.server_close()


@given(line=LINES)
@example(
    line=json.dumps(
        {"command": "quarantine", "device": GPU, "reason": "\udcff"}
    ).encode()
)
@example(line=b'{"command": "quarantine", "device": "\\ud800\\n"}')
@example(line=b'{"command": []}')
@example(line=b'{"command": {"a": 1}}')
def test_a_request_is_answered_in_one_line_without_a_fault(agent, line):
    path, ledger = agent
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(path)
        connection.sendall(line + b"\n")
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            answer = json.loads(file.readline())
    error = answer.get("error", "")
    assert "unexpected error" not in error, line
    assert len(error) < 20_000
    for record in ledger.read_records().values():
        for text in (record.reason, record.by):
            assert printable.escape(text) == text, line
            assert len(text) < 5000, line


XML = fakes.domain_xml(GPU)


@st.composite
def domains_of(draw):
    """Draw the XML of a domain in which something has another value."""
    found = XML
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(found)))
        end = place + draw(st.integers(0, 9))
        found = found[:place] + draw(hostile.texts) + found[end:]
    return found


LAUGHS = (
    '<!DOCTYPE d [<!ENTITY a "ha">'
    + "".join(
        f'<!ENTITY {new} "{f"&{old};" * 10}">'
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]><domain><uuid>&i;</uuid></domain>"
)


@given(domains_of() | hostile.texts | st.just(LAUGHS))
@example("<domain>\ud800</domain>")
def test_the_xml_of_a_domain_is_read_or_refused(text):
    with contextlib.suppress(exception.GpuFilterError):
        list(domains.parse_hostdevs(text))


@given(
    domains_of() | hostile.texts | st.just(LAUGHS),
    st.sampled_from(["prepare", "release", "start"]),
)
def test_the_hook_ends_with_a_code_and_says_why(text, operation):
    kept = sys.stdin, sys.stderr, libvirt_hook.CONNECT_SECONDS
    libvirt_hook.CONNECT_SECONDS = {"prepare": 0.0, "release": 0.0}
    sys.stdin = io.StringIO(text)
    sys.stderr = io.StringIO()
    part = {"prepare": "begin", "release": "end"}.get(operation, "-")
    try:
        code = libvirt_hook.main(["guest", operation, part, "-"])
        said = sys.stderr.getvalue()
    finally:
        sys.stdin, sys.stderr, libvirt_hook.CONNECT_SECONDS = kept
    assert code in (0, 1)
    assert bool(said) or not code
    assert operation == "prepare" or not code
