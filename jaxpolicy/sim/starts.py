"""Episodes that begin in the middle of a task: a reset curriculum.

Reinforcement learning does not find what random actions never reach. Where some episodes
begin at states that an expert passed through, it learns the end of a task before its
beginning: reference state initialisation (Peng et al. 2018, DeepMimic,
https://arxiv.org/abs/1804.02717) and resets to demonstration states (Nair et al. 2018,
https://arxiv.org/abs/1709.10089).

Only states are kept. What the expert did there is never given to a learner.

Axis letters: N states of a bank, E episodes at once, T steps, A action.
"""

import copy
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env, State, Wrapper

from jaxpolicy.core.specs import InputError
from jaxpolicy.sim import randomization, streams

__all__ = ["ExpertStarts", "StartBank", "record_bank", "with_starts"]

BEFORE_SUCCESS = 3  # steps between the latest state that is kept and the first success
BATCH = 256  # episodes at once
ATTEMPTS = 4  # times as many episodes as states are wanted, before giving up
_BANK = 1  # tells the keys of banks from those of other episodes of the stream


class StartBank(NamedTuple):
    """States of a bare task where episodes may begin.

    Attributes:
      states: each leaf [N, ...]. Nothing has been earned in them: reward, done, metrics and
        the count of steps for which the goal held are 0.
    """

    states: State


class ExpertStarts(Wrapper):
    """Some episodes begin at a random state of a bank, the others where the task begins.

    It goes directly around the bare task. info["from_bank"] float32 [] is 1 where the
    running episode began in the bank, metrics["from_bank"] where the episode of this step
    did, also where the step ended it.
    """

    def __init__(self, env: Env, bank: StartBank, share: float):
        """Begins a `share` in [0, 1] of the episodes of the bare task `env` in the bank.

        Raises:
          InputError: `env` is wrapped, the share is none, or the bank is another world's.
        """
        super().__init__(env)
        if env is not env.unwrapped:
            raise InputError("ExpertStarts goes around the bare task; use starts.with_starts")
        if not 0.0 <= share <= 1.0:
            raise InputError(f"the share of starts from the bank must be in [0, 1], got {share}")
        _check_fits(env, bank)
        self.share = share
        self.bank, self._ranks = _nearest_first(env, bank)

    def reset(self, rng: jax.Array) -> State:
        """A new episode."""
        key_home, key_bank, key_choice = jax.random.split(rng, 3)
        recorded = self._recorded(key_bank, jnp.asarray(len(self._ranks)))
        return _choose(key_choice, self.share, recorded, self.env.reset(key_home))

    def reset_at(self, rng: jax.Array, level: float | jax.Array) -> State:
        """A new episode at a level of randomisation [].

        States of the bank are those of models that the level allows; where it allows none of
        them, the episode begins where the task begins.
        """
        key_home, key_bank, key_choice = jax.random.split(rng, 3)
        level = jnp.clip(jnp.asarray(level, jnp.float32), 0.0, 1.0)
        randomizer = self.env.randomizer
        n = jnp.searchsorted(jnp.asarray(self._ranks), randomizer.models_at(level))
        recorded = self._recorded(key_bank, jnp.maximum(n, 1)).pipeline_state
        recorded = self.env.begin(randomizer.at_level(recorded, level))
        share = jnp.where(n > 0, self.share, 0.0)
        return _choose(key_choice, share, recorded, self.env.reset_at(key_home, level))

    def step(self, state: State, action: jax.Array) -> State:
        """One step."""
        after = self.env.step(state, action)
        return after.replace(metrics={**after.metrics, "from_bank": state.info["from_bank"]})

    def _recorded(self, key: jax.Array, n: jax.Array) -> State:
        """One of the first `n` states of the bank."""
        i = jax.random.randint(key, (), 0, n)
        return jax.tree.map(lambda x: x[i], self.bank.states)


def _choose(key: jax.Array, share: float | jax.Array, recorded: State, home: State) -> State:
    """`recorded` with probability `share` [], else `home`, and which of them it is."""
    chosen = jax.random.uniform(key) < share
    state = jax.tree.map(lambda a, b: jnp.where(chosen, a, b), recorded, home)
    told = {"from_bank": chosen.astype(jnp.float32)}
    return state.replace(info={**state.info, **told}, metrics={**state.metrics, **told})


def _check_fits(env: Env, bank: StartBank) -> None:
    start = jax.eval_shape(env.reset, jax.random.key(0))
    expected: Any = jax.tree.structure(start)
    found: Any = jax.tree.structure(bank.states)
    same = expected == found and all(
        x.shape[1:] == y.shape
        for x, y in zip(jax.tree.leaves(bank.states), jax.tree.leaves(start), strict=True)
    )
    if not same:
        raise InputError(
            f"the bank of starts was not recorded in this world ('{env.task}'): record it "
            "with starts.record_bank, and with the same env configuration"
        )


def _nearest_first(env: Env, bank: StartBank) -> tuple[StartBank, np.ndarray]:
    """A bank in the order of its models' ranks (see Randomizer.rank), and these, int32 [N]."""
    randomizer = getattr(env, "randomizer", None)
    if randomizer is None:
        return bank, np.zeros(len(bank.states.done), np.int32)
    ranks = np.asarray(randomizer.rank(bank.states.pipeline_state.variant))
    order = np.argsort(ranks, kind="stable")
    return StartBank(jax.tree.map(lambda x: jnp.asarray(x)[order], bank.states)), ranks[order]


def with_starts(env: Env, bank: StartBank, share: float) -> Env:
    """`env` with ExpertStarts directly around its task, inside all other wrappers.

    Args:
      env: one world, such as `sim.make_world` gives.
      bank: of that world.
      share: of its episodes, see ExpertStarts.
    """
    if env is env.unwrapped:
        return ExpertStarts(env, bank, share)
    clone = copy.copy(env)
    clone.env = with_starts(env.env, bank, share)
    return clone


def record_bank(env: Env, seed: int, n: int, noise: float, length: int) -> StartBank:
    """Records N states that the task's scripted expert passes through.

    Of every episode in which the expert succeeds one state is kept, at a uniformly random
    time up to BEFORE_SUCCESS steps before the success, so that a bank holds some of every
    stage. The expert's actions are not recorded: they are never given to a learner. Episodes
    begin at starts of the TRAINING stream, which evaluation never uses.

    Args:
      env: one world of the task, wrapped or not.
      seed: of the bank; the same seed gives the same bank.
      n: N >= 1 states.
      noise: standard deviation of Gaussian noise on the executed actions, as a share of each
        element's range; the gripper has none.
      length: T, control steps that the expert is given to succeed.

    Raises:
      InputError: the world has no expert, the expert fails too often, or a number is wrong.
    """
    if getattr(env, "expert", None) is None:
        raise InputError(
            f"the environment '{env.task}' has no scripted expert whose states episodes "
            "could begin at: leave the share of such starts at 0"
        )
    if n < 1 or length < 1 or noise < 0.0:
        raise InputError(
            "a bank of starts needs n >= 1 states, length >= 1 steps and noise >= 0, got "
            f"{n}, {length} and {noise}"
        )
    key = jax.random.fold_in(streams.episode_key(streams.TRAINING, seed), _BANK)
    return StartBank(jax.tree.map(jnp.asarray, _collected(env.unwrapped, key, n, noise, length)))


def _collected(task: Env, key: jax.Array, n: int, noise: float, length: int) -> State:
    """The first N states that count, each leaf [N, ...], on the host."""
    size, parts, found, tried = min(n, BATCH), [], 0, 0
    while found < n and tried < ATTEMPTS * max(n, size):
        keys = jax.random.split(jax.random.fold_in(key, tried), size)
        states, counts = jax.tree.map(np.asarray, _pass_through(task, length, noise, keys))
        parts.append(jax.tree.map(lambda x, c=counts: x[c], states))
        found, tried = found + int(counts.sum()), tried + size
    if found < n:
        raise InputError(
            f"the expert of '{task.task}' succeeded in {found} of {tried} episodes of {length} "
            f"steps, and a bank of {n} starts needs as many successes: give it more steps or "
            "less noise"
        )
    return jax.tree.map(lambda *x: np.concatenate(x)[:n], *parts)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pass_through(
    task: Env, length: int, noise: jax.Array, keys: jax.Array
) -> tuple[State, jax.Array]:
    """One state of each of E episodes of the expert, and whether it counts, bool [E]."""
    key_reset, key_noise, key_time = jax.vmap(lambda k: jax.random.split(k, 3), out_axes=1)(keys)
    step = functools.partial(_expert_step, task, noise, key_noise)
    start = jax.vmap(task.reset)(key_reset)
    states, success, done = jax.lax.scan(step, start, jnp.arange(length))[1]
    succeeds, latest = jax.vmap(_latest, in_axes=1)(success, done)
    at = jnp.floor(jax.vmap(jax.random.uniform)(key_time) * (latest + 1)).astype(jnp.int32)
    picked = jax.tree.map(lambda x: x[at, jnp.arange(len(keys))], states)
    return jax.vmap(functools.partial(_as_start, task))(picked), succeeds


def _expert_step(
    task: Env, noise: jax.Array, keys: jax.Array, state: State, t: jax.Array
) -> tuple[State, tuple[State, jax.Array, jax.Array]]:
    """A step of E episodes; what comes out besides is the state before it and how it ended."""
    act = functools.partial(_action, task, noise)
    after = jax.vmap(task.step)(state, jax.vmap(act, (0, None, 0))(keys, t, state.obs))
    return after, (state, after.metrics["success"], after.done)


def _action(task: Env, noise: jax.Array, key: jax.Array, t: jax.Array, obs: Any) -> jax.Array:
    """What is executed at step `t` of an episode, [A]."""
    spec, wanted = task.action_spec, task.expert(obs["privileged"])
    noisy = randomization.with_noise(noise, spec, jax.random.fold_in(key, t), wanted)
    return jnp.clip(noisy, jnp.asarray(spec.minimum), jnp.asarray(spec.maximum))


def _latest(success: jax.Array, done: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether an episode succeeds before it ends, and its latest state that may be kept.

    Args:
      success, done: after each step, [T].

    Returns:
      bool [], and the step before which that state was, int32 [].
    """
    earned = (success > 0) & (jnp.cumsum(done) - done == 0)
    # The state after step i is the one before step i + 1.
    return earned.any(), jnp.maximum(jnp.argmax(earned) + 1 - BEFORE_SUCCESS, 0)


def _as_start(task: Env, state: State) -> State:
    """A state as the first of an episode in which nothing has been earned."""
    begin = getattr(task, "begin", None)
    if begin is not None:
        return begin(state.pipeline_state)
    zeros = functools.partial(jax.tree.map, jnp.zeros_like)
    return state.replace(
        reward=zeros(state.reward), done=zeros(state.done), metrics=zeros(state.metrics)
    )
