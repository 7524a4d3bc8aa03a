import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpolicy.core.types import Algorithm, Batch, TrainState
from jaxpolicy.networks import conv, describe


class _Branch(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.sin(jnp.sin(nn.Dense(5, name="second")(x)))


class _Network(nn.Module):
    """4 x 6 images of 2 channels -> 3x3 convolution to 3 -> mean -> 5."""

    remat: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.relu(conv.Conv2D(3, name="first")(x)).mean((1, 2))
        return (nn.remat(_Branch) if self.remat else _Branch)(name="branch")(x)


def _init(network, key, batch):
    params = network.init(key, batch.observation["image/a"])["params"]
    opt_state = optax.adam(1e-3).init(params)
    return TrainState(jnp.zeros((), jnp.int32), {"network": params, "norm": {}}, opt_state, key)


def _eval_step(network, params, batch):
    predicted = network.apply({"params": params["network"]}, batch.observation["image/a"])
    return {"loss": jnp.square(predicted - batch.action).mean()}


def _table(depth=4, init=_init, eval_step=_eval_step, **options):
    network = _Network(**options)
    init, eval_step = (functools.partial(f, network) for f in (init, eval_step))
    shape = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    batch = Batch({"image/a": shape((7, 4, 6, 2))}, shape((7, 5)), None)
    return describe.table(Algorithm(init, None, eval_step, None, None), batch, depth)


@pytest.fixture(scope="module")
def table():
    return _table()


def test_rows_by_hand(table):
    # Convolution: 3*3*2*3 + 3 parameters; 24 pixels * 54 multiply-adds. Dense: 3*5 + 5; 15.
    want = [
        (("first",), 57, 2 * 24 * 54),
        (("branch",), 20, 2 * 15),
        (("branch", "second"), 20, 2 * 15),
    ]
    assert [(r.path, r.parameters, r.flops) for r in table.rows] == want


def test_totals_by_hand(table):
    assert (table.parameters, table.flops, table.batch_size) == (77, 2 * (24 * 54 + 15), 7)
    assert table.parameter_bytes == 4 * 77
    # Adam: two moments, and an int32 count.
    assert table.optimizer_bytes == 4 * (2 * 77 + 1)
    # The convolution's output, which says where the ReLU passed, is 7 * 24 * 3 numbers.
    assert table.activation_bytes >= 7 * 24 * 3


def test_rematerialisation_keeps_less_and_has_the_same_rows(table):
    again = _table(remat=True)
    assert again.rows == table.rows
    assert again.activation_bytes < table.activation_bytes


def test_what_the_loss_does_not_need_is_not_counted(table):
    def eval_step(network, params, batch):
        more = network.apply({"params": params["network"]}, batch.observation["image/a"])
        return {**_eval_step(network, params, batch), "sampled": (more @ more.T).sum()}

    assert _table(eval_step=eval_step).flops == table.flops


def test_activations_are_those_of_the_network_that_learns(table):
    # Where an average acts, `eval_step` is its loss.
    def init(network, key, batch):
        state = _init(network, key, batch)
        return state._replace(params={**state.params, "ema": state.params["network"]})

    def eval_step(network, params, batch):
        return _eval_step(network, {"network": params["ema"]}, batch)

    averaged = _table(init=init, eval_step=eval_step)
    assert averaged.activation_bytes == table.activation_bytes
    assert (averaged.copy_bytes, table.copy_bytes) == (4 * 77, 0)


def test_depth_counts_inner_modules_in_those_around_them(table):
    assert [r.path for r in _table(depth=1).rows] == [("first",), ("branch",)]
    assert _table(depth=1).flops == table.flops


def test_flops_of_loops_and_branches():
    def function(x):
        x, _ = jax.lax.scan(lambda c, _: (c @ x, None), x, None, length=3)
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ x @ x, lambda: x @ x)

    # Products of 4 x 4 matrices: 3 of the loop, 2 of the costlier branch.
    jaxpr = jax.make_jaxpr(function)(jnp.ones((4, 4))).jaxpr
    assert sum(value for _, value in describe.matmul_flops(jaxpr)) == (3 + 2) * 2 * 4**3


def test_flops_of_a_grouped_convolution():
    # 5 x 5 outputs of 6 features, each from 3 x 3 pixels of 4 / 2 channels.
    convolve = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=2,
    )
    jaxpr = jax.make_jaxpr(convolve)(jnp.ones((1, 5, 5, 4)), jnp.ones((3, 3, 2, 6))).jaxpr
    assert [v for _, v in describe.matmul_flops(jaxpr)] == [2 * 25 * 6 * 9 * 2]


def test_text_has_a_line_for_every_module_and_the_totals(table):
    lines = describe.text(table).splitlines()
    assert [line.split()[0] for line in lines[:5]] == [
        "module",
        "first",
        "branch",
        "second",
        "total",
    ]
    assert lines[3].startswith("  second")
    assert lines[4].split()[1:] == ["77", "0.00"]
    assert "activations of 7 samples" in lines[-1]


def test_nothing_is_allocated():
    # 4e12 parameters would not fit anywhere.
    wide = nn.Dense(2_000_000)
    shape = jax.ShapeDtypeStruct((1, 2_000_000), jnp.float32)

    def init(key, batch):
        params = wide.init(key, batch.observation["proprio"])["params"]
        return TrainState(0, {"network": {"wide": params}, "norm": {}}, (), key)

    def eval_step(params, batch):
        y = wide.apply({"params": params["network"]["wide"]}, batch.observation["proprio"])
        return {"loss": y.sum()}

    batch = Batch({"proprio": shape}, shape, None)
    got = describe.table(Algorithm(init, None, eval_step, None, None), batch)
    assert got.parameters == np.float64(2_000_000) ** 2 + 2_000_000
