"""Which episodes train, validate and test: decided once, stored, and stable."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

__all__ = ["PARTS", "assign", "part_sizes", "rank"]

PARTS = ("train", "val", "test")


def rank(episode_id: str) -> str:
    """Sort key that depends on the id alone, not on machine, process or order."""
    return hashlib.sha256(f"jaxpolicy-split:{episode_id}".encode()).hexdigest()


def part_sizes(n: int, shares: Sequence[float]) -> tuple[int, int, int]:
    """Episodes per part: n * share, leftovers to the largest remainders.

    Every part with a share gets at least one episode when there are enough.
    """
    exact = [n * s for s in shares]
    sizes = [int(e + 1e-9) for e in exact]
    by_remainder = sorted(range(3), key=lambda i: (sizes[i] - exact[i], i))
    for i in by_remainder[: n - sum(sizes)]:
        sizes[i] += 1
    for i in range(3):
        largest = max(range(3), key=lambda j: sizes[j])
        if shares[i] > 0 and sizes[i] == 0 and sizes[largest] > 1:
            sizes[i], sizes[largest] = 1, sizes[largest] - 1
    return sizes[0], sizes[1], sizes[2]


def assign(
    ids: Sequence[str], shares: Sequence[float], previous: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Part of every episode.

    Episodes in the order of a hash of their id fill train, then val, then test.
    Episodes with a part in `previous` keep it, so a dataset that grows never moves
    an episode from test to train; the new ones fill what is then lacking.

    Args:
      ids: unique episode ids.
      shares: of train, val, test.
      previous: id -> part of an earlier call.

    Returns:
      id -> "train", "val" or "test", in the order of `ids`.
    """
    known = set(ids)
    kept = {i: p for i, p in (previous or {}).items() if i in known}
    taken = Counter(kept.values())
    sizes = part_sizes(len(ids), shares)
    lacking = {p: max(0, n - taken[p]) for p, n in zip(PARTS, sizes, strict=True)}
    order = [part for part in PARTS for _ in range(lacking[part])]
    new = sorted((i for i in ids if i not in kept), key=rank)
    # The sizes sum to len(ids), so there are at least as many places as new episodes.
    part = {**kept, **dict(zip(new, order, strict=False))}
    return {i: part[i] for i in ids}
