"""A trained policy as one function of raw arrays: what every exporter traces.

    function = policy_function.make(loaded)
    action = function({"image/wrist": ..., "proprio": ...})    # [B, H, A]

Normaliser, resize, scaling of images and un-normaliser are inside, because they are
inside the algorithm's `act`. The parameters are NumPy constants.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.specs import ArraySpec, InputError
from jaxpolicy.types import Params, PolicySpec

__all__ = ["PolicyFunction", "make", "predict"]

_PRIVILEGED = "privileged"


@dataclasses.dataclass(frozen=True, eq=False)
class PolicyFunction:
    """raw observation [B, O, ...] -> physical action chunk [B, H, A].

    Attributes:
      act: (params, observation, key) -> [B, H, A], deterministic.
      params: NumPy arrays.
      spec: inputs and outputs.
      noise: sampling noise inputs; empty, because sampling policies are not exported
        yet (see `predict`).
    """

    act: Callable[..., jax.Array]
    params: Params
    spec: PolicySpec
    noise: tuple[ArraySpec, ...] = ()

    def __call__(self, observation: Mapping[str, Any]) -> jax.Array:
        """The action chunk [B, H, A], float32, of `observation` (each [B, O, ...])."""
        return self.act(self.params, observation, None).astype(jnp.float32)

    def positional(self, *arrays: Any) -> jax.Array:
        """The same with the inputs as positional arguments, in the order of `names`."""
        return self(dict(zip(self.names, arrays, strict=True)))

    @property
    def names(self) -> tuple[str, ...]:
        """Input names, sorted."""
        return tuple(s.name for s in self.spec.observation)

    def inputs(self, batch: Any) -> list[jax.ShapeDtypeStruct]:
        """Shapes of the inputs with `batch` (a number or a symbolic size) as B."""
        steps = self.spec.n_obs_steps
        return [
            jax.ShapeDtypeStruct((batch, steps, *s.shape), np.dtype(s.dtype))
            for s in self.spec.observation
        ]


def make(policy: Any) -> PolicyFunction:
    """The policy function of a loaded policy.

    Args:
      policy: anything with `algorithm` (types.Algorithm), `policy_spec` (PolicySpec)
        and `params`, such as `training.factory.LoadedPolicy`.

    Raises:
      InputError: the policy reads simulator state, or samples with a PRNG key.
    """
    spec = policy.policy_spec
    names = [s.name for s in spec.observation]
    if _PRIVILEGED in names:
        raise InputError("the policy reads 'privileged' (simulator state): it cannot be deployed")
    order = tuple(sorted(spec.observation, key=lambda s: s.name))
    spec = dataclasses.replace(spec, observation=order)
    params = jax.tree.map(np.asarray, jax.device_get(policy.params))
    function = PolicyFunction(policy.algorithm.act, params, spec)
    _check_deterministic(function)
    return function


def _check_deterministic(function: PolicyFunction) -> None:
    """Traces the function without a PRNG key, as the exporters do."""
    inputs = dict(zip(function.names, function.inputs(1), strict=True))
    try:
        jax.eval_shape(function, inputs)
    except (TypeError, ValueError, AttributeError) as e:
        # Does it work with a key? Then the key is what it lacked.
        jax.eval_shape(function.act, function.params, inputs, jax.random.key(0))
        raise InputError("the policy samples with a PRNG key: it cannot be exported yet") from e


def predict(
    function: PolicyFunction, observation: Mapping[str, np.ndarray], batch: int = 32
) -> np.ndarray:
    """JAX's own answer on the CPU, the reference that artefacts are compared with.

    Args:
      function: see PolicyFunction.
      observation: each [N, O, ...].
      batch: rows per call.

    Returns:
      float32 [N, H, A].

    Raises:
      InputError: the answer is not finite.
    """
    rows = len(next(iter(observation.values())))
    cpu = jax.local_devices(backend="cpu")[0]
    with jax.default_device(cpu), jax.default_matmul_precision("highest"):
        run = jax.jit(function)
        starts = range(0, rows, batch)
        chunks = [run({k: v[i : i + batch] for k, v in observation.items()}) for i in starts]
    action = np.concatenate([np.asarray(c) for c in chunks])
    if not np.isfinite(action).all():
        raise InputError("the policy returns NaN or infinite actions on recorded observations")
    return action
