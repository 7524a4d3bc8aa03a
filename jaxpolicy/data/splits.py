"""Which episodes train, validate and test: stratified by task, and stable."""

import hashlib
from collections.abc import Sequence

import numpy as np

__all__ = ["PARTS", "assign", "dither"]

PARTS = ("train", "val", "test")


def dither(episode_id: str) -> float:
    """A number in [0, 1) that depends on the id alone, not on machine, process or order."""
    digest = hashlib.sha256(f"jaxpolicy-split:{episode_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign(
    tasks: np.ndarray, noise: np.ndarray, shares: Sequence[float], previous: np.ndarray
) -> np.ndarray:
    """Part of every episode.

    Episodes are dealt one by one, in the order of the dataset, to the part that lacks most:
    of the episode's task, and of the whole. So every prefix of the dataset, and of every task
    in it, has the wanted shares within about one episode, tasks of a single episode are spread
    over the parts, and episodes that are added at the end move none that were there. Where
    parts lack nearly the same, the episode's noise decides, so that the order of parts does not
    beat with a periodic order of collection. The first three episodes go to different parts.

    Args:
      tasks: int [N], which task each episode shows.
      noise: [N] in [0, 1), see `dither`.
      shares: of train, val, test.
      previous: int [N], the part of an earlier call, which is kept; -1: none.

    Returns:
      int8 [N], positions in PARTS.
    """
    wanted = np.asarray(shares, float)
    n_tasks = int(tasks.max(initial=-1)) + 1
    of_task, of_all = np.zeros((n_tasks, 3)), np.zeros(3)
    parts = np.empty(len(tasks), np.int8)
    for i, task in enumerate(tasks):
        part = int(previous[i])
        if part < 0:
            part = _neediest(wanted, of_task[task], of_all, float(noise[i]))
        of_task[task, part] += 1
        of_all[part] += 1
        parts[i] = part
    return parts


def _neediest(wanted: np.ndarray, of_task: np.ndarray, of_all: np.ndarray, noise: float) -> int:
    """The part that lacks most; `noise` shifts the balance by up to half an episode."""
    empty = (of_all == 0) & (wanted > 0)
    if of_all.sum() < 3 and empty.any():
        return int(np.argmax(empty))
    lacking = wanted * (of_task.sum() + 1) - of_task + wanted * (of_all.sum() + 1) - of_all
    # Three numbers in [0, 1) from one: the noise and its rotations by thirds.
    lacking += 0.5 * ((noise + np.arange(3) / 3) % 1.0)
    lacking[wanted == 0] = -np.inf
    return int(np.argmax(lacking))
