"""Every system in the catalogue obeys the contract of its kind.

A test costs what it compiles. One program for each entry (`Probe.one`: the rate, its gradient and differences, a run, a
run resumed) is therefore asked all questions: with other states, other parameters, other keys it must not compile again.
A second program is the same run over a batch, a third the bare call. Dtypes are read off the traces, which compile nothing.
"""

from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix._tree import is_inexact

ENTRIES = sx.catalogue.entries()
# Central differences at h = eps^(1/3) are right to about eps^(2/3) of the third derivative.
H = 6e-6


def rate(entry, system, state, key):
    """One evaluation of what the kind must say."""
    match entry.kind:
        case "map":
            return system.step(0, state, key=key)
        case "flow":
            return system.velocity(jnp.asarray(0.0), state)
    return system.drift(jnp.asarray(0.0), state), system.diffusion(jnp.asarray(0.0), state).mv(state)


def run(entry, system, state, key, **keywords):
    """A short evolution; flows and SDEs with a fixed step."""
    if entry.kind == "map":
        return sx.evolve(system, state, steps=min(int(entry.span), 5), key=key, **keywords)
    return sx.evolve(system, state, steps=5, step_size=entry.step_size, key=key, **keywords)


def resumed(entry, system, state, key):
    """Five steps of a map, after two of which it stopped."""
    half = sx.evolve(system, state, steps=2, key=key, save="last")
    return sx.evolve(system, half.final, steps=3, start=2, key=key, save="last").final


def slopes(entry, system, state, key):
    """Derivative of a weighted sum of the rate along a direction: by reverse mode, by differences, and its scale."""
    flat, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda x: x if is_inexact(x) else 0.0, state))

    def total(vector):
        values = jax.tree.map(lambda new, old: new if is_inexact(old) else old, unravel(vector), state)
        rates = [leaf.ravel() for leaf in jax.tree.leaves(rate(entry, system, values, key)) if is_inexact(leaf)]
        return sum(leaf @ jnp.cos(jnp.arange(1.0, leaf.size + 1)).astype(leaf.dtype) for leaf in rates)

    direction = jnp.cos(jnp.arange(float(flat.size)))
    gradient = jax.grad(total)(flat)
    plus, minus = jax.lax.map(total, jnp.stack([flat + H * direction, flat - H * direction]))
    scale = 1.0 + jnp.linalg.norm(gradient) * jnp.linalg.norm(direction)
    return gradient @ direction, (plus - minus) / (2 * H), scale


class Probe:
    """The compiled programs of one entry, each made when it is first asked for."""

    def __init__(self, entry):
        self.entry, self.system, self.state = entry, entry.build(), entry.start()
        self.key = jax.random.key(7) if entry.random else None
        self.traces = 0
        self.one = jax.jit(self._answers)

    def _answers(self, system, state, key):
        self.traces += 1
        of = (self.entry, system, state, key)
        answers = {"rate": rate(*of), "final": run(*of).final, "slopes": slopes(*of)}
        return answers | ({"resumed": resumed(*of)} if self.entry.kind == "map" else {})

    @cached_property
    def bare(self):
        """The trajectory of the bare call."""
        return run(self.entry, self.system, self.state, self.key)

    @cached_property
    def answers(self):
        return self.one(self.system, self.state, self.key)

    @cached_property
    def others(self):
        """Three states, the first of them the entry's own."""
        return [scaled(self.state, factor) for factor in (1.0, 0.9, 0.8)]


@pytest.fixture(scope="module")
def probe(request):
    return Probe(request.param)


def cases(entries):
    # The scope puts the tests of one entry side by side.
    return pytest.mark.parametrize(
        "probe", entries, ids=[entry.name for entry in entries], indirect=True, scope="module"
    )


CASES = cases(ENTRIES)


def scaled(tree, factor):
    return jax.tree.map(lambda leaf: leaf * factor if is_inexact(leaf) else leaf, tree)


def forms(tree):
    return [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)]


def assert_close(first, second, factor=100):
    # The compiler may reorder sums; values of one step are of the size of the state.
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        eps = jnp.finfo(a.dtype).eps if is_inexact(a) else 0
        np.testing.assert_allclose(a, b, rtol=factor * eps, atol=factor * eps)


def to_float32(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32) if is_inexact(leaf) else leaf, tree)


@CASES
def test_kind_is_what_it_says(probe):
    kinds = {"map": sx.Map, "flow": sx.Flow, "sde": sx.SDE}
    assert isinstance(probe.system, kinds[probe.entry.kind])
    assert sx.catalogue.entry(probe.entry.name) is probe.entry


@CASES
def test_system_is_a_pytree_that_survives_flattening(probe):
    leaves, structure = jax.tree.flatten(probe.system)
    rebuilt = jax.tree.unflatten(structure, leaves)
    assert_close(probe.one(rebuilt, probe.state, probe.key)["rate"], probe.answers["rate"], factor=0)


@CASES
def test_form_and_dtype_of_the_state_are_kept(probe):
    assert forms(probe.bare.final) == forms(probe.state) == forms(probe.answers["final"])


@CASES
def test_float32_stays_float32(probe):
    system, state = to_float32(probe.system), to_float32(probe.state)
    trajectory = jax.eval_shape(lambda s, x: run(probe.entry, s, x, probe.key), system, state)
    assert forms(trajectory.final) == forms(state)
    assert jnp.float64 not in {jnp.result_type(leaf) for leaf in jax.tree.leaves(trajectory.states)}


@CASES
def test_jit_changes_nothing(probe):
    assert_close(probe.answers["final"], probe.bare.final, factor=1e4)


@CASES
def test_vmap_equals_a_loop(probe):
    batch = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *probe.others)
    together = jax.jit(jax.vmap(lambda x: run(probe.entry, probe.system, x, probe.key).final))(batch)
    for number, other in enumerate(probe.others):
        member = jax.tree.map(lambda leaf, i=number: leaf[i], together)
        assert_close(member, probe.one(probe.system, other, probe.key)["final"], factor=1e4)


@CASES
def test_gradient_in_the_state_equals_finite_differences(probe):
    slope, measured, scale = probe.answers["slopes"]
    curved = 1e4 if probe.entry.name in {"robertson", "arenstorf"} else 1.0
    assert abs(slope - measured) < 1e-7 * scale * curved


@CASES
def test_other_values_do_not_compile_again(probe):
    probe.answers
    probe.one(scaled(probe.system, 1.01), probe.others[1], probe.key)
    assert probe.traces == 1


@cases([entry for entry in ENTRIES if entry.kind == "map" and entry.span >= 5])
def test_same_key_same_path_and_resumed_or_not(probe):
    assert_close(probe.answers["resumed"], probe.answers["final"], factor=0 if probe.entry.random else 10)


@cases([entry for entry in ENTRIES if entry.random])
def test_random_systems_refuse_to_run_without_a_key_and_differ_by_it(probe):
    keys = [jax.random.key(seed) for seed in (1, 1, 2)]
    first, again, other = (probe.one(probe.system, probe.state, key)["final"] for key in keys)
    assert_close(first, again, factor=0)
    assert any(bool(jnp.any(a != b)) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True))
    if probe.entry.kind == "sde":
        with pytest.raises(ValueError, match="key=None"):
            run(probe.entry, probe.system, probe.state, None)


@CASES
def test_text_form_names_the_kind_and_stays_short(probe):
    assert repr(probe.bare).startswith("Trajectory(completed; times (")
    assert set(probe.entry.to_dict()) == {"name", "kind", "summary", "equation", "truth"}


def test_unknown_name_tells_the_known_ones():
    with pytest.raises(ValueError, match=r"'lorentz'.*lorenz"):
        sx.catalogue.entry("lorentz")
