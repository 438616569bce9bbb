"""Diffusion along lines, and fronts: against Fourier modes, Kolmogorov's speed and an exact front."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx


def fisher(spacing, r=1.0, d=1.0):
    return sx.residual.universal(sx.residual.LineDiffusion(d, spacing), sx.residual.Reaction(lambda u: r * u * (1 - u)))


@pytest.mark.parametrize("ends", ["closed", "ring"])
def test_modes_decay_at_the_rate_of_the_second_difference(ends):
    count, h, d = 12, 0.3, 0.7
    places = np.arange(count)
    for k in (0, 1, 5):
        turn = np.pi * k / count if ends == "closed" else 2 * np.pi * k / count
        mode = np.cos(turn * (places + 0.5)) if ends == "closed" else np.cos(turn * places)
        rate = -4 * d / h**2 * np.sin(turn / 2) ** 2
        found = sx.residual.LineDiffusion(d, h, ends).velocity(0.0, jnp.asarray(mode))
        np.testing.assert_allclose(found, rate * mode, atol=1e-12 / h**2)


def test_the_exact_front_is_followed_with_an_error_of_second_order():
    # u = (1 + e^(z/sqrt 6))^-2, z = x - 5 t/sqrt 6 (Ablowitz & Zeppetella, 1979).
    front = lambda x, t: (1 + np.exp((x - 5 * t / np.sqrt(6)) / np.sqrt(6))) ** -2.0
    errors = []
    for h in (1.0, 0.5):
        x = np.arange(-30.0, 40.0, h) + h / 2
        end = sx.evolve(fisher(h), jnp.asarray(front(x, 0.0)), times=(0.0, 4.0), steps=200, method=sx.RK4()).final
        inside = np.abs(x) < 15  # far from the ends, which the front does not know
        errors.append(np.abs(np.asarray(end) - front(x, 4.0))[inside].max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.15)


def test_a_front_from_an_edge_runs_at_the_speed_of_kolmogorov_with_the_delay_of_bramson():
    h, r, d = 0.25, 2.0, 2.0
    x = np.arange(0.0, 90.0, h) + h / 2
    times = np.array([0.0, 5.0, 10.0, 15.0, 20.0])
    edge = jnp.asarray((x < 5.0).astype(float))
    path = sx.evolve(fisher(h, r, d), edge, times=times, steps=2000, method=sx.RK4())
    # Mass over height is where the front is. From t_1 to t_2 it runs 2 sqrt(rd) (t_2 - t_1) - 3/2 sqrt(d/r) ln(t_2/t_1),
    # and h^2/24 of it more in units of d/r on this grid: the least of (r + 2 d (cosh kh - 1)/h^2)/k.
    places = np.asarray(path.states).sum(axis=1) * h
    speed = 2 * np.sqrt(r * d) * (1 + h**2 / 24 * r / d)
    for first, second in ((1, 3), (2, 4)):
        exact = speed * (times[second] - times[first]) - 1.5 * np.sqrt(d / r) * np.log(times[second] / times[first])
        # Without the delay it would be 3 to 4 % off; what is left out falls as (r t)^-3/2.
        assert places[second] - places[first] == pytest.approx(exact, rel=0.01)


@pytest.mark.slow
def test_an_unknown_reaction_is_found_from_snapshots_and_read_as_a_law():
    h, x = 0.5, np.arange(0.0, 30.0, 0.5) + 0.25
    times = jnp.linspace(0.0, 6.0, 13)
    start = jnp.asarray(0.9 / (1 + np.exp(2 * (x - 8.0))))
    seen = sx.evolve(fisher(h), start, times=times, rtol=1e-9, atol=1e-10).states
    net = eqx.nn.MLP("scalar", "scalar", 8, 2, jnp.tanh, key=jax.random.key(0))
    known = sx.residual.LineDiffusion(1.0, h)
    loss = sx.residual.trajectory_loss(lambda net: sx.residual.universal(known, sx.residual.Reaction(net)), substeps=4)
    data = sx.residual.segments(times, seen, 3, stride=3)
    found = sx.fit(loss, optax.lbfgs(1.0, memory_size=20, linesearch=None), data, initial=net, steps=150).model
    values = jnp.ravel(seen)
    library = sx.residual.Monomials(("u",), 3)
    law = sx.residual.discover(values[:, None], jax.vmap(found)(values)[:, None], library, threshold=0.3)
    assert set(law.terms["u"]) == {"u", "u^2"}
    # The net is right to a few thousandths where u is neither 0 nor 1.
    assert law.terms["u"]["u"] == pytest.approx(1.0, abs=0.03)
    assert law.terms["u"]["u^2"] == pytest.approx(-1.0, abs=0.03)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sx.residual.LineDiffusion(-1.0, 0.1), "coefficient\n  got -1"),
        (lambda: sx.residual.LineDiffusion(1.0, 0.0), "spacing\n  got 0"),
        (lambda: sx.residual.LineDiffusion(1.0, 0.1, "open"), "got 'open', expected \"closed\" or \"ring\""),
        (lambda: sx.residual.Reaction(lambda u: jnp.stack([u, u])).velocity(0.0, jnp.ones(4)), r"got \(2,\) at a point"),
    ],
)  # fmt: skip
def test_refusals_say_what_to_do(call, words):
    with pytest.raises(ValueError, match=words):
        call()
