"""Pictures per second of CPU time: our ray caster, and MuJoCo's renderer beside it.

COMMAND   python benchmarks/render.py [--task lift] [--size 64] [--batch 16] [--seconds 3]

Both draw the same scene and camera. CPU seconds of the process are counted, of all its
threads, so that other load on the machine matters little; for one thread prefix
XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1". MuJoCo
takes part where MUJOCO_GL=egl or MUJOCO_GL=osmesa names an off-screen OpenGL; it draws
one sample per pixel too.
"""

import argparse
import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxpolicy import sim
from jaxpolicy.sim import config, randomization
from jaxpolicy.sim.render import looks, raycaster

REPEATS = 3


def poses_of(model: mujoco.MjModel, camera: int, batch: int) -> tuple[jax.Array, ...]:
    """Pose arguments of `render`, [B, ...], with the scene slightly shifted in each."""
    data = mujoco.MjData(model)
    if model.nkey:
        mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_forward(model, data)
    arrays = (data.geom_xpos, data.geom_xmat, data.cam_xpos[camera], data.cam_xmat[camera])
    many = [np.repeat(a[None], batch, axis=0) for a in arrays]
    many[0] = many[0] + np.linspace(0.0, 0.02, batch)[:, None, None]
    return tuple(jnp.asarray(a, jnp.float32) for a in many)


def rate(work: Callable[[], object], images: int, seconds: float) -> float:
    """Images per CPU second, the best of a few repetitions."""
    rates = []
    for _ in range(REPEATS):
        start, done = time.process_time(), 0
        while time.process_time() - start < seconds / REPEATS:
            work()
            done += images
        rates.append(done / (time.process_time() - start))
    return max(rates)


def randomized(look: raycaster.Appearance, batch: int) -> raycaster.Appearance:
    """`batch` appearances with everything on, of which each picture has its own."""
    keys = jax.random.split(jax.random.key(0), batch)

    def one(key: jax.Array) -> raycaster.Appearance:
        variation = randomization.draw(config.STRONG, key, cameras=1)
        return looks.appearance(look, config.STRONG, variation)

    return jax.vmap(one)(keys)


def ray_caster(
    model: mujoco.MjModel, camera: int, size: int, batch: int, options: raycaster.RenderOptions
) -> tuple[Callable[[], object], float]:
    """A call that draws `batch` pictures, and the CPU seconds it took to compile."""
    scene, fovy = raycaster.RenderScene.from_model(model), float(model.cam_fovy[camera])
    poses = poses_of(model, camera, batch)

    varied = randomized(scene.appearance, batch) if options.sensor else None

    @jax.jit
    @jax.vmap
    def draw(pose: tuple[jax.Array, ...], look: raycaster.Appearance | None) -> object:
        return raycaster.render(scene, *pose, fovy, size, size, look, options)

    def work() -> object:
        return jax.block_until_ready(draw(poses, varied))

    start = time.process_time()
    work()
    return work, time.process_time() - start


def mujoco_renderer(
    model: mujoco.MjModel, camera: int, size: int, shadows: bool
) -> Callable[[], object]:
    """A call that draws one picture with MuJoCo's renderer."""
    model.vis.quality.offsamples = 0
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = mujoco.Renderer(model, size, size)
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows

    def work() -> object:
        renderer.update_scene(data, camera)
        return renderer.render()

    work()
    return work


def main() -> None:
    """Prints one row per renderer and setting."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", default="lift", help="whose scene is drawn")
    parser.add_argument("--camera", default="front")
    parser.add_argument("--size", type=int, default=64, help="side of a picture, pixels")
    parser.add_argument("--batch", type=int, default=16, help="pictures per call")
    parser.add_argument("--seconds", type=float, default=3.0, help="CPU seconds per row")
    flags = parser.parse_args()
    model = sim.make(flags.task).scene.model
    camera = model.camera(flags.camera).id
    geoms = len(raycaster.RenderScene.from_model(model).geom_ids)
    print(f"{flags.task}: {geoms} geoms, {flags.size} x {flags.size}, batches of {flags.batch}")
    kinds = {
        "shadows": raycaster.RenderOptions(),
        "no shadows": raycaster.RenderOptions(shadows=False),
        "strongly randomised": raycaster.RenderOptions(textures=True, sensor=True),
    }
    for name, options in kinds.items():
        work, compiling = ray_caster(model, camera, flags.size, flags.batch, options)
        speed = rate(work, flags.batch, flags.seconds)
        print(f"ray caster  {name:26}{speed:7.0f} images/CPU-s  "
              f"(compiled in {compiling:.1f} CPU-s)")  # fmt: skip
    if "MUJOCO_GL" not in os.environ:
        print("MuJoCo      left out: set MUJOCO_GL=egl or MUJOCO_GL=osmesa")
        return
    for shadows in (True, False):
        speed = rate(mujoco_renderer(model, camera, flags.size, shadows), 1, flags.seconds)
        name = "shadows" if shadows else "no shadows"
        print(f"MuJoCo      {name:26}{speed:7.0f} images/CPU-s")


if __name__ == "__main__":
    main()
