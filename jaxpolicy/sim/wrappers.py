"""Wrappers around environments of the Brax Env API.

Every wrapper takes and gives an environment of ONE world, except `Vmap` and `AutoReset`,
which goes around it. The usual order, inside out: task, ExpertStarts (see starts.py), Pixels,
EpisodeLimit, FrameHistory, ActionChunk, Curriculum, Vmap, AutoReset.

Besides the Brax API an environment has `observation_specs` (tuple of ArraySpec sorted by
name), `action_spec`, `control_hz`, `task` and `robot`; wrappers pass on what they do not
change. Tasks with domain randomisation also have `reset_at(rng, level)`, and so does every
wrapper around them.
"""

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from brax import envs
from brax.envs.base import Env, State, Wrapper

from jaxpolicy.core import chunking
from jaxpolicy.core.specs import (
    FROM_ROBOT,
    IMAGE_PREFIX,
    ActionSpec,
    ArraySpec,
    InputError,
    is_camera,
)
from jaxpolicy.sim import randomization
from jaxpolicy.sim.config import RandomizationConfig
from jaxpolicy.sim.render import looks, raycaster

__all__ = [
    "ActionChunk",
    "AutoReset",
    "BraxWorld",
    "Curriculum",
    "EpisodeLimit",
    "FrameHistory",
    "Pixels",
    "Vmap",
    "draw",
    "draw_all",
    "episode_length",
    "from_brax",
    "without_pixels",
]

CHUNK_PIXELS = 65_536


class Vmap(Wrapper):
    """E worlds at once: every array has a leading axis [E, ...]."""

    def reset(self, rng: jax.Array) -> State:
        """`rng`: keys [E]."""
        return jax.vmap(self.env.reset)(rng)

    def reset_at(self, rng: jax.Array, level: jax.Array) -> State:
        """`rng`: keys [E]; `level`: of randomisation, [E]."""
        return jax.vmap(self.env.reset_at)(rng, level)

    def step(self, state: State, action: jax.Array) -> State:
        """`action`: [E, A]."""
        return jax.vmap(self.env.step)(state, action)


class _Beginning(Wrapper):
    """Does the same to the first state of an episode, whichever reset gave it."""

    def reset(self, rng: jax.Array) -> State:
        """A new episode."""
        return self._begin(self.env.reset(rng))

    def reset_at(self, rng: jax.Array, level: jax.Array) -> State:
        """A new episode at a level of randomisation []."""
        return self._begin(self.env.reset_at(rng, level))

    def _begin(self, state: State) -> State:
        return state


class EpisodeLimit(_Beginning):
    """Ends an episode after `length` steps.

    info["steps"] float32 [] counts steps; info["truncation"] float32 [] is 1 where the
    limit, and not the world, ended the episode.
    """

    def __init__(self, env: Env, length: int):
        """`length` >= 1 control steps."""
        super().__init__(env)
        if length < 1:
            raise InputError(f"episode_length must be at least 1, got {length}")
        self.episode_length = length

    def _begin(self, state: State) -> State:
        zero = jnp.zeros(())
        return state.replace(info={**state.info, "steps": zero, "truncation": zero})

    def step(self, state: State, action: jax.Array) -> State:
        """One step; `done` is set at the limit."""
        state = self.env.step(state, action)
        steps = state.info["steps"] + 1
        at_limit = (steps >= self.episode_length).astype(jnp.float32)
        truncation = at_limit * (1 - state.done)
        info = {**state.info, "steps": steps, "truncation": truncation}
        return state.replace(done=jnp.maximum(state.done, at_limit), info=info)


def episode_length(env: Env) -> int:
    """Steps until the time limit.

    Raises:
      InputError: no `EpisodeLimit` is around the task.
    """
    length = getattr(env, "episode_length", 0)
    if not length:
        raise InputError("the environment has no time limit; wrap it in wrappers.EpisodeLimit")
    return int(length)


class AutoReset(Wrapper):
    """Starts a new episode, from a new random start, in the step that ends one.

    It goes around `Vmap`, or around one world. The state after that step holds the reward,
    done, metrics and info["truncation"] of the ended episode, and everything else of the new
    one. Starts are computed, for all worlds together, in those steps alone in which an
    episode ended; inside a vmap they would be in every step.

    With `keep_final`, info["final_obs"] is the observation that the step led to, before any
    reset: that of the ended episode where it ended one, else `obs`. Values at a time limit
    are estimated from it.
    """

    def __init__(self, env: Env, keep_final: bool = False):
        """`keep_final`: whether info["final_obs"] is wanted."""
        super().__init__(env)
        self.keep_final = keep_final

    def reset(self, rng: jax.Array) -> State:
        """Starts an episode per key, [] or [E]; info["restart_key"] makes the next ones."""
        key, restart_key = _split(rng)
        return self._with_info(self.env.reset(key), restart_key)

    def reset_at(self, rng: jax.Array, level: jax.Array) -> State:
        """Starts episodes at a level each; the next ones too, where Curriculum keeps it."""
        key, restart_key = _split(rng)
        return self._with_info(self.env.reset_at(key, level), restart_key)

    def step(self, state: State, action: jax.Array) -> State:
        """One step, then a reset of the worlds whose episode it ended."""
        key, restart_key = _split(state.info["restart_key"])
        info = {k: v for k, v in state.info.items() if k not in ("final_obs", "restart_key")}
        going = state.replace(done=jnp.zeros_like(state.done), info=info)
        ended = self.env.step(going, action)
        stayed = ended.replace(info={k: ended.info[k] for k in info})
        after = jax.lax.cond(jnp.any(ended.done > 0), self._renewed, _as_it_is, stayed, key)
        return self._with_info(after, restart_key, ended.obs)

    def _renewed(self, ended: State, key: jax.Array) -> State:
        """New episodes where episodes ended, at the level that a world keeps where it does."""
        levels = ended.info.get("level")
        started = self.env.reset(key) if levels is None else self.env.reset_at(key, levels)
        info = _pick(ended.done, started.info, ended.info)
        if "truncation" in info:
            info["truncation"] = ended.info["truncation"]
        return ended.replace(
            pipeline_state=_pick(ended.done, started.pipeline_state, ended.pipeline_state),
            obs=_pick(ended.done, started.obs, ended.obs),
            info=info,
        )

    def _with_info(self, state: State, restart_key: jax.Array, final: Any = None) -> State:
        kept = {"final_obs": state.obs if final is None else final} if self.keep_final else {}
        return state.replace(info={**state.info, **kept, "restart_key": restart_key})


def _split(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two keys of one, or of each of E."""
    split = jnp.vectorize(jax.random.split, signature="()->(n)")(key)
    return split[..., 0], split[..., 1]


def _as_it_is(state: State, _: jax.Array) -> State:
    return state


def _pick(done: jax.Array, if_done: Any, otherwise: Any) -> Any:
    """Leaves [...] of `if_done` where done, of `otherwise` elsewhere; done: [] or [E]."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(jnp.expand_dims(done, range(done.ndim, jnp.ndim(a))) > 0, a, b)

    return jax.tree.map(pick, if_done, otherwise)


class Curriculum(Wrapper):
    """Every world has a level of randomisation at which its episodes begin.

    All three are float32 [] in [0, 1]:
      info["level"]: at which the world's NEXT episode begins. It outlives AutoReset, which
        goes around this wrapper; replace it in the state to change it.
      info["episode_level"]: at which the running episode began.
      metrics["level"]: at which the episode of this step began, also where the step ended it.
    """

    def __init__(self, env: Env):
        """`env`: a task of ours, in whatever wrappers.

        Raises:
          InputError: the world has no levels of randomisation.
        """
        super().__init__(env)
        if not hasattr(env.unwrapped, "reset_at"):
            raise InputError(
                "a curriculum of randomisation needs a task of sim.ENVIRONMENTS; "
                f"'{env.task}' has no levels: leave the curriculum off"
            )

    def reset(self, rng: jax.Array) -> State:
        """A new episode, at level 1."""
        return self.reset_at(rng, 1.0)

    def reset_at(self, rng: jax.Array, level: float | jax.Array) -> State:
        """A new episode at a level [], and so will the next ones be."""
        level = jnp.clip(jnp.asarray(level, jnp.float32), 0.0, 1.0)
        state = self.env.reset_at(rng, level)
        info = {**state.info, "level": level, "episode_level": level}
        return state.replace(info=info, metrics={**state.metrics, "level": level})

    def step(self, state: State, action: jax.Array) -> State:
        """One step."""
        after = self.env.step(state, action)
        return after.replace(metrics={**after.metrics, "level": state.info["episode_level"]})


class ActionChunk(_Beginning):
    """One step executes `n` actions, one after another.

    An episode that ends within a chunk stays as it was at its end. `reward` and every
    `reward/<term>` of the metrics are sums over the actions that were executed; everything
    else (observation, success and other metrics, info) is that of the last of them. Time
    limits inside this wrapper go on counting single actions.
    """

    def __init__(self, env: Env, n: int):
        """`n` >= 1 actions in one step."""
        super().__init__(env)
        if n < 1:
            raise InputError(f"n_action_steps must be at least 1, got {n}")
        self.n_action_steps = n

    def step(self, state: State, action: jax.Array) -> State:
        """`action`: [n, A], in the order of execution.

        Raises:
          InputError: another number of actions.
        """
        if action.ndim != 2 or len(action) != self.n_action_steps:
            raise InputError(
                f"a chunk has the shape [{self.n_action_steps}, {self.env.action_size}], "
                f"got {list(action.shape)}"
            )
        nothing = jax.tree.map(jnp.zeros_like, _rewards(state))
        execute = functools.partial(_execute, self.env)
        (state, (reward, terms)), _ = jax.lax.scan(execute, (state, nothing), action)
        return state.replace(reward=reward, metrics={**state.metrics, **terms})


def _rewards(state: State) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The reward and its terms."""
    return state.reward, {k: v for k, v in state.metrics.items() if k.startswith("reward/")}


def _execute(env: Env, carried: tuple[State, Any], action: jax.Array) -> tuple[Any, None]:
    """One action [A] of a chunk, and what it adds to the rewards; nothing after an end."""
    before, total = carried
    live, after = before.done == 0, env.step(before, action)
    total = jax.tree.map(lambda t, r: t + jnp.where(live, r, 0.0), total, _rewards(after))
    return (jax.tree.map(lambda a, b: jnp.where(live, a, b), after, before), total), None


class FrameHistory(_Beginning):
    """Observations become the last `n` ones, each [n, ...], oldest first.

    At the start the first observation is repeated.
    """

    def __init__(self, env: Env, n: int):
        """`n` >= 1 observations."""
        super().__init__(env)
        if n < 1:
            raise InputError(f"n_obs_steps must be at least 1, got {n}")
        self.n_obs_steps = n

    @property
    def observation_specs(self) -> tuple[ArraySpec, ...]:
        """Specs with the leading history axis."""
        n = self.n_obs_steps
        return tuple(
            dataclasses.replace(s, shape=(n, *s.shape)) for s in self.env.observation_specs
        )

    def _begin(self, state: State) -> State:
        first = jax.tree.map(lambda x: _first_window(x, self.n_obs_steps), state.obs)
        return state.replace(obs=first)

    def step(self, state: State, action: jax.Array) -> State:
        """Drops the oldest observation, appends the newest."""
        history = state.obs
        newest = jax.tree.map(lambda x: x[-1], history)
        state = self.env.step(state.replace(obs=newest), action)
        return state.replace(obs=jax.tree.map(_next_window, history, state.obs))


def _first_window(x: jax.Array, n: int) -> jax.Array:
    """That of chunking, of a single world."""
    return chunking.first_window(x[None], n)[0]


def _next_window(window: jax.Array, x: jax.Array) -> jax.Array:
    """That of chunking, of a single world."""
    return chunking.next_window(window[None], x[None])[0]


class Pixels(_Beginning):
    """Adds `image/<camera>` uint8 [size, size, 3] to the observation.

    Under vmap pictures are drawn in chunks of about 64k pixels, which keeps them in a
    CPU's cache and bounds memory anywhere.
    """

    def __init__(self, env: Env, cameras: Sequence[str], size: int = 64, shadows: bool = False):
        """Draws `cameras` of `env.scene`, `size` x `size` pixels.

        Each state is drawn as its model of the pool and its episode's variation have it.

        Raises:
          InputError: no camera is named, or one is not in the scene.
        """
        super().__init__(env)
        if not cameras or size < 1:
            raise InputError("Pixels needs at least one camera and image_size >= 1")
        model = env.scene.model
        self.cameras = tuple(cameras)
        self.image_size = size
        self._indices = tuple(_camera_index(model, name) for name in cameras)
        self._fovy = tuple(float(model.cam_fovy[i]) for i in self._indices)
        self._randomization = _randomization(env)
        self._varies = randomization.is_on(self._randomization)
        self._scene, self._pooled = _render_scene(env)
        self._options = looks.render_options(self._randomization, shadows)
        self._draw = _chunked(self._draw_one, max(1, CHUNK_PIXELS // size**2))

    @property
    def observation_specs(self) -> tuple[ArraySpec, ...]:
        """Specs with one image per camera."""
        shape = (self.image_size, self.image_size, 3)
        images = [_image_spec(IMAGE_PREFIX + name, shape) for name in self.cameras]
        return tuple(sorted((*self.env.observation_specs, *images), key=lambda s: s.name))

    @property
    def observation_size(self) -> dict[str, tuple[int, ...]]:
        """Shape of every observation."""
        return {s.name: s.shape for s in self.observation_specs}

    def _begin(self, state: State) -> State:
        return self._observe(state)

    def step(self, state: State, action: jax.Array) -> State:
        """One step, then its pictures."""
        plain = {k: v for k, v in state.obs.items() if not is_camera(k)}
        return self._observe(self.env.step(state.replace(obs=plain), action))

    def images(self, pipeline_state: Any) -> dict[str, jax.Array]:
        """`image/<camera>` of one physics state (vmap for more)."""
        return self._draw(pipeline_state)

    def _observe(self, state: State) -> State:
        return state.replace(obs={**state.obs, **self.images(state.pipeline_state)})

    def shots(self, pipeline_state: Any) -> dict[str, raycaster.RenderOutput]:
        """Colours, depth and segmentation of one physics state, by camera."""
        scene = self._scene.pick(pipeline_state.variant) if self._pooled else self._scene
        poses = self.env.unwrapped.physics.kinematics(pipeline_state)
        cameras, look = self.views(pipeline_state), self._look(pipeline_state)
        drawn = {}
        for name, index in zip(self.cameras, self._indices, strict=True):
            seed = looks.sensor_seed(pipeline_state.qpos, index)
            mine = look._replace(sensor_seed=seed) if self._options.sensor else look
            drawn[name] = self._picture(scene, poses, cameras[name], mine)
        return drawn

    def views(self, pipeline_state: Any) -> dict[str, tuple[jax.Array, jax.Array, Any]]:
        """Position [3] (m), rotation [3, 3] and vertical field of view (degrees) by camera."""
        poses = self.env.unwrapped.physics.kinematics(pipeline_state)
        views = {
            name: (poses.cam_xpos[i], poses.cam_xmat[i], fovy)
            for name, i, fovy in zip(self.cameras, self._indices, self._fovy, strict=True)
        }
        if not self._varies:
            return views
        variation = self._variation(pipeline_state)
        indices = dict(zip(self.cameras, self._indices, strict=True))
        return {n: looks.camera(variation, indices[n], *view) for n, view in views.items()}

    def _draw_one(self, pipeline_state: Any) -> dict[str, jax.Array]:
        shots = self.shots(pipeline_state)
        return {IMAGE_PREFIX + name: shot.rgb for name, shot in shots.items()}

    def _look(self, pipeline_state: Any) -> raycaster.Appearance:
        look = self._scene.appearance
        if not self._varies:
            return look
        level = pipeline_state.memory["level"]
        return looks.appearance(look, self._randomization, self._variation(pipeline_state), level)

    def _variation(self, pipeline_state: Any) -> randomization.Variation:
        memory, cameras = pipeline_state.memory, self.env.scene.model.ncam
        return randomization.unpack(
            self._randomization, memory["variation"], cameras, memory["level"]
        )

    def _picture(
        self, scene: raycaster.RenderScene, poses: Any, camera: tuple, look: raycaster.Appearance
    ) -> raycaster.RenderOutput:
        size, (position, rotation, fovy) = self.image_size, camera
        return raycaster.render(
            scene,
            poses.geom_xpos,
            poses.geom_xmat,
            position,
            rotation,
            fovy,
            height=size,
            width=size,
            appearance=look,
            options=self._options,
        )


def _randomization(env: Env) -> RandomizationConfig:
    """What the world randomises; nothing where it does not say."""
    config = getattr(env.unwrapped, "config", None)
    return getattr(config, "randomization", RandomizationConfig())


def _render_scene(env: Env) -> tuple[raycaster.RenderScene, bool]:
    """What is drawn of a world, and whether its shapes depend on the variant."""
    scene, models = raycaster.RenderScene.from_model(env.scene.model), env.unwrapped.physics.models
    pool = scene.of_pool(models)
    differ = any(bool((x != x[0]).any()) for x in (pool.scale, pool.half))
    return (pool, True) if differ else (scene, False)


def _camera_index(model: mujoco.MjModel, name: str) -> int:
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
    if index < 0:
        known = ", ".join(model.camera(i).name for i in range(model.ncam))
        raise InputError(f"the scene has no camera '{name}'; it has: {known or 'none'}")
    return index


def _image_spec(name: str, shape: tuple[int, ...]) -> ArraySpec:
    return ArraySpec(name, shape, "uint8", "1", (0.0,), (255.0,))


def _chunked(draw: Callable[[Any], dict], chunk: int) -> Callable[[Any], dict]:
    """`draw` with a batching rule that maps over chunks of the batch, one after another."""
    chunked = jax.custom_batching.custom_vmap(draw)
    chunked.def_vmap(functools.partial(_draw_in_chunks, draw, chunk))
    return chunked


def _draw_in_chunks(
    draw: Callable[[Any], dict], chunk: int, size: int, batched: Any, state: Any
) -> tuple[dict, dict]:
    """The batching rule: `size` states, of which the leaves that are `batched` differ.

    Chunks are equal, padded by a few states, so that drawing is compiled for one shape.
    """
    n_chunks = -(-size // chunk)
    per_chunk = -(-size // n_chunks)
    index = np.minimum(np.arange(n_chunks * per_chunk), size - 1).reshape(n_chunks, per_chunk)
    whole = jax.tree.map(lambda b, x: x if b else _repeat(x, size), batched[0], state)
    images = jax.lax.map(jax.vmap(draw), jax.tree.map(lambda x: x[index], whole))
    images = {k: v.reshape(-1, *v.shape[2:])[:size] for k, v in images.items()}
    return images, jax.tree.map(lambda _: True, images)


def _repeat(x: jax.Array, n: int) -> jax.Array:
    return jnp.broadcast_to(x, (n, *x.shape))


@functools.partial(jax.jit, static_argnums=0)
def draw(pixels: Pixels, pipeline_states: Any) -> dict[str, jax.Array]:
    """`Pixels.images` of E physics states (each leaf [E, ...]), compiled."""
    return jax.vmap(pixels.images)(pipeline_states)


def draw_all(pixels: Pixels, pipeline_states: Any, batch: int) -> dict[str, np.ndarray]:
    """Pictures of N physics states (each leaf [N, ...]) on the host.

    They are drawn `batch` at a time, the last batch padded, so that one program serves.

    Returns:
      `image/<camera>` uint8 [N, S, S, 3].
    """
    n = len(jax.tree.leaves(pipeline_states)[0])
    parts = []
    for start in range(0, n, batch):
        index = np.minimum(np.arange(start, start + batch), n - 1)
        images = draw(pixels, jax.tree.map(lambda x, i=index: x[i], pipeline_states))
        parts.append(jax.tree.map(np.asarray, images))
    return {k: np.concatenate([p[k] for p in parts])[:n] for k in parts[0]}


@functools.lru_cache(maxsize=16)
def without_pixels(env: Env) -> tuple[Env, Pixels | None]:
    """The same world without its cameras, and the Pixels layer that was taken out.

    For those who draw later, from recorded physics states, what they turn out to need. The
    same world gives the same objects, so that what was compiled for them is found again.
    """
    if isinstance(env, Pixels):
        return env.env, env
    if not isinstance(env, Wrapper):
        return env, None
    inner, pixels = without_pixels(env.env)
    clone = copy.copy(env)
    clone.env = inner
    return clone, pixels


class BraxWorld(Wrapper):
    """An environment of `brax.envs` with the attributes of ours.

    Its flat observation becomes `proprio`; actions are those of Brax, in [-1, 1] and
    without a unit. It has no expert, no scene and no success predicate.
    """

    def __init__(self, env: Env, task: str):
        """Adapts `env`; `task` names it in reports."""
        super().__init__(env)
        n = env.action_size
        self.task = task
        self.robot = "brax"
        self.control_hz = float(1.0 / env.dt)
        # Brax's own observation_size runs a reset, operation by operation.
        start = jax.eval_shape(env.reset, jax.random.key(0))
        self.observation_specs = (ArraySpec("proprio", (start.obs.shape[-1],)),)
        self.action_spec = ActionSpec(
            kind="unknown",
            names=tuple(f"a{i}" for i in range(n)),
            units=("1",) * n,
            minimum=(-1.0,) * n,
            maximum=(1.0,) * n,
            control_hz=self.control_hz,
            limits_from=FROM_ROBOT,
        )

    def reset(self, rng: jax.Array) -> State:
        """Starts an episode."""
        return _as_proprio(self.env.reset(rng))

    def step(self, state: State, action: jax.Array) -> State:
        """One control step."""
        return _as_proprio(self.env.step(state.replace(obs=state.obs["proprio"]), action))


def _as_proprio(state: State) -> State:
    return state.replace(obs={"proprio": state.obs.astype(jnp.float32)})


def from_brax(world: str | Env, backend: str = "generalized") -> BraxWorld:
    """A Brax environment ("reacher", "pusher", ... or an Env) with our attributes.

    Raises:
      InputError: `brax.envs` has no environment of that name.
    """
    if isinstance(world, Env):
        return BraxWorld(world, type(world).__name__.lower())
    try:
        env = envs.get_environment(world, backend=backend)
    except KeyError as e:
        raise InputError(f"brax.envs has no environment '{world}'") from e
    if not hasattr(env, "dt"):
        raise InputError(f"brax.envs's '{world}' has no physics, so its control rate is unknown")
    return BraxWorld(env, world)
