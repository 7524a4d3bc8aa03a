"""Configuration of a training run: everything that decides the resulting parameters."""

import dataclasses

from jaxpolicy.algorithms.act import ACTConfig
from jaxpolicy.algorithms.bc import BCConfig
from jaxpolicy.algorithms.diffusion import DiffusionConfig
from jaxpolicy.algorithms.dppo import DPPOConfig
from jaxpolicy.algorithms.ppo import PPOConfig
from jaxpolicy.core.schema import OPTIONAL, Settings
from jaxpolicy.core.specs import InputError, check_chunks
from jaxpolicy.data.config import DataConfig, MixtureEntry
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.sim.config import EnvConfig
from jaxpolicy.training.guard import GuardConfig
from jaxpolicy.training.rollouts import ArenaConfig

__all__ = ["ArenaConfig", "GuardConfig", "LoopConfig", "OptimizerConfig", "TrainConfig"]

OPTIMIZERS = ("adam", "adamw")
SCHEDULES = ("constant", "cosine", "linear")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Gradient descent.

    Attributes:
      name: one of OPTIMIZERS.
      learning_rate: peak learning rate.
      schedule: one of SCHEDULES, after the warm-up; cosine and linear end at
        `final_fraction` of the peak on the last step.
      final_fraction: 0 to 1.
      warmup_steps: steps of linear rise from 0.
      weight_decay: decoupled decay of kernels (not of biases and scales), adamw only.
      clip_norm: largest global gradient norm, 0 for no clipping.
      betas: decay rates of the two moments.
      epsilon: added to the root of the second moment.
    """

    name: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    final_fraction: float = 0.0
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _one_of("optimizer.name", self.name, OPTIMIZERS)
        _one_of("optimizer.schedule", self.schedule, SCHEDULES)
        _at_least("optimizer", self, {"warmup_steps": 0, "weight_decay": 0, "clip_norm": 0})
        if not 0.0 <= self.final_fraction <= 1.0:
            raise InputError(
                f"optimizer.final_fraction must be in [0, 1], got {self.final_fraction}"
            )
        if self.learning_rate <= 0:
            raise InputError(f"optimizer.learning_rate must be above 0, got {self.learning_rate}")


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long to train, and what happens when.

    Attributes:
      steps: updates in total.
      epochs: passes over the training part in total; replaces `steps` where above 0.
      batch_size: windows per update, over all devices and hosts.
      steps_per_dispatch: updates between two looks at the metrics, and per metrics row.
      scan: whether these updates are one program: "on", "off" (one program each), or
        "auto": on, except on CPU, see module `programs`.
      eval_every: updates between validations; 0 is once per epoch.
      eval_batches: batches per validation at most; 0 is all of them.
      checkpoint_every: updates between checkpoints; 0 is at every validation. An
        improved validation is always kept.
      patience: validations without improvement before stopping; 0 never stops early.
      monitor: validation metric that decides which checkpoint is best: "val/<metric>"
        or "eval/<metric>" of the in-loop evaluation.
      monitor_mode: "min" or "max".
      guard: what is done when training diverges, see GuardConfig.
      max_to_keep: newest checkpoints kept beside the best one.
      devices: devices to train on; 0 is all of them.
      shard_params: whether parameters and optimiser state are split over the devices
        instead of copied to each (see module `sharding`): "on", "off", or "auto": on where
        there are several devices and the state takes more than sharding.AUTO_BYTES.
      rollouts: closed-loop episodes in the simulated world at every validation, logged as
        "eval/success"; 0 is none. Their starts are neither those of demonstrations nor
        those of the final evaluation.
      profile: updates [first, last) that are traced into `<workdir>/profile`.
      wandb: project at Weights & Biases to log to; "" is none.
      tensorboard: also write TensorBoard files.
      progress: show a progress bar.
    """

    steps: int = 1000
    epochs: int = 0
    batch_size: int = 64
    steps_per_dispatch: int = 50
    scan: str = "auto"
    eval_every: int = 100
    eval_batches: int = 0
    checkpoint_every: int = 0
    patience: int = 0
    monitor: str = "val/loss"
    monitor_mode: str = "min"
    guard: GuardConfig = dataclasses.field(default_factory=GuardConfig)
    max_to_keep: int = 1
    devices: int = 0
    shard_params: str = "auto"
    rollouts: int = 0
    profile: tuple[int, int] = (0, 0)
    wandb: str = ""
    tensorboard: bool = True
    progress: bool = True

    def __post_init__(self) -> None:
        _one_of("loop.scan", self.scan, ("auto", "on", "off"))
        _one_of("loop.shard_params", self.shard_params, ("auto", "on", "off"))
        _one_of("loop.monitor_mode", self.monitor_mode, ("min", "max"))
        ones = ("steps", "batch_size", "steps_per_dispatch", "max_to_keep")
        zeros = ("epochs", "eval_every", "eval_batches", "checkpoint_every", "patience", "devices")
        _at_least("loop", self, dict.fromkeys(ones, 1) | dict.fromkeys(zeros, 0))
        _at_least("loop", self, {"rollouts": 0})
        if not 0 <= self.profile[0] <= self.profile[1]:
            raise InputError(f"loop.profile must be (first, last) update, got {self.profile}")
        if not self.monitor.startswith(("val/", "eval/")):
            raise InputError(f"loop.monitor must start with val/ or eval/, got '{self.monitor}'")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
      name: name of the experiment.
      seed: of parameters, sampling and augmentation.
      dataset: directory of demonstrations; "" is `<workdir>/dataset`.
      mixture: several datasets to draw from instead, see MixtureEntry.
      env: the simulated world the data comes from and the policy is tested in.
      data: what is read from the dataset.
      network: architecture.
      augment: random changes of the images while training, for every algorithm.
      algorithm: key of `factory.ALGORITHMS`; its settings are in the field of that name, those
        of a plug-in's in `settings`.
      init_from: workdir of a run whose parameters training starts from (of a sweep, those of
        the same seed); "" starts at random.
      act: action chunking with transformers.
      bc: behavioural cloning.
      diffusion: diffusion policy.
      dppo: policy gradients for a diffusion policy, which learn in the simulated world.
      ppo: proximal policy optimisation, which learns in the simulated world and needs no dataset.
      arena: how episodes begin while a policy learns in worlds.
      optimizer: see OptimizerConfig.
      loop: see LoopConfig.
      n_obs_steps: O, observations seen.
      horizon: H, actions predicted.
      n_action_steps: actions executed before predicting again.
      temporal_ensemble: below 0: off. Else a chunk is predicted at every step, and the
        mean of all predictions of the current action is executed, with weights
        exp(-temporal_ensemble * i), i = 0 for the oldest; n_action_steps must be 1.
      settings: of an algorithm that a plug-in brings, see docs/plugins.md.
      plugins: where parts from outside come from: modules, .py files, and distributions with
        their versions ("name==1.0"); see `pipeline.plugins`.
    """

    name: str = "experiment"
    seed: int = 0
    dataset: str = ""
    mixture: tuple[MixtureEntry, ...] = ()
    env: EnvConfig = dataclasses.field(default_factory=EnvConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    algorithm: str = "bc"
    init_from: str = ""
    act: ACTConfig = dataclasses.field(default_factory=ACTConfig)
    bc: BCConfig = dataclasses.field(default_factory=BCConfig)
    diffusion: DiffusionConfig = dataclasses.field(default_factory=DiffusionConfig)
    dppo: DPPOConfig = dataclasses.field(default_factory=DPPOConfig)
    ppo: PPOConfig = dataclasses.field(default_factory=PPOConfig)
    arena: ArenaConfig = dataclasses.field(default_factory=ArenaConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    loop: LoopConfig = dataclasses.field(default_factory=LoopConfig)
    n_obs_steps: int = 1
    horizon: int = 1
    n_action_steps: int = 1
    temporal_ensemble: float = -1.0
    settings: Settings = dataclasses.field(default_factory=Settings, metadata=OPTIONAL)
    plugins: tuple[str, ...] = dataclasses.field(default=(), metadata=OPTIONAL)

    def __post_init__(self) -> None:
        if self.mixture and self.dataset:
            raise InputError("give either dataset or mixture, not both")
        _at_least("config", self, {"n_obs_steps": 1, "seed": 0})
        check_chunks(self.horizon, self.n_action_steps, self.temporal_ensemble)


def _one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{key} must be one of {', '.join(known)}, got '{value}'")


def _at_least(section: str, config: object, lowest: dict[str, int]) -> None:
    for name, low in lowest.items():
        value = getattr(config, name)
        if value < low:
            raise InputError(f"{section}.{name} must be at least {low}, got {value}")
