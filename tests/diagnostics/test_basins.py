"""Basins by symmetry and by published attractors; boundaries of known dimension; separatrices known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

ESCAPED, UNSETTLED = -1, -2


def square(side):
    return ((-side, -side), (side, side))


@pytest.fixture(scope="module")
def wells():
    """x'' = x - x^3 - c x': by the symmetry x -> -x both wells have half of a symmetric region."""
    flow = sx.as_flow(lambda x: jnp.stack([x[1], x[0] - x[0] ** 3 - 0.5 * x[1]]))
    return flow, sx.basins(flow, region=square(2.0), resolution=15)


@pytest.fixture(scope="module")
def cantor():
    """x -> 3x, 3x - 2 on [0, 1], and what leaves it rests at -1 or 2: the boundary is the middle-third Cantor set."""

    def step(x):
        inside = jnp.where(x < 0.5, 3 * x, 3 * x - 2)
        return jnp.where(x < 0, jnp.full_like(x, -1.0), jnp.where(x > 1, jnp.full_like(x, 2.0), inside))

    return sx.basins(sx.as_map(step), region=([0.0], [1.0]), resolution=3**7 + 1, steps=60)


def test_wells_have_equal_halves_and_the_saddle_hit_exactly_is_told(wells):
    _, found = wells
    assert sorted(np.asarray(found.attractors)[:, 0].round(5).tolist()) == [-1.0, 0.0, 1.0]
    grid = np.asarray(found.grid)
    # The image under x -> -x is the other well, start by start.
    left, right, saddle = (
        int(np.argmin(np.linalg.norm(np.asarray(found.attractors) - np.array([x, 0.0]), axis=1)))
        for x in (-1.0, 1.0, 0.0)
    )
    np.testing.assert_array_equal(grid[::-1, ::-1] == left, grid == right)
    assert found.counts[saddle] == 1 and grid[7, 7] == saddle
    assert not found.attracting[saddle] and found.attracting[left] and found.attracting[right]
    assert any(f"attractors {saddle} are not attracting" in caution for caution in found.cautions)
    assert found.kinds[left] == "fixed point"


def test_other_starts_are_asked_of_the_same_basins(wells):
    _, found = wells
    left, right = (int(np.argmin(np.abs(found.attractors[:, 0] - x))) for x in (-1.0, 1.0))
    # Within the wells, below the energy of the saddle, nothing crosses.
    assert found.fates_of([[-1.2, 0.1], [0.9, -0.1], [1.1, 0.2]]).tolist() == [left, right, right]
    with pytest.raises(ValueError, match=r"fates_of: points.*\n.*shape \(M, 2\)"):
        found.fates_of([[1.0, 2.0, 3.0]])


def test_descent_on_himmelblau_finds_its_four_minima_and_shares_with_honest_errors():
    descent = sx.optimization.GradientDescent(sx.optimization.Himmelblau(), 0.01)
    found = sx.basins(descent, region=square(5.0), resolution=24, steps=600)
    minima = sx.optimization.Himmelblau().minimizers
    distances = np.linalg.norm(np.asarray(found.attractors)[:, None] - minima[None], axis=2)
    assert np.asarray(found.attractors).shape == (4, 2) and np.all(distances.min(axis=1) < 1e-10)
    assert set(found.kinds) == {"fixed point"} and np.all(found.attracting) and found.cautions == ()
    # Random starts agree with the grid within five standard errors of their difference.
    random = jax.random.uniform(jax.random.key(3), (400, 2), minval=-5.0, maxval=5.0)
    shares = np.array([np.mean(found.fates_of(random) == i) for i in range(4)])
    assert np.all(np.abs(shares - found.stability) < 5 * np.sqrt(0.25 * 0.75 * (1 / 400 + 1 / 576)))
    np.testing.assert_allclose(found.standard_errors, np.sqrt(found.stability * (1 - found.stability) / 576))


def test_wilson_interval_solves_its_own_equation():
    # Its ends are the p with |p - k/n| = z sqrt(p (1 - p)/n); at k = 0 it does not shrink to a point.
    from separatrix.diagnostics.many.basins import wilson

    for count in (0, 3, 50):
        for end in wilson(count, 100):
            assert abs(end - count / 100) == pytest.approx(1.959963984540054 * np.sqrt(end * (1 - end) / 100), abs=1e-8)
    assert wilson(0, 100)[1] == pytest.approx(0.0370, abs=1e-4)


@pytest.mark.parametrize(
    ("r", "kind"),
    # Logistic map: a fixed point below 3, period 2 to 1 + sqrt 6 = 3.449, 4 to 3.544; period 3 past 1 + sqrt 8 = 3.828.
    [(2.8, "fixed point"), (3.3, "cycle of period 2"), (3.5, "cycle of period 4"), (3.835, "cycle of period 3"),
     (3.9, "other")],
)  # fmt: skip
def test_period_of_the_logistic_attractor(r, kind):
    family = sx.as_map(lambda x: r * x * (1 - x))
    found = sx.basins(family, jnp.linspace(0.05, 0.95, 40))
    assert found.kinds == (kind,) and np.all(np.asarray(found.fates) == 0)
    assert any("chaotic" in caution for caution in found.cautions) == (kind == "other")


def test_henon_has_one_strange_attractor_and_escapes():
    # Henon (1976): the quadrilateral about the attractor is mapped into itself, and far starts escape.
    found = sx.basins(sx.catalogue.entry("henon").build(), region=square(2.0), resolution=24, steps=400)
    assert found.kinds == ("other",) and bool(found.attracting[0])
    trapped = [[-1.0, 0.2], [1.0, 0.05], [0.5, -0.1], [-1.0, -0.2]]
    assert found.fates_of(trapped).tolist() == [0, 0, 0, 0]
    assert found.fates_of([[-2.0, 2.0], [2.0, -2.0]]).tolist() == [ESCAPED, ESCAPED]
    assert "escaped to infinity" in str(found)


@pytest.mark.slow
def test_van_der_pol_has_one_limit_cycle_of_the_published_period():
    flow = sx.catalogue.entry("van-der-pol").build()
    found = sx.basins(flow, jnp.array([[0.1, 0.0], [2.0, 0.0], [-1.0, 3.0]]), times=(0.0, 100.0))
    assert len(found.attractors) == 1 and np.all(np.asarray(found.fates) == 0)
    # 6.6632868593 at mu = 1 (Andersen & Geer 1982); the polygon of 2,048 points is good to 1e-4.
    assert float(found.periods[0]) == pytest.approx(6.66328686, abs=1e-4)


def test_a_system_that_keeps_volume_is_told_to_have_no_attractors():
    turn = sx.as_map(lambda x: jnp.array([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]]) @ x)
    found = sx.basins(turn, jnp.array([[0.2, 0.0], [0.5, 0.0], [1.0, 0.0]]))
    assert not np.any(found.attracting)
    assert any("keeps volume" in caution for caution in found.cautions)


def test_a_slow_start_is_run_on_and_told():
    # x -> 0.995 x from 1: within 2e-3 (tol times the extent) after 1,240 steps, of 4 spans at most.
    found = sx.basins(sx.as_map(lambda x: 0.995 * x), jnp.linspace(-1.0, 1.0, 8), steps=400)
    assert found.kinds == ("fixed point",) and np.all(np.asarray(found.fates) == 0)
    assert np.max(np.asarray(found.turns)) == 4 and any("had not settled" in caution for caution in found.cautions)
    short = sx.basins(sx.as_map(lambda x: 0.995 * x), jnp.linspace(-1.0, 1.0, 8), steps=200)
    assert (
        np.all(np.asarray(short.fates) == UNSETTLED) and "8 of 8 starts are near no attractor yet" in short.cautions[0]
    )


@pytest.mark.parametrize("kind", ["flow", "map"])
def test_starts_that_run_away_neither_hide_an_attractor_nor_make_any(kind):
    # To the right of 0 all starts end at (1, 0), to its left they run away at the speed 5, far short of the escape radius.
    if kind == "flow":
        speed = lambda x: jnp.where(x[0] > 0, jnp.stack([1 - x[0], -x[1]]), jnp.array([-5.0, 0.0]))
        found = sx.basins(sx.as_flow(speed), region=square(2.0), resolution=12, times=(3.0, 43.0))
    else:
        step = lambda x: jnp.where(x[0] > 0, jnp.stack([0.5 + x[0] / 2, x[1] / 3]), x - jnp.array([5.0, 0.0]))
        found = sx.basins(sx.as_map(step), region=square(2.0), resolution=12, steps=60)
    np.testing.assert_allclose(found.attractors, [[1.0, 0.0]], atol=1e-6)
    assert found.kinds == ("fixed point",) and bool(found.attracting[0])
    np.testing.assert_array_equal(found.fates, np.where(np.asarray(found.points)[:, 0] > 0, 0, ESCAPED))
    np.testing.assert_array_equal(found.steady, np.asarray(found.fates) == ESCAPED)
    assert any("by their growth" in caution for caution in found.cautions) and len(found.cautions) == 1
    assert found.fates_of([[-1.0, 0.5], [0.3, 0.5]]).tolist() == [ESCAPED, 0]


def test_what_slows_down_on_its_way_out_has_not_escaped():
    # x' = (1000 - x)/100 goes to 1000, far from all starts; x' = 1/(2x) is sqrt(t), without an end: neither steady.
    far = sx.basins(sx.as_flow(lambda x: (1000 - x) / 100), jnp.array([1.0, 2.0, 3.0]), closeness=0.01)
    assert np.all(np.asarray(far.fates) == UNSETTLED)
    found = sx.basins(sx.as_flow(lambda x: (1000 - x) / 5), jnp.array([1.0, 2.0, 3.0]), closeness=0.01)
    np.testing.assert_allclose(found.attractors, [[1000.0]], rtol=1e-6)
    assert np.all(np.asarray(found.fates) == 0)
    root = sx.basins(sx.as_map(lambda x: jnp.sqrt(x**2 + 1)), jnp.array([1.0, 2.0, 3.0]), steps=100)
    assert np.all(np.asarray(root.fates) == UNSETTLED) and len(root.attractors) == 0


def test_as_many_attractors_are_found_as_there_are():
    # x -> x - 0.1 sin(2 pi x) has one at every whole number: 45 of them here, more than any count of tries in a span.
    found = sx.basins(sx.as_map(lambda x: x - 0.1 * jnp.sin(2 * jnp.pi * x)), jnp.linspace(-22.4, 22.4, 448))
    np.testing.assert_allclose(np.sort(found.attractors[:, 0]), np.arange(-22, 23), atol=1e-9)
    ends = np.asarray(found.attractors)[np.asarray(found.fates), 0]
    np.testing.assert_allclose(ends, np.round(np.asarray(found.points)[:, 0]), atol=1e-9)
    assert np.all(found.attracting) and found.cautions == () and found.unsearched == ""


def test_a_long_cycle_is_no_chaos():
    # A turn by 2 pi 299/700 in the angle, drawn to the unit circle: every orbit ends on a cycle of period 700.
    def step(x):
        turn = 2 * np.pi * 299 / 700
        radius = jnp.sqrt(jnp.sum(x**2))
        rotated = jnp.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ x
        return rotated * (1 + 1 / radius) / 2

    found = sx.basins(sx.as_map(step), jnp.array([[0.5, 0.0], [2.0, 0.1]]))
    np.testing.assert_allclose(found.periods, 700.0 * np.ones(len(found.periods)))


def noisy_well():
    """x -> x + (x - x^3)/20 + 0.06 N(0, 1), and a clock beside it that tells the step number."""
    return sx.as_map(
        lambda n, x, key: jnp.stack(
            [x[0] + (x[0] - x[0] ** 3) / 20 + 0.06 * jax.random.normal(key), 1.0 + 0.0 * n.astype(float)]
        )
    )


def test_a_random_map_meets_the_noise_of_one_run_through_all_spans(monkeypatch):
    # What `Finder` runs in spans of 40 steps is what `evolve` runs in 120, member by member.
    from separatrix.diagnostics.many._attractors import Runner

    system, key = noisy_well(), jax.random.key(5)
    points = jnp.array([[-1.0, 0.0], [0.2, 0.0], [1.1, 0.0]])
    run = Runner(system, points[0], (jnp.array(0.0), jnp.array(1.0)), key, (None, None), 40, 16)
    here = np.asarray(points)
    for turn in range(3):
        tails = run.tails(here, 40 * turn, np.arange(3))
        here = tails[:, -1]
    paths = [
        sx.evolve(system, point, steps=120, key=jax.random.fold_in(key, i)).states for i, point in enumerate(points)
    ]
    np.testing.assert_allclose(tails, np.stack([path[-16:] for path in paths]), atol=1e-12)
    # The cloud goes on with the noise of the start that it comes from.
    cloud = run.cloud(here[1], 120, 1, 1.0)
    longer = sx.evolve(system, points[1], steps=120 + 40 + 2 * 2048, key=jax.random.fold_in(key, 1)).states
    np.testing.assert_allclose(cloud[:5], longer[160 + 2048 : 165 + 2048], atol=1e-12)


def test_a_driven_flow_goes_on_at_its_own_time():
    # x' = -x + cos t from t = 1: the spans must not begin at t = 1 again. x(t) = (cos t + sin t)/2 + c e^{-t}.
    from separatrix.diagnostics.many._attractors import Runner

    flow = sx.as_flow(lambda t, x: -x + jnp.cos(t))
    run = Runner(flow, jnp.zeros(1), (jnp.array(1.0), jnp.array(4.0)), None, (1e-10, 1e-10), 40, 16)
    tails = run.tails(np.array([[0.3]]), 0.0, np.arange(1))
    again = run.tails(tails[:, -1], 3.0, np.arange(1))[0, :, 0]
    times = 7.0 - 0.25 * 3 * np.arange(15, -1, -1) / 16
    exact = lambda t: (np.cos(t) + np.sin(t)) / 2 + (0.3 - (np.cos(1) + np.sin(1)) / 2) * np.exp(1 - t)
    np.testing.assert_allclose(again, exact(times), atol=1e-8)


def test_the_edge_of_a_random_map_is_tracked_on_one_noise():
    # x -> x + (x - x^3)/20 + noise: with the noise given, the boundary is one orbit; both sides of it meet the same noise.
    key = jax.random.key(0)
    system = sx.as_map(lambda x, key: x + (x - x**3) / 5 + 0.02 * jax.random.normal(key, x.shape))
    found = sx.basins(system, jnp.linspace(-2.0, 2.0, 12)[:, None], key=key, steps=60, closeness=0.08)
    assert len(found.attractors) == 2
    edge = sx.edge_state(found, jnp.array([-1.0]), jnp.array([1.0]), rounds=3, width=1e-6)
    # Near the unstable point the noise of each step is undone by where the start lies: it stays within the noise's size.
    assert abs(float(edge.state[0])) < 0.3 and int(edge.unstable) == 1 and float(edge.width) < 1e-3


def test_states_may_be_pytrees_and_regions_planes_in_them():
    ball = sx.optimization.HeavyBall(sx.optimization.DoubleWell(), 0.1, 0.8)
    embed = lambda p: sx.optimization.PhasePoint(p[:1], p[1:])
    found = sx.basins(ball, region=square(1.5), resolution=12, embed=embed)
    states = jax.vmap(embed)(found.points)
    again = sx.basins(ball, states)
    np.testing.assert_array_equal(found.fates, again.fates)
    # x -> -x, w -> -w.
    np.testing.assert_array_equal(np.asarray(found.grid)[::-1, ::-1], 1 - np.asarray(found.grid))


def test_uncertainty_exponent_of_the_cantor_set(cantor):
    scales = 3.0 ** -np.arange(2, 8)
    found = sx.uncertainty_exponent(cantor, key=jax.random.key(0), scales=scales, count=3000)
    exact = 1 - np.log(2) / np.log(3)
    assert abs(found.exponent - exact) < 4 * found.error and found.error < 0.04
    assert float(found.dimension) == pytest.approx(1 - float(found.exponent))
    assert any("span" in caution for caution in sx.uncertainty_exponent(
        cantor, key=jax.random.key(0), scales=scales[2:5], count=500).cautions)  # fmt: skip


def test_boxes_of_the_cantor_set(cantor):
    found = sx.boundary_dimension(cantor, scales=3 ** np.arange(7))
    # Covering by 3^k cells: 2^k boxes, and the middles of gaps, at most 2^k more.
    assert abs(found.dimension - np.log(2) / np.log(3)) < 4 * found.error and found.error < 0.05


def test_the_boundary_of_squaring_is_the_unit_circle():
    embed = lambda p: jax.lax.complex(p[0], p[1])
    found = sx.basins(
        sx.as_map(lambda z: z * z), region=((-1.57, -1.49), (1.43, 1.51)), resolution=129, embed=embed, steps=60
    )
    inside = np.linalg.norm(np.asarray(found.points), axis=1) < 1
    np.testing.assert_array_equal(np.asarray(found.fates) == ESCAPED, ~inside)
    boxes = sx.boundary_dimension(found)
    assert abs(boxes.dimension - 1) < 4 * boxes.error and boxes.error < 0.06
    rough = sx.uncertainty_exponent(found, key=jax.random.key(1), count=2000, scales=np.geomspace(0.3, 0.01, 6))
    assert abs(rough.exponent - 1) < 4 * rough.error


@pytest.mark.slow
def test_newtons_basins_have_a_fractal_boundary_that_both_measures_agree_on():
    newton = sx.as_map(lambda z: z - (z**3 - 1) / (3 * z**2))
    embed = lambda p: jax.lax.complex(p[0], p[1])
    found = sx.basins(newton, region=square(1.5), resolution=513, embed=embed, steps=64)
    roots = np.sort_complex(np.asarray(found.attractors) @ np.array([1, 1j]))
    np.testing.assert_allclose(roots, np.sort_complex(np.roots([1, 0, 0, -1])), atol=1e-12)
    boxes = sx.boundary_dimension(found)
    rough = sx.uncertainty_exponent(found, key=jax.random.key(0), count=4000, scales=np.geomspace(0.1, 1e-4, 7))
    assert abs(boxes.dimension - rough.dimension) < 4 * np.hypot(boxes.error, rough.error)
    assert 1.3 < rough.dimension < 1.55


def test_the_pendulums_separatrix_is_known():
    # Energy p^2/2 - cos q = 1: p = +-2 cos(q/2); its length from pi to -pi is int sqrt(1 + sin^2(q/2)) dq = 7.6404.
    pendulum = sx.as_flow(lambda x: jnp.stack([x[1], -jnp.sin(x[0])]))
    found = sx.separatrix(pendulum, jnp.array([3.1, 0.05]), length=9.0)
    np.testing.assert_allclose(found.saddle, [np.pi, 0.0], atol=1e-12)
    np.testing.assert_allclose(np.sort(found.spectrum.real), [-1.0, 1.0], atol=1e-12)
    q, p = np.moveaxis(np.asarray(found.points), -1, 0)
    off = np.nanmax(np.abs(np.abs(p) - 2 * np.abs(np.cos(q / 2))))
    assert off < min(1e-7, 10 * float(found.error))
    # It runs into the saddle one turn on: a connection, told, and ends within two gaps of it.
    assert np.all(found.connects) and any("a connection" in caution for caution in found.cautions)
    np.testing.assert_allclose(found.lengths, 7.6404, atol=3 * 9 / 400)
    # The branch that falls towards the saddle: p has the sign of the way that is left.
    assert np.nanmin(q[0] * p[0] * np.sign(q[0] - np.pi)) < 0


def test_fates_differ_on_the_two_sides_of_the_damped_separatrix(wells):
    flow, found = wells
    curve = sx.separatrix(flow, jnp.array([0.1, 0.0]), length=2.5, rows=60)
    points = np.asarray(curve.points)[:, 10::10].reshape(-1, 2)
    along = np.gradient(np.asarray(curve.points), axis=1)[:, 10::10].reshape(-1, 2)
    across = 1e-3 * np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    one, other = found.fates_of(points + across), found.fates_of(points - across)
    wells_only = set(np.flatnonzero(np.asarray(found.attracting)).tolist())
    assert set(one.tolist()) <= wells_only and set(other.tolist()) <= wells_only
    assert np.all(one != other)


class Bent(sx.InvertibleMap):
    """u = x - y^2 doubles and y halves, seen in (x, y): the stable manifold of 0 is x = y^2, the unstable one y = 0."""

    stretch: float = 2.0

    def step(self, n, state, *, key=None):
        u, y = state[0] - state[1] ** 2, state[1] / 2
        return jnp.stack([self.stretch * u + y**2, y])

    def inverse_step(self, n, state):
        y = 2 * state[1]
        return jnp.stack([(state[0] - state[1] ** 2) / self.stretch + y**2, y])


@pytest.mark.parametrize("stretch", [2.0, -3.0])
def test_the_stable_and_unstable_manifolds_of_a_bent_saddle(stretch):
    stable = sx.separatrix(Bent(stretch), jnp.array([0.05, -0.02]), length=5.0, rows=100)
    x, y = np.moveaxis(np.asarray(stable.points), -1, 0)
    np.testing.assert_allclose(x, y**2, atol=1e-12)
    np.testing.assert_allclose(stable.lengths, 5.0, atol=0.06)
    assert float(stable.gap) <= 1.5 * 5 / 100 + 1e-12
    unstable = sx.separatrix(sx.reverse(Bent(stretch)), jnp.array([0.05, -0.02]), length=5.0, rows=100)
    np.testing.assert_allclose(np.asarray(unstable.points)[..., 1], 0.0, atol=1e-12)
    assert set(np.sign(np.asarray(unstable.points)[:, -1, 0])) == {-1.0, 1.0} or stretch < 0


@pytest.mark.slow
def test_edge_tracking_returns_the_saddle_in_three_dimensions():
    # Tilted wells with coupling: the saddle solves x^3 - x + 0.1 = 0, y = x/2, z = x^2.
    def velocity(s):
        x, y, z = s
        return jnp.stack([x - x**3 - 0.1, x / 2 - y, 2 * (x**2 - z)])

    flow = sx.as_flow(velocity)
    found = sx.basins(flow, jax.random.uniform(jax.random.key(0), (12, 3), minval=-2.0, maxval=2.0), times=(0.0, 60.0))
    edge = sx.edge_state(found, jnp.array([-1.0, 1.0, 1.0]), jnp.array([1.5, -1.0, 0.0]), rounds=3)
    x = np.sort(np.roots([1, 0, -1, 0.1]).real)[1]
    np.testing.assert_allclose(edge.state, [x, x / 2, x**2], atol=1e-6)
    assert int(edge.unstable) == 1 and edge.cautions == ()
    # Its stable manifold is a surface with the left eigenvector as its normal: the x axis here, x being on its own.
    surface = sx.separatrix(flow, edge.state)
    np.testing.assert_allclose(np.abs(surface.normal), [1.0, 0.0, 0.0], atol=1e-6)
    assert surface.tangent.shape == (3, 2) and any("no curve" in caution for caution in surface.cautions)
    with pytest.raises(ValueError, match="two different fates"):
        sx.edge_state(found, jnp.array([1.0, 0.0, 0.0]), jnp.array([1.5, 0.0, 0.0]))


@pytest.mark.slow
def test_the_edge_of_lorenz_below_the_homoclinic_point_is_the_origin():
    # For 1 < rho < 13.926 the stable manifold of the origin parts the basins of both fixed points.
    lorenz = sx.as_flow(
        lambda x: jnp.stack([10 * (x[1] - x[0]), x[0] * (10 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])
    )
    found = sx.basins(lorenz, 5 * jax.random.normal(jax.random.key(0), (16, 3)), times=(0.0, 50.0))
    side = np.sqrt(8 / 3 * 9)
    np.testing.assert_allclose(np.sort(found.attractors[:, 0]), [-side, side], atol=1e-4)
    edge = sx.edge_state(found, jnp.array([5.0, 2.0, 8.0]), jnp.array([-2.0, -6.0, 3.0]))
    np.testing.assert_allclose(edge.state, 0.0, atol=1e-5)
    assert int(edge.unstable) == 1


def test_misuse_is_told():
    halving = sx.as_map(lambda x: 0.5 * x)
    with pytest.raises(ValueError, match="got neither"):
        sx.basins(halving)
    with pytest.raises(ValueError, match="got both"):
        sx.basins(halving, jnp.ones(3), region=([0.0], [1.0]))
    with pytest.raises(ValueError, match="low < high"):
        sx.basins(halving, region=([1.0], [0.0]))
    with pytest.raises(ValueError, match="at least 32 steps"):
        sx.basins(halving, jnp.ones(3), steps=3)
    with pytest.raises(TypeError, match=r"sx.as_flow\(sde.drift\)"):
        sx.basins(sx.catalogue.entry("ornstein-uhlenbeck").build(), jnp.ones((3, 4)))
    with pytest.raises(ValueError, match="one of N starts in every leaf"):
        sx.basins(halving, (jnp.ones(3), jnp.ones(4)))
    with pytest.raises(TypeError, match="a Basins"):
        sx.boundary_dimension(3)
    with pytest.raises(ValueError, match="on either side of"):
        sx.separatrix(sx.as_flow(lambda x: -x), jnp.zeros(2))
    with pytest.raises(TypeError, match="inverse_step"):
        sx.separatrix(sx.as_map(lambda x: jnp.array([2.0, 0.5]) * x), jnp.zeros(2))


def test_figures_show_fates_in_their_place(wells):
    _, found = wells
    axes = sx.plotting.plot(found).axes[0]
    # One colour a fate, transposed so that the first coordinate runs to the right.
    image = np.asarray(axes.images[0].get_array())
    grid = np.asarray(found.grid)
    for fate in np.unique(grid):
        assert len(np.unique(image[fate == grid.T], axis=0)) == 1
    assert len(axes.lines) == 2 * len(found.attractors)
