"""Camera images as they lie on disk: JPEG or PNG bytes <-> uint8 [H, W, 3]."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxpolicy.core.specs import InputError

__all__ = ["ENCODINGS", "decode", "encode", "is_blank", "resize"]

ENCODINGS = ("jpeg", "png")
_MAX_PIXELS = 4096 * 4096
_UNREADABLE = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def encode(image: np.ndarray, encoding: str = "jpeg", quality: int = 95) -> bytes:
    """Encodes uint8 [H, W, 3]; JPEG keeps full colour resolution (4:4:4)."""
    if encoding not in ENCODINGS:
        raise InputError(f"image encoding must be one of {ENCODINGS}, got '{encoding}'")
    options = {"quality": quality, "subsampling": 0} if encoding == "jpeg" else {}
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, encoding, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def decode(data: bytes, where: str) -> np.ndarray:
    """Decodes JPEG or PNG to uint8 [H, W, 3].

    Raises:
      InputError: names `where` when the bytes are no image or a huge one.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise InputError(f"{where}: image of {image.width} x {image.height} is too large")
            return np.asarray(image.convert("RGB"))
    except InputError:
        raise
    except (*_UNREADABLE, OSError, SyntaxError, ValueError) as e:
        raise InputError(f"{where}: cannot decode the image ({len(data)} bytes): {e}") from e


def is_blank(images: np.ndarray) -> bool:
    """True when all pixels of [T, H, W, 3] have one colour: a stand-in, not a picture."""
    return bool((images == images.reshape(-1, 3)[:1]).all())


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Resizes uint8 [T, H, W, 3] to [T, size, size, 3]; aspect ratio is not kept.

    Linear with antialiasing: what networks do inside jit, rounded to whole numbers, so that
    a policy trained on resized frames sees the same when it is given the large ones.

    Args:
      images: frames.
      size: side of the result in pixels; 0 returns the frames.
    """
    if not size or images.shape[1:3] == (size, size):
        return images
    filter = Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(i).resize((size, size), filter)) for i in images])
