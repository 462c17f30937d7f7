# SPDX-License-Identifier: Apache-2.0

"""Hostile queries for allocation candidates, against stock Placement.

What we do not compose has the answer of Placement: status, headers and body.
What we compose is a part of what Placement alone answers.
"""

import io
import json
import re
import urllib.parse

from demo import threads  # noqa: F401

# isort: split

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_gpu_filter.placement import header
from tests.functional.placement import service
from tests.functional.placement import worlds
from tests.fuzz import hostile

HOSTS = [
    provider
    for host in ("a", "b")
    for provider in (
        service.Provider(host, None, {"VCPU": service.Inventory(8)}),
        *(
            service.Provider(
                f"{host}-gpu{i}",
                host,
                {"CUSTOM_GPU": service.Inventory(1)},
                ("CUSTOM_FAST",) if i else (),
                worlds.AGGREGATES[:1] if i == 1 else (),
            )
            for i in range(3)
        ),
        service.Provider(
            f"{host}-nic", host, {"CUSTOM_NIC": service.Inventory(4)}
        ),
    )
]

NUMBERS = (
    *("0", "1", "2", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "1_0"),
    *("\u0661", "\u00b2", "\uff11", "\u0967\u0968", "", "NaN", "true"),
    *(str(1 << bits) for bits in (31, 32, 63, 64, 128)),
    *("9" * digits for digits in (19, 100, 4300, 4301, 5000)),
)
SUFFIXES = (
    "_0",
    "_1",
    "_2",
    "_3",
    "",
    "a",
    "_" * 64,
    "_" * 65,
    "\u0660",
    "_x",
)
KEYS = (
    *("resources", "required", "member_of", "in_tree", "limit"),
    *("group_policy", "same_subtree", "root_required", "Resources", ""),
)
TEXTS = (
    *hostile.TEXTS,
    *NUMBERS,
    *SUFFIXES,
    *("none", "isolate", "VCPU:1", "CUSTOM_GPU:1", "CUSTOM_FAST"),
    *("!CUSTOM_FAST", "in:CUSTOM_FAST", "in:", "!", "_0,_1", ",", "_0,,_1"),
    *("CUSTOM_GPU:1,CUSTOM_GPU:1", "CUSTOM_GPU:1,CUSTOM_NIC:2"),
    *(worlds.AGGREGATES[0], f"in:{worlds.AGGREGATES[0]}"),
    *(f"!{worlds.AGGREGATES[0]}", service.provider_uuid("a")),
)
ENCODED = (
    "%",
    "%ff",
    "%00",
    "+",
    "%2B",
    "%C2%B2",
    ";",
    "=",
    "&&",
    "#",
    "\xe4",
)

_texts = st.sampled_from(TEXTS) | st.text(max_size=8)
_amounts = st.builds(
    "{}:{}".format,
    st.sampled_from(("CUSTOM_GPU", "CUSTOM_NIC", "VCPU", "CUSTOM_NO", "")),
    st.sampled_from(NUMBERS),
)
_pairs = st.one_of(
    st.tuples(
        st.builds(
            "{}{}".format, st.sampled_from(KEYS), st.sampled_from(SUFFIXES)
        ),
        _texts | _amounts,
    ),
    st.tuples(st.just("limit"), st.sampled_from(NUMBERS)),
    st.tuples(_texts, _texts),
)


@st.composite
def _queries(draw):
    """Draw what Nova could ask, with some pairs replaced, or none."""
    pairs = [("resources", "VCPU:1")]
    for number in range(draw(st.integers(1, 4))):
        rc = draw(st.sampled_from(("CUSTOM_GPU",) * 3 + ("CUSTOM_NIC",)))
        pairs.append((f"resources_{number}", f"{rc}:1"))
    pairs.append(("group_policy", draw(st.sampled_from(("none", "isolate")))))
    for odd in draw(st.lists(_pairs, max_size=3)):
        place = draw(st.integers(0, len(pairs)))
        end = place + draw(st.sampled_from((0, 0, 0, 1)))
        pairs[place:end] = [odd]
    text = urllib.parse.urlencode(pairs, errors="surrogatepass")
    if draw(st.integers(0, 5)) == 0:
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.sampled_from(ENCODED)) + text[place:]
    return text


_versions = st.sampled_from(
    (
        *("placement 1.39",) * 6,
        *("placement 1.10", "placement 1.34", "placement 1.38"),
        *("placement latest", "placement 1.\u0663", "placement 1", "1.36", ""),
        *(f"placement 1.{'9' * 5000}", "placement 1.-1"),
    )
)


@pytest.fixture(scope="module", params=[-1, 4])
def placement(request):
    """Run a Placement, without and with a limit of its own."""
    options = {("placement", "max_allocation_candidates"): request.param}
    with service.Placement(options) as running:
        for trait in worlds.TRAITS:
            running.create_trait(trait)
        running.replace_providers(HOSTS)
        yield running


def _ask(application, query, version):
    """Return (status, headers, body)."""
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/allocation_candidates",
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "HTTP_HOST": "localhost",
        "HTTP_X_AUTH_TOKEN": "admin",
        "HTTP_OPENSTACK_API_VERSION": version,
    }
    started = []
    chunks = application(environ, lambda *started_: started.append(started_))
    body = b"".join(chunks)
    [(status, headers)] = [found[:2] for found in started]
    return status, headers, body


def _without_what_varies(headers, body):
    names = ("last-modified", "x-openstack-request-id")
    kept = sorted((n.lower(), v) for n, v in headers if n.lower() not in names)
    return kept, re.sub(rb"req-[0-9a-f-]{36}", b"req-", body)


def _sets(body):
    return {
        worlds.exact(candidate)
        for candidate in json.loads(body)["allocation_requests"]
    }


@given(query=_queries(), version=_versions)
def test_a_query_has_the_answer_of_placement_or_a_part_of_it(
    placement, caplog, query, version
):
    applications = placement.applications
    caplog.clear()
    ours = _ask(applications["ours"], query, version)
    problems = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("nova_gpu_filter")
        and record.levelname in ("ERROR", "CRITICAL")
    ]
    assert not problems, query
    if (header.NAME, header.VALUE) in ours[1]:
        # Placement alone, without the limit of what it searches.
        limit = placement.conf.placement.max_allocation_candidates
        placement.set_option("max_allocation_candidates", -1, "placement")
        everything = "&".join(
            pair for pair in query.split("&") if not pair.startswith("limit=")
        )
        stock = _ask(applications["stock"], everything, version)
        placement.set_option("max_allocation_candidates", limit, "placement")
        assert ours[0] == stock[0] == "200 OK", query
        assert _sets(ours[2]) <= _sets(stock[2]), query
        assert bool(_sets(ours[2])) == bool(_sets(stock[2])), query
        return
    stock = _ask(applications["stock"], query, version)
    assert ours[0] == stock[0], query
    if stock[0] == "200 OK":
        # In an order that differs from call to call.
        assert _sets(ours[2]) == _sets(stock[2]) or limit_applies(stock, query)
    else:
        assert _without_what_varies(*ours[1:]) == _without_what_varies(
            *stock[1:]
        ), query


def limit_applies(stock, query):
    """Whether the answer is any part of what there is."""
    return "limit" in query or len(_sets(stock[2])) >= 4
