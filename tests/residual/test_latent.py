"""Latent ODEs: the bound in closed form, gaps that are told and not filled, what a break makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx


def _model(rate=-0.5, reader=None, guess=None):
    """z' = rate z, x = 2 z; reads nothing and guesses N(0.3, 0.4^2), unless it is said."""
    told = jnp.array([0.3, jnp.log(0.4)])
    return sx.residual.LatentODE(
        reader or (lambda row, h: h), guess or (lambda h: told + 0 * h[0]), sx.as_flow(lambda z: rate * z),
        lambda z: 2 * z, hidden=1, substeps=8,
    )  # fmt: skip


TIMES = jnp.array([[0.0, 0.3, 1.1], [0.0, 0.7, 0.9]])
VALUES = jnp.array([[[0.5], [jnp.nan], [0.1]], [[0.9], [0.4], [0.2]]])


def test_the_bound_is_squares_over_twice_the_noise_and_the_divergence():
    loss = sx.residual.latent_loss(0.2)
    found = 0.6 * np.exp(-0.5 * np.asarray(TIMES))
    squares = np.nansum((found - np.asarray(VALUES)[..., 0]) ** 2)
    divergence = (0.3**2 + 0.4**2 - 1) / 2 - np.log(0.4)
    truth = (squares / (2 * 0.2**2) + 2 * divergence) / 5  # five values were seen
    # RK4 in steps of h = 0.1 on a rate of 1/2: (h/2)^5/120 = 3e-9 a step, eight of them, and 1/(2 noise^2) = 12.
    assert loss(_model(), (TIMES, VALUES)).item() == pytest.approx(truth, rel=2e-7)
    # Over draws z = 0.3 + 0.4 n the squares grow by (2 exp(-t/2) 0.4)^2 a value.
    more = np.nansum(0.64 * np.exp(-np.asarray(TIMES)) * ~np.isnan(np.asarray(VALUES)[..., 0])) / (2 * 0.2**2) / 5
    each = jax.jit(jax.vmap(lambda key: loss(_model(), (TIMES, VALUES), key=key)))
    drawn = np.asarray(each(jax.random.split(jax.random.key(0), 4000)))
    assert abs(drawn.mean() - truth - more) < 4 * drawn.std() / np.sqrt(len(drawn))


def test_rows_are_read_backwards_with_gaps_and_times():
    def reader(row, h):
        value, present, gap = row
        return jnp.stack([h[0] / 2 + present * value + 10 * gap])

    model = _model(reader=reader, guess=lambda h: jnp.stack([h[0], 0.0 * h[0]]))
    mean, spread = model.start(TIMES[0], VALUES[0])
    last = 0.1 + 10 * 0.8
    assert mean.item() == pytest.approx(((last / 2) + 10 * 0.3) / 2 + 0.5, rel=1e-12)
    assert spread.item() == 1.0


def test_a_flow_that_breaks_makes_the_bound_nan():
    model = sx.residual.LatentODE(
        lambda row, h: h,
        lambda h: jnp.array([3.0, 0.0]),
        sx.as_flow(lambda z: z**2),
        lambda z: z,
        hidden=1,
        substeps=64,
    )
    assert jnp.isnan(sx.residual.latent_loss(1.0)(model, (TIMES, VALUES)))


def test_refusals_say_what_to_do():
    with pytest.raises(ValueError, match=r"latent_loss: noise\n  got 0"):
        sx.residual.latent_loss(0.0)
    with pytest.raises(ValueError, match=r"LatentODE: substeps\n  got 0"):
        sx.residual.LatentODE(lambda r, h: h, lambda h: h, sx.as_flow(lambda z: z), lambda z: z, hidden=1, substeps=0)
