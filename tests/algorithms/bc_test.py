import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpolicy.algorithms import bc
from jaxpolicy.core import normalization
from jaxpolicy.core.specs import ActionSpec, ArraySpec, InputError
from jaxpolicy.core.types import Batch, PolicySpec
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig

NETWORK = NetworkConfig(widths=(8,), depths=(1,), hidden=16, layers=1)
ACTION = ActionSpec(
    kind="cartesian_delta",
    names=("dx", "dyaw", "gripper"),
    units=("m", "rad", "1"),
    minimum=(-0.03, -0.3, 0.0),
    maximum=(0.03, 0.3, 1.0),
    control_hz=20.0,
)
SPEC = PolicySpec(
    observation=(ArraySpec("image/wrist", (8, 8, 3), "uint8"), ArraySpec("proprio", (2,))),
    action=ACTION,
    n_obs_steps=1,
    horizon=2,
    n_action_steps=1,
)


def _batch(size=4, seed=0):
    """Windows whose actions are a function of the proprioception, within the bounds."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (size, 1, 8, 8, 3), dtype=np.uint8)
    proprio = rng.uniform(-1, 1, (size, 1, 2)).astype(np.float32)
    first, second = proprio[..., 0], proprio[..., 1]
    one = np.stack([0.03 * first, 0.3 * second, 0.5 + 0.5 * first], axis=-1)
    action = np.repeat(one, 2, axis=1).astype(np.float32)
    observation = {"image/wrist": images, "proprio": proprio}
    return Batch(observation, action, np.ones((size, 2), bool))


def _norm(size=64):
    batch = _batch(size, seed=1)
    proprio = batch.observation["proprio"].reshape(-1, 2)
    rows = np.concatenate([batch.action.reshape(-1, 3), [ACTION.minimum, ACTION.maximum]])
    return {"action": normalization.fit([rows]), "proprio": normalization.fit([proprio])}


def _algorithm(config=None, spec=SPEC, network=NETWORK, augmentation=None):
    config = config or bc.BCConfig()
    return bc.make(spec, network, config, optax.adam(1e-2), _norm(), augmentation)


def _setup(config=None):
    return bc.make_setup(SPEC, NETWORK, config or bc.BCConfig(), optax.adam(1e-2))


@functools.cache
def _started():
    algorithm = _algorithm()
    return algorithm, jax.jit(algorithm.init)(jax.random.key(0), _batch())


class _Constant:
    """Stands for a network: predicts `value` for everything, has no dropout."""

    def __init__(self, value):
        self.value = value

    def apply(self, variables, observation, train=False, rngs=None):
        del observation, train, rngs
        return jnp.asarray(self.value) + 0.0 * variables["params"]["w"].sum()


def test_loss_by_hand():
    # One window, H = 2, A = 3, min_max over [-.03, .03], [-.3, .3], [0, 1]. The action
    # (0, 0, .5) is 0 in network units; predicted: (.1, .2, -.2), then (1, 1, 1), masked.
    # mse = (.01 + .04 + .04) / 3 = .03; l2 = .5 * (1 + 4 + 9) = 7 over the matrix w.
    setup = dataclasses.replace(
        _setup(bc.BCConfig(l2=0.5)), network=_Constant([[[0.1, 0.2, -0.2], [1.0, 1.0, 1.0]]])
    )
    params = {"w": jnp.asarray([[1.0, 2.0, 3.0]]), "b": jnp.asarray([5.0])}
    action = np.full((1, 2, 3), [0.0, 0.0, 0.5], np.float32)
    batch = Batch(_batch(1).observation, action, np.asarray([[True, False]]))
    value, metrics = bc.loss(setup, params, _norm(), batch, None)
    np.testing.assert_allclose(metrics["mse"], 0.03, rtol=1e-5)
    np.testing.assert_allclose(metrics["l2"], 7.0, rtol=1e-6)
    np.testing.assert_allclose(value, 7.03, rtol=1e-6)
    # Network units: (.1 + .2 + .2) / 3. Physical: .1 * .03 m and .2 * .3 rad.
    np.testing.assert_allclose(metrics["action_error"], 0.5 / 3, rtol=1e-5)
    np.testing.assert_allclose(metrics["action_error_m"], 0.003, rtol=1e-5)
    np.testing.assert_allclose(metrics["action_error_rad"], 0.06, rtol=1e-5)


def test_units_that_do_not_occur_have_no_metric():
    spec = dataclasses.replace(SPEC, action=dataclasses.replace(ACTION, units=("1",) * 3))
    algorithm = _algorithm(spec=spec)
    _, state = _started()
    metrics = jax.jit(algorithm.eval_step)(state.params, _batch())
    assert set(metrics) == {"loss", "mse", "l2", "action_error"}


def test_act_returns_physical_units():
    # Predicted (1, -1, 0) in network units: the bounds .03 m and -.3 rad, gripper .5.
    setup = dataclasses.replace(_setup(), network=_Constant([[[1.0, -1.0, 0.0]] * 2]))
    params = {"network": {"w": jnp.zeros((1, 1))}, "norm": _norm()}
    chunk = bc.act(setup, params, _batch(1).observation)
    np.testing.assert_allclose(chunk, [[[0.03, -0.3, 0.5]] * 2], atol=1e-6)


def test_act_agrees_with_eval_step_and_ignores_the_key():
    algorithm, state = _started()
    batch = _batch()
    act = jax.jit(algorithm.act)
    chunk = act(state.params, batch.observation, jax.random.key(3))
    assert chunk.shape == (4, 2, 3)
    np.testing.assert_array_equal(chunk, act(state.params, batch.observation, jax.random.key(4)))
    metrics = jax.jit(algorithm.eval_step)(state.params, batch)
    error = np.abs(chunk - batch.action)
    np.testing.assert_allclose(metrics["action_error_m"], error[..., 0].mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["action_error_rad"], error[..., 1].mean(), rtol=1e-4)


def test_overfits_a_small_problem():
    algorithm = _algorithm(bc.BCConfig(l2=0.0), augmentation=AugmentConfig(shift=0))
    batch = _batch(16)
    state = jax.jit(algorithm.init)(jax.random.key(0), batch)

    @jax.jit
    def fit(state):
        step = lambda state, _: algorithm.train_step(state, batch)  # noqa: E731
        return jax.lax.scan(step, state, None, length=400)

    state, metrics = fit(state)
    assert metrics["loss"][-1] < 1e-3 < metrics["loss"][0]
    assert int(state.step) == 400
    chunk = algorithm.act(state.params, batch.observation, None)
    np.testing.assert_allclose(chunk[..., 0], batch.action[..., 0], atol=0.006)


def test_scan_equals_single_steps():
    algorithm, state = _started()
    batches = [_batch(seed=s) for s in range(3)]
    stacked = jax.tree.map(lambda *x: np.stack(x), *batches)
    scanned, metrics = jax.jit(lambda s, b: jax.lax.scan(algorithm.train_step, s, b))(
        state, stacked
    )
    step = jax.jit(algorithm.train_step)
    for i, batch in enumerate(batches):
        state, single = step(state, batch)
        np.testing.assert_allclose(metrics["loss"][i], single["loss"], rtol=1e-4)
    _assert_close(scanned.params, state.params, 1e-4)


def _assert_close(got, want, tolerance):
    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)

    jax.tree.map(check, got, want)


def test_randomness_follows_the_step():
    algorithm, state = _started()
    step, batch = jax.jit(algorithm.train_step), _batch()
    again = [step(state, batch)[1]["loss"] for _ in range(2)]
    later = step(state._replace(step=state.step + 1), batch)[1]["loss"]
    assert again[0] == again[1] != later


def test_statistics_are_not_trained():
    algorithm, state = _started()
    after, metrics = jax.jit(algorithm.train_step)(state, _batch())
    _assert_close(after.params["norm"], state.params["norm"], 0.0)
    assert metrics["grad_norm"] > 0
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), after.params["network"], state.params["network"]
    )
    assert all(jax.tree.leaves(moved))


def test_functions_are_importable_and_the_setup_static():
    algorithm, state = _started()
    step = jax.jit(bc.train_step, static_argnums=0)
    after, metrics = step(_setup(), state, _batch())
    bound, bound_metrics = jax.jit(algorithm.train_step)(state, _batch())
    np.testing.assert_allclose(metrics["loss"], bound_metrics["loss"], rtol=1e-5)
    _assert_close(after.params, bound.params, 1e-5)


def test_pmap_agrees_with_one_device_on_every_device():
    # The step has no axis names: under pmap each device trains a replica on its own
    # batch, and each must get what one device gets from that batch.
    count = jax.local_device_count()
    if count < 2:
        pytest.skip("needs XLA_FLAGS=--xla_force_host_platform_device_count=8")
    algorithm, state = _started()
    batches = [_batch(seed=s) for s in range(count)]
    stacked = jax.tree.map(lambda *x: np.stack(x), *batches)
    replicas = jax.tree.map(lambda x: jnp.stack([x] * count), state)
    replicas, metrics = jax.pmap(algorithm.train_step)(replicas, stacked)
    step = jax.jit(algorithm.train_step)
    for device in (0, 1, count - 1):
        want, want_metrics = step(state, batches[device])
        got = jax.tree.map(lambda x, d=device: x[d], replicas.params)
        _assert_close(got, want.params, 1e-5)
        np.testing.assert_allclose(metrics["loss"][device], want_metrics["loss"], rtol=1e-5)


def test_ten_steps_under_pmap_agree_with_one_device():
    # The same batches on every device: every replica is the one-device run.
    count = jax.local_device_count()
    if count < 2:
        pytest.skip("needs XLA_FLAGS=--xla_force_host_platform_device_count=8")
    algorithm, state = _started()
    replicas = jax.tree.map(lambda x: jnp.stack([x] * count), state)
    step, parallel = jax.jit(algorithm.train_step), jax.pmap(algorithm.train_step)
    for seed in range(10):
        batch = _batch(seed=seed)
        state, _ = step(state, batch)
        replicas, _ = parallel(replicas, jax.tree.map(lambda x: np.stack([x] * count), batch))
    for device in (0, count - 1):
        got = jax.tree.map(lambda x, d=device: x[d], replicas.params)
        _assert_close(got, state.params, 1e-5)


def test_donated_state_leaves_the_statistics_alone():
    norm = jax.tree.map(jnp.asarray, _norm())
    algorithm = bc.make(SPEC, NETWORK, bc.BCConfig(), optax.adam(1e-2), norm)
    state = jax.jit(algorithm.init)(jax.random.key(0), _batch())
    jax.jit(algorithm.train_step, donate_argnums=0)(state, _batch())
    assert not any(x.is_deleted() for x in jax.tree.leaves(norm))


def test_confidence_falls_as_predictions_spread():
    algorithm, state = _started()
    observation = _batch().observation
    value = jax.jit(algorithm.confidence)(state.params, observation, jax.random.key(0))
    assert value.shape == (4,)
    assert ((value > 0) & (value <= 1)).all()
    noisy = _algorithm(bc.BCConfig(confidence_noise=2.0))
    less = jax.jit(noisy.confidence)(state.params, observation, jax.random.key(0))
    assert less.mean() < value.mean()


def test_confidence_of_a_constant_network_is_one():
    setup = dataclasses.replace(_setup(), network=_Constant(np.zeros((4, 2, 3))))
    params = {"network": {"w": jnp.zeros((1, 1))}, "norm": _norm()}
    value = bc.confidence(setup, params, _batch().observation, jax.random.key(0))
    np.testing.assert_array_equal(value, 1.0)


def test_cameras_with_masks_language_history_and_resize():
    keys = ("image/a", "image/b", "language", "mask/a", "mask/b", "proprio", "privileged")
    rng = np.random.default_rng(0)
    observation = {
        "image/a": rng.integers(0, 255, (3, 2, 12, 16, 3), dtype=np.uint8),
        "image/b": rng.integers(0, 255, (3, 2, 10, 10, 3), dtype=np.uint8),
        "language": rng.normal(size=(3, 2, 6)).astype(np.float32),
        "mask/a": np.ones((3, 2), bool),
        "mask/b": np.zeros((3, 2), bool),
        "proprio": rng.normal(size=(3, 2, 2)).astype(np.float32),
        "privileged": np.full((3, 2, 1), np.nan, np.float32),  # not an input: never read
    }
    inputs = tuple(
        ArraySpec(k, observation[k].shape[2:], str(observation[k].dtype))
        for k in sorted(keys)
        if k != "privileged"
    )
    spec = dataclasses.replace(SPEC, observation=inputs, n_obs_steps=2)
    network = dataclasses.replace(NETWORK, image_size=8, dropout=0.1, group_norm=True)
    algorithm = _algorithm(spec=spec, network=network)
    batch = Batch(observation, np.zeros((3, 2, 3), np.float32), np.ones((3, 2), bool))
    state = jax.jit(algorithm.init)(jax.random.key(0), batch)
    state, metrics = jax.jit(algorithm.train_step)(state, batch)
    assert all(np.isfinite(v) for v in metrics.values())
    act = jax.jit(algorithm.act)
    before = act(state.params, observation, None)
    other = {**observation, "image/b": 255 - observation["image/b"]}
    np.testing.assert_array_equal(before, act(state.params, other, None))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (bc.BCConfig(action_norm="zscore"), "bc.action_norm"),
        (bc.BCConfig(proprio_norm="zscore"), "bc.proprio_norm"),
        (bc.BCConfig(confidence_draws=1), "confidence_draws"),
        (bc.BCConfig(l2=-1.0), "l2"),
    ],
)
def test_wrong_values_are_named(config, named):
    with pytest.raises(InputError, match=named):
        _setup(config)


def test_missing_statistics_are_named():
    norm = _norm()
    with pytest.raises(InputError, match="'proprio' are missing"):
        bc.make(SPEC, NETWORK, bc.BCConfig(), optax.adam(1e-2), {"action": norm["action"]})
    wrong = {**norm, "action": norm["proprio"]}
    with pytest.raises(InputError, match=r"'action' must have shape \[3\], got \[2\]"):
        bc.make(SPEC, NETWORK, bc.BCConfig(), optax.adam(1e-2), wrong)


def test_a_policy_needs_an_input():
    spec = dataclasses.replace(SPEC, observation=())
    with pytest.raises(InputError, match="at least one observation"):
        bc.make_setup(spec, NETWORK, bc.BCConfig(), optax.adam(1e-2))


def test_a_missing_observation_is_named():
    algorithm, state = _started()
    with pytest.raises(InputError, match="image/wrist"):
        algorithm.act(state.params, {"proprio": np.zeros((1, 1, 2), np.float32)}, None)
