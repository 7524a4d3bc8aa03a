"""Where a token is: sines and cosines of its row and column, or of its step."""

import numpy as np

__all__ = ["grid_positions", "line_positions"]

# Longest wavelength is 2 pi times this (Vaswani et al. 2017, section 3.5).
_TEMPERATURE = 10_000.0


def line_positions(length: int, width: int) -> np.ndarray:
    """Encodes 0 ... length - 1: sines of falling frequency, then their cosines.

    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5.

    Returns:
      float32 [length, width]; an odd width lacks the last cosine.
    """
    half = -(-width // 2)
    frequencies = _TEMPERATURE ** (-np.arange(half) / half)
    angles = np.arange(length)[:, None] * frequencies
    both = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return both[:, :width].astype(np.float32)


def grid_positions(height: int, width: int, features: int) -> np.ndarray:
    """Encodes the row of every cell in one half of the features and its column in the other.

    Returns:
      float32 [height, width, features].
    """
    rows = line_positions(height, features // 2)[:, None]
    columns = line_positions(width, features - features // 2)[None]
    shape = (height, width)
    parts = [np.broadcast_to(p, (*shape, p.shape[-1])) for p in (rows, columns)]
    return np.concatenate(parts, axis=-1)
