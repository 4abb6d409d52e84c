"""What the doctor can find: `RULES`, by name. One file for each part of a run they look at."""

import numpy.ma  # noqa: F401 - what np.unique and np.median would import in the midst of a run

from fathom.doctor.rules import (  # noqa: F401 - they declare rules
    bounds,
    loop,
    mixing,
    outcome,
    output,
    probes,
    setup,
    signals,
    structure,
    targets,
    trained,
    training,
)
from fathom.doctor.rules.rule import KINDS, RULES, Hit, Rule, rule, run

__all__ = ["KINDS", "RULES", "Hit", "Rule", "rule", "run"]
