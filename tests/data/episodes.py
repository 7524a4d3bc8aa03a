"""Small episodes with contents that can be computed by hand."""

import dataclasses
import pathlib

import numpy as np

from jaxpolicy.core.specs import ActionSpec, ArraySpec
from jaxpolicy.core.types import DatasetSpec, Episode, EpisodeMetadata

BRIDGE = pathlib.Path(__file__).parent / "bridge_dataset"

SPEC = DatasetSpec(
    observation=(
        ArraySpec("image/wrist", (8, 8, 3), "uint8"),
        ArraySpec("mask/wrist", (), "bool"),
        ArraySpec("privileged", (3,), "float32", "m"),
        ArraySpec("proprio", (2,), "float32", "m"),
    ),
    action=ActionSpec(
        "joint_delta", ("dq", "gripper"), ("rad", "1"), (-1.0, 0.0), (1.0, 1.0), 20.0
    ),
)


def make_episode(i: int, n_steps: int = 4, **metadata) -> Episode:
    """Episode `i`: action [t] is (i + t / 10, t % 2), proprio [t] is (i, t)."""
    t = np.arange(n_steps, dtype=np.float32)
    rng = np.random.default_rng(i)
    facts = EpisodeMetadata(f"e-{i:03d}", True, "scripted", "nobody", 1.5, "sim", "arm", "lift", i)
    return Episode(
        observation={
            "image/wrist": rng.integers(0, 256, (n_steps, 8, 8, 3), np.uint8),
            "mask/wrist": np.full(n_steps, i % 2 == 0),
            "privileged": rng.normal(size=(n_steps, 3)).astype(np.float32),
            "proprio": np.stack([np.full_like(t, i), t], axis=1),
        },
        action=np.stack([i + t / 10, t % 2], axis=1).astype(np.float32),
        reward=t,
        is_terminal=i % 2 == 1,
        language_instruction=f"lift cube {i}",
        metadata=dataclasses.replace(facts, **metadata),
    )


def assert_same(a: Episode, b: Episode) -> None:
    """Every array, text and fact is equal, types included."""
    assert a.observation.keys() == b.observation.keys()
    for name in a.observation:
        np.testing.assert_array_equal(a.observation[name], b.observation[name])
        assert a.observation[name].dtype == b.observation[name].dtype
    np.testing.assert_array_equal(a.action, b.action)
    np.testing.assert_array_equal(a.reward, b.reward)
    assert (a.is_terminal, a.language_instruction) == (b.is_terminal, b.language_instruction)
    assert a.metadata == b.metadata
