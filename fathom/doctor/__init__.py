"""What is wrong with a training run, and a look into its model: findings, records, probes.

`watch` follows any training loop, Fathom's or PyTorch's, and names what is wrong with it, where and
since when; `examine` looks before training; `Doctor` is the callback of `fit`,
`lightning_callback` and `trainer_callback` those of others; `treat` tries a fix on copies.
docs/doctor.md tells more.

Probes of Fathom's models, taken on request, live in `fathom.doctor.probes`; all of them can be
called from here.

>>> import fathom
>>> from fathom import doctor, nn
>>> data = fathom.data.load("iris")
>>> with fathom.seed(0):
...     model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
>>> with doctor.record(model) as seen:
...     nn.functional.cross_entropy(model(fathom.tensor(data.x)), data.y).backward()
>>> seen["1"].output.shape, seen["1"].delta.shape
((150, 8), (150, 8))
"""

from fathom.doctor.callback import Doctor
from fathom.doctor.examining import Examination, examine
from fathom.doctor.finding import Edit, Evidence, Finding, Fix
from fathom.doctor.integrations import lightning_callback, trainer_callback
from fathom.doctor.probes.batch import BatchEffects, batch_effects
from fathom.doctor.probes.centring import (
    Centring,
    NormOrder,
    PathRatio,
    SignAgreement,
    bn_order,
    condition,
    next_layer_mean,
    path_ratio,
    sign_agreement,
    sign_agreement_of,
    zero_centring,
)
from fathom.doctor.probes.drift import (
    CovariateDrift,
    Predictiveness,
    covariate_drift,
    gradient_predictiveness,
)
from fathom.doctor.probes.flow import GradientFlow, gradient_flow
from fathom.doctor.probes.recorder import Recorder
from fathom.doctor.probes.recording import Record, Seen, record
from fathom.doctor.probes.running import untouched
from fathom.doctor.probes.shift import ShiftResponse, shift_response
from fathom.doctor.probes.tokens import RankCollapse, rank_collapse
from fathom.doctor.probes.units import (
    DeadUnits,
    DuplicateUnits,
    Saturation,
    dead_units,
    duplicate_units,
    saturation,
    slope,
)
from fathom.doctor.table import Result
from fathom.doctor.treatment import Trial, treat
from fathom.doctor.watching import Watch, watch
from fathom.doctor.weights import examine_weights

__all__ = [
    "BatchEffects",
    "Centring",
    "CovariateDrift",
    "DeadUnits",
    "Doctor",
    "DuplicateUnits",
    "Edit",
    "Evidence",
    "Examination",
    "Finding",
    "Fix",
    "GradientFlow",
    "NormOrder",
    "PathRatio",
    "Predictiveness",
    "RankCollapse",
    "Record",
    "Recorder",
    "Result",
    "Saturation",
    "Seen",
    "ShiftResponse",
    "SignAgreement",
    "Trial",
    "Watch",
    "batch_effects",
    "bn_order",
    "condition",
    "covariate_drift",
    "dead_units",
    "duplicate_units",
    "examine",
    "examine_weights",
    "gradient_flow",
    "gradient_predictiveness",
    "lightning_callback",
    "next_layer_mean",
    "path_ratio",
    "rank_collapse",
    "record",
    "saturation",
    "shift_response",
    "sign_agreement",
    "sign_agreement_of",
    "slope",
    "trainer_callback",
    "treat",
    "untouched",
    "watch",
    "zero_centring",
]
