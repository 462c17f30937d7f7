# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.status import placement_checks
from nova_gpu_filter.status.results import Code


class Answers:
    """Placement behind a web server that keeps connections."""

    def __init__(self, keep_alive):
        self.headers = {} if keep_alive is None else {"Keep-Alive": keep_alive}

    def get(self, path):
        return self


@pytest.mark.parametrize(
    ("keep_alive", "workers", "code"),
    [
        ("timeout=60, max=100", None, Code.WARNING),
        ("timeout=60", 8, Code.WARNING),
        ("timeout=60", 1, Code.SUCCESS),
        ("timeout=5, max=100", 8, Code.SUCCESS),
        ("max=100", 8, Code.SUCCESS),
        (None, 8, Code.SUCCESS),
    ],
)
def test_workers_that_share_a_connection_are_warned_of(
    make_node, keep_alive, workers, code
):
    text = "" if workers is None else f"[scheduler]\nworkers = {workers}\n"
    result = placement_checks.check_workers(
        make_node(text, placement=Answers(keep_alive))
    )
    assert result.code is code
    if code is Code.WARNING:
        assert "60 seconds" in result.details
        assert "KeepAliveTimeout 5" in result.details
