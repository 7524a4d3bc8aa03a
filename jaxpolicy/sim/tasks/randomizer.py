"""Domain randomisation around a task: what it carries along, does and reports.

Where nothing is randomised it carries nothing, and the world computes what it would
compute without it, bit for bit.

Keys of `PhysicsState.memory` that are its own: `variation` uint32 [2] (see
randomization.pack_key), `level` [] (of randomisation, 1 for all of it), `step` int32 []
(control steps so far) and `pending` [D, A] (actions that are not executed yet).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.core.specs import ActionSpec, ArraySpec
from jaxpolicy.sim import randomization
from jaxpolicy.sim.config import RandomizationConfig
from jaxpolicy.sim.physics import engines, randomized_models, scene

__all__ = ["Randomizer"]

Memory = dict[str, Any]

_ROUNDING = 1e-4  # a level times a number of models that is this little above a whole one


class Randomizer:
    """What a configuration does to the episodes of one world.

    Attributes:
      config: ranges.
      models: the pool of K models that the world's physics is made of.
    """

    def __init__(
        self,
        config: RandomizationConfig,
        built: scene.Scene,
        action_spec: ActionSpec,
        proprio_spec: ArraySpec,
    ) -> None:
        """Perturbs the models of the scene."""
        self.config = config
        self.models = randomized_models.make_pool(built.models, config)
        self._values = randomized_models.pool_values(config, len(self.models))
        self._own = len(built.models)
        self._order = randomized_models.nearest_first(config, len(self.models), self._own)
        self._cameras = built.cameras
        self._action_spec, self._proprio_spec = action_spec, proprio_spec
        self._is_on = randomization.is_on(config)

    @property
    def is_on(self) -> bool:
        """Whether an episode draws more than its start and its model."""
        return self._is_on

    def object_scale(self, variant: jax.Array) -> jax.Array:
        """Factor [] on the size of free objects in a model."""
        if "object_size" not in self._values:
            return jnp.ones(())
        return jnp.asarray(self._values["object_size"])[variant]

    def models_at(self, level: jax.Array) -> jax.Array:
        """How many models an episode at a level may have, the nearest ones, int32 [].

        As many of each of the world's own models, and at least one.
        """
        each = len(self.models) // self._own
        some = jnp.clip(jnp.ceil(level * each - _ROUNDING), 1, each)
        return self._own * some.astype(jnp.int32)

    def rank(self, variant: jax.Array) -> jax.Array:
        """Place of models among all, the nearest first: an episode has one below `models_at`.

        Args:
          variant: which models of the pool, int32 of any shape.
        """
        return jnp.asarray(np.argsort(self._order), jnp.int32)[variant]

    def draw_model(self, key: jax.Array, level: jax.Array) -> jax.Array:
        """Which model an episode at a level has, int32 []."""
        i = jax.random.randint(key, (), 0, self.models_at(level))
        # All models in their own order at level 1, so that this is as without levels.
        return jnp.where(level >= 1.0, i, jnp.asarray(self._order)[i])

    def at_level(self, state: engines.PhysicsState, level: jax.Array) -> engines.PhysicsState:
        """A state of an episode with the same numbers drawn, but at another level."""
        if not self._is_on:
            return state
        return state.replace(memory={**state.memory, "level": level})

    def begin(self, key: jax.Array, idle: jax.Array, level: jax.Array) -> Memory:
        """Memory of a new episode.

        Args:
          key: PRNG key.
          idle: the action that is executed until the first one is due, [A].
          level: of randomisation, float32 [].
        """
        if not self._is_on:
            return {}
        delay = self.config.action_delay[1]
        return {
            "variation": randomization.pack_key(key),
            "level": level,
            "step": jnp.zeros((), jnp.int32),
            "pending": jnp.tile(idle, (delay, 1)),
        }

    def act(self, memory: Memory, action: jax.Array) -> tuple[Memory, jax.Array]:
        """What an action [A] changes in the memory, and what is executed [A]."""
        if not self._is_on:
            return {}, action
        variation = self._variation(memory)
        key = randomization.step_keys(variation, memory["step"])[0]
        pending, executed = randomization.delay_action(
            memory["pending"], action, variation.action_delay
        )
        executed = randomization.noisy_action(variation, self._action_spec, key, executed)
        return {"step": memory["step"] + 1, "pending": pending}, executed

    def observe(self, memory: Memory, proprio: jax.Array) -> jax.Array:
        """`proprio` [P] as the sensors give it."""
        if not self._is_on:
            return proprio
        variation = self._variation(memory)
        key = randomization.step_keys(variation, memory["step"])[1]
        return randomization.noisy_proprio(variation, self._proprio_spec, key, proprio)

    def describe(self, state: engines.PhysicsState) -> dict[str, jax.Array]:
        """All that is randomised in an episode, by name, float32 [] each."""
        named = {name: jnp.asarray(v)[state.variant] for name, v in self._values.items()}
        if not self._is_on:
            return named
        variation = self._variation(state.memory)
        return named | randomization.describe(self.config, variation, self._cameras)

    def _variation(self, memory: Memory) -> randomization.Variation:
        cameras = len(self._cameras)
        return randomization.unpack(self.config, memory["variation"], cameras, memory["level"])
