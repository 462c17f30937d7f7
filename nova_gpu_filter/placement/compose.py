# SPDX-License-Identifier: Apache-2.0

"""Compose the candidates of all trees, the best trees first."""

from collections.abc import Iterable
import itertools
import random

from nova_gpu_filter.placement import candidates
from nova_gpu_filter.placement import candidates_request
from nova_gpu_filter.placement import rounds
from nova_gpu_filter.placement import sets
from nova_gpu_filter.placement import trees


def compose(
    asked: candidates_request.Request,
    found: Iterable[trees.Tree],
    shuffle_trees: bool = False,
) -> list[candidates.Candidate]:
    """Compose as many candidates as are wanted, in turn from all trees.

    In the order of :func:`put_best_first`: what the limit cuts off is the
    worst.

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
    return list(
        itertools.islice(
            rounds.take_in_turn(
                [tree.compose() for tree in put_best_first(by_tree)]
            ),
            asked.count_wanted(len(by_tree)),
        )
    )


def put_best_first(
    found: Iterable[candidates.TreeCandidates],
) -> list[candidates.TreeCandidates]:
    """Sort trees as the weighers of nova-scheduler will sort their hosts.

    A query does not say what ``gpu:link`` of the flavor asks. So trees are
    taken in turn from the orders for everything that it can ask, the strictest
    first, and for nothing. Equally good trees keep their order.
    """
    trees_by_merits: dict[sets.Merits, list[candidates.TreeCandidates]] = {}
    for tree in found:
        trees_by_merits.setdefault(tree.judge(), []).append(tree)
    orders = []
    for requirement in (*range(len(sets.REQUIREMENTS)), None):
        ranked = sorted(
            trees_by_merits,
            key=lambda merits: merits.rank(requirement),
            reverse=True,
        )
        if ranked not in orders:
            orders.append(ranked)
    return list(
        rounds.drop_repeated(
            rounds.take_in_turn(
                [
                    itertools.chain.from_iterable(
                        map(trees_by_merits.__getitem__, ranked)
                    )
                    for ranked in orders
                ]
            )
        )
    )
