r"""Third chapter: a recurrent network is a driven map.

x[n+1] = F(x[n], u[n]) carries its input along; its adjoint carries the gradient back. Both are products of the same
Jacobians, so one number, the largest Lyapunov exponent, says whether a net remembers and whether it can be taught to.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import digamma

import separatrix as sx
from separatrix._errors import DataMissing
from separatrix.plotting import figure, plot_curves
from separatrix.plotting.style import COLOURS, label
from separatrix.tour.chapter import Chapter, Check, Section, source
from separatrix.tour.chapters._forecasts import forecast
from separatrix.tour.measure.recurrent import eigenvector_condition, entropies
from separatrix.tour.verdicts.recurrent import verdict

Say = Callable[[str], None]
KEY = jax.random.key(0)


def run(say: Say) -> list[Section]:
    """All sections, each a claim with its numbers."""
    digits = sx.load("digits")
    dynamics = [_gradients(digits, say), _non_normal(say), _edge_of_chaos(say)]
    return [*dynamics, forecast(say), _classifier(digits, say), *_language(say), verdict(digits, say)]


def _gradients_through_time(gain, rows):
    """An Elman network of 64 units that reads rows of images: its exponent, that of its adjoint, and gradients."""
    cell = sx.recurrent.Elman(8, 64, key=jax.random.key(0))
    cell = sx.recurrent.with_recurrent_gain(cell, gain, key=jax.random.key(1))
    driven = sx.from_cell(cell, rows)
    path = sx.evolve(driven, jnp.zeros(64))
    backward = sx.adjoint(driven, path)
    # The input has a rhythm of 8 rows; 11,496 - 1,256 of them are 32 batches of 40 images.
    forth = sx.lyapunov_spectrum(driven, jnp.zeros(64), count=1, transient=1256, batches=32)
    back = sx.lyapunov_spectrum(backward, jnp.zeros(64), count=1, transient=1256, batches=32)
    norms = sx.evolve(backward, jnp.ones(64) / 8, steps=100, save=jnp.linalg.norm).states
    return forth, back, norms


def _gradients(digits: Any, say: Say) -> Section:
    say("gradients through time, by the adjoint, over gains")
    gains = np.array([0.5, 0.7, 1.0, 1.4, 2.0, 2.8])
    record = jnp.asarray(digits.inputs, jnp.float64).reshape(-1, 8)
    forth, back, norms = jax.jit(jax.vmap(_gradients_through_time, (0, None)))(jnp.asarray(gains), record)
    values = np.asarray(forth.exponents[:, 0])
    fig, (left, right) = figure(2)
    _draw_gradients(left, gains[::2], values[::2], np.asarray(norms[::2]))
    _draw_exponents(right, gains, forth, back)
    errors = 3 * np.hypot(forth.standard_errors[:, 0], back.standard_errors[:, 0])
    checks = [
        Check(f"exponent of the adjoint at gain {gain:g}: that of the net", float(measured), value, error)
        for gain, measured, value, error in zip(gains, back.exponents[:, 0], values, errors, strict=True)
    ]
    checks.append(Check("exponent at gain 1, where the spectral radius is 1", values[2], 0.0, relation="<="))
    checks.append(Check("largest excess of an exponent over ln gain", max(values - np.log(gains)), 0.0, relation="<="))
    text = f"""
        Backpropagation through time is the adjoint of the driven map. Forward and back it is a product of the same
        Jacobians, so the gradient shrinks or grows at the largest Lyapunov exponent of the net, measured here from
        {len(record):,} rows of handwritten digits. The recurrent weights are orthogonal times a gain.

        The exponent is not the logarithm of the gain. At gain 1 every eigenvalue and every singular value of the
        recurrent weights is 1, and yet the gradient vanishes: what drives the net also saturates it. Above ln gain no
        exponent can lie, for tanh has no slope larger than 1.
    """
    equation = r"\lambda_n = DF(x_n, u_n)^T\,\lambda_{n+1},\qquad \frac{1}{N}\,\ln|\lambda_0| \to \Lambda_1"
    caption = (
        "Left: norms of the gradient (solid) and the exponent's prediction (dotted). Right: the exponents of the net, with "
        "two standard errors, and of its adjoint, each over 10,240 steps."
    )
    return Section(
        "Gradients through time are a dynamical system",
        text,
        equation,
        fig,
        caption,
        source(_gradients_through_time),
        tuple(checks),
    )


def _draw_gradients(axes: Any, gains: Any, values: Any, norms: Any, steps: int = 100) -> None:
    """Norms on the way back, and their exponential prediction."""
    back = np.arange(steps + 1)
    for colour, gain, value, norm in zip(COLOURS, gains, values, norms, strict=False):
        axes.semilogy(back, norm[: steps + 1], color=colour, label=f"gain {gain:g}")
        axes.semilogy(back, np.exp(value * back), color=colour, linestyle=":")
    label(axes, "steps back from the loss", "norm of the gradient")
    axes.legend(fontsize=8, frameon=False)


def _draw_exponents(axes: Any, gains: Any, forth: Any, back: Any) -> None:
    """Exponents of a net and of its adjoint, and the logarithm of the gain."""
    grid = np.geomspace(gains[0], gains[-1], 50)
    axes.semilogx(grid, np.log(grid), color="0.3", linestyle="--", linewidth=1, label="ln gain")
    axes.plot(gains, back.exponents[:, 0], "o", color=COLOURS[1], markersize=3, label="exponent of the adjoint")
    form = {"fmt": "s", "markerfacecolor": "none", "color": COLOURS[0], "capsize": 3}
    bars = 2 * np.asarray(forth.standard_errors[:, 0])
    axes.errorbar(gains, forth.exponents[:, 0], bars, label="exponent of the net", **form)
    label(axes, "gain of the recurrent weights", "nats a step")
    axes.set_xticks(gains, [f"{gain:g}" for gain in gains])
    axes.set_xticks([], minor=True)
    axes.legend(fontsize=8, frameon=False)


def _powers(matrix, cotangent, steps):
    """Norms of the gradient through a linear network x' = A x, from the loss back."""
    linear = sx.as_map(lambda x: matrix @ x)
    path = sx.evolve(linear, jnp.ones(2), steps=steps)
    return sx.gradient_profile(linear, path, cotangent).norms[::-1]


def _non_normal(say: Say) -> Section:
    say("a net whose spectral radius misleads")
    a, b, steps = 0.9, 2.0, 120
    matrix, back = jnp.array([[a, b], [0.0, a]]), np.arange(steps + 1)
    norms = np.asarray(_powers(matrix, jnp.array([1.0, 0.0]), steps))
    truth = a**back * np.sqrt(1 + (back * b / a) ** 2)
    fig = figure(1, width=4.8)[0]
    curves = {
        "norm of the gradient": (back, norms),
        ".closed form": (back[::5], truth[::5]),
        "spectral radius ^ steps": (back, a**back),
    }
    plot_curves(curves, x="steps back from the loss", y="norm of the gradient", log="y", axes=fig.axes[0])
    text = """
        A spectral radius below 1 does not make gradients vanish from the first step on, nor one above 1 explode. It
        tells of infinite time. This net of two units has radius 0.9, and on the way back the gradient first grows
        almost eightfold, because its eigenvectors coincide. The closed form is exact.
    """
    largest = float(np.max(np.abs(norms / truth - 1)))
    checks = (
        Check("largest norm of the gradient", float(norms.max()), float(truth.max()), 1e-12 * float(truth.max())),
        Check("steps back where it is largest", float(norms.argmax()), float(truth.argmax()), 0.0),
        Check("relative distance from the closed form, all steps", largest, 1e-12, relation="<="),
    )
    equation = (
        r"A = [a\;\,b;\;0\;\,a],\qquad |(A^T)^n e_1| = a^n\sqrt{1 + (n b/a)^2},\qquad"
        r"a = 0.9,\; b = 2"
    )
    return Section(
        "A spectral radius below one, and a gradient that grows",
        text,
        equation,
        fig,
        "The gradient, its closed form (points), and what the spectral radius would suggest.",
        source(_powers),
        checks,
    )


def _exponents_of_networks(gains, keys, size, steps):
    """The largest exponent for every gain and every network, in one compiled call."""

    def exponent(key, gain):
        network = sx.recurrent.random_network(size, gain, key=key)
        start = jax.random.normal(jax.random.key(1), (size,))
        found = sx.lyapunov_spectrum(network, start, count=1, steps=steps + 400, transient=400)
        return found.exponents[0], found.standard_errors[0]

    return jax.jit(jax.vmap(jax.vmap(exponent, (None, 0)), (0, None)))(keys, gains)


def _edge_of_chaos(say: Say) -> Section:
    say("the largest exponent of random networks over their gain")
    size, steps, keys = 200, 1600, jax.random.split(KEY, 4)
    gains = np.array([0.6, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0])
    values, errors = map(np.asarray, _exponents_of_networks(jnp.asarray(gains), keys, size, steps))
    weight = sx.recurrent.random_network(size, 1.0, key=keys[0]).weight
    # Within the condition of the eigenvectors |A^n v| is |largest eigenvalue|^n: the mean is right to this. So is the
    # exponent 0 along an oscillation, whose speed varies by a smaller factor; the crossing, from two of them, to twice.
    slack = float(np.log(eigenvector_condition(weight)) / steps)
    radius = float(sx.recurrent.spectral_radius(weight))
    grid = np.geomspace(0.6, 3.0, 60)
    theory = np.array([sx.recurrent.mean_field_exponent(g) for g in grid])
    fig = _draw_edge_of_chaos(gains, values, errors, (grid, theory), radius)
    text = f"""
        Below gain 1 a random net falls to rest, and what is left of it is the one matrix g J: its exponent is the
        logarithm of the spectral radius of that matrix. As N grows the radius tends to g, so rest ends at g = 1; for
        these {size} units it ends where g times the radius of J is 1. Just above, finite nets oscillate, with exponent
        0; then they are chaotic, as mean field says of N without bound.

        Were the matrix drawn afresh at each step, the exponent would be Newman's, in closed form; that is the last
        check, and it tests the error bar too.
    """
    at = {gain: number for number, gain in enumerate(gains)}
    below, step = values[0, at[0.95]], np.log(0.95 / 0.9)
    crossing = float(0.95 * np.exp(-below * step / (below - values[0, at[0.9]])))
    # Three standard errors between nets, and the correction of finite size, of order 1/N.
    chaotic = values[:, at[3.0]]
    finite = 3 * float(np.std(chaotic, ddof=1)) / 2 + 2 / size
    product, truth = _product_of_gaussian_matrices(20, 1.0)
    newman, measured = 3 * float(product.standard_errors[0]), float(product.exponents[0])
    checks = (
        Check("exponent at gain 0.8: ln(0.8 x spectral radius)", values[0, at[0.8]], np.log(0.8 * radius), slack),
        Check("gain where the exponent reaches 0: 1 / spectral radius", crossing, 1 / radius, 2 * slack),
        Check("exponent of the oscillation at gain 1.05", values[0, at[1.05]], 0.0, slack),
        Check("exponent at gain 3, mean of four nets: mean field", chaotic.mean(), theory[-1], finite),
        Check("largest exponent of products of Gaussian 20 x 20 matrices: Newman", measured, truth, newman),
    )
    equation = (
        r"x_{n+1} = \tanh(g J x_n),\quad J_{ij}\sim N(0, 1/N);\qquad"
        r"\Lambda_1 = \frac{1}{2}\,\ln\left(g^2\,E\,\mathrm{sech}^4(\sqrt{q}\,z)\right),\;"
        r"q = g^2\,E\,\tanh^2(\sqrt{q}\,z)"
    )
    caption = (
        "Bars are two standard errors from batch means. Left: measured (points) and mean field. Right: the linear truth "
        "holds until rest loses its stability."
    )
    code = source(_exponents_of_networks)
    return Section("The edge of chaos", text, equation, fig, caption, code, checks)


def _draw_edge_of_chaos(gains: Any, values: Any, errors: Any, theory: Any, radius: float) -> Any:
    """Measured exponents beside mean field, and near the edge beside the spectral radius."""
    fig, (left, right) = figure(2)
    form = {"fmt": "o", "markersize": 3, "color": COLOURS[1]}
    plot_curves({"mean field": theory}, x="gain", y="largest exponent, nats a step", axes=left, title="four nets")
    for row, error in zip(values, errors, strict=True):
        left.errorbar(gains, row, 2 * error, **form)
    left.axhline(0.0, color="0.3", linewidth=0.8)
    near, fine = gains <= 1.25, np.linspace(0.6, 1.2, 60)
    line = {"ln(gain x spectral radius)": (fine, np.log(fine * radius))}
    plot_curves(line, x="gain", y="largest exponent, nats a step", axes=right, title="one net, near the edge")
    right.errorbar(gains[near], values[0, near], 2 * errors[0, near], label="measured", **form)
    right.axvline(1 / radius, color="0.3", linestyle="--", linewidth=1, label="1 / spectral radius")
    right.legend(fontsize=8, loc="lower right")
    return fig


def _product_of_gaussian_matrices(size: int, gain: float) -> tuple[Any, float]:
    """(measured exponent of x' = G x, ln g + (ln(2/N) + psi(N/2))/2)."""

    def step(x: Any, *, key: Any) -> Any:
        return jax.random.normal(key, (size, size), x.dtype) @ x * (gain / size**0.5)

    found = sx.lyapunov_spectrum(sx.as_map(step), jnp.zeros(size), count=1, steps=3200, transient=0, key=KEY)
    return found, float(np.log(gain) + 0.5 * (np.log(2 / size) + digamma(size / 2)))


def _loss(model: Any, batch: Any) -> Any:
    """Mean cross entropy of a classifier on (inputs, labels)."""
    inputs, labels = batch
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(inputs), labels))


def _train_classifier(digits):
    """An image is 8 rows of 8 pixels: its rows are read one by one."""
    cell = eqx.nn.GRUCell(8, 48, key=jax.random.key(0), dtype=jnp.float32)
    model = sx.recurrent.SequenceClassifier(cell, 10, key=jax.random.key(1))
    data = (digits.inputs, digits.targets)
    return sx.fit(_loss, optax.adam(5e-3), data, initial=model, steps=400, batch_size=64, key=jax.random.key(2))


def _train_over_gains(gains, inputs, labels):
    """One net for each gain, trained side by side: Adam acts on each entry by itself, so the losses are summed."""

    def build(gain):
        cell = sx.recurrent.Elman(1, 32, key=jax.random.key(0), dtype=jnp.float32)
        cell = sx.recurrent.with_recurrent_gain(cell, gain, key=jax.random.key(1))
        return sx.recurrent.SequenceClassifier(cell, 10, key=jax.random.key(2))

    def total(models, batch):
        return jnp.sum(jax.vmap(lambda model: _loss(model, batch))(models))

    models, key = jax.vmap(build)(gains), jax.random.key(3)
    return sx.fit(
        total, optax.adam(1e-3), (inputs, labels), initial=models, steps=250, batch_size=64, key=key, every=250
    )


def _classifier(digits: Any, say: Say) -> Section:
    say("reading digits row by row, and pixel by pixel over initial gains")
    trained = _train_classifier(digits)
    accuracy = _accuracy(trained.model, digits.test_inputs, digits.test_targets)
    gains = jnp.asarray([0.1, 0.3, 0.6, 1.0, 1.6, 2.5, 4.0], jnp.float32)
    pixels, test = (images.reshape(-1, 64, 1) for images in (digits.inputs, digits.test_inputs))
    many = _train_over_gains(gains, pixels, digits.targets)
    scores = np.asarray(jax.vmap(lambda model: _accuracy(model, test, digits.test_targets))(many.model), float)
    fig, (left, right) = figure(2)
    plot_curves({"GRU, 8 rows": (trained.steps, trained.losses)}, x="step", y="loss on a batch", log="y", axes=left)
    curves = {"Elman, 64 pixels, after 250 steps": (gains, scores)}
    plot_curves(curves, x="initial recurrent gain", y="test accuracy", log="x", levels={"chance": 0.1}, axes=right)
    right.get_lines()[0].set(marker="o", markersize=4)
    right.set_ylim(0, 1.15)
    right.legend(fontsize=8, loc="upper left")
    text = """
        A GRU that sees one row of an image at a time, and is asked at the last, tells the digits. Read pixel by pixel
        the gradient must come back over 64 steps, and the gain at which an Elman net starts decides: with a small one
        the first pixels are forgotten, with a large one small changes grow, and 250 steps of Adam teach it nothing.
    """
    best = int(scores.argmax())
    checks = (
        Check("test accuracy of the GRU", float(accuracy), 0.93, relation=">="),
        Check("the best initial gain of the Elman net lies above", float(gains[best]), 0.6, relation=">="),
        Check("and below", float(gains[best]), 1.6, relation="<="),
        Check("accuracy gained over initial gain 0.1", scores[best] - scores[0], 0.2, relation=">="),
        Check("accuracy gained over initial gain 4", scores[best] - scores[-1], 0.2, relation=">="),
    )
    equation = r"x_{n+1} = F(x_n, u_n),\qquad y = R\,x_T,\qquad W = g\,Q,\;\; Q^T Q = 1"
    caption = "Left: training on rows. Right: accuracy on 360 test images after the same short training, over the gain."
    code = source(_train_classifier) + "\n\n# and over gains\n" + source(_train_over_gains)
    return Section("Reading an image as a sequence", text, equation, fig, caption, code, checks)


@eqx.filter_jit
def _accuracy(model: Any, inputs: Any, labels: Any) -> Any:
    hits = jnp.argmax(jax.vmap(model)(jnp.asarray(inputs)), axis=-1) == jnp.asarray(labels)
    return jnp.mean(hits, dtype=jnp.float32)


def _train_language_model(cell, windows):
    """A character model: each window is 48 predictions and one character more."""
    model = sx.recurrent.LanguageModel(cell, key=jax.random.key(1))
    adam = optax.adam(1e-2)
    loss = sx.recurrent.bits_per_symbol
    key = jax.random.key(2)
    return sx.fit(loss, adam, windows, initial=model, steps=300, batch_size=32, key=key, every=20)


def _language(say: Say) -> list[Section]:
    try:
        text = sx.load("king-james")
    except DataMissing:
        text = sx.load("genesis")
    alphabet, symbols = np.unique(text.inputs, return_inverse=True)
    symbols, count = symbols.astype(np.int32), len(alphabet)
    split = len(symbols) * 9 // 10
    windows, test = symbols[: split // 49 * 49].reshape(-1, 49), symbols[split : split + 400 * 49].reshape(-1, 49)
    unigram, bigram = entropies(symbols)
    cells = {
        "Elman": sx.recurrent.Elman(count, 64, key=KEY, dtype=jnp.float32),
        "GRU": eqx.nn.GRUCell(count, 64, key=KEY, dtype=jnp.float32),
        "LSTM": eqx.nn.LSTMCell(count, 64, key=KEY, dtype=jnp.float32),
    }
    runs, bits = {}, {}
    for name, cell in cells.items():
        say(f"training a character model of the {text.name} text: {name}")
        runs[name] = _train_language_model(cell, windows)
        bits[name] = float(eqx.filter_jit(sx.recurrent.bits_per_symbol)(runs[name].model, test))
    best = min(bits, key=bits.__getitem__)
    say(f"writing text with the {best}")
    prompt = jnp.asarray(np.searchsorted(alphabet, np.frombuffer(b"And God said", np.uint8)), jnp.int32)
    written = _write(runs[best].model, prompt, alphabet)
    fig, (left, right) = figure(2)
    curves = {name: (run.steps, run.losses) for name, run in runs.items()}
    levels = {"single characters": unigram, "pairs": bigram}
    plot_curves(curves, x="step", y="bits a character", levels=levels, axes=left, title="training")
    names = ["uniform", "single", "pairs", *bits]
    heights = [np.log2(count), unigram, bigram, *bits.values()]
    right.bar(names, heights, color=["0.7"] * 3 + list(COLOURS[:3]))
    right.tick_params(axis="x", labelsize=8)
    label(right, "", "bits a character", "held-out text")
    paragraphs = f"""
        A language model is a driven map whose inputs are its symbols; writing closes the loop. The text is {text.name}:
        {len(symbols):,} characters of the King James Version in an alphabet of {count}. Whoever knows the frequencies
        of characters pays {unigram:.2f} bits for each; whoever also knows the last character, {bigram:.2f}. Less than
        that shows memory of more than one step.

        After 300 batches, {300 * 32 * 48:,} characters, the {best} writes at temperature 0.7: "And God said{written}"
    """
    checks = tuple(
        Check(f"bits a character of the {name}, below that of pairs", value, bigram, relation="<=")
        for name, value in bits.items()
    )
    gated = min(bits["GRU"], bits["LSTM"])
    checks += (Check("bits saved by the better gated cell over Elman", bits["Elman"] - gated, 0.0, relation=">="),)
    equation = r"-\frac{1}{N}\sum_n \log_2 p(s_{n+1} | s_0 \dots s_n),\qquad p = \mathrm{softmax}(R\,x_{n+1})"
    caption = "Left: on a batch, along training. Right: on the last tenth of the text, which was not trained on."
    code = source(_train_language_model) + "\n\n# and writing\n" + source(_write)
    return [Section("A net that has read a book", paragraphs, equation, fig, caption, code, checks)]


def _write(model, prompt, alphabet):
    """Text as the orbit of a closed loop."""
    written = sx.recurrent.generate(model, prompt, 240, key=jax.random.key(3), temperature=0.7)
    return bytes(alphabet[np.asarray(written)]).decode("ascii")


CHAPTER = Chapter(
    "recurrent",
    "Recurrent networks are driven maps",
    "What decides whether a net remembers, whether its gradients survive, and what it can be taught?",
    run,
)
