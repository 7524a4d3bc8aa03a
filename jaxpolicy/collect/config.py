"""Configuration of scripted collection and of DAgger."""

import dataclasses

from jaxpolicy.core.specs import InputError

__all__ = ["BETA_SCHEDULES", "MIXINGS", "CollectConfig", "DaggerConfig"]

MAX_SEED = 4_000
SEED_STRIDE = 1_000_000

BETA_SCHEDULES = ("first", "exponential", "linear", "constant")
MIXINGS = ("step", "episode")


@dataclasses.dataclass(frozen=True)
class CollectConfig:
    """How demonstrations are recorded.

    Attributes:
      n_episodes: successful demonstrations wanted.
      seed: 0 ... 4000; attempt i of a collection has the episode seed
        1,000,000 * seed + i, so two collections never share a start.
      execution_noise: standard deviation of Gaussian noise added to what is executed,
        as a share of each element's range; the recorded action is the clean one.
        Elements without a unit ("1", the gripper) are executed as they are.
      bump_probability: chance per step that the arm is pushed off course: for four steps
        one random action is executed in place of the expert's. Where noise shows small
        corrections, bumps show recoveries; the recorded action is the clean one here too.
      misgrasp_probability: chance per step that the gripper closes for four steps, wherever it
        is; the recorded action is the clean one. A gripper that closed on nothing is rare in
        clean demonstrations, and a policy that never saw one does not try again.
      tail_steps: steps recorded after the step that first satisfies the success
        predicate. Fewer than 14 make policies drift after the last motion.
      keep_failures: yield failed attempts too (success=False); a dataset drops them
        when it is loaded and counts them.
      batch: environments stepped at once.
      max_attempts: attempts before giving up; 0 means 4 * n_episodes.
    """

    n_episodes: int = 100
    seed: int = 0
    execution_noise: float = 0.0
    bump_probability: float = 0.0
    misgrasp_probability: float = 0.0
    tail_steps: int = 14
    keep_failures: bool = True
    batch: int = 50
    max_attempts: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"collect.seed must be 0 to {MAX_SEED}, got {self.seed}")
        if self.n_episodes < 1 or self.batch < 1:
            raise InputError("collect.n_episodes and collect.batch must be at least 1")
        for name in ("bump_probability", "misgrasp_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"collect.{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.execution_noise < 0 or self.tail_steps < 0 or self.max_attempts < 0:
            raise InputError(
                "collect.execution_noise, tail_steps and max_attempts must not be negative"
            )
        if self.attempts >= SEED_STRIDE:
            raise InputError(f"collect: at most {SEED_STRIDE} attempts, got {self.attempts}")

    @property
    def attempts(self) -> int:
        """Attempts before giving up."""
        return self.max_attempts or 4 * self.n_episodes


@dataclasses.dataclass(frozen=True)
class DaggerConfig:
    """Rounds in which an expert labels what the learner runs into, see collect/dagger.py.

    Attributes:
      rounds: after the demonstrations, which are round 0.
      episodes_per_round: episodes driven in each; all are kept, failed ones too.
      schedule: share of the expert in round i, beta_i, where beta_0 = 1 (the expert alone):
        "first": 0, the learner alone; "exponential": beta^i; "linear": 1 - i / rounds;
        "constant": beta.
      beta: in [0, 1], see `schedule`.
      mixing: whether the coin that lets the expert act with probability beta_i is thrown at
        every "step" or once per "episode".
      tail_steps: steps recorded after the step that first satisfies the success predicate.
      batch: environments stepped at once; 1 for a person.
      eval_episodes: episodes of the validation stream that judge each round.
    """

    rounds: int = 5
    episodes_per_round: int = 20
    schedule: str = "first"
    beta: float = 0.5
    mixing: str = "step"
    tail_steps: int = 14
    batch: int = 20
    eval_episodes: int = 100

    def __post_init__(self) -> None:
        for name, known in (("schedule", BETA_SCHEDULES), ("mixing", MIXINGS)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"dagger.{name} must be one of {known}, got '{getattr(self, name)}'"
                )
        for name in ("rounds", "episodes_per_round", "batch", "eval_episodes"):
            if getattr(self, name) < 1:
                raise InputError(f"dagger.{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 <= self.beta <= 1.0:
            raise InputError(f"dagger.beta must lie in [0, 1], got {self.beta}")
        if self.tail_steps < 0:
            raise InputError("dagger.tail_steps must not be negative")
        if self.rounds * self.episodes_per_round > SEED_STRIDE:
            raise InputError(f"dagger: at most {SEED_STRIDE} episodes over all rounds")
