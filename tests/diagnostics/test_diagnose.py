"""The verdict against systems whose health is known, and its way through the command line."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.cli import main
from separatrix.diagnostics import QUESTIONS


def descent(step_size):
    return sx.optimization.GradientDescent(sx.optimization.Quadratic(jnp.array([1.0, 4.0])), step_size)


def test_descent_below_and_past_its_edge():
    below = sx.diagnose(descent(0.45), jnp.zeros(2), questions=["linear_stability"])
    past = sx.diagnose(descent(0.55), jnp.zeros(2), questions=["linear_stability"])
    assert below.sound and below.exit_code == 0 and below.findings[0].evidence == pytest.approx(0.8, abs=1e-12)
    assert past.broken[0].evidence == pytest.approx(1.2, abs=1e-12)
    assert "1 direction(s) grow" in past.broken[0].cause


def test_a_run_that_breaks_is_found_with_the_step_it_broke_at():
    found = sx.diagnose(sx.as_map(lambda x: x**2), jnp.array(3.0), questions=["survival"])
    # 3^(2^n) overflows float64 where 2^n log10(3) > 308.25: at n = 10; the last finite state is number 9.
    assert found.broken[0].evidence == 9 and found.broken[0].threshold == 200
    assert "stability edge" in found.broken[0].cause


def test_blow_up_of_a_flow_is_found_at_its_time():
    answer = sx.diagnostics.survival(sx.as_flow(lambda x: x**2), jnp.array(2.0))
    assert float(answer.reached) == pytest.approx(0.5, abs=1e-4)


def test_transient_growth_is_told():
    # Multipliers 1/2, but |J^n| reaches 50 n 2^{1-n}... at n = 1, 2.
    found = sx.diagnose(
        sx.as_map(lambda x: jnp.array([[0.5, 50.0], [0.0, 0.5]]) @ x), jnp.zeros(2), questions=["linear_stability"]
    )
    assert [finding.name for finding in found.broken] == ["transient growth of perturbations"]
    assert found.broken[0].evidence == pytest.approx(np.linalg.norm([[0.5, 50.0], [0.0, 0.5]], 2), rel=1e-9)


@pytest.mark.slow
def test_a_stable_linear_map_is_sound_to_every_question():
    matrix = jnp.array([[0.5, 1.0], [0.0, -0.25]])
    found = sx.diagnose(sx.as_map(lambda x: matrix @ x), jnp.zeros(2))
    assert found.sound and not found.unanswered
    assert list(found.answers) == ["survival", "linear_stability", "lyapunov_spectrum", "gradient_profile"]
    by_name = {finding.name: finding.evidence for finding in found.findings}
    assert by_name["leading Lyapunov exponent is not positive"] == pytest.approx(np.log(0.5), abs=1e-3)
    # Mean over unit gradients of |A^T^200 v|: the root mean square singular value of A^200, here by NumPy.
    power = np.linalg.matrix_power(np.asarray(matrix), 200)
    ratio = by_name["gradient does not explode over 200 steps"]
    assert ratio == pytest.approx(np.linalg.norm(power) / np.sqrt(2), rel=1e-9)


def test_chaos_is_found_with_its_exponent():
    entry = sx.catalogue.entry("lorenz")
    found = sx.diagnose(entry.build(), entry.start(), questions=["lyapunov_spectrum"])
    (finding,) = found.broken
    # Sprott, Chaos and Time-Series Analysis (2003), appendix A: 0.9056. The threshold is two standard errors.
    assert finding.evidence == pytest.approx(0.9056, abs=2 * finding.threshold)
    assert finding.threshold < 0.1
    assert f"doubles every {np.log(2) / finding.evidence:.3g} units of time" in finding.cause


def test_a_field_that_only_turns_is_found():
    game = sx.games.Bilinear(1.0)
    for system in (sx.games.field(game), sx.games.SimultaneousDescent(game, 0.1)):
        found = sx.diagnose(system, (jnp.array(0.0), jnp.array(0.0)), questions=["field_split"])
        assert found.broken[0].evidence == pytest.approx(1.0, abs=1e-12)
        assert "spiral outward" in found.broken[0].cause


@pytest.mark.slow
def test_a_gradient_that_explodes_is_found():
    entry = sx.catalogue.entry("orthogonal-network")
    found = sx.diagnose(entry.build(), entry.start(), questions=["gradient_profile", "lyapunov_spectrum"])
    gradient, exponent = found.broken
    assert gradient.evidence == pytest.approx(1.1**200, rel=1e-9)
    # 1.1^72 < 1e3 < 1.1^73.
    assert "at 73 steps it is a thousand times as large" in gradient.cause
    assert exponent.evidence == pytest.approx(np.log(1.1), abs=1e-12)


def halving(layers):
    return sx.from_layers([lambda x: 0.5 * x] * layers)


@pytest.mark.slow
def test_a_gradient_that_vanishes_is_found_in_a_net_and_not_in_an_optimiser():
    found = sx.diagnose(halving(20), jnp.ones(3), questions=["gradient_profile"])
    assert [finding.name for finding in found.reservations] == ["gradient does not vanish over 20 steps"]
    assert not found.broken and found.reservations[0].evidence == pytest.approx(2.0**-20, rel=1e-12)
    assert "past 10 steps nothing of it is left" in found.reservations[0].cause
    assert "gradient does not vanish over 20 steps: +9.537e-07, not >= 0.001" in found.verdict
    assert sx.diagnose(descent(0.45), jnp.ones(2), questions=["gradient_profile"]).sound
    # From step 5 on there are 15 layers, 2^-15 < 1e-3.
    later = sx.diagnose(halving(20), jnp.ones(3), questions=["gradient_profile"], at=5)
    assert later.reservations[0].evidence == pytest.approx(2.0**-15, rel=1e-12)


@pytest.mark.slow
def test_points_of_rest_are_counted_by_name():
    well = sx.limit(sx.optimization.GradientDescent(sx.optimization.DoubleWell(), 0.1))
    found = sx.diagnose(well, jnp.array([0.1]), questions=["fixed_points"])
    # Of the minima at -1 and 1 the second lies in [-0.9, 1.1]; the maximum at 0 does not count.
    assert found.sound and found.findings[0].evidence == 1
    doubling = sx.diagnose(sx.as_map(lambda x: 2.0 * x), jnp.ones(2), questions=["fixed_points"])
    assert doubling.broken[0].evidence == 0


def test_cycles_are_found_by_name():
    logistic = sx.as_map(lambda x: 3.2 * x * (1.0 - x))
    answer = sx.diagnose(logistic, jnp.array(0.4), questions=["periodic_orbits"]).answers["periodic_orbits"]
    # The multiplier of the 2-cycle is 4 + 2r - r^2.
    assert answer.multipliers[answer.periods == 2].ravel().real.tolist() == pytest.approx([0.16], abs=1e-9)


def test_what_is_asked_unasked():
    def asked(system, state):
        return {q.name for q in QUESTIONS.values() if q.applies(system, state)} - {"survival", "linear_stability"}

    quadratic, pair = sx.optimization.Quadratic(jnp.array([1.0, 4.0])), jnp.ones(2)
    ball = sx.optimization.HeavyBall(quadratic, 0.01, 0.9)
    game, players = sx.games.Bilinear(1.0), (jnp.array(0.0), jnp.array(0.0))
    every = {"lyapunov_spectrum", "field_split", "gradient_profile"}
    assert asked(descent(0.1), pair) == every
    # Not Euler's steps: what their field does says nothing of them.
    assert asked(ball, ball.init(0.0 * pair)) == every - {"field_split"}
    assert asked(sx.games.AlternatingDescent(game, 0.1), players) == every - {"field_split"}
    assert asked(sx.games.SimultaneousDescent(game, 0.1), players) == every
    # One coordinate cannot turn; float32 shadows no orbit; exponents of a law that changes are none.
    assert asked(sx.as_flow(lambda x: -x), jnp.ones(1)) == {"lyapunov_spectrum"}
    assert asked(descent(0.1), pair.astype(jnp.float32)) == every - {"lyapunov_spectrum"}
    assert asked(sx.diffusion.VP(), pair) == {"field_split"}
    assert asked(sx.as_flow(lambda t, x: -t * x), pair) == {"field_split"}
    assert asked(halving(20), pair) == {"gradient_profile"}


def test_a_question_that_cannot_be_answered_is_told_and_the_others_come():
    # Backpropagation does not go through a loop of unknown length.
    halved = sx.as_map(lambda x: jax.lax.while_loop(lambda y: jnp.max(jnp.abs(y)) > 1.0, lambda y: 0.5 * y, 0.5 * x))
    found = sx.diagnose(halved, jnp.array([0.5, 0.25]))
    ((name, reason),) = found.unanswered
    assert name == "gradient_profile" and "Reverse-mode differentiation" in reason and "\n" not in reason
    assert f"gradient_profile was not answered: {reason}" in found.cautions
    assert {"survival", "linear_stability", "lyapunov_spectrum"} == set(found.answers)
    assert json.loads(json.dumps(found.to_dict()))["unanswered"] == [[name, reason]]
    with pytest.raises(ValueError, match="Reverse-mode differentiation"):
        sx.diagnose(halved, jnp.array([0.5, 0.25]), questions=["gradient_profile"])


def test_a_family_that_fails_is_told():
    class Failing(sx.Map):
        def step(self, n, state, *, key=None):
            return state

    @sx.diagnostics.examine.register
    def _(system: Failing, state, *, at=0, key=None):
        raise ValueError("no such thing\nand more")

    assert sx.diagnose(Failing(), jnp.ones(1), questions=[]).cautions == (
        "what its family examines was not answered: no such thing",
    )


def test_a_family_adds_its_findings():
    class Own(sx.Map):
        def step(self, n, state, *, key=None):
            return state

    @sx.diagnostics.examine.register
    def _(system: Own, state, *, at=0, key=None):
        return [sx.diagnostics.Finding("own", 3.0, "<", 2.0, "too large", "Halve it.")]

    found = sx.diagnose(Own(), jnp.ones(1), questions=[])
    assert [str(finding) for finding in found.broken] == ["own: 3, must be < 2. Too large. Halve it."]


@pytest.mark.parametrize(
    ("relation", "evidence", "holds"),
    [("<", 1.0, False), ("<=", 1.0, True), (">", 1.0, False), (">=", 1.0, True), (">=", np.nan, False)],
)
def test_relations(relation, evidence, holds):
    finding = sx.diagnostics.Finding("x", evidence, relation, 1.0, severity="caution")
    assert finding.holds is holds and finding.known is not bool(np.isnan(evidence))
    assert finding.status == ("not known" if np.isnan(evidence) else "holds" if holds else "caution")
    # NaN as a threshold decides nothing either.
    assert sx.diagnostics.Finding("x", 1.0, relation, np.nan).status == "not known"


# A verdict needs an answer, and names what would change it


def raising(x):
    raise KeyError("no such layer")


@pytest.mark.parametrize(
    ("system", "state", "words"),
    [
        (descent(0.1), jnp.array([1.0, jnp.nan]), r"state\[1\]\n  got nan"),
        (descent(0.1), {}, "an empty tree"),
        (descent(0.1), jnp.zeros((0, 2)), r"shape \(0, 2\)"),
        (sx.as_map(raising), jnp.ones(2), "the system's step\n  got KeyError: 'no such layer'"),
        (sx.as_flow(lambda x: 1 / 0), jnp.ones(2), "the system's velocity\n  got ZeroDivisionError: division by zero"),
        (sx.as_map(lambda x, key: x + jax.random.normal(key, x.shape)), jnp.ones(2), "a random system wants key="),
    ],
    ids=["NaN", "empty", "nothing", "step", "velocity", "no key"],
)
def test_what_every_question_would_refuse_is_refused_once(system, state, words):
    with pytest.raises(ValueError, match=words):
        sx.diagnose(system, state)


class Refusing(sx.Map):
    """A step that is refused only where it is run."""

    def step(self, n, state, *, key=None):
        return eqx.error_if(state, jnp.all(state > 0), "no such step")


class Still(sx.Map):
    def step(self, n, state, *, key=None):
        return state


def test_without_an_answer_nothing_is_sound(capsys, tmp_path, monkeypatch):
    found = sx.diagnose(Refusing(), jnp.ones(2))
    assert found.verdict.startswith("not examined; survival was not answered: no such step; linear_stability")
    assert found.exit_code == 1 and not found.sound and not found.examined and not found.findings
    nothing = sx.diagnose(Still(), jnp.ones(1), questions=[])
    assert nothing.verdict == "not examined" and nothing.exit_code == 1 and not nothing.sound
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "refusing_system.py").write_text(
        "import equinox as eqx, jax.numpy as jnp, separatrix as sx\n"
        "build = sx.as_map(lambda x: eqx.error_if(x, jnp.all(x > 0), 'no such step')), jnp.ones(2)\n"
    )
    assert main(["diagnose", "refusing_system:build"]) == 1
    assert "not examined" in capsys.readouterr().out


def test_a_question_without_a_claim_is_an_answer():
    logistic = sx.as_map(lambda x: 3.2 * x * (1.0 - x))
    found = sx.diagnose(logistic, jnp.array(0.4), questions=["periodic_orbits"])
    assert found.verdict == "no claim was judged (answered: periodic_orbits)"
    assert found.exit_code == 0 and found.examined and not found.sound


def test_numbers_that_are_not_known_decide_nothing():
    class Half(sx.Map):
        def step(self, n, state, *, key=None):
            return state

    @sx.diagnostics.examine.register
    def _(system: Half, state, *, at=0, key=None):
        known = [sx.diagnostics.Finding("b", 1.0, "<", 2.0)] if at else []
        return [sx.diagnostics.Finding("a", np.nan, "<", 2.0, "it broke", "Mend it."), *known]

    alone, beside = (sx.diagnose(Half(), jnp.ones(1), questions=[], at=at) for at in (0, 1))
    assert alone.verdict == "not examined; but a: not known (it broke)" and alone.exit_code == 1
    assert beside.verdict == "sound as far as asked (b); but a: not known (it broke)"
    assert not beside.sound and not beside.broken and beside.exit_code == 0
    assert str(beside.findings[0]) == "a: not known. It broke. Mend it."
    assert [finding["status"] for finding in beside.to_dict()["findings"]] == ["not known", "holds"]


def test_a_linearisation_that_grows_off_rest_is_part_of_the_verdict():
    """x' = 0.405 x + 1, y' = -y at the origin, where it moves."""
    away = sx.as_flow(lambda s: jnp.stack([0.405 * s[0] + 1.0, -s[1]]))
    found = sx.diagnose(away, jnp.zeros(2), questions=["survival", "linear_stability"])
    assert not found.sound and not found.broken and found.exit_code == 0
    assert found.verdict.startswith(
        "sound as far as asked (stays finite over a short run); but spectral abscissa of the"
    )
    assert "which is no rest: +0.405, not <= " in found.verdict and "it moves by 1 there" in found.verdict
    # Where it falls there is nothing to object, and at rest it is a claim.
    towards = sx.as_flow(lambda s: jnp.stack([-0.405 * s[0] + 1.0, -s[1]]))
    assert sx.diagnose(towards, jnp.zeros(2), questions=["linear_stability"]).sound
    at_rest = sx.diagnose(away, jnp.array([-1 / 0.405, 0.0]), questions=["linear_stability"])
    assert at_rest.broken[0].evidence == pytest.approx(0.405, abs=1e-12)


def test_a_turning_field_names_the_step_size_at_which_euler_leaves():
    """J = ((-1, 2), (-2, -1)): |1 + h (-1 +- 2i)| = 1 at h = 2/5. The share that turns is 8/10."""
    turning = lambda x: jnp.array([[-1.0, 2.0], [-2.0, -1.0]]) @ x
    found = sx.diagnose(sx.as_flow(turning), jnp.zeros(2), questions=["field_split"])
    (finding,) = found.reservations
    assert finding.evidence == pytest.approx(0.8, abs=1e-12) and "steps longer than 0.4 spiral outward" in finding.cause
    for step_size, broken in ((0.39, 0), (0.41, 1)):
        net = sx.discretize(sx.as_flow(turning), sx.Euler(), step_size)
        found = sx.diagnose(net, jnp.zeros(2), questions=["field_split"])
        assert len(found.broken) == broken and len(found.reservations) == 1 - broken
        grown = sx.evolve(net, jnp.array([1.0, 0.0]), steps=200, save="last").final
        assert bool(jnp.linalg.norm(grown) > 1) is bool(broken)
    assert "those of 0.39 do not" in sx.diagnose(
        sx.discretize(sx.as_flow(turning), sx.Euler(), 0.39), jnp.zeros(2), questions=["field_split"]
    ).verdict  # fmt: skip


def test_blocks_that_do_nothing_are_examined():
    found = sx.diagnose(sx.residual.ResNet(lambda x: 0 * x, 0.25), jnp.ones(2), questions=["survival"])
    assert found.sound and [finding.evidence for finding in found.findings] == [4.0 * 50, 0.0, 0.0]


def test_a_broken_run_leaves_its_gradient_unknown():
    found = sx.diagnose(sx.as_map(lambda x: x**2), jnp.array(3.0), questions=["survival", "gradient_profile"])
    assert [finding.status for finding in found.findings] == ["BROKEN", "not known"]
    assert "1 of 2 claims do not hold (stays finite over a short run); but gradient does not explode" in found.verdict


def test_a_state_of_whole_numbers_is_asked_what_it_can_be():
    found = sx.diagnose(sx.as_map(lambda x: (3 * x + 1) % 7), jnp.array([1, 2]))
    assert found.sound and list(found.answers) == ["survival"] and not found.unanswered


def test_misuse_is_told():
    with pytest.raises(ValueError, match=r"'severe', expected one of \"broken\", \"caution\""):
        sx.diagnostics.Finding("x", 1.0, "<", 2.0, severity="severe")
    with pytest.raises(ValueError, match="relation"):
        sx.diagnostics.Finding("x", 1.0, "==", 2.0)
    with pytest.raises(ValueError, match=r"'stability', expected one of: survival, linear_stability"):
        sx.diagnose(descent(0.1), jnp.zeros(2), questions=["stability"])
    with pytest.raises(TypeError, match="as_map, as_flow or as_sde"):
        sx.diagnose(lambda x: x, jnp.zeros(2))
    with pytest.raises(TypeError, match="a Map"):
        sx.diagnose(sx.as_flow(lambda x: -x), jnp.zeros(2), questions=["gradient_profile"])


def test_command_line_asks_the_same(capsys, tmp_path):
    assert (
        main(["diagnose", "henon", "--question", "linear_stability", "--json", "--html", str(tmp_path / "d.html")]) == 0
    )
    data = json.loads(capsys.readouterr().out)
    entry = sx.catalogue.entry("henon")
    direct = sx.diagnose(entry.build(), entry.start(), questions=["linear_stability"])
    assert (
        data["answers"]["linear_stability"]["spectrum"] == direct.to_dict()["answers"]["linear_stability"]["spectrum"]
    )
    page = (tmp_path / "d.html").read_text()
    assert "<svg" in page and "Diagnosis of henon" in page
    # Nothing is fetched: what looks like an address is the name of an SVG vocabulary.
    assert not any(mark in page for mark in ("<script", "<link", "src="))


def test_command_line_takes_a_system_of_ones_own(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_system.py").write_text(
        "import jax.numpy as jnp, separatrix as sx\n"
        "def build():\n    return sx.optimization.GradientDescent(sx.optimization.Quadratic(1.0), 2.5), jnp.zeros(1)\n"
        "nothing = 3\n"
    )
    assert main(["diagnose", "own_system:build", "--question", "linear_stability"]) == 0
    assert "BROKEN" in capsys.readouterr().out
    assert main(["diagnose", "own_system:nothing"]) == 2
    assert "a pair (system, state)" in capsys.readouterr().err
    assert main(["diagnose", "no_such_module:x"]) == 2
    assert main(["diagnose", "lorentz"]) == 2
    assert main(["diagnose", "henon", "--question", "stability"]) == 2
    assert "linear_stability" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["ornstein-uhlenbeck", "lotka-volterra", "adam", "gru", pytest.param("training", marks=pytest.mark.slow)]
)
def test_any_kind_can_be_asked(name):
    entry = sx.catalogue.entry(name)
    key = jax.random.key(0) if entry.random else None
    found = sx.diagnose(entry.build(), entry.start(), questions=["survival", "linear_stability"], key=key)
    assert found.answers["survival"].outcome == "completed"
    assert found.answers["linear_stability"].kind == entry.kind
