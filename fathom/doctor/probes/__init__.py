"""Looks into a Fathom model, taken on request: records of its values, and measures of its health.

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
"""
