from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import fathom
from fathom import activations as A
from fathom.activations import grammar
from fathom.engine.errors import ArgumentError
from fathom.train import activation_search as s

QUICK = {"task": "moons", "steps": 8, "hidden": (6,), "seeds": 2, "repeats": 3, "top": 1}
SILU = ("x", "sigmoid", "mul")


def tried(result) -> list[tuple]:
    return [(c.genome, c.score) for c in sorted(result.candidates, key=lambda c: c.trial)]


# -- scores --------------------------------------------------------------------------------------


def test_scores_are_those_of_single_networks():
    """Seeds side by side do not touch each other."""
    problem = s.Problem("moons", hidden=(5, 4), steps=12)
    both = problem.scores(A.silu, seeds=3, seed=7)
    x, y, xv, yv = s._data("moons", 0)
    nets = s._Networks(A.silu, (2, 5, 4, 2), 3, 7)
    for k in range(3):
        alone = s._Networks(A.silu, (2, 5, 4, 2), 1, 0)
        for p, q in zip(alone.parameters(), nets.parameters(), strict=True):
            p.value()[...] = q.value()[k : k + 1]
        optimizer = fathom.optim.Adam(alone.parameters(), lr=problem.lr)
        for _ in range(problem.steps):
            optimizer.zero_grad()
            alone.losses(x, y).sum().backward()
            optimizer.step()
        assert np.exp(-alone.losses(xv, yv).item()) == pytest.approx(both[k], rel=1e-3)


def test_scores_lie_between_guessing_and_one():
    problem = s.Problem("moons", steps=60)
    assert (problem.scores(A.relu, 4) > 0.9).all()
    assert problem.scores(A.identity, 4).max() < problem.scores(A.relu, 4).min()
    assert ((s.Problem("iris", steps=1).scores(A.tanh, 2)) < 0.7).all()


def test_what_is_not_finite_has_the_worst_score():
    explodes = grammar.build(("exp", "x", "add", "exp", "x", "add"))
    assert (s.Problem("moons", steps=3).scores(explodes, 2) == s.WORST).all()
    assert s._score(s.Problem("moons", steps=3), ("one", "one", "add"), 2, 0) == s.WORST


def test_first_weights_keep_the_scale():
    nets = s._Networks(A.relu, (400, 300, 2), 2, 0)
    assert nets.weight0.value().std() == pytest.approx(1 / 20, rel=0.02)
    assert nets.weight1.value().std() == pytest.approx((2 / 300) ** 0.5, rel=0.06)  # He's rule


# -- strategies ------------------------------------------------------------------------------------


def reward(genome) -> float:
    """Known without training: the share of places as in x * sigmoid(x)."""
    return sum(a == b for a, b in zip(genome, SILU, strict=True)) / 3


@pytest.mark.parametrize(
    ("name", "turns", "gain"), [("evolution", 600, 0.15), ("reinforce", 300, 0.5)]
)
def test_strategies_learn(name, turns, gain):
    made = s.STRATEGIES[name](grammar.slots(1), fathom.random.Random(0))
    seen = []
    for _ in range(turns):
        genome = made.propose()
        grammar.check(genome)
        seen.append(reward(genome))
        made.tell(genome, seen[-1])
    assert np.mean(seen[-100:]) > np.mean(seen[:30]) + gain
    assert max(seen) == 1.0


def test_random_search_reaches_every_name():
    made = s.RandomSearch(grammar.slots(2), fathom.random.Random(0))
    drawn = [made.propose() for _ in range(400)]
    assert {g[0] for g in drawn} == {g[4] for g in drawn} == set(grammar.UNARY)
    assert {g[5] for g in drawn} == set(grammar.BINARY)


def test_the_oldest_dies():
    made = s.Evolution(grammar.slots(1), fathom.random.Random(0), population=3, sample=2)
    genomes = [("x", "x", "add"), ("x", "x", "sub"), ("x", "x", "mul"), ("x", "x", "max")]
    for score, genome in enumerate(genomes):
        made.tell(genome, -float(score))
    assert [g for g, _ in made.population] == genomes[1:]
    parents = {g for g, _ in made.population}
    child = made.propose()
    assert min(sum(a != b for a, b in zip(child, p, strict=True)) for p in parents) == 1


# -- searching -------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", s.STRATEGIES)
@pytest.mark.parametrize("depth", [1, 2])
def test_search_is_a_function_of_its_arguments(strategy, depth):
    first, again = (s.search(strategy, trials=4, depth=depth, seed=5, **QUICK) for _ in range(2))
    assert tried(first) == tried(again)
    assert first.comparisons[0].difference == again.comparisons[0].difference
    assert tried(s.search(strategy, trials=4, depth=depth, seed=6, **QUICK)) != tried(first)
    assert len({c.genome for c in first.candidates}) == 4
    scores = [c.score for c in first.candidates]
    assert scores == sorted(scores, reverse=True) and first.best is first.candidates[0]


@pytest.mark.parametrize("strategy", s.STRATEGIES)
def test_resumed_equals_uninterrupted(strategy, monkeypatch):
    whole = s.search(strategy, trials=16, seed=1, **QUICK)
    part = s.search(strategy, trials=9, seed=1, **QUICK)
    assert tried(part) == tried(whole)[:9]
    state = json.loads(json.dumps(part.state()))
    scored, score = [], s._score
    monkeypatch.setattr(s, "_score", lambda p, g, *rest: scored.append(g) or score(p, g, *rest))
    resumed = s.search(strategy, trials=16, seed=1, resume=state, **QUICK)
    assert tried(resumed) == tried(whole)
    assert len(scored) == 7  # only what was missing
    assert resumed.best == whole.best


def test_progress_and_time_limit():
    seen = []
    result = s.search("random", trials=5, on_trial=lambda c, best: seen.append((c, best)), **QUICK)
    assert [c.trial for c, _ in seen] == list(range(5)) and result.reason == "all trials"
    assert all(best.score >= c.score for c, best in seen)
    short = s.search("random", trials=500, time_limit=0.0, **QUICK)
    assert len(short.candidates) == 1 and short.reason == "the time limit"


def test_a_search_that_repeats_itself_ends():
    without = [*list(grammar.UNARY)[1:], *list(grammar.BINARY)[2:]]
    result = s.search("random", trials=4, without=without, **QUICK)
    assert {c.genome for c in result.candidates} == {("x", "x", "add"), ("x", "x", "sub")}
    assert result.reason == "nothing new was proposed"


def test_result(tmp_path):
    result = s.search("random", trials=4, seed=2, **QUICK)
    best, (versus,) = result.best, result.comparisons
    assert best.latex() == best.formula.latex()
    assert len(best.plot().lines) >= 3 and len(result.plot().lines) == 2
    assert versus.scores.shape == versus.relu.shape == (3,)
    assert versus.difference == pytest.approx(float(versus.scores.mean() - versus.relu.mean()))
    assert result.beats_relu == (versus.difference > 2 * versus.error)
    assert grammar.describe(best.genome) in str(result)


def test_relu_does_not_beat_itself():
    relu = s.Candidate(("positive", "x", "max"), 0.0, 0)
    versus = s.compare(s.Problem("moons", steps=10), relu, repeats=3)
    assert abs(versus.difference) < 1e-3 and not versus.beats_relu


@pytest.mark.slow
def test_searches_find_what_beats_relu():
    """On spirals, in more than half of the runs; scripts/search_runs.py measures more of them."""
    found = [s.search("evolution", trials=8, seed=k, seeds=2, top=1, repeats=8) for k in range(3)]
    assert sum(result.beats_relu for result in found) >= 2


@pytest.mark.slow
def test_x_times_sigmoid_beats_relu_on_spirals_or_ties():
    """With new weights and data Swish is not below ReLU by two standard errors."""
    versus = s.compare(s.Problem("spirals"), s.Candidate(s.grammar.canonical(SILU), 0.0, 0), 24)
    assert versus.difference > -2 * versus.error


def test_script_counts(capsys):
    path = Path(__file__).parents[3] / "scripts" / "search_runs.py"
    spec = importlib.util.spec_from_file_location("search_runs", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    totals = script.measure(["random"], ["moons"], runs=1, trials=3, repeats=3, without=[])
    assert all(0 <= n <= 1 for n in totals["moons", "random"])
    assert "moons random 0: winner" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strategy": "annealing"}, "known: evolution, random, reinforce"),
        ({"trials": 0}, "trials"),
        ({"repeats": 1}, "2 repeats"),
        ({"depth": 0}, "depth is a whole number"),
        ({"task": "diabetes"}, "is a regression"),
        ({"task": "spiral"}, "did you mean 'spirals'"),
        ({"without": ["sine"]}, "did you mean 'sin'"),
    ],
    ids=str,
)
def test_mistakes(options, said):
    with pytest.raises(ArgumentError) as error:
        s.search(**{**QUICK, **options})
    assert said in str(error.value)


def test_resuming_another_search():
    state = s.search("random", trials=1, **QUICK).state()
    with pytest.raises(ArgumentError, match="had seed 0, not 1"):
        s.search("random", trials=2, seed=1, resume=state, **QUICK)
