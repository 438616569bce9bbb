r"""Convolution as a matrix product: every place beside its neighbours, times one matrix.

    y[i, j, :] = sum_{a, b} x[i + a, j + b, :] W[a, b]  =  P[i, j, :] W,      P[i, j, :] = (x[i + a, j + b, :])_{a, b}

P is k^2 times as large as x. On a CPU the compiler has a fast convolution only outside of loops; in the body of one, where
every network here is trained, it takes some 25 times as long as this product (measured: 3 by 3, 24 to 24 channels, 64
pictures of 16 by 16, value and gradient).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def convolved(
    x: Float[Array, "height width inputs"], weight: Float[Array, "side side inputs outputs"]
) -> Float[Array, "height width outputs"]:
    r"""Return a picture convolved with a kernel of odd side, zeros around it, channels last.

    **Arguments:**

    - `x`: one picture. `weight`: (k, k, inputs, outputs), k odd.

    **Returns:** a picture of the same height and width.

    **Example:** the mean of a place and its neighbours to the left and right.

    >>> import jax.numpy as jnp
    >>> kernel = jnp.zeros((3, 3, 1, 1)).at[1, :, 0, 0].set(1 / 3)
    >>> convolved(jnp.array([[[3.0], [6.0], [9.0]]]), kernel).round(4)[0, :, 0].tolist()
    [3.0, 6.0, 5.0]
    """
    height, width, inputs = x.shape
    side, outputs = weight.shape[0], weight.shape[-1]
    if side > 1:
        padded = jnp.pad(x, ((side // 2, side // 2), (side // 2, side // 2), (0, 0)))
        places = [padded[i : i + height, j : j + width] for i in range(side) for j in range(side)]
        x = jnp.concatenate(places, axis=-1)
    return (x.reshape(height * width, side**2 * inputs) @ weight.reshape(-1, outputs)).reshape(height, width, outputs)
