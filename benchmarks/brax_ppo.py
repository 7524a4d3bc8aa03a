"""Final return in Brax's environments: our PPO beside Brax's own.

COMMAND   python -m benchmarks.brax_ppo --env=reacher --seeds=3
          python -m benchmarks.brax_ppo --env=pusher --seeds=3

Both sides learn in the same environment of `brax.envs` (generalised physics, 1000 steps an
episode) for the same number of its steps, counted without action repeat; then each policy
acts without exploration in the same episodes, whose starts neither has seen. Brax's side is
`brax.training.agents.ppo.train` with the hyperparameters that its authors publish for the
environment (notebooks/training.ipynb of github.com/google/brax). Those are for 50 million
steps on an accelerator; a single update takes more steps than a CPU affords here in all. So its
batches are 64 times and its worlds 16 times smaller, and nothing else differs.

Each side runs in this process, in turn. Seconds are those of training, compilation included.
What was trained before, with the same --workdir and the same settings, is not trained again.
"""

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from brax import envs
from brax.envs.base import Env, State
from brax.training.agents.ppo import train as brax_ppo

from configs import ppo, tasks
from jaxpolicy.algorithms.ppo import PPOConfig
from jaxpolicy.data.config import DataConfig
from jaxpolicy.pipeline import train
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.sim.config import EnvConfig
from jaxpolicy.training.config import LoopConfig

LENGTH = 1000  # steps of an episode, as Brax trains
# Far from the seeds of training.
EVALUATION_SEED = 1_000_003

# Observations [B, N] -> the next k actions [B, k, A].
Act = Callable[[jax.Array], jax.Array]

# notebooks/training.ipynb of github.com/google/brax, but for what SMALLER replaces.
PUBLISHED: dict[str, dict[str, Any]] = {
    "reacher": {
        "reward_scaling": 5,
        "action_repeat": 4,
        "unroll_length": 50,
        "num_minibatches": 32,
        "num_updates_per_batch": 8,
        "discounting": 0.95,
        "learning_rate": 3e-4,
        "entropy_cost": 1e-3,
        "num_envs": 2048,
        "batch_size": 256,
    },
    "pusher": {
        "reward_scaling": 5,
        "action_repeat": 1,
        "unroll_length": 30,
        "num_minibatches": 16,
        "num_updates_per_batch": 8,
        "discounting": 0.95,
        "learning_rate": 3e-4,
        "entropy_cost": 1e-2,
        "num_envs": 2048,
        "batch_size": 512,
    },
}
SMALLER: dict[str, dict[str, Any]] = {
    "reacher": {"num_envs": 128, "batch_size": 4},
    "pusher": {"num_envs": 128, "batch_size": 8},
}
STEPS = {"reacher": 1_024_000, "pusher": 192_000}


class Result(NamedTuple):
    """One run of one side.

    Attributes:
      steps: of the environment, in training.
      returns: of every evaluation episode.
      seconds, cpu_seconds: of training.
    """

    steps: int
    returns: list[float]
    seconds: float
    cpu_seconds: float

    @property
    def mean(self) -> float:
        """Mean return."""
        return statistics.fmean(self.returns)


# ------------------------------------------------------------------------------ ours


class Tuned(NamedTuple):
    """What an environment needs besides that which both share, see `ours`."""

    ppo: PPOConfig
    activation: str
    clip_norm: float


OURS = {
    "reacher": Tuned(
        PPOConfig(n_worlds=128, steps=50, discount=0.97, initial_std=0.5, min_std=0.05),
        activation="tanh",
        clip_norm=0.5,
    ),
    # Rollouts as long as Brax's, and its clip, entropy and constant learning rate.
    "pusher": Tuned(
        PPOConfig(
            n_worlds=128,
            steps=30,
            epochs=8,
            clip=0.3,
            target_kl=0.0,
            entropy_weight=0.01,
            initial_std=0.4,
            min_std=0.05,
        ),
        activation="relu",
        clip_norm=0.0,
    ),
}


def ours(name: str, steps: int) -> ExperimentConfig:
    """Our experiment in an environment, of about so many of its steps."""
    tuned = OURS[name]
    base = ppo.full(tasks.TASKS["reach"])
    updates = max(1, round(steps / (tuned.ppo.n_worlds * tuned.ppo.steps)))
    return replace(
        base,
        name=f"brax_{name}",
        env=EnvConfig(name=f"brax:{name}", episode_length=LENGTH),
        data=DataConfig(),
        network=replace(base.network, hidden=256, activation=tuned.activation),
        ppo=tuned.ppo,
        optimizer=replace(base.optimizer, learning_rate=3e-4, clip_norm=tuned.clip_norm),
        loop=LoopConfig(
            steps=updates,
            eval_every=updates,
            steps_per_dispatch=5,
            devices=1,
            tensorboard=False,
            progress=False,
        ),
    )


def train_ours(name: str, steps: int, seed: int) -> tuple[Act, int]:
    """Our policy, and the number of steps it has learned from."""
    config = replace(ours(name, steps), seed=seed)
    with tempfile.TemporaryDirectory() as workdir:
        result, _ = train.run(config, workdir)

    def act(observation: jax.Array) -> jax.Array:
        return result.algorithm.act(result.params, {"proprio": observation[:, None]}, None)

    return act, config.loop.steps * config.ppo.n_worlds * config.ppo.steps


# ---------------------------------------------------------------------------- theirs


def train_theirs(name: str, steps: int, seed: int) -> tuple[Act, int]:
    """Brax's policy, and the number of steps it has learned from."""
    settings = theirs(name)
    done = [0]
    with _replication():
        make, params, _ = brax_ppo.train(
            environment=envs.get_environment(name),
            num_timesteps=steps,
            episode_length=LENGTH,
            normalize_observations=True,
            seed=seed,
            max_devices_per_host=1,
            num_evals=0,
            run_evals=False,
            policy_params_fn=lambda n, *_: done.append(n),
            **settings,
        )
    policy = make(params, deterministic=True)

    def act(observation: jax.Array) -> jax.Array:
        action, _ = policy(observation, jax.random.PRNGKey(0))
        return jnp.repeat(action[:, None], settings["action_repeat"], axis=1)

    return act, done[-1]


def theirs(name: str) -> dict[str, Any]:
    """Arguments of Brax's `ppo.train`."""
    return PUBLISHED[name] | SMALLER[name]


_REMOVED = "device_put_replicated"


@contextlib.contextmanager
def _replication() -> Iterator[None]:
    """Puts back `jax.device_put_replicated`, which Brax 0.14 calls and JAX 0.10 has not."""
    if hasattr(jax, _REMOVED):
        yield
        return
    setattr(jax, _REMOVED, _put_replicated)
    try:
        yield
    finally:
        delattr(jax, _REMOVED)


def _put_replicated(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """A leading axis of one copy per device, which `jax.pmap` splits."""
    return jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * len(devices)), tree)


# ------------------------------------------------------------------------ evaluation


def returns(env: Env, act: Act, n_episodes: int, length: int = LENGTH) -> jax.Array:
    """Undiscounted returns of episodes of `length` steps, [B]; the same starts for any policy.

    The environments here end no episode by themselves.
    """

    def one(state: State, action: jax.Array) -> tuple[State, jax.Array]:
        state = jax.vmap(env.step)(state, action)
        return state, state.reward

    def decide(state: State, _: None) -> tuple[State, jax.Array]:
        return jax.lax.scan(one, state, jnp.moveaxis(act(state.obs), 1, 0))

    def run(keys: jax.Array) -> jax.Array:
        state = jax.vmap(env.reset)(keys)
        repeat = jax.eval_shape(act, state.obs).shape[1]
        _, rewards = jax.lax.scan(decide, state, None, length // repeat)
        return rewards.reshape(-1, n_episodes).sum(axis=0)

    return jax.jit(run)(jax.random.split(jax.random.PRNGKey(EVALUATION_SEED), n_episodes))


def measure(train: Callable[[], tuple[Act, int]], env: Env, episodes: int) -> Result:
    """Trains, then evaluates."""
    wall, cpu = time.perf_counter(), time.process_time()
    act, steps = train()
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    found = [float(x) for x in returns(env, act, episodes)]
    return Result(steps, found, seconds, cpu_seconds)


TRAIN: dict[str, Callable[..., tuple[Act, int]]] = {"ours": train_ours, "Brax": train_theirs}


def settings_of(side: str, name: str, steps: int) -> str:
    """A short name of all that a run depends on besides its seed."""
    told = dataclasses.asdict(ours(name, steps)) if side == "ours" else theirs(name)
    return hashlib.sha256(json.dumps([told, steps], sort_keys=True).encode()).hexdigest()[:8]


def recall(path: Path, make: Callable[[], Result]) -> Result:
    """What `path` holds, or else what is measured now, which it then holds."""
    if path.exists():
        return Result(**json.loads(path.read_text()))
    found = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found._asdict()))
    return found


# ----------------------------------------------------------------------------- tables


HEAD = ("", "steps", "return, by seed", "mean", "spread", "CPU-s per run", "s per run")


def table(measured: dict[str, list[Result]]) -> str:
    """A row per side: returns of every seed, their mean and sample standard deviation."""
    lines = [_line(HEAD), "|---" * len(HEAD) + "|"]
    for side, found in measured.items():
        means = [r.mean for r in found]
        spread = f"{statistics.stdev(means):.1f}" if len(means) > 1 else ""
        cells = [
            side,
            f"{found[0].steps:,}",
            ", ".join(f"{m:.1f}" for m in means),
            f"{statistics.fmean(means):.1f}",
            spread,
            f"{statistics.fmean(r.cpu_seconds for r in found):.0f}",
            f"{statistics.fmean(r.seconds for r in found):.0f}",
        ]
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints every run as it ends, then a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--env", choices=sorted(PUBLISHED), default="reacher")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="0: what the environment needs")
    parser.add_argument("--episodes", type=int, default=64, help="of evaluation")
    parser.add_argument("--sides", nargs="+", choices=sorted(TRAIN), default=sorted(TRAIN))
    parser.add_argument("--workdir", type=Path, default=Path("runs/brax_ppo"))
    args = parser.parse_args()
    if min(args.seeds, args.episodes) < 1 or args.steps < 0:
        parser.error("--seeds and --episodes must be at least 1, --steps at least 0")
    steps, env = args.steps or STEPS[args.env], envs.get_environment(args.env)
    load = os.getloadavg()[0]
    print(f"{platform.processor() or platform.machine()}, load {load:.1f}\n", flush=True)
    measured: dict[str, list[Result]] = {side: [] for side in args.sides}
    for seed in range(args.seeds):
        for side, found in measured.items():
            name = f"{side}_{seed}_{args.episodes}_{settings_of(side, args.env, steps)}.json"
            train = functools.partial(TRAIN[side], args.env, steps, seed)
            make = functools.partial(measure, train, env, args.episodes)
            found.append(recall(args.workdir / args.env / name, make))
            last = found[-1]
            print(f"{side}, seed {seed}: {last.mean:.1f}, {last.cpu_seconds:.0f} CPU-s", flush=True)
    print("\n" + table(measured))


if __name__ == "__main__":
    main()
