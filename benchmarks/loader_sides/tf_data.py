"""The tf.data side of benchmarks/loader.py, which reads our RLDS files as Octo's pipelines do.

Whole episodes are parsed, windows gathered from them, flattened, shuffled and batched.
"""

import glob
import itertools
from typing import Any

import tensorflow as tf

from benchmarks.loader_sides import measuring
from benchmarks.loader_sides.measuring import HORIZON, N_OBS_STEPS, Settings

IMAGE, STATE, ACTION = "steps/observation/image_front", "steps/observation/state", "steps/action"
# Windows in the shuffle buffer, fewer where decoded ones would take more than this.
BUFFER, BUFFER_BYTES = 10_000, 2**30


def parse(record: Any) -> dict[str, Any]:
    """A serialised episode -> encoded images [T], states and actions [T, 7]."""
    rows = tf.io.FixedLenSequenceFeature([7], tf.float32, allow_missing=True)
    texts = tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)
    found = tf.io.parse_single_example(record, {IMAGE: texts, STATE: rows, ACTION: rows})
    return {"image": found[IMAGE], "state": found[STATE], "action": found[ACTION]}


def window_frames(length: Any) -> tuple[Any, Any, Any]:
    """Rows of history [T, O], rows of the chunk [T, H] and its mask, within an episode."""
    t = tf.range(length)[:, None]
    past = tf.maximum(t + tf.range(1 - N_OBS_STEPS, 1), 0)
    future = t + tf.range(HORIZON)
    return past, tf.minimum(future, length - 1), future < length


def make_windows(episode: dict[str, Any]) -> dict[str, Any]:
    """All windows of an episode."""
    past, future, mask = window_frames(tf.shape(episode["action"])[0])
    return {
        "image": tf.gather(episode["image"], past),
        "state": tf.gather(episode["state"], past),
        "action": tf.gather(episode["action"], future),
        "mask": mask,
    }


def decode(images: Any) -> Any:
    """Encoded images [N] -> uint8 [N, H, W, 3]."""
    one = tf.io.decode_jpeg
    return tf.map_fn(lambda x: one(x, channels=3), images, fn_output_signature=tf.uint8)


def decode_window(sample: dict[str, Any], size: int) -> dict[str, Any]:
    """Encoded images of one window -> uint8 [O, H, W, 3]."""
    images = tf.unstack(tf.ensure_shape(sample["image"], [N_OBS_STEPS]))
    frames = tf.stack([tf.io.decode_jpeg(i, channels=3) for i in images])
    return sample | {"image": tf.ensure_shape(frames, [N_OBS_STEPS, size, size, 3])}


def episodes(settings: Settings) -> tf.data.Dataset:
    """Parsed episodes, of all files in turn."""
    paths = sorted(glob.glob(f"{settings.directory}/rlds/*.tfrecord*"))
    files = tf.data.Dataset.from_tensor_slices(paths)
    records = files.interleave(tf.data.TFRecordDataset, num_parallel_calls=tf.data.AUTOTUNE)
    return records.map(parse, num_parallel_calls=tf.data.AUTOTUNE)


def finish(dataset: tf.data.Dataset, settings: Settings) -> tf.data.Dataset:
    """Batches, made ahead; their order need not be the same in every run."""
    options = tf.data.Options()
    options.deterministic = False
    batches = dataset.batch(settings.batch, drop_remainder=True)
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def streaming(settings: Settings) -> tf.data.Dataset:
    """Encoded windows are shuffled and decoded after that, in every epoch again."""
    windows = episodes(settings).repeat().map(make_windows, num_parallel_calls=tf.data.AUTOTUNE)
    shuffled = windows.unbatch().shuffle(BUFFER)
    decoded = shuffled.map(
        lambda x: decode_window(x, settings.size), num_parallel_calls=tf.data.AUTOTUNE
    )
    return finish(decoded, settings)


def decoded_episodes(settings: Settings) -> tf.data.Dataset:
    """Episodes with decoded images."""
    return episodes(settings).map(
        lambda e: e | {"image": decode(e["image"])}, num_parallel_calls=tf.data.AUTOTUNE
    )


def cached(settings: Settings) -> tf.data.Dataset:
    """Episodes are decoded once into `.cache()`, in memory; decoded windows are shuffled."""
    sample_bytes = N_OBS_STEPS * settings.size**2 * 3
    windows = decoded_episodes(settings).cache().repeat().map(make_windows)
    return finish(windows.unbatch().shuffle(min(BUFFER, BUFFER_BYTES // sample_bytes)), settings)


def gathered(settings: Settings) -> tf.data.Dataset:
    """Frames of all episodes in one tensor, a batch gathered at once: our way, in TensorFlow."""
    rows = list(decoded_episodes(settings))
    image, state, action = (
        tf.concat([r[k] for r in rows], 0) for k in ("image", "state", "action")
    )
    del rows
    # All episodes of the benchmark have as many steps.
    starts = settings.steps * tf.range(settings.episodes)[:, None, None]
    past, future, inside = window_frames(settings.steps)
    past = tf.reshape(starts + past, [-1, N_OBS_STEPS])
    future = tf.reshape(starts + future, [-1, HORIZON])
    mask = tf.tile(inside, [settings.episodes, 1])

    def take(i: Any) -> dict[str, Any]:
        seen = tf.gather(past, i)
        return {
            "image": tf.gather(image, seen),
            "state": tf.gather(state, seen),
            "action": tf.gather(action, tf.gather(future, i)),
            "mask": tf.gather(mask, i),
        }

    numbers = tf.data.Dataset.range(settings.frames).shuffle(settings.frames).repeat()
    batches = numbers.batch(settings.batch, drop_remainder=True)
    return batches.map(take, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def measure(settings: Settings, name: str, dataset: tf.data.Dataset) -> None:
    """Rates after one epoch, by when caches are full and the pipeline has tuned itself."""
    batches = iter(dataset)
    for batch in itertools.islice(batches, max(1, settings.frames // settings.batch)):
        check(settings, batch)

    def call() -> int:
        next(batches)
        return settings.batch

    measuring.emit("tf.data", name, **measuring.repeated(call, settings))


def check(settings: Settings, batch: dict[str, Any]) -> None:
    """Raises ValueError unless a batch has the shapes that all sides agree on."""
    b, side = settings.batch, settings.size
    wanted = {"image": (b, N_OBS_STEPS, side, side, 3), "action": (b, HORIZON, 7)}
    for key, shape in wanted.items():
        if tuple(batch[key].shape) != shape:
            raise ValueError(f"{key} has shape {batch[key].shape}, expected {shape}")


def main() -> None:
    """Prints rows."""
    settings = measuring.read_settings()
    tf.config.set_visible_devices([], "GPU")
    measure(settings, "decode after shuffle", streaming(settings))
    measure(settings, "cache() of frames", cached(settings))
    name, needed = "frames in one tensor", 2 * settings.frames * settings.size**2 * 3
    if needed < measuring.free_memory():
        measure(settings, name, gathered(settings))
    else:
        measuring.emit("tf.data", name, note=f"not measured: takes {needed / 2**30:.0f} GB")


if __name__ == "__main__":
    main()
