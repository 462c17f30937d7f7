# SPDX-License-Identifier: Apache-2.0

import pytest

from nova_gpu_filter.placement import earlier_answers


def answer(providers):
    return {"provider_summaries": {str(i): {} for i in range(providers)}}


def test_at_first_every_answer_is_taken_for_small():
    assert earlier_answers.EarlierAnswers().is_small("q", 1)


@pytest.mark.parametrize("is_small", [True, False])
def test_the_same_question_has_an_answer_as_large_again(is_small):
    sizes = earlier_answers.EarlierAnswers()
    sizes.note_size("q", is_small)
    assert sizes.is_small("q", 100) is is_small
    assert sizes.is_small("other", 100)
    # Devices may be taken meanwhile.
    sizes.note_size("q", True)
    assert sizes.is_small("q", 100)


def test_in_a_large_cloud_no_answer_is_taken_for_small():
    sizes = earlier_answers.EarlierAnswers()
    sizes.note_providers(answer(100))
    sizes.note_providers(answer(1))
    assert not sizes.is_small("other", 100)
    assert sizes.is_small("other", 101)


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(earlier_answers, "_MOST_KEPT", 3)
    sizes = earlier_answers.EarlierAnswers()
    for i in range(4):
        sizes.note_size(str(i), False)
    assert [sizes.is_small(str(i), 2) for i in range(4)] == [
        True,
        True,
        True,
        False,
    ]


def test_other_ports_make_no_other_question():
    asked = "resources_port{0}=A:1&same_subtree=_port{0}"
    first, second = (
        asked.format(f"{digit * 8}-0000-4000-8000-{digit * 12}")
        for digit in "12"
    )
    sizes = earlier_answers.EarlierAnswers()
    sizes.note_size(first, False)
    assert not sizes.is_small(second, 100)


def test_what_placement_took_is_not_refused(monkeypatch):
    monkeypatch.setattr(earlier_answers, "_MOST_KEPT", 2)
    earlier = earlier_answers.EarlierAnswers()
    for question in "aab":
        assert not earlier.is_accepted("b")
        earlier.note_accepted(question)
    assert earlier.is_accepted("a")
    assert earlier.is_accepted("b")
    earlier.note_accepted("c")
    assert not earlier.is_accepted("a")
