"""Classification sets that are part of the package aeon, and its nearest neighbours."""

import importlib
from typing import Any, NamedTuple

import numpy as np

NAMES = ("ItalyPowerDemand", "GunPoint", "ArrowHead", "JapaneseVowels")


class Split(NamedTuple):
    """N labelled sequences.

    Attributes:
        xs: ``[T, N, I]``, standardised with the mean and standard deviation of the training split.
        lengths: ``[N]``; the steps beyond are zero.
        labels: ``[N]``, 0..classes−1.
    """

    xs: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray


class Set(NamedTuple):
    """A data set with its official split."""

    train: Split
    test: Split
    classes: int


def load(name: str) -> Set:
    """A data set from the files inside the package aeon; nothing is downloaded.

    Raises ImportError, in one sentence, where aeon is not installed.
    """
    read = _aeon("datasets").load_classification
    (train, train_names), (test, test_names) = (
        read(name, split=part) for part in ("train", "test")
    )
    names = np.unique(train_names)
    steps = np.concatenate([np.asarray(series).T for series in train])
    mean, std = steps.mean(axis=0), steps.std(axis=0)

    def split(sequences: Any, labels: np.ndarray) -> Split:
        lengths = np.array([series.shape[1] for series in sequences], np.int32)
        xs = np.zeros((lengths.max(), len(lengths), len(mean)), np.float32)
        for index, series in enumerate(sequences):
            xs[: lengths[index], index] = (np.asarray(series).T - mean) / std
        return Split(xs, lengths, np.searchsorted(names, labels).astype(np.int32))

    return Set(split(train, train_names), split(test, test_names), len(names))


def nearest_neighbour(name: str, distance: str) -> float:
    """The test accuracy of aeon's nearest neighbour: "euclidean", or "dtw" without a window.

    The Euclidean distance needs equal lengths, for which it reads the set that the archive has
    padded; DTW of several channels is that of the vectors ("dependent").
    """
    read = _aeon("datasets").load_classification
    equal = {"load_equal_length": True} if distance == "euclidean" else {}
    train, labels = read(name, split="train", **equal)
    test, truth = read(name, split="test", **equal)
    neighbours = _aeon("classification.distance_based").KNeighborsTimeSeriesClassifier
    model = neighbours(distance=distance, n_neighbors=1).fit(train, labels)
    return float(np.mean(model.predict(test) == truth))


def folds(labels: np.ndarray, count: int) -> np.ndarray:
    """The fold of each example, ``[N]``: the examples of a class go to all folds in turn."""
    fold = np.zeros(len(labels), int)
    for label in np.unique(labels):
        is_label = labels == label
        fold[is_label] = np.arange(is_label.sum()) % count
    return fold


def _aeon(module: str) -> Any:
    try:
        return importlib.import_module(f"aeon.{module}")
    except ImportError:
        raise ImportError(
            "the data of this experiment are part of aeon, which is not installed; run pip install "
            "aeon"
        ) from None
