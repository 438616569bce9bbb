"""Every system in the catalogue obeys the contract of its kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix._tree import is_inexact

ENTRIES = sx.catalogue.entries()


def cases(entries):
    return pytest.mark.parametrize("entry", entries, ids=[entry.name for entry in entries])


CASES = cases(ENTRIES)


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


def key_of(entry):
    return jax.random.key(7) if entry.random else None


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
def test_kind_is_what_it_says(entry):
    kinds = {"map": sx.Map, "flow": sx.Flow, "sde": sx.SDE}
    assert isinstance(entry.build(), kinds[entry.kind])
    assert sx.catalogue.entry(entry.name) is entry


@CASES
def test_system_is_a_pytree_that_survives_flattening(entry):
    system, state, key = entry.build(), entry.start(), key_of(entry)
    leaves, structure = jax.tree.flatten(system)
    rebuilt = jax.tree.unflatten(structure, leaves)
    assert_close(rate(entry, rebuilt, state, key), rate(entry, system, state, key), factor=0)


@CASES
def test_form_and_dtype_of_the_state_are_kept(entry):
    system, state, key = entry.build(), entry.start(), key_of(entry)
    assert forms(run(entry, system, state, key).final) == forms(state)


@CASES
def test_float32_stays_float32(entry):
    system, state = to_float32(entry.build()), to_float32(entry.start())
    trajectory = run(entry, system, state, key_of(entry))
    assert forms(trajectory.final) == forms(state)
    assert jnp.float64 not in {jnp.result_type(leaf) for leaf in jax.tree.leaves(trajectory.states)}


@CASES
def test_jit_changes_nothing(entry):
    system, state, key = entry.build(), entry.start(), key_of(entry)
    jitted = jax.jit(lambda s, x: run(entry, s, x, key).final)
    assert_close(jitted(system, state), run(entry, system, state, key).final, factor=1e4)


@CASES
def test_vmap_equals_a_loop(entry):
    system, state, key = entry.build(), entry.start(), key_of(entry)
    others = [jax.tree.map(lambda leaf, c=c: leaf * c if is_inexact(leaf) else leaf, state) for c in (1.0, 0.9, 0.8)]
    batch = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *others)
    together = jax.vmap(lambda x: run(entry, system, x, key).final)(batch)
    for number, other in enumerate(others):
        member = jax.tree.map(lambda leaf, i=number: leaf[i], together)
        assert_close(member, run(entry, system, other, key).final, factor=1e4)


@CASES
def test_gradient_in_the_state_equals_finite_differences(entry):
    system, state, key = entry.build(), entry.start(), key_of(entry)
    flat, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda x: x if is_inexact(x) else 0.0, state))

    def total(vector):
        values = jax.tree.map(lambda new, old: new if is_inexact(old) else old, unravel(vector), state)
        rates = [leaf.ravel() for leaf in jax.tree.leaves(rate(entry, system, values, key)) if is_inexact(leaf)]
        return sum(leaf @ jnp.cos(jnp.arange(1.0, leaf.size + 1)).astype(leaf.dtype) for leaf in rates)

    direction = jnp.cos(jnp.arange(float(flat.size)))
    slope = jax.grad(total)(flat) @ direction
    # Central differences at h = eps^(1/3) are right to about eps^(2/3) of the third derivative.
    h = 6e-6
    measured = (total(flat + h * direction) - total(flat - h * direction)) / (2 * h)
    scale = 1.0 + float(jnp.linalg.norm(jax.grad(total)(flat)) * jnp.linalg.norm(direction))
    curved = 1e4 if entry.name in {"robertson", "arenstorf"} else 1.0
    assert abs(slope - measured) < 1e-7 * scale * curved


@CASES
def test_second_call_does_not_compile(entry):
    system, state, key = entry.build(), entry.start(), key_of(entry)
    count = 0

    @jax.jit
    def counted(s, x):
        nonlocal count
        count += 1
        return rate(entry, s, x, key)

    moved = jax.tree.map(lambda leaf: leaf * 1.01 if is_inexact(leaf) else leaf, system)
    counted(system, state)
    counted(moved, state)
    assert count == 1


@cases([entry for entry in ENTRIES if entry.kind == "map"])
def test_same_key_same_path_and_resumed_or_not(entry):
    system, state, key = entry.build(), entry.start(), key_of(entry)
    whole = sx.evolve(system, state, steps=5, key=key)
    half = sx.evolve(system, state, steps=2, key=key)
    rest = sx.evolve(system, half.final, steps=3, start=2, key=key)
    assert_close(rest.final, whole.final, factor=0 if entry.random else 10)


@cases([entry for entry in ENTRIES if entry.random])
def test_random_systems_refuse_to_run_without_a_key_and_differ_by_it(entry):
    system, state = entry.build(), entry.start()
    first, again, other = (run(entry, system, state, jax.random.key(seed)).final for seed in (1, 1, 2))
    assert_close(first, again, factor=0)
    assert any(bool(jnp.any(a != b)) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True))
    if entry.kind == "sde":
        with pytest.raises(ValueError, match="key=None"):
            run(entry, system, state, None)


@CASES
def test_text_form_names_the_kind_and_stays_short(entry):
    trajectory = run(entry, entry.build(), entry.start(), key_of(entry))
    assert repr(trajectory).startswith("Trajectory(completed; times (")
    assert set(entry.to_dict()) == {"name", "kind", "summary", "equation", "truth"}


def test_unknown_name_tells_the_known_ones():
    with pytest.raises(ValueError, match=r"'lorentz'.*lorenz"):
        sx.catalogue.entry("lorentz")
