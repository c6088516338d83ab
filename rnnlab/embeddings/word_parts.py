"""Words as means of rows of a table: those of their n-grams, and one of their own."""

import collections
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

ROUND = 512
"""Rows of an update are padded to a multiple, so that few programs are compiled."""


class Parts(NamedTuple):
    """The rows that make up V words.

    Rows that are in the same words always get the same gradients. Such a group of rows is trained
    as one row, their sum, which is exact and takes a fraction of the memory.

    Attributes:
        groups: the groups of each word, one word after the other.
        starts: ``[V]``, where the groups of each word start.
        counts: ``[V]``, the number of groups of each word.
        row_counts: ``[V]``, the number of rows of each word.
        group_of: ``[R]``, the group of each row; G for a row that is in no word.
        sizes: ``[G]``, the number of rows of each group.
    """

    groups: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    row_counts: np.ndarray
    group_of: np.ndarray
    sizes: np.ndarray


class Pieces(NamedTuple):
    """The groups of the words of S updates; N is the number of those of the longest update.

    A word that is the centre of several pairs is made up once: C centres have fewer words.

    Attributes:
        words: ``[S, C]``, which word of the update each centre is.
        groups: ``[S, N]``, indices into the table of sums.
        owners: ``[S, N]``, the word that each belongs to, rising; C for padding.
        weights: ``[S, N]``, 1 / number of rows of the word, 0 for padding.
        sizes: ``[S, N]``, the number of rows of the group, 0 for padding.
    """

    words: Any
    groups: Any
    owners: Any
    weights: Any
    sizes: Any


def grouped(rows: Sequence[Sequence[int]], row_count: int) -> Parts:
    """The parts of words whose rows are ``rows[word]``, of R rows in all."""
    words_of: dict[int, list[int]] = collections.defaultdict(list)
    for word, own in enumerate(rows):
        for row in own:
            words_of[row].append(word)
    groups: dict[tuple[int, ...], int] = {}
    firsts = set()
    group_of = np.full(row_count, -1)
    for row, words in words_of.items():
        key = tuple(words)
        if key not in groups:
            groups[key] = len(groups)
            firsts.add(row)
        group_of[row] = groups[key]
    # A row may be in a word twice; its group is then, too.
    lists = [[int(group_of[row]) for row in own if row in firsts] for own in rows]
    sizes = np.bincount(group_of[group_of >= 0], minlength=len(groups))
    group_of[group_of < 0] = len(groups)
    counts = np.array(list(map(len, lists)))
    return Parts(
        groups=np.array([group for own in lists for group in own], np.int32),
        starts=np.cumsum(counts) - counts,
        counts=counts,
        row_counts=np.array(list(map(len, rows))),
        group_of=group_of,
        sizes=sizes,
    )


def summed(parts: Parts, table: np.ndarray) -> np.ndarray:
    """The sum of the rows of each group, ``[G, D]``."""
    used = np.flatnonzero(parts.group_of < parts.sizes.size)
    order = used[np.argsort(parts.group_of[used], kind="stable")]
    return np.add.reduceat(table[order], np.cumsum(parts.sizes) - parts.sizes)


def spread(parts: Parts, table: np.ndarray, change: np.ndarray) -> np.ndarray:
    """``table [R, D]`` after the sums of its groups changed by ``change [G, D]``."""
    of_rows = np.concatenate([change / parts.sizes[:, None], 0 * change[:1]])
    return table + of_rows[parts.group_of]


def pieces(parts: Parts, codes: np.ndarray) -> Pieces:
    """The groups of the centres ``codes [S, ...]``."""
    codes = codes.reshape(len(codes), -1)
    distinct, words = [], np.zeros(codes.shape, np.int32)
    for step, own in enumerate(codes):
        found, words[step] = np.unique(own, return_inverse=True)
        distinct.append(found)
    longest = max(int(parts.counts[found].sum()) for found in distinct)
    groups = np.zeros((len(codes), -(-longest // ROUND) * ROUND), np.int32)
    owners = np.full(groups.shape, codes.shape[1], np.int32)
    weights = np.zeros(groups.shape, np.float32)
    sizes = np.zeros(groups.shape, np.float32)
    for step, found in enumerate(distinct):
        counts = parts.counts[found]
        own = np.repeat(np.arange(found.size), counts)
        within = np.arange(own.size) - np.repeat(np.cumsum(counts) - counts, counts)
        groups[step, : own.size] = parts.groups[parts.starts[found][own] + within]
        owners[step, : own.size] = own
        weights[step, : own.size] = 1 / parts.row_counts[found][own]
        sizes[step, : own.size] = parts.sizes[groups[step, : own.size]]
    return Pieces(words, groups, owners, weights, sizes)
