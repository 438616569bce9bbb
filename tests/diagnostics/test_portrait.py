"""The portrait of a flow, on three whose planes are known by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx


@pytest.fixture(scope="module")
def duffing():
    """x'' = x - x^3 - x'/2 in a box that is not symmetric."""
    flow = sx.as_flow(lambda x: jnp.stack([x[1], x[0] - x[0] ** 3 - 0.5 * x[1]]))
    return flow, sx.portrait(flow, ((-2.0, -1.5), (2.2, 1.7)), resolution=16)


@pytest.mark.slow
def test_duffing_has_two_foci_and_a_saddle_with_the_eigenvalues_of_its_jacobian(duffing):
    """At (+-1, 0): l^2 + l/2 + 2 = 0; at 0: l^2 + l/2 - 1 = 0."""
    found = duffing[1]
    assert found.equilibria.kinds == ["stable focus", "stable focus", "saddle of index 1"]
    focus, saddle = np.roots([1, 0.5, 2.0]), np.sort(np.roots([1, 0.5, -1.0]))
    np.testing.assert_allclose(np.sort_complex(found.equilibria.spectra[0]), np.sort_complex(focus), rtol=1e-9)
    np.testing.assert_allclose(np.sort(np.real(found.equilibria.spectra[2])), saddle, rtol=1e-9)
    np.testing.assert_allclose(found.time_scales[0], [4.0, 4.0], rtol=1e-8)  # 1/|Re l| = 1/(1/4)
    np.testing.assert_allclose(found.turns[0], 2 * np.pi / abs(focus[0].imag), rtol=1e-8)
    assert np.isinf(np.asarray(found.turns)[2]).all()
    np.testing.assert_allclose(np.sort(1 / np.asarray(found.time_scales)[2]), np.sort(np.abs(saddle)), rtol=1e-8)


@pytest.mark.slow
def test_nullclines_orbits_and_the_separatrix_of_duffing_are_the_flows_own(duffing):
    flow, found = duffing
    x, y = np.meshgrid(*np.asarray(found.nodes), indexing="ij")
    np.testing.assert_allclose(found.velocities[..., 0], y, atol=1e-12)
    np.testing.assert_allclose(found.velocities[..., 1], x - x**3 - 0.5 * y, atol=1e-12)
    # Every start ends in one of the wells, and the branch of the saddle's stable manifold parts them.
    assert found.basins.stability.sum() == 1.0 and (found.basins.stability > 0.3).all()
    assert found.manifolds.shape[0] == 1
    branch = np.asarray(found.manifolds)[0, 0]
    place = branch[np.isfinite(branch).all(axis=1)][40]
    # Beside it, on either side across the flow, starts end in different wells.
    along = np.asarray(flow.velocity(0.0, jnp.asarray(place)))
    across = 0.02 * np.array([-along[1], along[0]]) / np.linalg.norm(along)
    fates = found.basins.fates_of(np.stack([place + across, place - across]))
    assert sorted(fates.tolist()) == [0, 1]
    # Energy y^2/2 - x^2/2 + x^4/4 falls along every orbit.
    q, p = np.moveaxis(np.asarray(found.orbits), -1, 0)
    energy = p**2 / 2 - q**2 / 2 + q**4 / 4
    assert np.all(np.diff(energy, axis=1) < 1e-6)
    text = str(found)
    assert "saddle of index 1 at (0, 0)" in text and "basin 1: fixed point" in text


@pytest.mark.slow
def test_the_figure_shows_every_kind_of_thing_that_was_found(duffing):
    axes = sx.plotting.plot(duffing[1]).axes
    names = set(axes[0].get_legend_handles_labels()[1])
    assert {"x' = 0", "y' = 0", "stable focus", "saddle of index 1", "stable manifold of a saddle"} <= names
    assert any("1.39i" in text.get_text() for text in axes[0].texts)  # sqrt(2 - 1/16) = 1.392


@pytest.mark.slow
def test_a_predator_and_its_prey_turn_around_a_centre():
    """Eigenvalues +- i sqrt(a c) at (c/d, a/b), and a saddle with a and -c at the origin."""
    flow = sx.catalogue.entry("lotka-volterra").build()
    found = sx.portrait(flow, ((-0.5, -0.5), (5.0, 4.0)), resolution=6, times=(0.0, 20.0))
    kinds = dict(zip(found.equilibria.kinds, np.asarray(found.equilibria.coordinates), strict=True))
    np.testing.assert_allclose(kinds["centre"], [3.0, 1.5], atol=1e-8)
    np.testing.assert_allclose(kinds["saddle of index 1"], [0.0, 0.0], atol=1e-8)
    centre = found.equilibria.kinds.index("centre")
    np.testing.assert_allclose(found.turns[centre], 2 * np.pi / np.sqrt(4.5), rtol=1e-8)


def test_what_has_no_portrait_is_refused():
    with pytest.raises(TypeError, match="portrait: flow: got FunctionMap, expected a Flow|portrait: flow"):
        sx.portrait(sx.as_map(lambda x: x / 2), ((0.0, 0.0), (1.0, 1.0)))
    flow = sx.as_flow(lambda x: -x)
    with pytest.raises(ValueError, match="1 coordinate.*at least two"):
        sx.portrait(flow, ((0.0,), (1.0,)))
    with pytest.raises(ValueError, match="low < high"):
        sx.portrait(flow, ((0.0, 1.0), (1.0, 0.0)))
    with pytest.raises(ValueError, match="resolution"):
        sx.portrait(flow, ((0.0, 0.0), (1.0, 1.0)), resolution=2)
