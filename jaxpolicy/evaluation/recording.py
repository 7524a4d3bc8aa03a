"""Which evaluated episodes are shown, and their frames.

Where a world has a MuJoCo scene, only physics states are kept while it runs, and the few episodes
that are looked at are drawn afterwards from a camera of their own; elsewhere the frames
are the first camera's that the world observes.
"""

import functools
from typing import Any

import jax
import numpy as np
from brax.envs.base import Env, State

from jaxpolicy.core.specs import is_camera
from jaxpolicy.evaluation.config import EvaluationConfig
from jaxpolicy.sim import wrappers
from jaxpolicy.sim.render.pictures import Recording

__all__ = ["Watcher"]

DRAW_BATCH = 32


class Watcher:
    """Keeps what is needed to show `config.n_recorded` episodes of each outcome."""

    def __init__(self, env: Env, config: EvaluationConfig):
        """Watches `env` from `config.view_camera`."""
        self._n = config.n_recorded
        self._camera = _view_camera(env, config)
        self._kept: list[tuple[int, bool | None, list[Any]]] = []

    def view(self, state: State) -> Any:
        """What to keep of E worlds at one step: physics states, pictures, or nothing."""
        if self._n == 0:
            return None
        if self._camera is not None:
            return jax.tree.map(np.asarray, state.pipeline_state)
        cameras = sorted(k for k in state.obs if is_camera(k))
        return np.asarray(state.obs[cameras[0]]) if cameras else None

    def keep(
        self, views: list[Any], end: np.ndarray, seeds: np.ndarray, success: np.ndarray | None
    ) -> None:
        """Chooses from finished episodes; views are [T] of [E, ...], end is [n <= E]."""
        if not views or views[0] is None:
            return
        for e, steps in enumerate(end):
            outcome = None if success is None else bool(success[e])
            if sum(o == outcome for _, o, _ in self._kept) < self._n:
                episode = [jax.tree.map(lambda x, e=e: x[e], v) for v in views[:steps]]
                self._kept.append((int(seeds[e]), outcome, episode))

    def draw(self) -> tuple[Recording, ...]:
        """The chosen episodes, failures first."""
        chosen = sorted(self._kept, key=lambda k: (k[1] is True, k[0]))
        return tuple(Recording(seed, ok, self._frames(views)) for seed, ok, views in chosen)

    def _frames(self, views: list[Any]) -> np.ndarray:
        if self._camera is None:
            return np.stack(views)
        states = jax.tree.map(lambda *xs: np.stack(xs), *views)
        images = wrappers.draw_all(self._camera, states, DRAW_BATCH)
        return next(iter(images.values()))


def _view_camera(env: Env, config: EvaluationConfig) -> wrappers.Pixels | None:
    """The camera that episodes are shown from, None where there is no scene."""
    if config.n_recorded == 0 or not hasattr(env, "scene"):
        return None
    return _camera(env, config.view_camera or env.scene.cameras[0], config.view_size)


@functools.lru_cache(maxsize=8)
def _camera(env: Env, name: str, size: int) -> wrappers.Pixels:
    """The same object for the same view, so that it is compiled once."""
    return wrappers.Pixels(wrappers.without_pixels(env)[0], (name,), size, shadows=True)
