"""Domain randomisation around a task: what it carries along, does and reports.

Where nothing is randomised it carries nothing, and the world computes what it would
compute without it, bit for bit.

Keys of `PhysicsState.memory` that are its own: `variation` uint32 [2] (see
randomization.pack_key), `step` int32 [] (control steps so far) and `pending` [D, A]
(actions that are not executed yet).
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxpolicy.sim import physics, randomization, randomized_models, scene
from jaxpolicy.sim.config import RandomizationConfig
from jaxpolicy.specs import ActionSpec, ArraySpec

__all__ = ["Randomizer"]

Memory = dict[str, Any]


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

    def begin(self, key: jax.Array, idle: jax.Array) -> Memory:
        """Memory of a new episode; `idle` [A] is executed until the first action is due."""
        if not self._is_on:
            return {}
        delay = self.config.action_delay[1]
        return {
            "variation": randomization.pack_key(key),
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

    def describe(self, state: physics.PhysicsState) -> dict[str, jax.Array]:
        """All that is randomised in an episode, by name, float32 [] each."""
        named = {name: jnp.asarray(v)[state.variant] for name, v in self._values.items()}
        if not self._is_on:
            return named
        variation = self._variation(state.memory)
        return named | randomization.describe(self.config, variation, self._cameras)

    def _variation(self, memory: Memory) -> randomization.Variation:
        return randomization.unpack(self.config, memory["variation"], len(self._cameras))
