"""How often does a search over the grammar find an activation better than ReLU?

python scripts/search_runs.py --runs 5 --trials 40

Every run is a search with another seed. Its best candidate, and the best one of Swish's shape
(not monotone, one end flat, the other growing), are trained anew beside ReLU: new weights, new
data. "Above" means by more than two standard errors of the paired difference.
"""

from __future__ import annotations

import argparse
from typing import Any

from fathom.activations import grammar
from fathom.train import activation_search as search


def run(
    strategy: str, task: str, seed: int, trials: int, repeats: int, without: list[str]
) -> dict[str, Any]:
    """One search: its winner and its best Swish-like candidate against ReLU."""
    found = search.search(
        strategy, task, trials=trials, seed=seed, top=1, repeats=repeats, without=without
    )
    likes = (c for c in found.candidates if c.score > 0 and grammar.swish_like(c.formula))
    like = next(likes, None)
    versus = None if like is None else search.compare(found.problem, like, repeats, seed)
    return {"winner": found.comparisons[0], "like": versus}


def said(one: Any) -> str:
    if one is None:
        return "none tried"
    name = grammar.describe(one.candidate.genome)
    return f"{name} {one.difference:+.4f} +- {one.error:.4f}{' above' if one.beats_relu else ''}"


def measure(
    strategies: list[str],
    tasks: list[str],
    runs: int,
    trials: int,
    repeats: int,
    without: list[str],
) -> dict[tuple[str, str], tuple[int, int, int]]:
    """(winners above ReLU, winners of Swish's shape, runs whose best such one is above ReLU)."""
    totals = {}
    for task in tasks:
        for strategy in strategies:
            above = shaped = likes = 0
            for seed in range(runs):
                found = run(strategy, task, seed, trials, repeats, without)
                above += found["winner"].beats_relu
                shaped += grammar.swish_like(found["winner"].candidate.formula)
                likes += found["like"] is not None and found["like"].beats_relu
                print(f"{task} {strategy} {seed}: winner {said(found['winner'])}; "
                      f"Swish-like {said(found['like'])}", flush=True)  # fmt: skip
            totals[task, strategy] = (above, shaped, likes)
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strategies", nargs="+", default=list(search.STRATEGIES))
    parser.add_argument("--tasks", nargs="+", default=["spirals"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=16)
    parser.add_argument("--without", nargs="*", default=[], help="names of the grammar left out")
    options = parser.parse_args()
    totals = measure(
        options.strategies, options.tasks, options.runs, options.trials, options.repeats,
        options.without,
    )  # fmt: skip
    for (task, strategy), (above, shaped, likes) in totals.items():
        print(f"{task:10} {strategy:10} of {options.runs} runs: winner above ReLU {above}, winner "
              f"Swish-like {shaped}, a Swish-like candidate above ReLU {likes}")  # fmt: skip


if __name__ == "__main__":
    main()
