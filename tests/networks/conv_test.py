"""Every form of the convolution primitive equals lax.conv or a sum written out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxpolicy.networks import conv


def _normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def _reference_2d(x, kernel, stride):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _reference_1d(x, kernel, stride):
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x, kernel, (stride,), [(pad, pad)], dimension_numbers=("NWC", "WIO", "NWC")
    )


def _value_and_gradients(function, x, kernel):
    def objective(x, kernel):
        return jnp.sum(jnp.sin(function(x, kernel)))

    return function(x, kernel), *jax.grad(objective, (0, 1))(x, kernel)


def _assert_same(ours, reference, x, kernel):
    pairs = zip(
        _value_and_gradients(ours, x, kernel),
        _value_and_gradients(reference, x, kernel),
        strict=True,
    )
    for got, want in pairs:
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


# (height, width), kernel, stride: each line is another form.
FORMS_2D = [
    ((6, 5), 1, 1),  # 1x1: a dot
    ((7, 6), 1, 2),  # strided 1x1: slice and dot
    ((8, 12), 4, 4),  # patches: reshape and dot
    ((6, 4), 2, 2),
    ((7, 9), 4, 4),  # patches that do not divide the image: lax.conv with padding
    ((6, 5), 3, 1),  # odd kernel, written-out gradients
    ((3, 4), 5, 1),  # odd kernel larger than the image
    ((7, 6), 3, 2),
    ((6, 5), 2, 1),  # even kernel, stride 1
]


@pytest.mark.parametrize(("size", "k", "stride"), FORMS_2D)
def test_conv2d_and_its_gradients_equal_lax_conv(size, k, stride):
    x, kernel = _normal(0, 2, *size, 3), _normal(1, k, k, 3, 4)

    def ours(x, kernel):
        return conv.conv2d(x, kernel, stride)

    def reference(x, kernel):
        return _reference_2d(x, kernel, stride)

    _assert_same(ours, reference, x, kernel)


@pytest.mark.parametrize(("k", "stride", "padding"), [(3, 1, 1), (5, 1, 0), (3, 2, 1), (7, 3, 3)])
def test_both_gradients_agree(k, stride, padding):
    x, kernel, pads = _normal(0, 2, 8, 9, 3), _normal(1, k, k, 3, 4), ((padding, padding),) * 2
    g = _normal(2, *conv._lax_conv(x, kernel, stride, pads).shape)
    ours = conv._gradients_cpu(x, kernel, g, stride, pads)
    for got, want in zip(ours, conv._gradients(x, kernel, g, stride, pads), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_many_channels_train_in_a_form_with_fewer_multiplications():
    x, kernel = _normal(0, 1, 4, 3, 64), _normal(1, 3, 3, 64, 64) / 24
    assert conv._suits_winograd(x, kernel, 1, ((1, 1), (1, 1)))
    assert not conv._suits_winograd(x[..., :3], kernel[:, :, :3], 1, ((1, 1), (1, 1)))
    assert not conv._suits_winograd(x, kernel, 2, ((1, 1), (1, 1)))
    _assert_same(conv.conv2d, lambda x, k: _reference_2d(x, k, 1), x, kernel)


def test_padding_is_that_of_pytorch():
    # 4 pixels, kernel of 3, stride 2, one zero on each side: the windows start at -1 and 1;
    # "SAME" would start them at 0 and 2.
    x = jnp.arange(1.0, 5.0).reshape(1, 1, 4, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 0, 0, 0].set(1.0)
    np.testing.assert_array_equal(conv.conv2d(x, kernel, 2, 1).ravel(), [0, 2])


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_max_pool_and_its_gradient_equal_those_of_lax_with_ties(size):
    x, g = jnp.round(_normal(0, 2, *size, 3)), _normal(1, 2, -(-size[0] // 2), -(-size[1] // 2), 3)

    def reference(x):
        return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))

    want, back = jax.vjp(reference, x)
    got, our_back = jax.vjp(conv.max_pool, x)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(conv.max_pool(x), want)
    np.testing.assert_allclose(our_back(g)[0], back(g)[0], atol=1e-6)


def test_gradient_inside_scan_equals_the_one_outside():
    x, kernel = _normal(0, 2, 6, 6, 3), _normal(1, 3, 3, 3, 3)
    gradient = jax.grad(lambda k: jnp.sum(jnp.sin(conv.conv2d(x, k))))

    @jax.jit
    def scanned(kernel):
        return lax.scan(lambda k, _: (k - 0.1 * gradient(k), None), kernel, None, length=2)[0]

    first = kernel - 0.1 * gradient(kernel)
    want = first - 0.1 * gradient(first)
    np.testing.assert_allclose(scanned(kernel), want, rtol=1e-4, atol=1e-4)


def test_conv2d_of_a_single_pixel_by_hand():
    # One channel; only pixel (1, 1) of 3x3 is 1, so output (y, z) is the tap that
    # reads it: kernel[2 - y, 2 - z], i.e. the kernel turned by 180 degrees.
    x = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1, 0].set(1.0)
    kernel = jnp.arange(9.0).reshape(3, 3, 1, 1)
    want = [[8, 7, 6], [5, 4, 3], [2, 1, 0]]
    np.testing.assert_allclose(conv.conv2d(x, kernel)[0, :, :, 0], want)


# length, kernel, stride
FORMS_1D = [
    (6, 1, 1),
    (6, 1, 2),
    (4, 5, 1),  # kernel longer than the sequence: a dot with shifted sequences
    (2, 5, 1),
    (5, 5, 1),
    (2, 3, 2),
    (4, 5, 2),
    (8, 3, 2),  # lax.conv on pictures one pixel high
    (8, 5, 1),
]


@pytest.mark.parametrize(("length", "k", "stride"), FORMS_1D)
def test_conv1d_and_its_gradients_equal_lax_conv(length, k, stride):
    x, kernel = _normal(0, 2, length, 3), _normal(1, k, 3, 4)

    def ours(x, kernel):
        return conv.conv1d(x, kernel, stride)

    def reference(x, kernel):
        return _reference_1d(x, kernel, stride)

    _assert_same(ours, reference, x, kernel)


@pytest.mark.parametrize(("length", "k", "stride"), [(4, 4, 2), (1, 4, 2), (3, 3, 1), (3, 6, 4)])
def test_transposed_conv1d_equals_lax_conv_transpose(length, k, stride):
    x, kernel = _normal(0, 2, length, 3), _normal(1, k, 3, 4)
    pad = k - 1 - (k - stride) // 2  # on the dilated input

    def ours(x, kernel):
        return conv.conv1d_transpose(x, kernel, stride)

    def reference(x, kernel):
        # lax correlates the dilated input, so its kernel runs backwards.
        return lax.conv_transpose(
            x,
            kernel[::-1],
            (stride,),
            [(pad, pad)],
            dimension_numbers=("NWC", "WIO", "NWC"),
        )

    assert ours(x, kernel).shape == (2, stride * length, 4)
    _assert_same(ours, reference, x, kernel)


def test_transposed_conv1d_by_hand():
    # y[2 t + j - 1] += x[t] k[j], x = (1, 10), k = (1, 2, 3, 4):
    # y0 = 1*2, y1 = 1*3 + 10*1, y2 = 1*4 + 10*2, y3 = 10*3
    x = jnp.asarray([1.0, 10.0]).reshape(1, 2, 1)
    kernel = jnp.asarray([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1)
    np.testing.assert_allclose(conv.conv1d_transpose(x, kernel, 2).ravel(), [2, 13, 24, 30])


@pytest.mark.parametrize(
    ("module", "shape", "want"),
    [
        (conv.Conv2D(5, 3), (2, 6, 4, 3), (2, 6, 4, 5)),
        (conv.Conv2D(5, 2, 2), (2, 6, 4, 3), (2, 3, 2, 5)),
        (conv.Conv1D(5, 5), (2, 4, 3), (2, 4, 5)),
        (conv.ConvTranspose1D(5), (2, 4, 3), (2, 8, 5)),
    ],
)
def test_modules_have_kernel_and_bias(module, shape, want):
    y, variables = module.init_with_output(jax.random.key(0), _normal(0, *shape))
    assert y.shape == want
    assert set(variables["params"]) == {"kernel", "bias"}


def test_zero_init_and_no_bias():
    module = conv.Conv2D(5, zero_init=True, use_bias=False)
    y, variables = module.init_with_output(jax.random.key(0), _normal(0, 1, 4, 4, 3))
    assert set(variables["params"]) == {"kernel"}
    np.testing.assert_array_equal(y, 0.0)


def test_bfloat16_keeps_float32_parameters():
    module = conv.Conv2D(5, dtype=jnp.bfloat16)
    y, variables = module.init_with_output(jax.random.key(0), _normal(0, 1, 4, 4, 3))
    assert y.dtype == jnp.bfloat16
    assert variables["params"]["kernel"].dtype == jnp.float32
