"""Every option of `evolve` is used or refused, for every kind of evolution, plain and under jit, vmap and grad."""

import re

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.evolution._plan import USES, EvolveOptions, Kind

DECAY = sx.as_flow(lambda x: -x)
NOISE = sx.as_sde(lambda x: -x, lambda x: 0.1 * jnp.ones_like(x))
DESCENT = sx.optimization.GradientDescent(sx.optimization.Quadratic(1.0), 0.1)
KEY = jax.random.key(0)
TWO = jnp.array([1.0, 2.0])

# A call of each kind that works, and the other options that are tried on it.
CALLS = {
    Kind.MAP: (DESCENT, {"steps": 10}),
    Kind.PARALLEL: (DESCENT, {"steps": 10, "method": sx.Parallel()}),
    Kind.FIXED_FLOW: (DECAY, {"steps": 10, "step_size": 0.1}),
    Kind.FIXED_SDE: (NOISE, {"steps": 10, "step_size": 0.1, "key": KEY}),
    Kind.ADAPTIVE_FLOW: (DECAY, {"times": (0.0, 1.0)}),
    Kind.ADAPTIVE_SDE: (NOISE, {"times": (0.0, 1.0), "key": KEY, "method": diffrax.ShARK(), "rtol": 0.1}),
    Kind.SOLVER_FLOW: (DECAY, {"times": (0.0, 1.0), "method": diffrax.Kvaerno3(), "step_size": 0.1}),
    Kind.SOLVER_SDE: (NOISE, {"times": (0.0, 1.0), "key": KEY, "method": diffrax.Euler(), "step_size": 0.1}),
}
VALUES = {
    "key": KEY,
    "start": 3,
    "rtol": 1e-5,
    "atol": 1e-7,
    "controller": diffrax.PIDController(rtol=1e-5, atol=1e-7),
    "max_steps": 500,
    "dense": True,
    "event": lambda x: x[0] - 0.5,
    "gradient": "checkpoint",
    "memory": "sqrt",
    "progress": lambda done, total: None,
    "throw": True,
    "save": "last",
}
WAYS = {
    "plain": lambda call: call(TWO),
    "jit": lambda call: jax.jit(lambda x: call(x).final)(TWO),
    "vmap": lambda call: jax.vmap(lambda x: call(x).final)(jnp.stack([TWO, 3.0 * TWO])),
    "grad": lambda call: jax.grad(lambda x: call(x).final.sum())(TWO),
}


def is_used(kind: Kind, option: str, way: str) -> bool:
    if option == "controller" and kind is Kind.SOLVER_SDE:
        return False  # with a controller the step is the first one, and Euler has no error estimate
    if option in ("rtol", "atol") and kind is Kind.SOLVER_SDE:
        return False  # Euler solves no equation inside
    if option == "progress" and way != "plain":
        return False  # nobody can be called from inside a program
    return kind in USES[option][0]


CASES = [(kind, option, way) for kind in Kind for option in VALUES for way in WAYS if option not in CALLS[kind][1]]
ONCE = [case for case in CASES if is_used(*case) and case[2] == "plain"]
NEVER = [case for case in CASES if not is_used(*case)]
# A program of diffrax is large: there an option alone is traced, and all that are used are run at once.
AT_ONCE = {
    solver: {option: VALUES[option] for kind, option, _ in ONCE if kind is solver and option != "controller"}
    for solver in (Kind.SOLVER_FLOW, Kind.SOLVER_SDE)
}


@pytest.mark.parametrize("kind, option, way", NEVER, ids=lambda part: getattr(part, "name", part))
def test_an_option_that_does_not_apply_is_refused(kind, option, way):
    system, given = CALLS[kind]
    options = {k: v for k, v in given.items() if not (option == "controller" and k == "rtol")} | {
        option: VALUES[option]
    }
    with pytest.raises((ValueError, TypeError)) as told:
        WAYS[way](lambda x: sx.evolve(system, x, **options))
    message = str(told.value)
    # A controller beside steps is told by the one or the other.
    assert re.search("controller|method|steps" if option == "controller" else option, message), message
    assert len(message.splitlines()) <= 3 or "JAX has removed" in message


@pytest.mark.parametrize("kind, option, way", ONCE, ids=lambda part: getattr(part, "name", part))
def test_an_option_that_applies_is_taken(kind, option, way):
    system, given = CALLS[kind]
    options = {k: v for k, v in given.items() if not (option == "controller" and k == "rtol")} | {
        option: VALUES[option]
    }
    if option in AT_ONCE.get(kind, ()):
        ended = jax.eval_shape(lambda x: sx.evolve(system, x, **options).final, TWO)
        assert (ended.shape, ended.dtype) == (TWO.shape, TWO.dtype)
        return
    assert sx.evolve(system, TWO, **options).outcome.reached


@pytest.mark.parametrize(("kind", "error"), [(Kind.SOLVER_FLOW, 1e-4), (Kind.SOLVER_SDE, 0.6)])
def test_options_of_a_solver_are_taken_at_once(kind, error):
    """e^{-t} is at 1/2 at ln 2; noise that is 0.06 there moves that by 0.12 (five times which is allowed)."""
    system, given = CALLS[kind]
    path = sx.evolve(system, TWO, **(given | AT_ONCE[kind]))
    assert path.outcome.reached and path.outcome.name == "event"
    assert abs(float(path.outcome.at) - np.log(2.0)) < error


@pytest.mark.parametrize("way", [way for way in WAYS if way != "plain"])
@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
def test_all_options_of_a_kind_at_once_under_transformations(kind, way):
    """The value under jit is the plain one, and the gradient that of differences."""
    system, given = CALLS[kind]
    used = {o: v for o, v in VALUES.items() if is_used(kind, o, way) and o not in ("controller", "throw", "event")}
    options = used | given | {"save": "last"}
    if kind in (Kind.ADAPTIVE_SDE,) and way != "jit":
        pytest.skip("the same code as adaptive flows")
    call = lambda x: sx.evolve(system, x, **options)
    if way == "grad":
        slope, h = jax.grad(lambda x: call(x).final.sum())(TWO), 1e-4 * jnp.array([1.0, 0.0])
        difference = (call(TWO + h).final.sum() - call(TWO - h).final.sum()) / 2e-4
        np.testing.assert_allclose(slope[0], difference, rtol=1e-4)
        return
    out = WAYS[way](call)
    np.testing.assert_allclose(out if way == "jit" else out[0], call(TWO).final, rtol=1e-12)


def test_the_table_knows_every_option():
    assert set(USES) == set(EvolveOptions.__dataclass_fields__)
    for option, (kinds, do) in USES.items():
        assert kinds == set(Kind) or do, option


# --- used means used: the value changes what is computed --------------------------------------------------------------


def test_tolerances_bound_the_error_and_atol_follows_rtol():
    """x = 1e-9 e^{-t}: with an absolute tolerance of 1e-8 nothing would be resolved."""
    small = 1e-9 * jnp.ones(1)
    exact = 1e-9 * np.exp(-5.0)
    alone = sx.evolve(DECAY, small, times=(0.0, 5.0), rtol=1e-12).final
    np.testing.assert_allclose(alone, exact, rtol=1e-3)
    loose = sx.evolve(DECAY, small, times=(0.0, 5.0), rtol=1e-12, atol=1e-6).final
    assert abs(float(loose[0]) - exact) > 1e-3 * exact


def test_start_numbers_the_steps_and_their_noise():
    """Ten steps, and the last six from the fourth: the same path, over an interval and over counted steps."""
    for options in ({"times": (0.0, 1.0)}, {"steps": 10}):
        whole = sx.evolve(NOISE, TWO, step_size=0.1, key=KEY, **options)
        rest = {"times": (0.4, 1.0)} if "times" in options else {"steps": 6}
        second = sx.evolve(NOISE, whole.states[4], step_size=0.1, key=KEY, start=4, **rest)
        np.testing.assert_allclose(second.final, whole.final, rtol=1e-12)
        np.testing.assert_allclose(second.times, whole.times[4:], atol=1e-12)
        other = sx.evolve(NOISE, whole.states[4], step_size=0.1, key=KEY, **rest)
        assert np.abs(other.final - whole.final).max() > 1e-3


def test_start_of_a_flow_goes_on_in_time():
    """x' = t: from t = 0.4 to 1 the rise is (1 - 0.16) / 2."""
    flow = sx.as_flow(lambda t, x: t + 0.0 * x)
    path = sx.evolve(flow, jnp.zeros(()), steps=6, step_size=0.1, start=4)
    np.testing.assert_allclose(path.final, 0.42, rtol=1e-12)
    np.testing.assert_allclose(path.times[jnp.array([0, -1])], [0.4, 1.0])
    with pytest.raises(ValueError, match="(?s)start.*no start for a flow over an interval"):
        sx.evolve(flow, jnp.zeros(()), times=(0.0, 1.0), steps=10, start=2)


def test_times_of_a_map_begin_where_they_say():
    """theta' = -2 t theta in Euler steps: the clock of a near-identity map over (0.5, 1)."""
    map = sx.discretize(sx.as_flow(lambda t, x: -2.0 * t * x), sx.Euler(), 0.1)
    path = sx.evolve(map, jnp.ones(()), times=(0.5, 1.0))
    expected = np.prod([1.0 - 0.2 * (0.5 + 0.1 * k) for k in range(5)])
    np.testing.assert_allclose(path.final, expected, rtol=1e-12)
    np.testing.assert_allclose(path.times, np.linspace(0.5, 1.0, 6))


def test_the_three_ways_to_say_a_step_agree_or_are_refused():
    same = [
        sx.evolve(DECAY, TWO, times=(0.0, 1.0), step_size=0.1).final,
        sx.evolve(DECAY, TWO, times=(0.0, 1.0), steps=10).final,
        sx.evolve(DECAY, TWO, times=(0.0, 1.0), steps=10, step_size=0.1).final,
    ]
    np.testing.assert_allclose(same[1:], [same[0]] * 2, rtol=1e-14)
    with pytest.raises(ValueError, match="5 steps of 0.1 over an interval of 1"):
        sx.evolve(DECAY, TWO, times=(0.0, 1.0), step_size=0.1, steps=5)
    with pytest.raises(ValueError, match="0.1 beside 5 steps"):
        sx.evolve(DECAY, TWO, times=(0.0, 1.0), step_size=0.1, steps=5, method=diffrax.Tsit5())
    by_solver = sx.evolve(DECAY, TWO, times=(0.0, 1.0), steps=10, method=diffrax.Euler())
    np.testing.assert_allclose(by_solver.final, TWO * 0.9**10, rtol=1e-12)
    assert int(by_solver.stats["accepted"]) == 10


def test_max_steps_is_the_same_for_every_solver():
    for method in (None, diffrax.Kvaerno5(), diffrax.Dopri8()):
        path = sx.evolve(DECAY, TWO, times=(0.0, 50.0), max_steps=4, method=method)
        assert path.outcome.name == "step_limit" and int(path.stats["steps"]) == 4


def test_a_controller_sets_the_first_step_and_bounds_the_others():
    control = diffrax.PIDController(rtol=1e-3, atol=1e-3, dtmax=0.05)
    path = sx.evolve(DECAY, TWO, times=(0.0, 1.0), controller=control, dense=True, step_size=0.01)
    sizes = np.diff(np.asarray(path.interpolation.starts)[: int(path.stats["accepted"])])
    assert sizes[0] == pytest.approx(0.01) and sizes.max() <= 0.05 + 1e-12 and int(path.stats["steps"]) >= 20


REFUSED = {
    "a negative rtol": ({"rtol": -1.0}, "rtol.*-1.0.*> 0"),
    "a zero atol": ({"atol": 0.0}, "atol.*0.0.*> 0"),
    "an infinite rtol": ({"rtol": jnp.inf}, "rtol.*inf.*> 0"),
    "a NaN atol": ({"atol": jnp.nan}, "atol.*nan.*> 0"),
    "a NaN in a controller": ({"controller": diffrax.PIDController(rtol=jnp.nan, atol=1e-3)}, "controller.rtol.*nan"),
    "tolerances twice": ({"controller": diffrax.PIDController(rtol=0.1, atol=0.1), "rtol": 0.1}, "controller alone"),
    "another controller": ({"controller": diffrax.StepTo(ts=jnp.array([0.0, 1.0]))}, "StepTo.*PIDController"),
    "a zero step": ({"step_size": 0.0}, "step_size.*0.0.*> 0"),
    "a negative step": ({"step_size": -0.1}, "step_size.*-0.1.*> 0"),
    "an infinite step": ({"step_size": jnp.inf}, "step_size.*inf.*> 0"),
    "a vector of steps": ({"step_size": jnp.ones(2)}, "step_size.*one number"),
    "no steps over an interval": ({"steps": 0}, "steps.*0.*>= 1"),
    "max_steps 0": ({"max_steps": 0}, "max_steps.*0.*>= 1"),
    "max_steps in parts": ({"max_steps": 10.5}, "max_steps.*10.5"),
    "an infinite max_steps": ({"max_steps": float("inf")}, "max_steps.*inf"),
    "a word for dense": ({"dense": "yes"}, "dense.*True or False"),
    "an unknown memory": ({"memory": "all", "step_size": 0.1}, "memory.*linear, sqrt, reversible"),
    "an unknown gradient of fixed steps": (
        {"gradient": "nonsense", "step_size": 0.1},
        "no gradient for a flow by fixed",
    ),
    "a key of a flow": ({"key": KEY}, "no key for a flow"),
    "a number for an event": ({"event": 3}, "event.*function"),
    "a solver without error estimate": ({"method": diffrax.Euler()}, "Euler without a step.*HalfSolver"),
    "a solver of two fields": ({"method": diffrax.SemiImplicitEuler(), "step_size": 0.1}, "one velocity field"),
    "the class of a method": ({"method": sx.RK4}, "class RK4.*instance"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_values_out_of_range_are_refused(name):
    options, words = REFUSED[name]
    with pytest.raises((ValueError, TypeError)) as told:
        sx.evolve(DECAY, TWO, times=(0.0, 1.0), **options)
    assert re.search(words, str(told.value), re.DOTALL), str(told.value)
    with pytest.raises((ValueError, TypeError)) as told:
        sx.ensemble(DECAY, TWO[:, None], times=(0.0, 1.0), **options)
    assert re.search(words, str(told.value), re.DOTALL) and "ensemble" in str(told.value).replace(
        "evolve: steps", "ensemble"
    ), str(told.value)


def test_times_that_coincide_in_the_dtype_of_the_state():
    with pytest.raises(ValueError, match="coincide in float32"):
        sx.evolve(DECAY, jnp.ones(2, jnp.float32), times=(1e8, 1e8 + 1.0))


def test_more_rows_than_memory_are_refused():
    with pytest.raises(ValueError, match="(?s)rows of 8 bytes.*save=.last."):
        sx.evolve(sx.as_map(lambda x: 0.5 * x), 1.0, steps=10**12)


# --- the field is of the form of the state ----------------------------------------------------------------------------

WRONG_FIELDS = {
    "a part": lambda x: -x[:1],
    "complex": lambda x: 1j * x,
    "another precision": lambda x: x.astype(jnp.float32),
    "a list": lambda x: [x],
    "nothing": lambda x: None,
    "an integer": lambda x: jnp.ones(2, int),
    "a number": lambda x: 1.0,
}
RUNS = {
    "adaptive": {"times": (0.0, 1.0)},
    "implicit": {"times": (0.0, 1.0), "method": diffrax.Kvaerno3()},
    "fixed": {"times": (0.0, 1.0), "step_size": 0.1},
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", WRONG_FIELDS)
def test_a_velocity_of_another_form_is_refused(name, run):
    with jax.numpy_dtype_promotion("standard"), pytest.raises(ValueError, match=r"velocity differs from the state"):
        sx.evolve(sx.as_flow(WRONG_FIELDS[name]), TWO, **RUNS[run])
    if run == "adaptive":
        with jax.numpy_dtype_promotion("standard"), pytest.raises(ValueError, match=r"velocity differs from the state"):
            sx.ensemble(sx.as_flow(WRONG_FIELDS[name]), TWO[None], **RUNS[run])


@pytest.mark.parametrize(
    "options", [{"step_size": 0.1}, {"step_size": 0.1, "method": diffrax.Euler()}], ids=["ours", "diffrax"]
)
def test_a_drift_or_diffusion_of_another_form_is_refused(options):
    given = {"times": (0.0, 1.0), "key": KEY, "step_size": 0.1} | options
    with pytest.raises(ValueError, match="drift differs"):
        sx.evolve(sx.as_sde(lambda x: -x[:1], lambda x: jnp.ones_like(x)), TWO, **given)
    with pytest.raises((ValueError, TypeError), match="diffusion"):
        sx.evolve(sx.as_sde(lambda x: -x, lambda x: jnp.ones(3)), TWO, **given)


def test_a_branch_in_python_is_told_with_function_and_argument():
    def field(x):
        if x[0] > 0:
            return -x
        return x

    for system, options in ((sx.as_flow(field), {"times": (0.0, 1.0)}), (sx.as_map(field), {"steps": 3})):
        with pytest.raises(TypeError, match="branch in Python.*field.*if x.0. > 0") as told:
            sx.evolve(system, TWO, **options)
        assert "jnp.where" in str(told.value)


# --- dtypes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32], ids=str)
def test_half_precision_runs_by_fixed_steps_and_is_refused_by_adaptive_ones(dtype):
    x = jnp.ones(2, dtype)
    path = sx.evolve(DECAY, x, times=(0.0, 1.0), steps=8)
    assert path.final.dtype == dtype
    np.testing.assert_allclose(path.final.astype(float), np.exp(-1.0), rtol=20 * float(jnp.finfo(dtype).eps))
    assert sx.evolve(sx.as_map(lambda x: x / 2), x, steps=3).final.dtype == dtype
    if dtype == jnp.float32:
        return
    for run in (sx.evolve, lambda s, x, **o: sx.ensemble(s, x[None], **o)):
        with pytest.raises(ValueError, match="(?s)adaptive steps.*float32"):
            run(DECAY, x, times=(0.0, 1.0))


# --- SDEs by solvers of diffrax ---------------------------------------------------------------------------------------


def test_a_stratonovich_solver_solves_the_ito_equation_it_is_given():
    """dx = x dW (Ito) has mean 1; the Stratonovich equation of the same letters has mean e^{1/2}."""
    sde = sx.as_sde(lambda x: 0.0 * x, lambda x: x)
    keys = jax.random.split(KEY, 4000)
    for method in (diffrax.Euler(), diffrax.Heun(), diffrax.EulerHeun()):
        one = lambda key, m=method: sx.evolve(
            sde, jnp.ones(1), times=(0.0, 1.0), steps=32, key=key, method=m, save="last"
        ).final[0]
        ends = jax.jit(jax.vmap(one))(keys)
        # Variance e - 1 of one path: five standard errors of the mean are 0.10, and 1.65 is far outside.
        assert abs(float(ends.mean()) - 1.0) < 5 * np.sqrt((np.e - 1) / len(keys)), method


def test_an_sde_that_overflows_says_when():
    sde = sx.as_sde(lambda x: x**3, lambda x: 0.1 * jnp.ones_like(x))
    path = sx.evolve(sde, jnp.ones(1), times=(0.0, 3.0), step_size=0.01, key=KEY, method=diffrax.Euler(), save="last")
    assert path.outcome.name == "non_finite" and 0.3 < float(path.outcome.at) < 1.0
    assert np.isnan(path.final).all() and np.isfinite(path.last).all()


def test_an_sde_by_diffrax_is_differentiable_along_its_path():
    """dx = -a x dt + s dW by Euler: x_n is linear in x_0 with slope (1 - a h)^n, whatever the noise."""

    def end(x, a):
        sde = sx.as_sde(lambda x: -a * x, lambda x: 0.3 * jnp.ones_like(x))
        return sx.evolve(sde, x, times=(0.0, 1.0), steps=10, key=KEY, method=diffrax.Euler(), save="last").final[0]

    np.testing.assert_allclose(jax.grad(end)(jnp.ones(1), 2.0), [0.8**10], rtol=1e-12)
    h = 1e-6
    slope = (end(jnp.ones(1), 2.0 + h) - end(jnp.ones(1), 2.0 - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(end, argnums=1)(jnp.ones(1), 2.0), slope, rtol=1e-6)


def test_a_second_call_of_the_same_shapes_compiles_nothing():
    count = []

    class Counted(sx.Flow):
        rate: jax.Array

        def velocity(self, t, state):
            count.append(1)
            return -self.rate * state

    class CountedNoise(sx.SDE):
        rate: jax.Array

        def drift(self, t, state):
            count.append(1)
            return -self.rate * state

        def diffusion(self, t, state):
            import lineax

            return lineax.DiagonalLinearOperator(jnp.ones_like(state))

    for method in (None, diffrax.Kvaerno3()):
        run = lambda rate, m=method: (
            sx.evolve(Counted(jnp.asarray(rate)), TWO, times=(0.0, 1.0), method=m, rtol=1e-4).final
        )
        run(1.0)
        before = len(count)
        run(2.0)
        assert len(count) == before
    noisy = lambda rate: (
        sx.evolve(
            CountedNoise(jnp.asarray(rate)), TWO, times=(0.0, 1.0), steps=4, key=KEY, method=diffrax.Euler()
        ).final
    )
    noisy(1.0)
    before = len(count)
    noisy(2.0)
    assert len(count) == before
