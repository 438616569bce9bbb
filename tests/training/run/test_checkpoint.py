"""A tree through a file is the same tree, bit for bit; what is not the same is refused by name."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from safetensors import safe_open

from separatrix.training.run import (
    DamagedFile,
    OtherModel,
    OtherRun,
    StorageError,
    load_model,
    load_tree,
    save,
    save_tree,
)
from separatrix.training.run._container import _STORED


def bits(leaf):
    """Everything that can differ between two leaves."""
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(jax.random.key_impl(leaf)), bits(jax.random.key_data(leaf))
    if isinstance(leaf, jax.Array | np.ndarray | np.generic):
        weak = isinstance(leaf, jax.Array) and leaf.weak_type
        return type(leaf).__name__, str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes(), weak
    return type(leaf), repr(leaf) if isinstance(leaf, float | complex) else leaf


def same(a, b):
    """Whether two trees are the same in every bit."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    return [bits(leaf) for leaf in jax.tree.leaves(a)] == [bits(leaf) for leaf in jax.tree.leaves(b)]


def random_bits(dtype, shape, seed):
    """An array of every kind of bit pattern: NaNs with payloads, infinities, subnormals, minus zero."""
    dtype = np.dtype(dtype)
    raw = np.random.default_rng(seed).bytes(int(np.prod(shape)) * dtype.itemsize)
    if dtype.kind == "b":
        return np.frombuffer(raw, np.uint8).reshape(shape) > 127
    return np.frombuffer(raw, dtype).reshape(shape)


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name, None) or name)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tree.safetensors"


@pytest.mark.parametrize("name", sorted(_STORED))
def test_every_dtype_comes_back_bit_for_bit(name, path):
    dtype = dtype_of(name)
    tree = {
        "matrix": random_bits(dtype, (3, 5), 0),
        "number": random_bits(dtype, (), 1),
        "none of it": np.zeros((0, 4), dtype),
        "turned": random_bits(dtype, (4, 6), 2).T[::2],
        "scalar": random_bits(dtype, (1,), 3)[0],
    }
    save_tree(path, tree)
    back = load_tree(path, tree).tree
    assert same(tree, back)
    on_device = {key: jnp.asarray(leaf) for key, leaf in tree.items() if key != "scalar"}
    save_tree(path, on_device)
    assert same(on_device, load_tree(path, on_device).tree)
    free = load_tree(path).tree
    assert all(free[key].dtype == dtype and free[key].tobytes() == tree[key].tobytes() for key in free)


def every_kind():
    """A tree with every kind of leaf."""
    model = eqx.nn.MLP(2, 3, 4, 2, jax.nn.tanh, key=jax.random.key(0))
    shared = jnp.arange(3.0)
    return {
        "model": model,
        "optimiser": optax.chain(optax.clip(1.0), optax.adam(1e-3)).init(eqx.filter(model, eqx.is_inexact_array)),
        "keys": [jax.random.key(3), jax.random.split(jax.random.key(4, impl="rbg"), 3), jax.random.PRNGKey(5)],
        "weak": [jnp.asarray(0.5), jnp.broadcast_to(jnp.asarray(2), (3,)), jnp.asarray(1j)],
        "values": [
            True,
            7,
            -(10**5000),
            0.1,
            float("nan"),
            float("-inf"),
            -0.0,
            1e-320,
            1 + 2j,
            "text \ud800 \0 é",
            "",
        ],
        "nothing": [None, {}, [], ()],
        "twice": (shared, shared),
        "numbered": {10: np.float32(1), 2: np.int8(2)},
    }


def test_every_kind_of_leaf_comes_back(path):
    tree = every_kind()
    save_tree(path, tree)
    saved = load_tree(path, tree)
    assert same(tree, saved.tree)
    assert saved.tree["optimiser"][0].__class__ is tree["optimiser"][0].__class__


def test_a_template_of_shapes_and_dtypes_is_enough(path):
    tree = {
        "w": jnp.arange(6.0).reshape(2, 3),
        "k": jax.random.split(jax.random.key(1), 2),
        "h": jnp.ones(3, jnp.bfloat16),
    }
    save_tree(path, tree)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
    assert same(tree, load_tree(path, shapes).tree)


def test_the_state_goes_on_as_if_it_had_not_been_on_disk(path):
    optimiser = optax.adam(0.1)
    loss = lambda x, key: jnp.sum((x - jax.random.normal(key, x.shape)) ** 2)

    @jax.jit
    def step(state):
        x, inner, key, n = state
        updates, inner = optimiser.update(jax.grad(loss)(x, jax.random.fold_in(key, n)), inner, x)
        return optax.apply_updates(x, updates), inner, key, n + 1

    state = (jnp.array([1.0, -2.0]), optimiser.init(jnp.zeros(2)), jax.random.key(7), jnp.asarray(0))
    with jax.numpy_dtype_promotion("standard"):  # Adam's powers mix floats and counts
        for n in range(6):
            if n == 3:
                save_tree(path, state, step=n)
            state = step(state)
        resumed = load_tree(path, state).tree
        assert not same(state, resumed)
        for _ in range(3):
            resumed = step(resumed)
    assert same(state, resumed)


def test_step_key_and_cursor_are_told(path):
    key = jax.random.split(jax.random.key(2))[1]
    save_tree(path, {"x": jnp.zeros(2)}, step=12, key=key, cursor={"epoch": 3, "at": [4, 5]}, fingerprint="abc")
    saved = load_tree(path)
    assert (saved.step, saved.cursor, saved.fingerprint) == (12, {"epoch": 3, "at": [4, 5]}, "abc")
    assert bits(saved.key) == bits(key)
    assert saved.versions["jax"] == jax.__version__
    old = jax.random.PRNGKey(9)
    save_tree(path, {}, key=old)
    assert bits(load_tree(path).key) == bits(old)


def test_another_program_reads_the_tensors(path):
    tree = {"a": {"w": np.arange(6.0).reshape(2, 3)}, "b": [np.float16(1.5), np.array([1 + 2j])], "c": jnp.arange(3)}
    save_tree(path, tree)
    with safe_open(path, "np") as file:
        assert np.array_equal(file.get_tensor("tree/a.w"), tree["a"]["w"])
        assert file.get_tensor("tree/b.0").dtype == np.float16
        assert np.array_equal(file.get_tensor("tree/b.1"), [[1.0, 2.0]])
        assert np.array_equal(file.get_tensor("tree/c"), [0, 1, 2])
        manifest = json.loads(file.metadata()["manifest"])
    assert [entry["path"] for entry in manifest["tree"]["entries"]] == [["a", "w"], ["b", 0], ["b", 1], ["c"]]


def test_an_array_that_occurs_twice_is_kept_once(path):
    big = jnp.zeros(10_000)
    save_tree(path, {"model": big, "state": (big, big)})
    assert path.stat().st_size < 100_000
    back = load_tree(path, {"model": np.zeros(10_000), "state": (np.zeros(10_000), np.zeros(10_000))}).tree
    back["state"][0][0] = 1.0
    assert back["state"][1][0] == 0.0


def test_without_a_template_the_tree_is_of_dictionaries_and_lists(path):
    tree = every_kind()
    save_tree(path, tree)
    free = load_tree(path).tree
    assert list(free["model"]["layers"][1]) == ["weight", "bias"]
    assert free["model"]["activation"] is None
    assert np.array_equal(free["model"]["layers"][1]["weight"], tree["model"].layers[1].weight)
    assert free["nothing"] == [None, {}, [], ()]
    assert free["numbered"] == {2: 2, 10: 1}
    assert free["values"][:4] == [True, 7, -(10**5000), 0.1]
    assert bits(free["keys"][1]) == bits(tree["keys"][1])
    save_tree(path, jnp.arange(3))
    assert load_tree(path).tree.tolist() == [0, 1, 2]


def test_models_of_other_libraries_come_back(path):
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, seed):
            rngs = nnx.Rngs(seed)
            self.dense, self.norm, self.drop = (
                nnx.Linear(2, 3, rngs=rngs),
                nnx.BatchNorm(3, rngs=rngs),
                nnx.Dropout(0.5, rngs=rngs),
            )

    save_tree(path, Net(0))
    assert same(Net(0), load_tree(path, Net(1)).tree) and not same(Net(0), Net(1))
    norm = lambda: eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, axis_name="batch", mode="batch")
    layer, state = norm()
    state = jax.tree.map(lambda leaf: leaf + jnp.ones((), leaf.dtype) if leaf.dtype != bool else ~leaf, state)
    save_tree(path, (layer, state))
    back = load_tree(path, norm()).tree
    assert jax.tree.all(
        jax.tree.map(lambda a, b: bits(a) == bits(b), jax.tree.leaves((layer, state)), jax.tree.leaves(back))
    )


def test_names_of_tensors_never_collide(path):
    tree = {"a.b": np.ones(1), "a": {"b": np.zeros(1)}, "__metadata__": np.full(1, 2.0), "a.b#2": np.full(1, 3.0)}
    save_tree(path, tree)
    assert same(tree, load_tree(path, tree).tree)
    save_tree(path, {"": np.ones(2)})
    assert load_tree(path).tree[""].tolist() == [1, 1]


BASE = {"w": jnp.ones((2, 3)), "b": [jnp.zeros(3), 4], "f": jax.nn.relu}


@pytest.mark.parametrize(
    ("like", "words"),
    [
        (BASE | {"w": jnp.ones((3, 2))}, ".w\n  got float64(2, 3) in the file, expected float64(3, 2), as in the template"),
        (BASE | {"w": jnp.ones((2, 3), jnp.float32)}, "got float64(2, 3) in the file, expected float32(2, 3)"),
        (BASE | {"w": jax.random.key(0)}, "expected keys of threefry2x32()"),
        (BASE | {"w": 2.0}, "expected a value of type float"),
        (BASE | {"w": None}, "expected None"),
        (BASE | {"b": [jnp.zeros(3), True]}, ".b[1]\n  got a value of type int in the file, expected a value of type bool"),
        (BASE | {"b": [jnp.zeros(3)]}, "got a leaf .b[1] that the template lacks, expected the leaves of the template (0"),
        (BASE | {"c": jnp.zeros(1)}, "got no leaf .c, expected the leaves of the template (1 missing, 0 too many)"),
        (BASE | {"f": jax.nn.tanh}, ".f\n  got the function relu in the file, expected the function tanh"),
    ],
)  # fmt: skip
def test_another_template_is_refused_by_name(like, words, path):
    save_tree(path, BASE)
    with pytest.raises(OtherModel) as caught:
        load_tree(path, like)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_module_of_other_sizes_or_functions_is_refused_unless_forced(path):
    make = lambda **options: eqx.nn.Conv(1, 2, 2, 3, key=jax.random.key(0), **options)
    save(path, make(padding=1))
    with pytest.raises(OtherModel, match=r"\.padding\n  got .*1, 1.* in the file, expected .*2, 2"):
        load_model(path, make(padding=2))
    assert load_model(path, make(padding=2), force=True).padding == ((2, 2),)
    net = lambda f: eqx.nn.MLP(1, 1, 2, 1, f, key=jax.random.key(0))
    save(path, net(jax.nn.relu))
    with pytest.raises(OtherModel, match="the function relu in the file"):
        load_model(path, net(jax.nn.gelu))
    assert load_model(path, net(jax.nn.gelu), force=True).activation is not None


def test_another_configuration_is_refused_unless_forced(path):
    save(path, {"w": np.ones(2)}, fingerprint="made by this")
    with pytest.raises(OtherRun, match="got the fingerprint made by this, expected by another"):
        load_model(path, fingerprint="by another")
    assert load_model(path, fingerprint="by another", force=True)["w"].tolist() == [1, 1]
    assert load_model(path, fingerprint="made by this")["w"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        (object(), "save.a[0]\n  got object, expected arrays"),
        (b"bytes", "got bytes"),
        ({1, 2}, "got set"),
        (np.array(["text"]), "got dtype <U4"),
        (np.array([None]), "got dtype object"),
        (np.array("2020", "datetime64[s]"), "got dtype datetime64[s]"),
        (np.zeros(2, "f4,i4"), "got dtype"),
        (jax.ShapeDtypeStruct((2,), jnp.float32), "got a shape and a dtype alone"),
    ],
    ids=lambda part: type(part).__name__ if not isinstance(part, str) else part.splitlines()[0],
)
def test_what_cannot_be_kept_is_refused_and_the_old_file_stays(leaf, words, path):
    save_tree(path, {"a": [1]})
    with pytest.raises(TypeError) as caught:
        save_tree(path, {"a": [leaf]})
    assert words in str(caught.value)
    assert load_tree(path).tree == {"a": [1]}
    assert list(path.parent.iterdir()) == [path]


def test_keys_of_dictionaries_and_traced_values_are_refused(path):
    with pytest.raises(TypeError, match="keys that are texts or whole numbers"):
        save_tree(path, {(1, 2): 1})
    with pytest.raises(TypeError, match="a traced value"):
        jax.jit(lambda x: save_tree(path, {"x": x}))(1.0)
    with pytest.raises(TypeError, match="cursor"):
        save_tree(path, {}, cursor=np.ones(2))


def test_64_bits_are_refused_where_jax_has_32(path):
    save_tree(path, {"x": jnp.ones(2)})
    with jax.enable_x64(False), pytest.raises(StorageError, match="expected what JAX holds without 64 bits"):
        load_tree(path, {"x": jax.ShapeDtypeStruct((2,), np.dtype("float64"))})
    with jax.enable_x64(False):
        assert load_tree(path).tree["x"].dtype == np.float64


def test_what_is_no_file_is_told(tmp_path):
    with pytest.raises(StorageError, match="no such file or directory"):
        load_tree(tmp_path / "absent")
    with pytest.raises(DamagedFile, match="this is no file"):
        load_tree(tmp_path)
    import os

    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    with pytest.raises(DamagedFile, match="this is no file"):
        load_model(tmp_path / "pipe")


def test_a_link_keeps_pointing_where_it_points(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    save_tree(tmp_path / "link", {"a": 1})
    assert (tmp_path / "link").is_symlink()
    assert load_tree(tmp_path / "there" / "file").tree == {"a": 1}


def test_a_snapshot_is_of_its_instant(tmp_path):
    from separatrix.training.run import Run

    x = np.zeros(200_000)
    with Run.create(tmp_path / "run") as run:
        run.save(1, {"x": x})
        x += 1.0  # while it is being written
        run.save(2, {"x": x}, wait=True)
        assert run.load(step=1).tree["x"].max() == 0.0
        assert run.load(step=2).tree["x"].min() == 1.0


def test_a_donated_array_is_saved_as_it_was(tmp_path):
    from separatrix.training.run import Run

    step = jax.jit(lambda x: x + 1.0, donate_argnums=0)
    x = jnp.zeros(100_000)
    with Run.create(tmp_path / "run") as run:
        for n in range(1, 4):
            x = step(x)
            run.save(n, {"x": x})
            x = step(x)
        run.wait()
        assert [float(run.load(step=n).tree["x"][0]) for n in (2, 3)] == [3.0, 5.0]


def test_a_number_that_was_saved_without_64_bits_is_read_with_them(path):
    """A Python number is as wide as JAX is set to hold; an array of numbers is what it was made."""
    save_tree(path, {"scale": np.float32(0.25), "weights": np.ones(2, np.float32)})
    like = {"scale": np.float64(0), "weights": np.zeros(2, np.float32)}
    found = load_tree(path, like).tree
    assert found["scale"] == 0.25 and found["scale"].dtype == np.float64
    for wrong in (like | {"weights": np.zeros(2)}, like | {"scale": np.int64(0)}, like | {"scale": np.zeros(1)}):
        with pytest.raises(OtherModel, match="got float32"):
            load_tree(path, wrong)
    save_tree(path, {"scale": np.float64(0.25)})
    with pytest.raises(OtherModel, match="got float64"):
        load_tree(path, {"scale": np.float32(0)})
