# SPDX-License-Identifier: Apache-2.0

"""Nodes with real configuration files, read as Nova's services read them."""

import textwrap

import nova.conf
import pytest

from nova_gpu_filter import conf as gpu_conf
from nova_gpu_filter.status import node as nodes

CONF = nova.conf.CONF


def expect(result, code, words):
    """Assert what a check found.

    :param words: some of its details; None: it has none.
    """
    assert result.code is code, result.details
    if words is None:
        assert result.details is None
    else:
        assert words in result.details


@pytest.fixture
def make_node(tmp_path):
    """Return a function that makes a node of the text of a nova.conf.

    Roles are found in it unless they are given.
    """

    def make(text="", roles=None, **fields):
        path = tmp_path / "nova.conf"
        path.write_text(textwrap.dedent(text))
        gpu_conf.register_opts(CONF)
        CONF(
            [],
            project="nova",
            default_config_files=[str(path)],
            default_config_dirs=[],
        )
        return nodes.Node(
            CONF,
            nodes.find_roles(CONF) if roles is None else frozenset(roles),
            **fields,
        )

    yield make
    CONF.reset()
