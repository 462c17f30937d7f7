# SPDX-License-Identifier: Apache-2.0

from nova_gpu_filter.placement import rounds


def test_streams_take_turns_until_all_are_empty():
    streams = [iter("abc"), iter(""), iter("d"), iter("ef")]
    assert "".join(rounds.take_in_turn(streams)) == "adebfc"


def test_no_more_is_computed_than_is_taken():
    computed = []

    def compute():
        for number in range(9):
            computed.append(number)
            yield number

    found = rounds.take_in_turn([compute()])
    assert [next(found), next(found)] == [0, 1]
    assert computed == [0, 1]
