"""Training runs to measure the doctor by: faulty ones with repaired twins, and healthy ones.

Families of programs (tables, digits, sequences, text, images, autoencoders, GANs, contrastive
losses, policies) run on Fathom and on PyTorch from one source. A fault is a named edit of a
family's recipe; its repaired twin is the recipe itself. `python -m fathom.doctor.corpus` runs the
doctor over a split and prints how often it is right.

>>> from fathom.doctor.corpus import FAMILIES, FAULTS, api
>>> twin = FAMILIES["iris_mlp"].program(api("fathom"))
>>> faulty = FAMILIES["iris_mlp"].program(
...     api("fathom"), FAULTS["zeros"].recipe(FAMILIES["iris_mlp"], "0"))
>>> for program in (twin, faulty):
...     _ = program.run()
>>> twin.score() > 0.8 > 0.1 > faulty.score()
True
"""

from fathom.doctor.corpus.api import ENGINES, Api, api, available
from fathom.doctor.corpus.cases import FAMILIES, FAULTS, HEALTHY, Run, counted, faulty, healthy
from fathom.doctor.corpus.recipe import SPLITS, Family, Fault, Program, Recipe, unwatched

__all__ = [
    "ENGINES", "FAMILIES", "FAULTS", "HEALTHY", "SPLITS", "Api", "Family", "Fault", "Program",
    "Recipe", "Run", "api", "available", "counted", "faulty", "healthy", "unwatched",
]  # fmt: skip
