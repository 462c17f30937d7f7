# SPDX-License-Identifier: Apache-2.0

from unittest import mock

import pytest

from nova_gpu_filter.placement import extension
from nova_gpu_filter.placement import query


class Application:
    """A Placement that only notes what it is asked."""

    def __init__(self):
        self.environs = []

    def __call__(self, environ, start_response):
        self.environs.append(environ)
        start_response("200 OK", [])
        return [b"stock"]


def get(application, path, method="GET", **environ):
    environ |= {"PATH_INFO": path, "REQUEST_METHOD": method}
    start_response = mock.Mock()
    body = b"".join(application(environ, start_response))
    return environ, body, start_response


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/usages"),
        ("PUT", "/allocation_candidates"),
        ("GET", "/allocation_candidates"),
    ],
)
def test_what_is_not_ours_reaches_placement_as_it_is(conf, method, path):
    stock = Application()
    environ, body, _ = get(extension.wrap(stock, conf), path, method)
    assert body == b"stock"
    [asked] = stock.environs
    assert asked is environ
    assert set(environ) == {"PATH_INFO", "REQUEST_METHOD"}


def test_our_options_are_registered_with_those_of_placement(conf):
    extension.wrap(Application(), conf)
    assert conf.gpu_filter.max_sets_per_tree == 16


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("placement 1.34", (1, 34)),
        ("compute 2.1, placement 1.36", (1, 36)),
    ],
)
def test_the_microversion_is_read_as_placement_reads_it(header, expected):
    environ = {"HTTP_OPENSTACK_API_VERSION": header}
    assert extension.read_microversion(environ) == expected


def test_latest_is_the_last_microversion_that_placement_has():
    environ = {"HTTP_OPENSTACK_API_VERSION": "placement latest"}
    assert extension.read_microversion(environ) >= (1, 39)


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({}, "microversion below 1.34"),
        (
            {"HTTP_OPENSTACK_API_VERSION": "compute 2.100"},
            "microversion below 1.34",
        ),
        (
            {"HTTP_OPENSTACK_API_VERSION": "placement 1.33"},
            "microversion below 1.34",
        ),
        (
            {"HTTP_OPENSTACK_API_VERSION": "placement 9.99"},
            "bad microversion",
        ),
        ({"HTTP_OPENSTACK_API_VERSION": "placement x"}, "bad microversion"),
    ],
)
def test_other_microversions_are_left_to_placement(environ, reason):
    with pytest.raises(query.NotComposableError, match=reason):
        extension.read_microversion(environ)
