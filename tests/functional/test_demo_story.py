# SPDX-License-Identifier: Apache-2.0

"""The chapters of the demo: every expectation has to hold.

Chapter 1 alone is told in test_demo_command.py.
"""

import pytest

from demo import story


@pytest.mark.parametrize("chapters", [(1, 2), (3,), (4,), (5,)])
def test_every_expectation_of_the_chapters_holds(chapters):
    played = story.play(chapters)

    assert not played.failures, "\n".join(played.failures)
    assert [chapter.number for chapter in played.chapters] == [*chapters]
    for chapter in played.chapters:
        assert all(step.expectations for step in chapter.steps)
