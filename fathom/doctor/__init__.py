"""What is wrong with a training run, and a look into its model: findings, records, probes.

`watch` follows any training loop, Fathom's or PyTorch's, and names what is wrong with it, where and
since when; `examine` looks before training; `Doctor` is the callback of `fit`,
`lightning_callback` and `trainer_callback` those of others; `treat` tries a fix on copies.
docs/doctor.md tells more.

`record` watches every module's output and the gradient that comes back to it. Probes stand on it;
each takes a model and data, leaves both as they were, and returns a frozen result that prints as
a table and turns into JSON with `.to_dict()`. `Recorder` is a callback of `fit` that takes a record
of every hundredth step, say.

| probe | what it measures |
|---|---|
| `dead_units` | units that are 0 on a whole data set |
| `saturation` | share of pre-activations where the activation is flat |
| `duplicate_units` | units with the same incoming weights |
| `gradient_flow` | activations, deltas, gradients, updates by layer; vanishing, exploding, ... |
| `zero_centring`, `sign_agreement`, `path_ratio` | what a mean that is not 0 costs |
| `next_layer_mean`, `bn_order` | batch norm before or behind the activation |
| `shift_response` | equivariance and invariance to moved inputs |
| `rank_collapse` | tokens that become one and the same |
| `covariate_drift`, `gradient_predictiveness` | what training does to layers' inputs, smoothness |
| `batch_effects` | gradient noise, sharpness and loss by batch size |

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

from fathom.doctor.batch import BatchEffects, batch_effects
from fathom.doctor.callback import Doctor
from fathom.doctor.centring import (
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
from fathom.doctor.drift import (
    CovariateDrift,
    Predictiveness,
    covariate_drift,
    gradient_predictiveness,
)
from fathom.doctor.examining import Examination, examine
from fathom.doctor.finding import Edit, Evidence, Finding, Fix
from fathom.doctor.flow import GradientFlow, gradient_flow
from fathom.doctor.integrations import lightning_callback, trainer_callback
from fathom.doctor.recorder import Recorder
from fathom.doctor.recording import Record, Seen, record
from fathom.doctor.running import untouched
from fathom.doctor.shift import ShiftResponse, shift_response
from fathom.doctor.table import Result
from fathom.doctor.tokens import RankCollapse, rank_collapse
from fathom.doctor.treatment import Trial, treat
from fathom.doctor.units import (
    DeadUnits,
    DuplicateUnits,
    Saturation,
    dead_units,
    duplicate_units,
    saturation,
    slope,
)
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
