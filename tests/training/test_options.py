"""Every option of `fit` is used or refused; what is measured is measured at the last step; games and sweeps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix.systems import ranges
from separatrix.training.supervision import cross_entropy

KEY = jax.random.key(0)
POINTS = jnp.array([1.0, 3.0, 8.0])
GAME = (lambda players: players[0] * players[1], lambda players: -players[0] * players[1])
PAIR = (jnp.array(1.0), jnp.array(0.5))


def spread(centre, points):
    return jnp.mean((points - centre) ** 2)


def bowl(x):
    return jnp.sum(x**2)


@pytest.mark.parametrize(("steps", "every"), [(305, None), (7, 3), (6, 3), (5, 9), (0, 1)])
@pytest.mark.parametrize("watched", [False, True])
def test_the_last_step_is_measured(steps, every, watched):
    """|x|^2 by steps of 0.1 falls by 0.64 each."""
    monitor = sx.StabilityMonitor(every=9) if watched else None
    found = sx.fit(bowl, optax.sgd(0.1), initial=jnp.ones(2), steps=steps, every=every, start=4, monitor=monitor)
    stride = every or 3
    stride = -(-stride // 9) * 9 if watched else stride
    expected = sorted({*range(4, 5 + steps, stride), 4 + steps})
    assert found.steps.tolist() == expected
    np.testing.assert_allclose(found.losses, 2 * 0.64 ** (np.array(expected) - 4.0), rtol=1e-10)
    np.testing.assert_allclose(bowl(found.model), found.losses[-1], rtol=1e-12)


def test_a_game_is_a_tuple_of_losses_or_one_that_returns_a_tuple():
    """Simultaneous steps on x y: (x, y) -> (x - h y, y + h x), with |.| growing by sqrt(1 + h^2)."""
    settings = {"initial": PAIR, "steps": 7, "every": 2}
    turn = np.array([[1.0, -0.1], [0.1, 1.0]])
    x = np.array([np.linalg.matrix_power(turn, n) @ np.array([1.0, 0.5]) for n in (0, 2, 4, 6, 7)])
    for objective in (GAME, list(GAME), lambda players: tuple(loss(players) for loss in GAME), sx.games.Bilinear(1.0)):
        for optimizer in (sx.games.Players(optax.sgd(0.1)), lambda game: sx.games.SimultaneousDescent(game, 0.1)):
            found = sx.fit(objective, optimizer, **settings)
            assert found.losses.shape == (5, 2) and found.steps.tolist() == [0, 2, 4, 6, 7]
            np.testing.assert_allclose(found.losses[:, 0], x[:, 0] * x[:, 1], rtol=1e-12)
            np.testing.assert_allclose(found.losses[:, 1], -x[:, 0] * x[:, 1], rtol=1e-12)


def test_losses_of_a_game_share_batch_and_key():
    def mine(players, batch, *, key):
        return players[0] * jnp.mean(batch) * jax.random.normal(key)

    def yours(players, batch):
        return players[1] * jnp.mean(batch)

    settings = {"initial": PAIR, "steps": 3, "batch_size": 1, "key": KEY}
    several = sx.fit((mine, yours), sx.games.Players(optax.sgd(0.1)), POINTS, **settings)
    one = sx.fit(
        lambda p, b, *, key: (mine(p, b, key=key), yours(p, b)), sx.games.Players(optax.sgd(0.1)), POINTS, **settings
    )
    np.testing.assert_array_equal(jnp.stack(several.model), jnp.stack(one.model))
    with pytest.raises(TypeError, match=r"l\(players, batch\)"):
        sx.fit((mine, lambda p: p[0]), sx.games.Players(optax.sgd(0.1)), POINTS, **settings)


def rate(learning_rate, optimizer=optax.sgd, start=jnp.array([1.0, -0.5])):
    return sx.fit(bowl, optimizer(learning_rate), initial=start, steps=7, every=3)


def test_learning_rates_are_swept_by_vmap():
    """x -> (1 - 2 h) x: the rate 1.5 doubles x at each step, 1e200 leaves the numbers at the second."""
    rates = jnp.array([0.1, 1.5, 1e200])
    for optimizer in (optax.sgd, lambda h: lambda loss: sx.optimization.GradientDescent(loss, h)):
        found = jax.vmap(lambda h, optimizer=optimizer: rate(h, optimizer))(rates)
        expected = 1.25 * (1 - 2 * np.asarray(rates)[:2, None]) ** (2 * np.array([0, 3, 6, 7]))
        np.testing.assert_allclose(found.losses[:2], expected, rtol=1e-12)
        assert found.stopped_at.tolist() == [-1, -1, 2]
        assert found.outcome.name == ["completed", "completed", "non_finite"]
        assert np.isnan(found.losses[2, 1:]).all()
        assert repr(found).startswith("Fit(completed: 2, non_finite: 1; the state stopped being finite: ")


def test_a_run_is_differentiated_in_its_learning_rate():
    """d/dh (1 - 2h)^14 |x|^2 = -28 (1 - 2h)^13 |x|^2; the value is that of the plain run."""
    value, slope = jax.jit(jax.value_and_grad(lambda h: rate(h).losses[-1]))(0.1)
    np.testing.assert_allclose([value, slope], [1.25 * 0.8**14, -28 * 1.25 * 0.8**13], rtol=1e-12)
    np.testing.assert_allclose(value, rate(0.1).losses[-1], rtol=1e-14)


def test_a_net_is_swept_with_batches_and_metrics():
    net = eqx.nn.MLP(1, 1, 4, 1, key=KEY)

    def train(learning_rate, key):
        return sx.fit(
            lambda net, x: jnp.mean((jax.vmap(net)(x[:, None])[:, 0] - x) ** 2), optax.adam(learning_rate), POINTS,
            initial=net, steps=6, batch_size=2, key=key, metrics={"bias": lambda net: net.layers[-1].bias[0]},
        )  # fmt: skip

    rates, keys = jnp.array([0.01, 0.1]), jax.random.split(KEY, 2)
    found = eqx.filter_vmap(train)(rates, keys)
    for i in range(2):
        alone = train(rates[i], keys[i])
        np.testing.assert_allclose(found.losses[i], alone.losses, rtol=1e-10)
        np.testing.assert_allclose(found.metrics["bias"][i], alone.metrics["bias"], rtol=1e-10)
        np.testing.assert_allclose(found.model.layers[0].weight[i], alone.model.layers[0].weight, rtol=1e-10)


def test_data_is_looked_at_once():
    data = jnp.arange(8.0)
    assert id(data) not in ranges._SOUND
    sx.sampled(spread, data)
    assert ranges._SOUND[id(data)] is data
    # What can be changed is looked at again.
    own = np.arange(8.0)
    sx.sampled(spread, own)
    own[3] = np.nan
    with pytest.raises(ValueError, match=r"data\[3\]\n  got nan"):
        sx.sampled(spread, own)


def classes(targets):
    return sx.supervised(eqx.nn.Linear(2, 3, key=KEY), (jnp.ones((4, 2)), targets))


def plain(**changes):
    return sx.fit(spread, optax.sgd(0.1), POINTS, **{"initial": jnp.array(0.0), "steps": 3, **changes})


REFUSED = {
    "batches without a key": (lambda: plain(batch_size=1), ValueError, "None with batch_size=1.*jax.random.key"),
    "batches of an objective without a key": (
        lambda: sx.fit(sx.sampled(spread, POINTS, batch_size=2), optax.sgd(0.1), initial=jnp.array(0.0), steps=1),
        ValueError,
        "None with batch_size=2",
    ),
    "a metric called loss": (lambda: plain(metrics={"loss": jnp.sum}), ValueError, "names of your own"),
    "no metric": (lambda: plain(metrics={"size": 3}), TypeError, "got int, expected a function"),
    "metrics without names": (lambda: plain(metrics=[jnp.sum]), TypeError, "got list, expected a dictionary"),
    "no function": (lambda: sx.fit(3.0, optax.sgd(0.1), initial=jnp.array(1.0), steps=1), TypeError, "got float"),
    "half a batch": (lambda: plain(batch_size=1.5, key=KEY), ValueError, "got 1.5, expected 1 to 3"),
    "NaN examples": (lambda: plain(batch_size=float("nan"), key=KEY), ValueError, "got nan, expected 1 to 3"),
    "true examples": (lambda: plain(batch_size=True, key=KEY), ValueError, "got True, expected 1 to 3"),
    "every 0": (lambda: plain(every=0), ValueError, "every\n  got 0, expected a whole number >= 1"),
    "negative steps": (lambda: plain(steps=-1), ValueError, "steps\n  got -1, expected a whole number >= 0"),
    "half a step": (lambda: plain(steps=1.5), ValueError, "steps\n  got 1.5, expected a whole number >= 0"),
    "a negative start": (lambda: plain(start=-2), ValueError, "start\n  got -2"),
    "another state": (lambda: plain(state=jnp.array(1.0)), ValueError, "fit: state\n.*state. of a Fit of the same"),
    "a state of another shape": (
        lambda: plain(state=plain(initial=jnp.zeros(1)).state),
        ValueError,
        r"state\.parameters\n  got float64\[1\], expected float64\[\]",
    ),
    "a monitor that is none": (lambda: plain(monitor=print), TypeError, "without every, burst, attach, watch, note"),
    "a monitor while tracing": (
        lambda: jax.vmap(lambda x: plain(initial=x, monitor=sx.StabilityMonitor()).losses)(jnp.ones(2)),
        TypeError,
        "a run that is being traced",
    ),
    "a monitor on a game": (
        lambda: sx.fit(GAME, sx.games.Players(optax.sgd(0.1)), initial=PAIR, steps=2, monitor=sx.StabilityMonitor()),
        TypeError,
        "got PlayersMap, expected an optimiser of one loss.*linear_stability",
    ),
    "a tolerance of NaN": (lambda: sx.StabilityMonitor(tol=float("nan")), ValueError, "tol\n  got nan"),
    "three of them": (
        lambda: sx.fit(lambda x: (x**2, x, x), optax.sgd(0.1), initial=jnp.array(1.0), steps=1),
        TypeError,
        "got a tuple of 3, expected a scalar.*metrics=",
    ),
    "two losses of one optimiser's state": (
        lambda: sx.fit(lambda x: [x**2, x], optax.sgd(0.1), initial=jnp.array(1.0), steps=1),
        TypeError,
        "got a list of 2, expected a scalar",
    ),
    "a vector": (
        lambda: sx.fit(lambda x: x**2, optax.sgd(0.1), initial=jnp.ones(2), steps=1),
        TypeError,
        r"got shape \(2,\), expected a scalar",
    ),
    "whole numbers": (
        lambda: sx.fit(lambda x: jnp.sum(x > 0), optax.sgd(0.1), initial=jnp.ones(2), steps=1),
        TypeError,
        "got dtype int64, expected a scalar",
    ),
    "a batch is asked for, without data": (
        lambda: sx.fit(spread, optax.sgd(0.1), initial=jnp.array(1.0), steps=1),
        TypeError,
        r"l\(model, batch\) with data",
    ),
    "a class too many": (
        lambda: classes(jnp.array([0, 1, 3, 2])),
        ValueError,
        r"targets\n  got 3 at index \[2\], expected integers from 0 to 2",
    ),
    "a class below 0": (lambda: classes(jnp.array([0, 1, -1, 2])), ValueError, r"got -1 at index \[2\]"),
    "classes in floats": (lambda: classes(jnp.zeros(4)), TypeError, "dtype float64, expected integers from 0 to 2"),
    "other data with a class too many": (
        lambda: sx.fit(classes(jnp.array([0, 1, 0, 2])), optax.sgd(0.1), (jnp.ones((1, 2)), jnp.array([3])), steps=1),
        ValueError,
        "got 3",
    ),
    "targets that do not fit": (
        lambda: sx.supervised(eqx.nn.Linear(2, 3, key=KEY), (jnp.ones((4, 2)), jnp.ones(4)), "squared_error"),
        ValueError,
        r"outputs of shape \(3,\) and targets of shape \(\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_is_told(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind, match=f"(?s){words}") as told:
        call()
    assert len(str(told.value).splitlines()) <= 3


def test_traced_classes_that_are_none_make_the_loss_nan():
    losses = jax.vmap(lambda target: cross_entropy(jnp.array([0.0, 1.0]), target))(jnp.array([-1, 0, 1, 2]))
    np.testing.assert_allclose(losses, [np.nan, np.log1p(np.e), np.log1p(np.exp(-1)), np.nan], rtol=1e-12)


def test_outputs_that_are_not_finite_hit_no_class():
    objective = sx.supervised(eqx.nn.Linear(2, 3, key=KEY), (jnp.ones((4, 2)), jnp.zeros(4, int)))
    broken = jax.tree.map(lambda leaf: jnp.nan * leaf, objective.initial)
    assert float(sx.training.accuracy(objective.model(broken), *objective.data)) == 0.0


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.uint32, bool])
def test_accuracy_counts_targets_of_any_width(dtype):
    assert float(sx.training.accuracy(lambda x: x, jnp.eye(2), np.array([0, 0], dtype))) == 0.5
