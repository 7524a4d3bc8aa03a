"""A trained policy as one function of raw arrays: what every exporter traces.

    function = policy_function.make(loaded)
    action = function({"image/wrist": ..., "proprio": ...})    # [B, H, A]

Normaliser, resize, scaling of images, sampler and un-normaliser are inside, because they
are inside the algorithm's `act`. The parameters are NumPy constants. A policy that samples
takes its noise as one more input, `{"noise": [B, ...]}` beside the observation.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.core.specs import ArraySpec, InputError
from jaxpolicy.core.types import Algorithm, Params, PolicySpec
from jaxpolicy.deploy.backends import NOISE_PREFIX

__all__ = ["SAMPLE", "PolicyFunction", "draw_noise", "make", "predict"]

# Name of the noise input of policies that sample.
SAMPLE = "sample"

_PRIVILEGED = "privileged"


@dataclasses.dataclass(frozen=True, eq=False)
class PolicyFunction:
    """raw observation [B, O, ...], and noise -> physical action chunk [B, H, A].

    Attributes:
      algorithm: whose `act`, or `act_with_noise` where it declares noise, is the function.
      params: NumPy arrays.
      spec: inputs and outputs.
      unroll: writes out the steps of the sampler instead of a loop.
    """

    algorithm: Algorithm
    params: Params
    spec: PolicySpec
    unroll: bool = False

    def __call__(
        self, observation: Mapping[str, Any], noise: Mapping[str, Any] | None = None
    ) -> jax.Array:
        """The action chunk.

        Args:
          observation: each [B, O, ...].
          noise: each [B, *shape] of the noise inputs.

        Returns:
          float32 [B, H, A].
        """
        draw = self.algorithm.act_with_noise
        if draw is None:
            return self.algorithm.act(self.params, observation, None).astype(jnp.float32)
        start = (noise or {})[SAMPLE]
        return draw(self.params, observation, start, self.unroll).astype(jnp.float32)

    def positional(self, *arrays: Any) -> jax.Array:
        """The same with the inputs as positional arguments, in the order of `names`."""
        n = len(self.spec.observation)
        observation = dict(zip(self.names[:n], arrays[:n], strict=True))
        return self(observation, {s.name: x for s, x in zip(self.noise, arrays[n:], strict=True)})

    @property
    def noise(self) -> tuple[ArraySpec, ...]:
        """Sampling noise inputs, standard normal; empty for deterministic policies."""
        return (ArraySpec(SAMPLE, self.algorithm.noise),) if self.algorithm.noise else ()

    @property
    def names(self) -> tuple[str, ...]:
        """Input names: observations, sorted, then noise."""
        names = tuple(s.name for s in self.spec.observation)
        return names + tuple(NOISE_PREFIX + s.name for s in self.noise)

    def inputs(self, batch: Any) -> list[jax.ShapeDtypeStruct]:
        """Shapes of the inputs with `batch` (a number or a symbolic size) as B."""
        steps = (self.spec.n_obs_steps,)
        shapes = [(steps + s.shape, s.dtype) for s in self.spec.observation]
        shapes += [(s.shape, s.dtype) for s in self.noise]
        return [jax.ShapeDtypeStruct((batch, *s), np.dtype(d)) for s, d in shapes]


def make(policy: Any) -> PolicyFunction:
    """The policy function of a loaded policy.

    Args:
      policy: anything with `algorithm` (types.Algorithm), `policy_spec` (PolicySpec)
        and `params`, such as `training.factory.LoadedPolicy`.

    Raises:
      InputError: the policy reads simulator state, or samples with a PRNG key and does not
        declare its noise.
    """
    spec = policy.policy_spec
    names = [s.name for s in spec.observation]
    if _PRIVILEGED in names:
        raise InputError("the policy reads 'privileged' (simulator state): it cannot be deployed")
    order = tuple(sorted(spec.observation, key=lambda s: s.name))
    spec = dataclasses.replace(spec, observation=order)
    params = jax.tree.map(np.asarray, jax.device_get(policy.params))
    function = PolicyFunction(policy.algorithm, params, spec)
    if not function.noise:
        _check_deterministic(function)
    return function


def _check_deterministic(function: PolicyFunction) -> None:
    """Traces the function without a PRNG key, as the exporters do."""
    inputs = dict(zip(function.names, function.inputs(1), strict=True))
    try:
        jax.eval_shape(function, inputs)
    except (TypeError, ValueError, AttributeError) as e:
        # Does it work with a key? Then the key is what it lacked.
        jax.eval_shape(function.algorithm.act, function.params, inputs, jax.random.key(0))
        raise InputError("the policy samples with a PRNG key: it cannot be exported") from e


def draw_noise(function: PolicyFunction, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Noise inputs of `rows` samples, each float32 [rows, *shape]; empty without noise."""
    rng = np.random.default_rng(seed)
    return {s.name: rng.standard_normal((rows, *s.shape), np.float32) for s in function.noise}


def predict(
    function: PolicyFunction,
    observation: Mapping[str, np.ndarray],
    noise: Mapping[str, np.ndarray] | None = None,
    batch: int = 32,
) -> np.ndarray:
    """JAX's own answer on the CPU, the reference that artefacts are compared with.

    Args:
      function: see PolicyFunction.
      observation: each [N, O, ...].
      noise: each [N, *shape]; None: for policies without noise.
      batch: rows per call.

    Returns:
      float32 [N, H, A].

    Raises:
      InputError: the answer is not finite.
    """
    inputs = (dict(observation), dict(noise or {}))
    rows = len(next(iter(observation.values())))
    cpu = jax.local_devices(backend="cpu")[0]
    with jax.default_device(cpu), jax.default_matmul_precision("highest"):
        run = jax.jit(function)
        parts = [
            jax.tree.map(lambda x, i=i: x[i : i + batch], inputs) for i in range(0, rows, batch)
        ]
        chunks = [run(*part) for part in parts]
    action = np.concatenate([np.asarray(c) for c in chunks])
    if not np.isfinite(action).all():
        raise InputError("the policy returns NaN or infinite actions on recorded observations")
    return action
