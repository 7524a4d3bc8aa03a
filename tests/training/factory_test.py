import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.algorithms import ppo
from jaxpolicy.core.schema import Settings
from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import DatasetSpec
from jaxpolicy.data.config import DataConfig
from jaxpolicy.training import factory
from jaxpolicy.training.config import OptimizerConfig, TrainConfig
from tests.training import fixtures


def test_cosine_schedule_by_hand():
    schedule = factory.make_schedule(OptimizerConfig(learning_rate=0.2, warmup_steps=4), 20)
    # Linear to the peak over 4 steps, then 0.2 (1 + cos(pi (t - 4) / 16)) / 2.
    expected = {0: 0.0, 2: 0.1, 4: 0.2, 12: 0.1, 20: 0.0}
    for step, value in expected.items():
        assert float(schedule(step)) == pytest.approx(value, abs=1e-7)


def test_schedules_that_end_above_zero_by_hand():
    config = OptimizerConfig(learning_rate=0.2, warmup_steps=4, final_fraction=0.1)
    # To 0.02 over 16 steps: 0.02 + 0.18 (1 + cos(pi t / 16)) / 2, or straight.
    expected = {"cosine": {4: 0.2, 8: 0.02 + 0.18 * 0.853553}, "linear": {4: 0.2, 8: 0.155}}
    for name, values in expected.items():
        schedule = factory.make_schedule(dataclasses.replace(config, schedule=name), 20)
        for step, value in (values | {2: 0.1, 12: 0.11, 20: 0.02, 30: 0.02}).items():
            assert float(schedule(step)) == pytest.approx(value, rel=1e-5), (name, step)


def test_constant_schedule():
    config = OptimizerConfig(learning_rate=0.2, schedule="constant", warmup_steps=0)
    assert float(factory.make_schedule(config, 10)(7)) == pytest.approx(0.2)


def test_warmup_longer_than_the_run():
    schedule = factory.make_schedule(OptimizerConfig(learning_rate=1.0, warmup_steps=100), 10)
    assert float(schedule(5)) == pytest.approx(0.5)


def test_only_kernels_decay():
    config = OptimizerConfig(learning_rate=0.1, schedule="constant", warmup_steps=0)
    config = dataclasses.replace(config, weight_decay=0.5)
    optimizer = factory.make_optimizer(config, 10)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    # Without gradient: kernel moves by -0.1 * 0.5 * 1, bias stays.
    np.testing.assert_allclose(updates["kernel"], -0.05, rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], 0)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_clipping_makes_large_gradients_alike(name):
    config = OptimizerConfig(name=name, learning_rate=0.1, schedule="constant", warmup_steps=0)
    optimizer = factory.make_optimizer(config, 10)
    params = {"w": jnp.zeros(2)}
    step = [
        optimizer.update({"w": jnp.array([scale, 0.0])}, optimizer.init(params), params)[1]
        for scale in (10.0, 1000.0)
    ]
    # Norms 10 and 1000 are both clipped to 1, so both moments are those of (1, 0).
    fixtures.assert_close(step[0], step[1], 1e-7)


def test_policy_does_not_see_privileged_state():
    spec = factory.make_policy_spec(fixtures.config(), fixtures.spec(images=True))
    assert [s.name for s in spec.observation] == ["image/wrist", "proprio"]


def test_policy_sees_privileged_state_where_it_is_asked_to():
    config = dataclasses.replace(fixtures.config(), data=DataConfig(privileged=True))
    spec = factory.make_policy_spec(config, fixtures.spec())
    assert [s.name for s in spec.observation] == ["privileged", "proprio"]
    assert set(factory.blank_norm(spec)) == {"action", "privileged", "proprio"}


def test_policy_that_would_see_nothing():
    blind = DatasetSpec((fixtures.PRIVILEGED,), fixtures.ACTION)
    with pytest.raises(InputError, match="the policy would see nothing"):
        factory.make_policy_spec(fixtures.config(), blind)


def test_example_batch_shapes():
    config = dataclasses.replace(fixtures.config(), n_obs_steps=2, horizon=3)
    spec = factory.make_policy_spec(config, fixtures.spec(images=True))
    batch = factory.example_batch(spec, 5)
    assert batch.observation["image/wrist"].shape == (5, 2, 8, 8, 3)
    assert batch.observation["image/wrist"].dtype == np.uint8
    assert batch.action.shape == (5, 3, 2)
    assert batch.action_mask.shape == (5, 3)


def test_unknown_algorithm_names_the_known():
    config = TrainConfig(algorithm="magic")
    spec = factory.make_policy_spec(config, fixtures.spec())
    with pytest.raises(InputError, match="algorithm must be one of .*diffusion.*, got 'magic'"):
        factory.make_algorithm(config, spec, {})


def test_every_algorithm_has_its_settings():
    fields = {f.name for f in dataclasses.fields(TrainConfig)}
    assert set(factory.ALGORITHMS) <= fields


@dataclasses.dataclass(frozen=True)
class Own(ppo.PPOConfig):
    bonus: float = 0.0


def test_methods_from_outside_have_their_settings_in_settings(monkeypatch):
    registry = factory.ALGORITHMS.copy()
    registry.add("own", factory.Method(ppo.make, Own, online=True), "mine")
    monkeypatch.setattr(factory, "ALGORITHMS", registry)
    config = TrainConfig(algorithm="own", settings=Settings(n_worlds=4, steps=2, bonus=0.5))
    assert factory.is_online(config)
    assert not factory.is_online(TrainConfig())
    assert factory.method_settings(config) == Own(n_worlds=4, steps=2, bonus=0.5)
    spec = factory.make_policy_spec(config, fixtures.spec())
    spec = dataclasses.replace(spec, critic=spec.observation)
    # 4 worlds on 3 devices: the make of an online method is told of them.
    with pytest.raises(InputError, match=r"n_worlds \(4\) must be a multiple of the 3 devices"):
        factory.make_algorithm(config, spec, factory.blank_norm(spec), 1, 3)
    with pytest.raises(InputError, match="config.settings has no key 'bonsu'; did you mean"):
        factory.method_settings(TrainConfig(algorithm="own", settings=Settings(bonsu=1.0)))


def test_load_policy_gives_what_was_trained(tmp_path):
    config = fixtures.config()
    result = fixtures.train(config, tmp_path)
    policy = factory.load_policy(tmp_path)
    fixtures.assert_same_bits(policy.params, result.params)
    assert policy.step == result.best_step
    assert policy.policy_spec == result.policy_spec
    assert factory.config_from_dict(policy.config) == config
    observation = {"proprio": np.ones((2, 1, 3), np.float32)}
    chunk = policy.algorithm.act(policy.params, observation, jax.random.key(0))
    assert chunk.shape == (2, 1, 2)


def test_load_policy_of_nothing(tmp_path):
    with pytest.raises(InputError, match="checkpoints not found"):
        factory.load_policy(tmp_path)


def test_the_algorithm_augments_as_configured():
    config = fixtures.config()
    spec = factory.make_policy_spec(config, fixtures.spec(images=True))
    algorithm = factory.make_algorithm(config, spec, factory.blank_norm(spec))
    (setup,) = algorithm.train_step.args
    assert setup.augment is config.augment
