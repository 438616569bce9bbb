"""Every noising process against the moment equations and its own clock; guesses turned into others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

D = sx.diffusion
MIXTURE = D.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [0.5, 1.0])
PROCESSES = {
    "VP": D.VP(), "VE": D.VE(0.1, 10.0), "Brownian": D.Brownian(4.0), "CosineVP": D.CosineVP(), "SubVP": D.SubVP(),
    "EDM": D.EDM(20.0), "StraightPath": D.StraightPath(), "DDPM": D.DDPM(),
    "GivenPath": D.GivenPath(lambda t: jnp.exp(-t), lambda t: t * (1 + t), 2.0),
}  # fmt: skip
SHARES = jnp.array([0.1003, 0.5002, 0.9001])  # of the horizon; of DDPM inside a step, where its rate is constant


@jax.jit
def facts(process):
    """What the moment equations need, at three times."""

    def at(t):
        (alpha, sigma), (rise, growth) = process.marginal(t), process.slopes(t)
        a, g = process.rates(t)
        return alpha, sigma, rise, growth, a, g, process.time_of(sigma / alpha)

    return jax.vmap(at)(SHARES * process.horizon)


@pytest.mark.parametrize("name", PROCESSES)
def test_marginals_solve_the_moment_equations_and_the_clock_is_inverted(name):
    """alpha' = a alpha and (sigma^2)' = 2 a sigma^2 + g^2, from alpha = 1 and sigma = 0."""
    process = PROCESSES[name]
    alpha, sigma, rise, growth, a, g, times = facts(process)
    np.testing.assert_allclose(rise, a * alpha, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(2 * sigma * growth, 2 * a * sigma**2 + g**2, rtol=1e-8)
    np.testing.assert_allclose(times, SHARES * process.horizon, rtol=1e-9)
    np.testing.assert_allclose(process.marginal(0.0), (1.0, 0.0), atol=1e-12)


def test_processes_that_are_one_another():
    t = SHARES
    vp = D.GivenPath(lambda t: D.VP().marginal(t)[0], lambda t: D.VP().marginal(t)[1])
    np.testing.assert_allclose(vp.marginal(t), D.VP().marginal(t), rtol=1e-12)
    np.testing.assert_allclose(vp.rates(0.4), D.VP().rates(0.4), rtol=1e-8)
    np.testing.assert_allclose(vp.prior_scale, D.VP().marginal(1.0)[1], rtol=1e-12)
    alpha, sigma = D.SubVP().marginal(t)
    np.testing.assert_allclose((alpha, sigma), (D.VP().marginal(t)[0], D.VP().marginal(t)[1] ** 2), rtol=1e-12)
    # Nichol & Dhariwal, equation 17, written out.
    f = lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(D.CosineVP().marginal(t)[0] ** 2, f(np.asarray(t)) / f(0.0), rtol=1e-12)


def test_the_chain_of_ddpm_is_its_process_at_whole_times():
    betas = jnp.array([0.1, 0.3, 0.2])
    process = D.DDPM(betas)
    assert process.horizon == 3.0
    np.testing.assert_allclose(process.marginal(jnp.arange(4.0))[0] ** 2, [1.0, 0.9, 0.63, 0.504], rtol=1e-12)
    known = D.DDPM().marginal(jnp.array([1.0, 100.0, 500.0, 1000.0]))[0] ** 2
    np.testing.assert_allclose(known, [0.9999, 0.897018146, 0.078587243, 4.03582977e-5], rtol=1e-8)
    # The chain's own law: mean alpha x, variance sigma^2, within five standard errors.
    count = 100_000
    end = sx.evolve(process.chain(), jnp.full(count, 2.0), key=jax.random.key(0), save="last").final
    alpha, sigma = process.marginal(3.0)
    assert abs(float(end.mean() - 2 * alpha)) < 5 * float(sigma) / count**0.5
    assert abs(float(end.var() / sigma**2) - 1) < 5 * (2 / count) ** 0.5


def test_prior_mismatch_in_closed_form():
    found = D.prior_mismatch(D.Brownian(9.0), 1.0)
    assert found.divergence == pytest.approx(0.5 * (1 / 9 - np.log1p(1 / 9)), rel=1e-12)
    assert (found.bound, found.law, found.reversed) == pytest.approx((1 / 18, 10.0, 0.9), rel=1e-12)
    assert D.prior_mismatch(D.StraightPath(), 5.0)[:3] == (0.0, 0.0, 1.0)
    assert D.prior_mismatch(D.VP(), 0.25).divergence < 1e-9


@jax.jit
def guesses(process, t, x):
    """All kinds by the exact clean guess, each turned into every other, and the probability flow."""
    clean = MIXTURE.posterior_mean(process, t, x)
    kinds = ("noise", "clean", "score", "velocity", "angular")
    exact = {kind: D.convert(process, t, x, clean, "clean", kind) for kind in kinds}
    turned = {(a, b): D.convert(process, t, x, exact[a], a, b) for a in kinds for b in kinds}
    score = MIXTURE.score_under(process)
    slope = jax.grad(lambda x: sum(D.convert(process, t, x, clean, "clean", b).sum() for b in kinds))(x)
    return exact, turned, score(t, x), sx.probability_flow(process, score).velocity(t, x), slope


X = jnp.array([[0.7], [-1.9], [3.0]])


@pytest.mark.parametrize("name", PROCESSES)
def test_each_guess_determines_the_others(name):
    process = PROCESSES[name]
    t = 0.4003 * process.horizon
    exact, turned, score, velocity, _ = guesses(process, t, X)
    alpha, sigma = process.marginal(t)
    np.testing.assert_allclose(alpha * exact["clean"] + sigma * exact["noise"], X, rtol=1e-12)
    np.testing.assert_allclose(exact["score"], score, rtol=1e-8)  # a clock is inverted nowhere: rounding of D alone
    np.testing.assert_allclose(exact["velocity"], velocity, rtol=1e-7)
    np.testing.assert_allclose(exact["angular"], alpha * exact["noise"] - sigma * exact["clean"], rtol=1e-12)
    for (source, target), found in turned.items():
        np.testing.assert_allclose(found, exact[target], rtol=1e-7, err_msg=f"{source} to {target}")


@pytest.mark.parametrize("name", PROCESSES)
def test_at_no_noise_the_data_are_seen(name):
    """D = x and e = 0 at t = 0, whatever is guessed; all kinds and their derivatives finite."""
    exact, turned, _, _, slope = guesses(PROCESSES[name], 0.0, X)
    for source in exact:
        np.testing.assert_allclose(turned[source, "clean"], X, atol=1e-12, err_msg=source)
        np.testing.assert_allclose(turned[source, "noise"], jnp.zeros_like(X), atol=1e-12, err_msg=source)
    assert all(np.isfinite(found).all() for found in turned.values()) and np.isfinite(slope).all()


def test_straight_velocity_is_noise_less_data_at_both_ends():
    """At t = 1 D is the mean 0.1 of the data and v = x - 0.1; at t = 0 v = E[eps] - x = -x."""
    process = D.StraightPath()
    prediction = D.Prediction(process, MIXTURE.score_under(process).clean, "clean")
    np.testing.assert_allclose(prediction.velocity(1.0, X), X - 0.1, rtol=1e-12)
    np.testing.assert_allclose(prediction.velocity(0.0, X), -X, rtol=1e-12)


REFUSED = {
    "a cosine that is over": (lambda: D.CosineVP(end=1.0), "CosineVP: end and 1\n  got 1.0 and 1.0"),
    "crossed betas": (lambda: D.SubVP(20.0, 0.1), "beta_min and beta_max\n  got 20.0 and 0.1"),
    "no horizon": (lambda: D.EDM(0.0), "sigma_max\n  got 0.0"),
    "a beta of 1": (lambda: D.DDPM([0.1, 1.0]), "largest beta and 1\n  got 1.0 and 1.0"),
    "a negative beta": (lambda: D.DDPM([0.1, -0.1]), r"got -0.1 at index \[1\]"),
    "noise that falls": (lambda: D.GivenPath(jnp.cos, lambda t: jnp.sin(3 * t), 1.5), "rising in t"),
    "alpha below 0": (lambda: D.GivenPath(jnp.cos, jnp.sin, 2.0), "alpha > 0"),
    "a variance of NaN": (lambda: D.prior_mismatch(D.VP(), float("nan")), "variance\n  got nan"),
    "an unknown guess": (lambda: D.Prediction(D.VP(), lambda t, x: x, "noize"), "Did you mean 'noise'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_processes_out_of_range_are_refused_in_words(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"(?s){words}"):
        call()
