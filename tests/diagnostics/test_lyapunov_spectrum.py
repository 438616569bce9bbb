"""Lyapunov exponents against closed forms and published values, for every kind of system; sums against the divergence."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma

import separatrix as sx

KEY = jax.random.key(0)
LOGISTIC = sx.catalogue.entry("logistic").build()
HENON = sx.catalogue.entry("henon").build()
LORENZ = sx.catalogue.entry("lorenz").build()


def linear(matrix):
    return sx.as_map(lambda x: jnp.asarray(matrix) @ x)


class TestClosedForms:
    @pytest.mark.parametrize("gain", [0.5, 1.0, 1.3])
    def test_an_orthogonal_network_has_the_logarithm_of_its_gain_throughout(self, gain):
        matrix = gain * jax.random.orthogonal(KEY, 8)
        found = sx.lyapunov_spectrum(linear(matrix), jnp.zeros(8), steps=360)
        np.testing.assert_allclose(found.exponents, np.log(gain), atol=1e-12)
        assert float(jnp.max(found.standard_errors)) < 1e-12

    def test_all_exponents_of_a_matrix_that_is_not_symmetric(self):
        # Eigenvalues 1.1 and -0.5; its singular values are 3.2 and 0.17.
        found = sx.lyapunov_spectrum(linear([[1.1, 3.0], [0.0, -0.5]]), jnp.zeros(2), steps=740, transient=100)
        np.testing.assert_allclose(found.exponents, [np.log(1.1), np.log(0.5)], atol=1e-12)
        assert float(found.sum_residual) == pytest.approx(0.0, abs=1e-13)

    def test_the_cat_map_has_the_logarithms_of_its_eigenvalues(self):
        cat = sx.catalogue.entry("cat")
        found = sx.lyapunov_spectrum(cat.build(), cat.start(), steps=6400)
        golden = np.log((3 + 5**0.5) / 2)
        np.testing.assert_allclose(found.exponents, [golden, -golden], atol=1e-12)
        assert found.cautions == ()

    @pytest.mark.parametrize(("rate", "truth"), [(4.0, np.log(2)), (2.5, np.log(0.5)), (3.9, 0.49609)])
    def test_logistic(self, rate, truth):
        found = sx.lyapunov_spectrum(sx.as_map(lambda x: rate * x * (1 - x)), jnp.asarray(0.3), steps=300_000)
        assert float(found.exponents[0]) == pytest.approx(truth, abs=2e-3)
        assert float(found.kaplan_yorke) == (0.0 if truth < 0 else 1.0)
        assert float(found.entropy_bound) == pytest.approx(max(truth, 0.0), abs=2e-3)

    def test_products_of_gaussian_matrices_have_newmans_spectrum(self):
        size, gain = 6, 1.5
        step = lambda x, *, key: jax.random.normal(key, (size, size), x.dtype) @ x * (gain / size**0.5)
        found = sx.lyapunov_spectrum(sx.as_map(step), jnp.zeros(size), steps=9000, key=KEY)
        truth = np.log(gain) + 0.5 * (np.log(2 / size) + digamma((size - np.arange(size)) / 2))
        np.testing.assert_allclose(found.exponents, truth, atol=0.02)
        # Three errors of the mean of each, where ln chi^2_n has variance psi'(n/2) and 8,000 steps count.
        assert np.all(np.abs(found.exponents - truth) < 3 * found.standard_errors)

    def test_a_driven_map_uses_its_inputs_in_their_order(self):
        # x' = u x: the mean of ln |u| over the steps that count.
        inputs = jnp.exp(jnp.sin(jnp.arange(720.0)) + 1e-3 * jnp.arange(720.0))
        driven = sx.drive(sx.as_open_map(lambda x, u: u * x), inputs)
        found = sx.lyapunov_spectrum(driven, jnp.array(0.0))
        assert float(found.exponents[0]) == pytest.approx(float(jnp.mean(jnp.log(inputs[80:]))), abs=1e-13)
        late = sx.lyapunov_spectrum(driven, jnp.array(0.0), start=520, transient=72)
        assert float(late.exponents[0]) == pytest.approx(float(jnp.mean(jnp.log(inputs[592:]))), abs=1e-13)

    def test_a_driven_flow_uses_its_time(self):
        # x' = (cos t - 0.3) x from t0: exponent (sin t1 - sin t0)/(t1 - t0) - 0.3 over what counts, t0 = 2 + 10.
        flow = sx.as_flow(lambda t, x: (jnp.cos(t) - 0.3) * x)
        found = sx.lyapunov_spectrum(flow, jnp.ones(1), times=(2.0, 52.0), steps=500, transient=10.8, batches=2)
        left, right = 12.8, 52.0
        truth = (np.sin(right) - np.sin(left)) / (right - left) - 0.3
        assert float(found.duration) == pytest.approx(right - left)
        assert float(found.exponents[0]) == pytest.approx(truth, abs=1e-9)
        # The mean of the divergence by itself, at ends where it differs: Euler-Maclaurin, to h^4/720 g'''.
        assert float(found.sum_residual) == pytest.approx(0.0, abs=1e-8)

    def test_stochastic_flows_of_either_noise(self):
        noisy = sx.as_sde(lambda x: -2.0 * x, lambda x: 0.5)
        found = sx.lyapunov_spectrum(noisy, jnp.ones(1), steps=20_000, key=KEY)
        # SRA1 at 0.05/L: ln(1 - 2h + 2h^2)/h.
        assert float(found.exponents[0]) == pytest.approx(-2.0, rel=0.05**2 / 6 * 1.1)
        geometric = sx.as_sde(lambda x: 1.5 * x, lambda x: x)
        found = sx.lyapunov_spectrum(geometric, jnp.ones(1), steps=20_000, step_size=0.01, key=KEY)
        # mu - sigma^2/2; the mean of W(T)/T has deviation T^{-1/2}, and Euler-Maruyama a bias of order h.
        assert abs(float(found.exponents[0]) - 1.0) < 3 * float(found.duration) ** -0.5 + 0.02
        assert float(found.standard_errors[0]) == pytest.approx(float(found.duration) ** -0.5, rel=0.35)

    def test_a_network_of_a_thousand_units_by_products_alone(self):
        # Normal, with known moduli of eigenvalues: rotations scaled by 1, 0.99, ..., no matrix is ever formed.
        size = 500
        scales, angles = 0.99 ** jnp.arange(float(size)), jnp.arange(float(size))
        turn = jax.lax.complex(scales * jnp.cos(angles), scales * jnp.sin(angles))

        def step(state):
            image = turn * jax.lax.complex(*state)
            return jnp.real(image), jnp.imag(image)

        found = sx.lyapunov_spectrum(sx.as_map(step), (jnp.zeros(size), jnp.zeros(size)), count=20, steps=12_000)
        truth = np.log(0.99) * np.repeat(np.arange(10), 2)
        # 4,000 steps turn the rows to within exp(-0.01 x 1,333) before they count.
        np.testing.assert_allclose(found.exponents, truth, atol=2e-4)
        assert np.isnan(found.sum_residual) and found.interval > 1


class TestKnownSystems:
    def test_lorenz(self):
        found = sx.lyapunov_spectrum(LORENZ, jnp.ones(3), times=(0.0, 2500.0), step_size=0.03)
        np.testing.assert_allclose(found.exponents, [0.9061, 0.0, -14.5728], atol=0.0249)
        error = np.asarray(found.standard_errors)
        assert abs(float(found.exponents[0]) - 0.9061) < 3 * np.hypot(error[0], 0.0008)
        assert float(jnp.sum(found.exponents)) == pytest.approx(-41 / 3, abs=1e-6)
        assert float(found.kaplan_yorke) == pytest.approx(2.062, abs=2e-3)
        assert float(found.sum_residual) == pytest.approx(float(jnp.sum(found.exponents)) + 41 / 3, abs=1e-9)
        assert found.cautions == ()

    @pytest.mark.slow
    def test_the_bare_call_is_right(self):
        found = sx.lyapunov_spectrum(LORENZ, jnp.ones(3))
        np.testing.assert_allclose(found.exponents, [0.9061, 0.0, -14.5728], atol=0.01)
        # The error of the method is measured along the orbit, and hides in that of the statistics.
        assert float(found.sum_residual) == pytest.approx(float(jnp.sum(found.exponents)) + 41 / 3, abs=1e-9)
        assert abs(float(found.sum_residual)) < float(found.standard_errors[0]) < 0.004
        assert float(found.kaplan_yorke) == pytest.approx(2.062, abs=1e-3)
        rossler = sx.catalogue.entry("rossler")
        found = sx.lyapunov_spectrum(rossler.build(), rossler.start())
        # Published to the digits given.
        np.testing.assert_allclose(found.exponents, [0.0714, 0.0, -5.394], atol=0.004)
        henon = sx.lyapunov_spectrum(HENON, jnp.array([0.1, 0.1]))
        np.testing.assert_allclose(henon.exponents, [0.419307, -1.623280], atol=5e-4)
        oscillator = sx.catalogue.entry("van-der-pol")
        found = sx.lyapunov_spectrum(oscillator.build(), oscillator.start())
        assert float(found.kaplan_yorke) == 1.0
        assert abs(float(found.exponents[0])) < 2 * float(found.standard_errors[0]) < 1e-3
        assert found.cautions == ()

    @pytest.mark.slow
    def test_lorenz_96(self):
        entry = sx.catalogue.entry("lorenz-96")
        found = sx.lyapunov_spectrum(entry.build(), entry.start(), times=(0.0, 1500.0), step_size=0.05)
        assert float(found.exponents[0]) == pytest.approx(1.69, abs=0.05)
        # 13 are positive and the next is the one of time itself. In a run of 700 the 13th is not told from t^2.
        assert float(found.exponents[12]) > float(found.standard_errors[12])
        assert abs(float(found.exponents[13])) < 2 * float(found.standard_errors[13])
        assert float(found.exponents[14]) < -2 * float(found.standard_errors[14])
        assert float(found.kaplan_yorke) == pytest.approx(27.1, abs=0.2)
        assert float(jnp.sum(found.exponents)) == pytest.approx(-40.0, abs=1e-6)

    def test_henon(self):
        found = sx.lyapunov_spectrum(HENON, jnp.array([0.1, 0.1]), steps=400_000)
        error = float(found.standard_errors[0])
        np.testing.assert_allclose(found.exponents, [0.419307, -1.623280], atol=3 * error)
        assert error < 1e-3
        assert float(jnp.sum(found.exponents)) == pytest.approx(np.log(0.3), abs=1e-10)

    def test_a_limit_cycle_has_dimension_one_and_the_mean_of_its_divergence(self):
        # The radius obeys r' = r - r^3 and the angle turns: exponents 0 and -2.
        def cycle(x):
            square = x[0] ** 2 + x[1] ** 2
            return jnp.stack([x[0] - x[1] - x[0] * square, x[0] + x[1] - x[1] * square])

        found = sx.lyapunov_spectrum(sx.as_flow(cycle), jnp.array([0.1, 0.0]), times=(0.0, 300.0), step_size=0.1)
        np.testing.assert_allclose(found.exponents, [0.0, -2.0], atol=1e-8)
        assert float(found.kaplan_yorke) == 1.0 and float(found.entropy_bound) == 0.0

    def test_a_hamiltonian_orbit_has_zero_within_its_error_though_it_shears(self):
        # A perturbation grows like t: ln T / T is all that is seen, and the error says so.
        pendulum = sx.catalogue.entry("pendulum")
        found = sx.lyapunov_spectrum(pendulum.build(), pendulum.start(), times=(0.0, 500.0), step_size=0.2)
        assert np.all(np.abs(found.exponents) <= found.standard_errors)
        assert np.all(found.standard_errors < 12 / 500)
        assert float(found.kaplan_yorke) == 2.0


class TestForms:
    def test_orthonormalising_less_often_changes_nothing(self):
        often = sx.lyapunov_spectrum(HENON, jnp.array([0.1, 0.1]), steps=5760, interval=1)
        seldom = sx.lyapunov_spectrum(HENON, jnp.array([0.1, 0.1]), steps=5760, interval=5)
        np.testing.assert_allclose(often.exponents, seldom.exponents, atol=1e-10)

    def test_the_noise_is_that_of_evolve(self):
        step = lambda x, *, key: x * jnp.exp(jax.random.normal(key, (), x.dtype))
        path = sx.evolve(sx.as_map(step), jnp.array(1.0), steps=400, key=KEY)
        found = sx.lyapunov_spectrum(
            sx.as_map(step), jnp.array(1.0), steps=400, transient=0, batches=4, interval=10, key=KEY
        )
        assert float(found.exponents[0]) == pytest.approx(float(jnp.log(path.final)) / 400, abs=1e-13)

    def test_an_optimiser_with_a_counter_as_a_map(self):
        # Momentum by a schedule, whose counter has no tangent.
        import optax

        descent = optax.sgd(optax.constant_schedule(0.1), momentum=0.9)
        map = sx.from_optax(sx.optimization.Quadratic(jnp.array([1.0, 2.0])), descent)
        found = sx.lyapunov_spectrum(map, map.init(jnp.ones(2)), steps=3000, transient=500)
        # Roots of z^2 - (1.9 - 0.1 l) z + 0.9 are complex for both: every modulus is sqrt(0.9).
        np.testing.assert_allclose(found.exponents, 0.5 * np.log(0.9), atol=2e-3)
        assert float(jnp.sum(found.exponents)) == pytest.approx(2 * np.log(0.9), abs=1e-12)
        assert found.size == 4

    def test_batched_over_states_and_parameters_as_one_by_one(self):
        def leading(rate, start):
            return sx.lyapunov_spectrum(sx.as_map(lambda x: rate * x * (1 - x)), start, steps=2000)

        rates, starts = jnp.array([2.5, 3.5, 3.9]), jnp.array([0.3, 0.4, 0.31])
        batch = jax.jit(jax.vmap(leading))(rates, starts)
        one = leading(rates[2], starts[2])
        # The same steps compiled another way: rounding is amplified, so the last orbit is another one.
        apart = [leading(rate, start).exponents[0] for rate, start in zip(rates[:2], starts[:2], strict=True)]
        np.testing.assert_allclose(batch.exponents[:2, 0], apart, atol=1e-9)
        assert abs(float(batch.exponents[2, 0] - one.exponents[0])) < 4 * float(one.standard_errors[0])
        assert batch.batches.shape == (3, 1, 64) and "3 in all" not in str(batch)

    def test_flows_under_jit_with_a_traced_parameter_and_step(self):
        @jax.jit
        def sums(rho, step):
            lorenz = sx.as_flow(eqx.tree_at(lambda f: f.rho, sx.catalogue.flows.Lorenz(), rho))
            return sx.lyapunov_spectrum(lorenz, jnp.ones(3), steps=640, step_size=step).exponents

        assert float(jnp.sum(sums(28.0, 0.03))) == pytest.approx(-41 / 3, abs=1e-6)
        # At rho = 10 the two fixed points attract: exponents are the real parts of their eigenvalues.
        c = (8 / 3 * 9) ** 0.5
        jacobian = [[-10, 10, 0], [1, -1, -c], [c, c, -8 / 3]]
        truth = np.sort(np.linalg.eigvals(jacobian).real)[::-1]
        # The two are complex: their rows turn, and batches see it at 1/T.
        np.testing.assert_allclose(sums(10.0, 0.03), truth, atol=0.05)

    def test_what_is_said_of_a_result(self):
        found = sx.lyapunov_spectrum(HENON, jnp.array([0.1, 0.1]), steps=20_000)
        assert "nats per step" in str(found) and "+-" in str(found)
        plain = json.loads(json.dumps(found.to_dict()))
        assert plain["exponents"][0] == pytest.approx(float(found.exponents[0]))
        np.testing.assert_allclose(found.running[:, -1], jnp.mean(found.batches, axis=1), rtol=1e-12)
        assert float(found.running[0, 0]) == float(found.batches[0, 0])

    def test_the_figure_holds_the_exponents_and_their_running_means(self):
        found = sx.lyapunov_spectrum(HENON, jnp.array([0.1, 0.1]), steps=20_000)
        figure = sx.plotting.plot(found)
        left, right = figure.axes
        np.testing.assert_allclose(left.containers[0].lines[0].get_ydata(), found.exponents)
        np.testing.assert_allclose(right.lines[0].get_ydata(), found.running[0])


class TestGradients:
    def test_of_a_resting_orbit_is_that_of_the_closed_form(self):
        # ln |2 - r| at the fixed point of the logistic map; the orbit moves with r too.
        def leading(rate):
            return sx.lyapunov_spectrum(sx.as_map(lambda x: rate * x * (1 - x)), jnp.asarray(0.4), steps=720).exponents[
                0
            ]

        assert float(jax.grad(leading)(2.7)) == pytest.approx(1 / 0.7, abs=1e-9)
        assert float(jax.jvp(leading, (2.7,), (1.0,))[1]) == pytest.approx(1 / 0.7, abs=1e-9)

    def test_of_a_sum_of_exponents_of_a_linear_flow_is_the_trace(self):
        def total(matrix):
            flow = sx.as_flow(lambda x: matrix @ x)
            return jnp.sum(sx.lyapunov_spectrum(flow, jnp.ones(2), steps=360, step_size=0.1).exponents)

        slope = jax.grad(total)(jnp.array([[-1.0, 2.0], [0.3, -2.0]]))
        np.testing.assert_allclose(slope, np.eye(2), atol=1e-6)

    def test_of_a_chaotic_orbit_is_refused_with_the_reason(self):
        def leading(rate):
            return sx.lyapunov_spectrum(sx.as_map(lambda x: rate * x * (1 - x)), jnp.asarray(0.4), steps=720).exponents[
                0
            ]

        with pytest.raises(Exception, match="gradient of an exponent of a chaotic orbit"):
            jax.grad(leading)(3.9).block_until_ready()


class TestCautions:
    def test_a_tent_map_that_dies_in_floating_point_is_flagged(self):
        tent = sx.as_map(lambda x: 1.0 - jnp.abs(1.0 - 2.0 * x))
        found = sx.lyapunov_spectrum(tent, jnp.asarray(0.37), steps=6400)
        assert int(found.period) == 1
        assert any("exactly at a fixed point although it repels" in caution for caution in found.cautions)
        # With a slope that binary numbers do not shift out the orbit lives, and its exponent is right.
        alive = sx.as_map(lambda x: 0.99999 * (1.0 - jnp.abs(1.0 - 2.0 * x)))
        found = sx.lyapunov_spectrum(alive, jnp.asarray(0.37), steps=6400)
        assert int(found.period) == 0 and found.cautions == ()
        assert float(found.exponents[0]) == pytest.approx(np.log(2 * 0.99999), abs=1e-12)

    def test_a_cycle_that_attracts_is_no_collapse(self):
        found = sx.lyapunov_spectrum(sx.as_map(lambda x: 3.2 * x * (1 - x)), jnp.asarray(0.3), steps=6400)
        # The two-cycle has multiplier 4 + 2r - r^2.
        assert float(found.exponents[0]) == pytest.approx(0.5 * np.log(4 + 2 * 3.2 - 3.2**2), abs=1e-12)
        assert int(found.period) in (0, 2, 4) and found.cautions == ()

    @pytest.mark.parametrize(("method", "miss"), [(sx.Euler(), 0.05), (None, 0.0)], ids=["Euler", "by default"])
    def test_a_step_that_changes_volumes_is_told_and_rounding_is_not(self, method, miss):
        # A rotation keeps areas; Euler's step multiplies them by 1 + h^2, so that the sum is ln(1 + h^2)/h.
        turning = sx.as_flow(lambda x: jnp.stack([x[1], -x[0]]))
        more = {} if method is None else {"method": method}
        found = sx.lyapunov_spectrum(turning, jnp.ones(2), times=(0.0, 200.0), step_size=0.05, **more)
        told = [caution for caution in found.cautions if "mean divergence" in caution]
        assert len(told) == (1 if miss else 0)
        assert float(found.sum_residual) == pytest.approx(np.log1p(0.05**2) / 0.05 if miss else 0.0, abs=1e-9)

    def test_an_orbit_that_breaks_says_so_and_keeps_its_batches(self):
        growing = sx.as_map(lambda x: jnp.stack([2.0 * x[0], 0.5 * x[1]]))
        found = sx.lyapunov_spectrum(growing, jnp.ones(2), steps=1440, transient=160)
        # 2^1024 is past the largest double.
        assert found.outcome == "non_finite" and float(found.outcome.at) == 1024
        assert np.all(np.isnan(found.exponents)) and np.isnan(found.kaplan_yorke)
        np.testing.assert_allclose(found.batches[0, :40], np.log(2), rtol=1e-12)
        assert any("ended early (non_finite" in caution for caution in found.cautions)

    def test_a_transient_that_is_not_over_is_told_and_is_in_the_error(self):
        # x' = -x^3 creeps to rest: the exponent is 0, and -3 x^2 = -3/(2 t) on the way.
        creeping = sx.as_flow(lambda x: -(x**3))
        found = sx.lyapunov_spectrum(creeping, jnp.ones(1), times=(0.0, 200.0), step_size=0.1)
        assert any("transient is not over" in caution for caution in found.cautions)
        assert abs(float(found.exponents[0])) < 2 * float(found.standard_errors[0])

    def test_a_run_that_is_too_short_or_whose_batches_are_too_short_is_told(self):
        # Noise whose growth remembers 1,000 steps: AR(1) of coefficient 0.999 in the logarithm.
        def step(state, *, key):
            memory = 0.999 * state[1] + 0.1 * jax.random.normal(key, (), state.dtype)
            return jnp.stack([0.0 * state[0], jax.lax.stop_gradient(memory)]) + jnp.stack(
                [jnp.exp(memory) * state[0], memory * 0]
            )

        found = sx.lyapunov_spectrum(sx.as_map(step), jnp.zeros(2), count=1, steps=3000, transient=100, key=KEY)
        assert any("shorter than the memory" in caution for caution in found.cautions)

    def test_a_step_that_is_too_long_is_seen_in_the_sum(self):
        found = sx.lyapunov_spectrum(LORENZ, jnp.ones(3), method=sx.RK4(), step_size=0.04, steps=9000)
        assert abs(float(found.sum_residual)) > 1e-2
        assert any("take a shorter step" in caution for caution in found.cautions)

    def test_a_direction_that_dies_at_once_is_told(self):
        found = sx.lyapunov_spectrum(linear([[0.5, 0.0], [0.0, 0.0]]), jnp.ones(2), steps=720)
        assert float(found.exponents[0]) == pytest.approx(np.log(0.5), abs=1e-12)
        assert any("minus infinity" in caution for caution in found.cautions)

    def test_single_precision_is_warned_of(self):
        with pytest.warns(RuntimeWarning, match="got float32, expected float64"):
            found = sx.lyapunov_spectrum(sx.as_map(lambda x: 0.5 * x), jnp.ones(1, jnp.float32), steps=720)
        assert found.exponents.dtype == jnp.float32
        assert float(found.exponents[0]) == pytest.approx(np.log(0.5), rel=1e-6)
        assert any("float32" in caution for caution in found.cautions)


class TestMisuse:
    DRIVEN = sx.drive(sx.as_open_map(lambda x, u: u * x), jnp.ones(50))

    @pytest.mark.parametrize(
        ("keywords", "said"),
        [
            ({"steps": 10, "batches": 64}, "got 10 steps, 1 of them transient, in 64 batches"),
            ({"steps": 64, "batches": 1}, "at least 2 batches"),
            ({"count": 2}, "got 2, expected a whole number from 1 to 1"),
            ({"times": (0.0, 1.0)}, "expected none, for a map"),
            ({"step_size": 0.1}, "Say steps= for a map"),
            ({"steps": 2.5}, "a whole number >= 0"),
        ],
    )
    def test_of_maps(self, keywords, said):
        with pytest.raises(ValueError, match=said):
            sx.lyapunov_spectrum(LOGISTIC, jnp.array(0.3), **keywords)

    def test_of_other_things(self):
        with pytest.raises(ValueError, match="got 64, expected at most the 50 this map has"):
            sx.lyapunov_spectrum(self.DRIVEN, jnp.array(0.0), steps=64)
        with pytest.raises(TypeError, match="Make it one with as_map"):
            sx.lyapunov_spectrum(lambda x: x, jnp.ones(2))
        with pytest.raises(ValueError, match="PRNG key"):
            sx.lyapunov_spectrum(sx.as_sde(lambda x: -x, lambda x: 1.0), jnp.ones(1), steps=100, step_size=0.1)
        with pytest.raises(ValueError, match="between 0 and 1"):
            sx.lyapunov_spectrum(LORENZ, jnp.ones(3), times=(0.0, 1.0), step_size=2.0)
        with pytest.raises(ValueError, match="under jit or vmap"):
            jax.jit(lambda x: sx.lyapunov_spectrum(LORENZ, x).exponents)(jnp.ones(3))


def test_of_a_flow_the_number_of_steps_or_the_time_is_kept_as_it_was_said():
    # Batches are whole: of 20,000 steps less a ninth no more than one interval a batch is left over.
    counted = sx.lyapunov_spectrum(LORENZ, jnp.ones(3), steps=20_000)
    number = float(counted.duration / counted.step_size)
    assert 20_000 * 8 / 9 - 64 * counted.interval <= number <= 20_000 * 8 / 9 + 1
    timed = sx.lyapunov_spectrum(LORENZ, jnp.ones(3), times=(0.0, 100.0))
    assert float(timed.duration) == pytest.approx(100.0 * 8 / 9, rel=2e-3)
