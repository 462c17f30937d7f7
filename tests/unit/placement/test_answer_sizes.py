# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.placement import answer_sizes


def answer(providers):
    return {"provider_summaries": {str(i): {} for i in range(providers)}}


def test_at_first_every_answer_is_taken_for_small():
    assert answer_sizes.AnswerSizes().is_small("q", 1)


@pytest.mark.parametrize("is_small", [True, False])
def test_the_same_question_has_an_answer_as_large_again(is_small):
    sizes = answer_sizes.AnswerSizes()
    sizes.note("q", answer(5), is_small)
    assert sizes.is_small("q", 100) is is_small
    assert sizes.is_small("other", 100)
    # Devices may be taken meanwhile.
    sizes.note("q", answer(5), True)
    assert sizes.is_small("q", 100)


def test_in_a_large_cloud_no_answer_is_taken_for_small():
    sizes = answer_sizes.AnswerSizes()
    sizes.note("q", answer(100), True)
    sizes.note("q", answer(1), True)
    assert not sizes.is_small("other", 100)
    assert sizes.is_small("other", 101)


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(answer_sizes, "_MOST_KEPT", 3)
    sizes = answer_sizes.AnswerSizes()
    for i in range(4):
        sizes.note(str(i), answer(1), False)
    assert [sizes.is_small(str(i), 2) for i in range(4)] == [
        True,
        True,
        True,
        False,
    ]
