"""Learning in worlds through the ordinary loop: solved, resumed, and split over devices."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from jaxpolicy.core.specs import ActionSpec, InputError
from jaxpolicy.sim.config import EnvConfig
from jaxpolicy.training import factory, loop, metrics, online, sharding
from tests.training import point


def train(config, workdir, env=None, **options):
    env = env or point.world()
    return loop.train(config, workdir, online.prepare(config, env), **options)


def same(a, b):
    flat = [
        [jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
         for x in jax.tree.leaves(tree)]
        for tree in (a, b)
    ]  # fmt: skip
    return all(np.array_equal(x, y) for x, y in zip(*flat, strict=True))


def test_ppo_solves_a_small_world(tmp_path):
    result = train(point.config(), tmp_path)
    rows = [r for r in metrics.read(tmp_path) if "train/success" in r]
    assert rows[0]["train/success"] < 0.4
    assert rows[-1]["train/success"] > 0.7
    assert rows[-1]["train/env_steps"] > rows[0]["train/env_steps"]
    # The policy itself, without exploration, points to the origin.
    window = {"proprio": np.asarray([[[0.6, -0.6]]], np.float32)}
    (action,) = result.algorithm.act(result.params, window, jax.random.key(0))
    assert action[0, 0] < -0.1
    assert action[0, 1] > 0.1


def test_kill_and_resume_is_bit_exact(tmp_path):
    config = point.config(loop={"steps": 6})
    whole = train(config, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(*args):
        raise Killed

    broken = dataclasses.replace(config, loop=dataclasses.replace(config.loop, eval_every=4))
    with pytest.raises(Killed):
        train(_monitored(broken), tmp_path / "broken", evaluate=kill)
    resumed = train(
        _monitored(broken), tmp_path / "broken", evaluate=lambda *args: {"success": 0.5}
    )
    assert 0 < resumed.resumed_from < 6
    assert same(resumed.state, whole.state)


def _monitored(config):
    values = dataclasses.replace(config.loop, monitor="eval/success", monitor_mode="max")
    return dataclasses.replace(config, loop=values)


def test_what_a_run_starts_from_is_read_once(tmp_path):
    def config(seed, source=""):
        # The critic alone learns, so the actor stays what it was at the start.
        plain = point.config(loop={"steps": 1}, epochs=1, minibatches=1, critic_warmup=2)
        return dataclasses.replace(plain, seed=seed, init_from=source)

    first = train(config(1), tmp_path / "first")
    going_on = config(0, str(tmp_path / "first"))
    second = train(going_on, tmp_path / "second")
    assert same(second.params["network"]["actor"], first.params["network"]["actor"])
    shutil.rmtree(tmp_path / "first")
    again = train(going_on, tmp_path / "second")
    assert again.resumed_from == 1
    assert same(again.state, second.state)
    with pytest.raises(InputError, match="first"):
        train(going_on, tmp_path / "third")


@pytest.mark.skipif(len(jax.devices()) < 4, reason="needs 4 devices")
def test_several_devices_learn_the_same():
    config = point.config()
    data = online.prepare(config, point.world())
    mesh = sharding.make_mesh(4)
    algorithm = online.make_algorithm(config, data, 2, mesh)
    alone = jax.jit(algorithm.init)(jax.random.key(0), None)
    like = online.place(sharding.abstract(algorithm.init, mesh, jax.random.key(0), None), mesh)
    split = sharding.init_as(algorithm.init, like, jax.random.key(0), None)
    assert split.worlds.window["proprio"].sharding == sharding.split(mesh)
    assert split.params["network"]["critic"]["head"]["kernel"].sharding.is_fully_replicated
    where = jax.tree.map(lambda x: x.sharding, like)
    together = jax.jit(algorithm.train_step, out_shardings=(where, sharding.replicated(mesh)))
    for _ in range(2):
        alone, _ = jax.jit(algorithm.train_step)(alone, ())
        split, _ = together(split, ())
    for a, b in zip(*(jax.tree.leaves(s.params) for s in (alone, split)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_worlds_must_divide_over_devices():
    config = point.config(n_worlds=6, minibatches=1)
    data = online.prepare(config, point.world())
    with pytest.raises(InputError, match=r"ppo.n_worlds \(6\) must be a multiple of the 4"):
        online.make_algorithm(config, data, 2, sharding.make_mesh(4))


def test_actions_need_limits():
    spec = ActionSpec("unknown", ("a",), ("1",), (0.0,), (0.0,), 10.0)
    with pytest.raises(InputError, match="limits"):
        online.action_norm(spec)


@pytest.mark.parametrize("algorithm", factory.ONLINE)
def test_a_world_in_which_nothing_is_rewarded_is_refused(algorithm):
    world = point.world()
    world.unwrapped.has_reward = False
    config = dataclasses.replace(point.config(algorithm), env=EnvConfig(name="mjcf:cart.xml"))
    message = f"'mjcf:cart.xml' has no reward, so {algorithm} would .* MjcfWorld.*--plugin"
    with pytest.raises(InputError, match=message):
        online.prepare(config, world)


def test_the_critic_sees_the_state_and_the_policy_need_not():
    spec = online.policy_spec(point.config(), point.world())
    assert [s.name for s in spec.observation] == ["proprio"]
    assert [s.name for s in spec.critic] == ["privileged", "proprio"]
