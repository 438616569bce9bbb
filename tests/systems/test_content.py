"""Functions equal by content: what is written anew compiles nothing, and what has changed is never taken for the old."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix.systems.content import by_content

WEIGHT = jnp.eye(2)
FACTOR = 2.0


def scaled(by):
    return lambda x: by * x


def reading(box):
    return lambda x: box.by * x


OPTIMISERS = {
    "sgd": lambda rate: optax.sgd(rate),
    "adam": lambda rate: optax.adam(rate),
    "schedule": lambda rate: optax.sgd(optax.cosine_decay_schedule(rate, 60), momentum=0.9),
    "chain": lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate)),
    "inject": lambda rate: optax.chain(optax.inject_hyperparams(optax.adam)(0.1), optax.scale(rate)),
    "steps": lambda rate: optax.MultiSteps(optax.adam(rate), 2),
    # A schedule with a cell that stays empty.
    "decay": lambda rate: optax.sgd(optax.exponential_decay(rate, 10, 0.9)),
    "masked": lambda rate: optax.adamw(rate, mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_made_anew_is_the_same_and_one_of_another_rate_is_not(name):
    make = OPTIMISERS[name]
    loss = sx.as_objective(lambda x: jnp.sum(x**2))
    first, again, other = (sx.from_optax(loss, make(rate)).transformation for rate in (0.1, 0.1, 0.2))
    assert first == again and hash(first) == hash(again)
    assert first != other


def test_a_schedule_that_makes_floats_of_its_own_whole_numbers_stays_equal_to_one_made_anew():
    make = lambda steps: optax.sgd(optax.cosine_decay_schedule(0.1, steps)).update
    used, state = by_content(make(60)), optax.sgd(optax.cosine_decay_schedule(0.1, 60)).init(1.0)
    for _ in range(3):
        with jax.numpy_dtype_promotion("standard"):
            used(jnp.asarray(1.0), state)
    assert used == by_content(make(60)) != by_content(make(61))


def test_a_transformation_that_refuses_extra_arguments_is_not_given_them():
    # Of two steps the first goes up to x + g/|g|; the second goes down from x by the gradient there.
    upwards = optax.chain(optax.contrib.normalize(), optax.sgd(1.0))
    sam = optax.contrib.sam(optax.sgd(0.1), upwards, opaque_mode=False)
    descent = sx.from_optax(lambda x: jnp.sum(x**2), sam)
    start = jnp.array([3.0, 4.0])
    path = sx.evolve(descent, descent.init(start), steps=2).states.parameters
    up = start + start / 5
    np.testing.assert_allclose(path[1:], [up, start - 0.2 * up], atol=1e-12)


def test_what_a_function_is_made_of_tells_it_apart():
    assert by_content(scaled(2.0)) == by_content(scaled(2.0))
    # Equal as numbers, and not the same to a program.
    for by in (3.0, 2, -0.0, np.float32(2.0)):
        assert by_content(scaled(by)) != by_content(scaled(2.0))
    assert by_content(scaled(0.0)) != by_content(scaled(-0.0))
    assert by_content(scaled([1.0, 2.0])) == by_content(scaled([1.0, 2.0])) != by_content(scaled([1.0, 3.0]))
    assert by_content(scaled(WEIGHT)) == by_content(scaled(WEIGHT)) != by_content(scaled(WEIGHT + 1))
    assert by_content(scaled(np.ones(2))) == by_content(scaled(np.ones(2))) != by_content(scaled(np.zeros(2)))
    assert by_content(lambda x: x + 1) != by_content(lambda x: x + 2)
    assert by_content(lambda x, y=1.0: x + y) != by_content(lambda x, y=2.0: x + y)


def test_a_global_that_changes_is_another_function(monkeypatch):
    make = lambda: lambda x: FACTOR * x
    before = by_content(make())
    assert before == by_content(make())
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert before != by_content(make())
    assert sx.evolve(sx.as_map(make()), jnp.ones(2), steps=1).final.tolist() == [3.0, 3.0]


def test_a_function_of_an_object_that_can_change_stays_itself_alone():
    box = types.SimpleNamespace(by=2.0)

    class Box:
        by = 2.0

    own = Box()
    assert by_content(reading(own)) != by_content(reading(own))
    for held in (box, own):
        assert sx.evolve(sx.as_map(reading(held)), jnp.ones(1), steps=1).final.tolist() == [2.0]
        held.by = 5.0
        assert sx.evolve(sx.as_map(reading(held)), jnp.ones(1), steps=1).final.tolist() == [5.0]


def test_what_changes_between_making_and_tracing_is_never_taken_for_the_old(monkeypatch):
    make = lambda: lambda x: FACTOR * x
    early = sx.as_map(make())
    monkeypatch.setitem(globals(), "FACTOR", 7.0)
    # Traced only now: the program is that of 7.
    assert sx.evolve(early, jnp.ones(2), steps=1).final.tolist() == [7.0, 7.0]
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    assert sx.evolve(sx.as_map(make()), jnp.ones(2), steps=1).final.tolist() == [2.0, 2.0]
    assert sx.evolve(sx.as_map(make()), jnp.ones(2), steps=1).final.tolist() == [2.0, 2.0]


def test_one_function_is_itself_whatever_it_counts_and_a_wrapper_is_another():
    count = 0

    def counting(x):
        nonlocal count
        count += 1
        return x / 2

    first = by_content(counting)
    counting(1.0)
    assert by_content(counting) is first

    @functools.wraps(counting)
    def doubled(x):
        return 2 * counting(x)

    assert by_content(doubled)(3.0) == 3.0 and by_content(doubled) != first


def test_the_second_call_compiles_nothing_though_all_of_it_is_written_anew():
    found = []

    def listen(event, duration, **_):
        found.append(event) if "backend_compile" in event else None

    def train(steps):
        data = jnp.arange(8.0)
        loss = lambda centre, points: jnp.mean((points - centre) ** 2)
        run = {"steps": steps, "batch_size": 2, "key": jax.random.key(0), "metrics": {"centre": lambda model: model}}
        return sx.fit(loss, optax.adam(1e-2), data, initial=jnp.array(0.0), **run)

    train(20)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        train(20)
        sx.evolve(sx.as_map(lambda x: 0.5 * x), jnp.ones(2), steps=1000)
        before = len(found)
        sx.evolve(sx.as_map(lambda x: 0.5 * x), jnp.ones(2), steps=1001)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(found) == before and before <= 3
