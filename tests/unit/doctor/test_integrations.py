"""Callbacks for Lightning and Hugging Face, in stand-ins of their loops."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from fathom import doctor
from fathom.engine.errors import FathomError

torch = pytest.importorskip("torch")


@pytest.fixture
def lightning(monkeypatch):
    """`lightning.pytorch` as far as callbacks see it: `fit` calls the hooks in its order."""

    class Callback:
        def on_train_start(self, trainer, pl_module): ...
        def on_validation_end(self, trainer, pl_module): ...
        def on_train_end(self, trainer, pl_module): ...
        def on_exception(self, trainer, pl_module, exception): ...

    class Trainer:
        def __init__(self, callbacks, epochs=2, batches=20):
            self.callbacks, self.epochs, self.batches = callbacks, epochs, batches
            self.callback_metrics, self.sanity_checking = {}, True
            self.estimated_stepping_batches = epochs * batches

        def tell(self, hook, module, *more):
            for callback in self.callbacks:
                getattr(callback, hook)(self, module, *more)

        def fit(self, module):
            self.optimizers = [module.configure_optimizers()]
            optimizer = self.optimizers[0]
            self.tell("on_validation_end", module)  # the sanity check
            self.sanity_checking = False
            try:
                self.tell("on_train_start", module)
                for _ in range(self.epochs):
                    for batch in range(self.batches):

                        def closure(batch=batch):
                            loss = module.training_step(None, batch)
                            optimizer.zero_grad()
                            loss.backward()
                            return loss

                        optimizer.step(closure)
                    self.callback_metrics["val_loss"] = torch.tensor(0.5)
                    self.tell("on_validation_end", module)
                self.tell("on_train_end", module)
            except ZeroDivisionError as error:
                self.tell("on_exception", module, error)
                raise

    made = ModuleType("lightning.pytorch")
    made.Callback, made.Trainer = Callback, Trainer
    monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", made)
    return made


class Lit(torch.nn.Module):
    """A LightningModule: its `training_step` calls the model inside."""

    def __init__(self, *last):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3), *last
        )
        self.x = torch.randn(64, 6)
        self.y = self.x[:, :3].argmax(1)

    def training_step(self, batch, index):
        return torch.nn.functional.cross_entropy(self.net(self.x), self.y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


def test_lightning_finds_and_measures(lightning):
    seen = doctor.lightning_callback(quiet=True)
    assert isinstance(seen, lightning.Callback) and seen.findings == ()
    lightning.Trainer([seen]).fit(Lit(torch.nn.Softmax(1)))
    assert seen.findings[0].kind == "softmax_before_cross_entropy"
    case = seen.watch.case
    assert case.planned == 40 == case.usage.steps
    assert case.validation == [(20, 0.5), (40, 0.5)]  # not the sanity check
    stats = case.steps[0].parameters["0.weight"]
    assert stats.gradient > 0 and stats.update > 0  # though the step calls backward itself
    assert seen.treat(0, steps=30, seeds=1).trial.steps == 30


def test_lightning_is_silent_on_a_healthy_run(lightning, capsys):
    seen = doctor.lightning_callback()
    lightning.Trainer([seen], batches=40).fit(Lit())
    assert [f for f in seen.findings if f.severity != "advice"] == []
    assert capsys.readouterr().err.startswith("no fault found")


def test_lightning_closes_when_the_run_fails(lightning):
    class Failing(Lit):
        def training_step(self, batch, index):
            return super().training_step(batch, index) if index < 3 else 1 // 0

    module, seen = Failing(), doctor.lightning_callback(quiet=True)
    with pytest.raises(ZeroDivisionError):
        lightning.Trainer([seen]).fit(module)
    assert seen.watch.case.ended and not module.net._forward_pre_hooks


def test_pytorch_lightning_is_taken_as_well(monkeypatch):
    made = ModuleType("pytorch_lightning")
    made.Callback = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", made)
    assert isinstance(doctor.lightning_callback(), made.Callback)


def test_hugging_face(monkeypatch):
    class TrainerCallback:
        """All its hooks take (args, state, control, **kwargs)."""

    made = ModuleType("transformers")
    made.TrainerCallback = TrainerCallback
    monkeypatch.setitem(sys.modules, "transformers", made)
    seen = doctor.trainer_callback(quiet=True)
    assert isinstance(seen, TrainerCallback)
    module = Lit(torch.nn.Softmax(1))
    bare = module.configure_optimizers()
    wrapper = SimpleNamespace(optimizer=bare)  # as Accelerate wraps it
    state, common = SimpleNamespace(max_steps=25), {"model": module.net, "optimizer": wrapper}
    seen.on_train_begin(None, state, None, train_dataloader=None, **common)
    for _ in range(25):
        module.training_step(None, 0).backward()
        bare.step()
        module.net.zero_grad()
    seen.on_evaluate(None, state, None, metrics={"eval_loss": 0.7}, **common)
    seen.on_train_end(None, state, None, **common)
    assert seen.findings[0].kind == "softmax_before_cross_entropy"
    assert seen.watch.case.planned == 25 and seen.watch.case.validation == [(25, 0.7)]
    assert not module.net._forward_pre_hooks


@pytest.mark.parametrize("name", ["lightning", "transformers"])
def test_what_is_missing_is_named(monkeypatch, name):
    for module in ("lightning.pytorch", "pytorch_lightning", "transformers"):
        monkeypatch.setitem(sys.modules, module, None)
    make = doctor.lightning_callback if name == "lightning" else doctor.trainer_callback
    with pytest.raises(ImportError, match=f"{name} is not installed") as caught:
        make()
    assert isinstance(caught.value, FathomError) and caught.value.fix == f"pip install {name}"


def test_lightning_with_two_optimizers(lightning):
    class Two(Lit):
        def __init__(self):
            super().__init__()
            self.some = [torch.optim.SGD(self.net[i].parameters(), 0.1) for i in (0, 2)]

    seen, module = doctor.lightning_callback(quiet=True), Two()
    trainer = lightning.Trainer([seen])
    trainer.optimizers = module.some
    seen.on_train_start(trainer, module)
    for step in range(10):
        for optimizer in module.some:
            optimizer.zero_grad()
        module.training_step(None, step).backward()
        for optimizer in module.some:
            optimizer.step()
    seen.on_train_end(trainer, module)
    case = seen.watch.case
    assert case.usage.steps == 10 and case.optimizer.several == 2
    assert [f for f in seen.findings if f.severity != "advice"] == []
