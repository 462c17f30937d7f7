# SPDX-License-Identifier: Apache-2.0

"""Compose the candidates of all trees, the best trees first."""

from collections.abc import Iterable
import itertools
import random

from nova_gpu_filter.placement import candidates
from nova_gpu_filter.placement import candidates_request
from nova_gpu_filter.placement import rounds
from nova_gpu_filter.placement import trees


def compose(
    asked: candidates_request.Request,
    found: Iterable[trees.Tree],
    shuffle_trees: bool = False,
) -> list[candidates.Candidate]:
    """Compose as many candidates as are wanted, in turn from all trees.

    So every tree gets its best one before any gets its second. Trees whose
    best device sets have the best links come first, then those that the sets
    damage least: what the limit cuts off is the worst.

    :param found: as :func:`trees.read` returns them.
    :param shuffle_trees: whether trees that are equally good come in another
        order each time.
    :raises TooManyError: classes compete for the devices of a tree in too many
        ways.
    """
    by_tree = sorted(
        (candidates.TreeCandidates(asked, tree) for tree in found),
        key=lambda tree: tree.root,
    )
    random.Random(None if shuffle_trees else asked.seed).shuffle(by_tree)  # noqa: S311 (no secret)
    by_tree.sort(key=candidates.TreeCandidates.score, reverse=True)
    return list(
        itertools.islice(
            rounds.take_in_turn([tree.compose() for tree in by_tree]),
            asked.count_wanted(len(by_tree)),
        )
    )
