import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.core.types import Algorithm, TrainState
from jaxpolicy.training import inputs, programs


def train_step(state, batch):
    params = {"w": state.params["w"] - 0.5 * (state.params["w"] - batch)}
    metrics = {"loss": jnp.square(state.params["w"] - batch), "step": state.step}
    return TrainState(state.step + 1, params, state.opt_state, state.key), metrics


def eval_step(params, batch):
    return {"loss": params["w"] * batch}


ALGORITHM = Algorithm(None, train_step, eval_step, None, None)
FETCH = inputs.passthrough
DATA = np.array([2.0, 4.0, 8.0, 100.0], np.float32)


def start():
    return TrainState(jnp.int32(0), {"w": jnp.float32(0)}, (), jax.random.key(0))


def test_train_steps_by_hand():
    run = jax.jit(functools.partial(programs.train_steps, ALGORITHM, FETCH))
    state, metrics = run(start(), None, DATA, np.int32(3))
    # w: 0 -> (0+2)/2 = 1 -> (1+4)/2 = 2.5 -> (2.5+8)/2 = 5.25
    assert float(state.params["w"]) == 5.25
    assert int(state.step) == 3
    # (0-2)^2 = 4, (1-4)^2 = 9, (2.5-8)^2 = 30.25; the fourth row is padding.
    np.testing.assert_array_equal(metrics["loss"], [4, 9, 30.25, 0])
    np.testing.assert_array_equal(metrics["step"], [0, 1, 2, 0])


def test_every_length_shares_one_compilation():
    run = jax.jit(functools.partial(programs.train_steps, ALGORITHM, FETCH))
    for n in (1, 2, 4):
        run(start(), None, DATA, np.int32(n))
    assert run._cache_size() == 1


def test_one_by_one_is_the_same():
    run = jax.jit(functools.partial(programs.train_steps, ALGORITHM, FETCH))
    state = start()
    for row in DATA:
        state, _ = programs.train_step(ALGORITHM, FETCH, state, None, row)
    together, _ = run(start(), None, DATA, np.int32(4))
    assert float(state.params["w"]) == float(together.params["w"])


def test_eval_steps_sums():
    # 3 * (2 + 4) = 18
    params = {"w": jnp.float32(3)}
    total = programs.eval_steps(ALGORITHM, FETCH, params, None, DATA, np.int32(2))
    assert float(total["loss"]) == 18
    assert float(programs.eval_step(ALGORITHM, FETCH, params, None, 2.0)["loss"]) == 6
