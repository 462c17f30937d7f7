# SPDX-License-Identifier: Apache-2.0

import pathlib

import pytest

from nova_gpu_filter.pools import refusal

GUIDE = (
    pathlib.Path(__file__).parents[3]
    / "doc"
    / "source"
    / "admin"
    / "refusals.rst"
)


@pytest.mark.parametrize("cause", list(refusal.Cause), ids=lambda c: c.name)
def test_the_administration_guide_has_every_cause(cause):
    assert f"* - {cause.value}\n" in GUIDE.read_text()
