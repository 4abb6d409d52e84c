import errno
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fathom
from fathom import nn, optim, train
from fathom.engine.errors import ArgumentError, CheckpointError, MissingFileError, OutputError
from fathom.train import EarlyStopping, checkpoint

X = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(int)
FILES = ["model.safetensors", "optim.safetensors", "best.safetensors", "state.json"]


def net(seed=0, width=4):
    with fathom.seed(seed):
        return nn.Sequential(nn.Linear(3, width), nn.Dropout(0.1), nn.Linear(width, 2))


def trained(path, **options):
    model = net()
    model.fit(
        X,
        Y,
        verbose=False,
        checkpoint=path,
        callbacks=[EarlyStopping()],
        **{"epochs": 2, **options},
    )
    return model


@pytest.fixture
def run(tmp_path):
    trained(tmp_path / "run")
    return tmp_path / "run"


def rewrite(folder, change, seal=True):
    """Edit state.json as an attacker would: with a fitting checksum, unless told otherwise."""
    place = folder / "state.json"
    record = json.loads(place.read_text())
    checksum = record.pop("checksum")
    change(record)
    if seal:
        place.write_bytes(checkpoint._sealed(record))
    else:
        place.write_text(json.dumps({**record, "checksum": checksum}))


def assert_same(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name].value(), b[name].value())


def neighbours(folder):
    return sorted(entry.name for entry in folder.parent.iterdir())


class TestRoundTrip:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_bitwise(self, tmp_path, dtype):
        model = net().to(dtype)
        model.save(tmp_path / "m", note="hello")
        loaded = fathom.load(tmp_path / "m")
        assert_same(loaded, model)
        assert repr(loaded) == repr(model)
        assert not any(m.training for m in loaded.modules())
        assert checkpoint.load(tmp_path / "m").state["state"] == {"note": "hello"}
        assert neighbours(tmp_path / "m") == ["m"]

    def test_into_a_model_of_ones_own(self, tmp_path):
        class Own(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = net()
                self.register_buffer("seen", fathom.tensor([0.0]))

            def forward(self, x):
                return self.body(x)

        model = Own().double()
        model.seen.data += 7
        model.save(tmp_path / "m")
        with pytest.raises(CheckpointError, match=r"architecture of Own.*\n.*model\.load\(path\)"):
            fathom.load(tmp_path / "m")
        assert_same(Own().load(tmp_path / "m"), model)

    def test_shared_layers_are_saved_as_weights(self, tmp_path):
        layer = nn.Linear(3, 3)
        model = nn.Sequential(layer, nn.Tanh(), layer)
        model.save(tmp_path / "m")
        with pytest.raises(CheckpointError, match="architecture"):
            fathom.load(tmp_path / "m")
        layer2 = nn.Linear(3, 3)
        assert_same(nn.Sequential(layer2, nn.Tanh(), layer2).load(tmp_path / "m"), model)

    def test_odd_floats_in_the_state(self, tmp_path):
        state = {"a": 0.1, "b": 1e-300, "c": float("inf"), "d": [1, 2.5, None, True, "ü"]}
        net().save(tmp_path / "m", **state)
        assert checkpoint.load(tmp_path / "m").state["state"] == state

    def test_saving_again_replaces_and_carries_over_what_others_put_there(self, run):
        (run / "notes.txt").write_text("mine")
        (run / "plots").mkdir()
        (run / "plots" / "loss.svg").write_text("<svg/>")
        model = net(seed=5)
        model.save(run)
        assert_same(fathom.load(run), model)
        assert (run / "notes.txt").read_text() == "mine"
        assert (run / "plots" / "loss.svg").read_text() == "<svg/>"
        assert not (run / "optim.safetensors").exists()
        assert neighbours(run) == ["run"]

    def test_links_are_followed(self, tmp_path):
        net(seed=1).save(tmp_path / "real")
        (tmp_path / "link").symlink_to("real", target_is_directory=True)
        model = net(seed=2)
        model.save(tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert_same(fathom.load(tmp_path / "real"), model)

    def test_missing_parents_are_made(self, tmp_path):
        net().save(tmp_path / "a" / "b" / "m")
        fathom.load(tmp_path / "a" / "b" / "m")


class TestRefusals:
    @pytest.mark.parametrize("content", ["precious.txt", "state.json"])
    def test_a_foreign_folder_is_left_untouched(self, tmp_path, content):
        folder = tmp_path / "thesis"
        folder.mkdir()
        (folder / content).write_text('{"chapters": 7}')
        (folder / "model.safetensors").write_text("not ours")
        with pytest.raises(OutputError, match="left untouched"):
            net().save(folder)
        assert (folder / content).read_text() == '{"chapters": 7}'
        assert len(list(folder.iterdir())) == 2
        assert neighbours(folder) == ["thesis"]
        with pytest.raises(CheckpointError):
            fathom.load(folder)

    def test_an_empty_folder_is_taken(self, tmp_path):
        (tmp_path / "new").mkdir()
        net().save(tmp_path / "new")
        fathom.load(tmp_path / "new")

    def test_a_regular_file_is_left_untouched(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        for path in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(OutputError, match="cannot write the checkpoint"):
                net().save(path)
        assert (tmp_path / "file").read_text() == "mine"
        with pytest.raises(CheckpointError):
            fathom.load(tmp_path / "file")
        with pytest.raises(MissingFileError):
            fathom.load(tmp_path / "file" / "below")

    def test_a_folder_without_permission(self, tmp_path, monkeypatch):
        def refused(self, *args, **keywords):  # whoever runs the tests may write everywhere
            raise PermissionError(errno.EACCES, "Permission denied", str(self))

        monkeypatch.setattr(Path, "mkdir", refused)
        with pytest.raises(OutputError, match=r"cannot write.*Permission denied"):
            net().save(tmp_path / "closed" / "m")

    def test_output_error_is_an_os_error(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError):
            net().save(tmp_path / "file" / "m")

    def test_state_that_is_not_json(self, tmp_path):
        with pytest.raises(ArgumentError, match="JSON values"):
            net().save(tmp_path / "m", array=np.ones(2))
        assert list(tmp_path.iterdir()) == []

    def test_nothing_there(self, tmp_path):
        with pytest.raises(MissingFileError, match="no checkpoint at") as caught:
            fathom.load(tmp_path / "nothing")
        assert isinstance(caught.value, FileNotFoundError)

    @pytest.mark.parametrize("file", FILES)
    @pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9, 0.999])
    def test_a_flipped_bit(self, run, file, share):
        blob = bytearray((run / file).read_bytes())
        place = int(share * len(blob))
        while file == "state.json" and chr(blob[place]).isspace():
            place -= 1  # white space means nothing
        blob[place] ^= 1
        (run / file).write_bytes(blob)
        with pytest.raises(CheckpointError):
            fathom.load(run)

    @pytest.mark.parametrize("file", FILES)
    @pytest.mark.parametrize("left", [0, 1, 100, -1])
    def test_a_truncated_file(self, run, file, left):
        (run / file).write_bytes((run / file).read_bytes()[:left])
        with pytest.raises(CheckpointError, match=re.escape(file)):
            fathom.load(run)

    @pytest.mark.parametrize("file", FILES)
    def test_a_missing_file(self, run, file):
        (run / file).unlink()
        with pytest.raises(CheckpointError, match=re.escape(file)):
            fathom.load(run)

    @pytest.mark.parametrize(
        "text", ["", "hello", "[]", "null", "3", '{"format": "other"}', "\x00\xff", "[" * 99_999]
    )
    def test_garbage_in_the_place_of_the_record(self, run, text):
        (run / "state.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(CheckpointError):
            fathom.load(run)

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            (lambda r: r.update(format="keras"), "not written by Fathom"),
            (lambda r: r.update(version=2), "format version 2.*\n.*upgrade"),
            (lambda r: r.update(version="1"), "format version 1"),
            (lambda r: r.pop("version"), "format version None"),
            (lambda r: r.pop("blake2b"), "'blake2b' is missing"),
            (lambda r: r.pop("model"), "'model' is missing"),
            (lambda r: r.update(model=[]), "'model' is missing or damaged"),
            (lambda r: r.pop("optimizer"), "'optimizer' is missing"),
            (lambda r: r.update(state=3), "'state' is missing or damaged"),
            (lambda r: r["blake2b"].pop("model.safetensors"), "names no model.safetensors"),
            (lambda r: r["blake2b"].update({"../x": "0"}), r"'\.\./x', which is not ours"),
            (lambda r: r["blake2b"].update({"..": "0"}), "which is not ours"),
            (lambda r: r["blake2b"].update({"state.json": "0"}), "which is not ours"),
            (lambda r: r["blake2b"].update({"model.safetensors": 5}), "damaged or truncated"),
            (lambda r: r["model"].pop("spec"), "architecture"),
            (lambda r: r["model"].update(spec={"type": "Convolver"}), "unknown layer"),
            (lambda r: r["model"].update(spec="abc"), "not the description of a model"),
            (lambda r: r["model"]["spec"]["layers"].pop(), "missing|unexpected"),
        ],
    )
    def test_records_that_lie(self, run, change, text):
        rewrite(run, change)
        with pytest.raises((CheckpointError, ArgumentError), match=text):
            fathom.load(run)

    def test_an_edited_record(self, run):
        rewrite(run, lambda r: r["state"].update(epoch=77), seal=False)
        with pytest.raises(CheckpointError, match="damaged or was edited"):
            fathom.load(run)

    def test_a_model_that_does_not_fit_is_not_changed(self, run):
        model = net(seed=3, width=5).double()
        before = {n: t.value().copy() for n, t in model.state_dict().items()}
        with pytest.raises(ValueError, match=r"0\.weight"):
            model.load(run)
        for name, value in model.state_dict().items():
            assert value.dtype == np.float64
            np.testing.assert_array_equal(value.value(), before[name])


class TestResume:
    def test_a_model_alone_cannot_be_resumed(self, tmp_path):
        net().save(tmp_path / "m")
        with pytest.raises(CheckpointError, match="no training run to resume"):
            net().fit(X, Y, resume=tmp_path / "m", verbose=False)

    def test_another_optimizer(self, run):
        model = net(seed=9)
        before = model[0].weight.value().copy()
        with pytest.raises(CheckpointError, match="trained with Adam, not SGD"):
            model.fit(X, Y, resume=run, optimizer="sgd", verbose=False)
        np.testing.assert_array_equal(model[0].weight.value(), before)

    @pytest.mark.parametrize(
        "change",
        [
            lambda r: r["optimizer"].pop("steps"),
            lambda r: r["optimizer"].update(steps={"x": 1}),
            lambda r: r["optimizer"].update(steps={}),
            lambda r: r["optimizer"].pop("param_groups"),
        ],
    )
    def test_a_damaged_optimizer(self, run, change):
        rewrite(run, change)
        with pytest.raises((CheckpointError, ValueError)):
            net().fit(X, Y, resume=run, epochs=3, verbose=False)

    def test_an_optimizer_missing_from_a_run(self, run):
        rewrite(run, lambda r: r.update(optimizer={}))
        with pytest.raises(CheckpointError, match="trained with no optimizer, not Adam"):
            net().fit(X, Y, resume=run, verbose=False)

    def test_nothing_to_resume(self, tmp_path):
        with pytest.raises(MissingFileError):
            net().fit(X, Y, resume=tmp_path / "nothing", verbose=False)

    def test_a_finished_run_is_returned_as_it_was(self, run):
        model = net(seed=9)
        history = model.fit(X, Y, resume=run, epochs=2, verbose=False)
        assert len(history) == 2

    def test_the_split_is_that_of_the_saved_seed(self, tmp_path):
        path = tmp_path / "run"
        options = {"validation_split": 0.3, "verbose": False, "checkpoint": path}
        net().fit(X, Y, epochs=1, seed=4, **options)
        resumed = net().fit(X, Y, epochs=3, resume=path, **options)  # the seed is not repeated
        straight = net().fit(X, Y, epochs=3, seed=4, validation_split=0.3, verbose=False)
        assert resumed.to_dict() == straight.to_dict()


class TestInterruptedSaves:
    def test_the_old_one_is_found_while_the_new_one_is_not_there(self, run):
        model = fathom.load(run)
        run.rename(run.with_name(".run.old"))
        assert_same(fathom.load(run), model)
        other = net(seed=8)
        other.save(run)
        assert_same(fathom.load(run), other)
        assert neighbours(run) == ["run"]

    def test_a_failed_write_leaves_the_old_one(self, run, monkeypatch):
        model = fathom.load(run)

        def full(descriptor):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OutputError, match="No space left"):
                net(seed=8).save(run)
        assert_same(fathom.load(run), model)
        assert neighbours(run) == ["run"]

    def leftover(self, run, process, machine=None):
        machine = re.sub(r"\W", "-", platform.node()) if machine is None else machine
        folder = run.with_name(f".run.{machine}-{process}.tmp")
        folder.mkdir()
        (folder / "model.safetensors").write_text("half")
        return folder

    def test_leftovers_of_dead_processes_go_and_those_of_others_stay(self, run):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            living = self.leftover(run, child.pid)
            elsewhere = self.leftover(run, 1, machine="another-machine")
            similar = run.with_name(".run.txt.tmp")
            similar.mkdir()
            net().save(run)
            assert living.exists()
        finally:
            child.communicate(b"\n")
        net().save(run)  # the child is gone now
        assert not living.exists()
        assert elsewhere.exists()
        assert similar.exists()

    def test_a_leftover_of_a_former_process_with_our_number(self, run):
        mine = self.leftover(run, os.getpid())
        net().save(run)
        assert not mine.exists()


def test_optimizers_state_survives_bitwise(tmp_path):
    model = net()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    model(X).sum().backward()
    model[0].bias.grad = None  # one parameter has no state yet
    optimizer.step()
    checkpoint.save(tmp_path / "m", model, optimizer)
    fresh = optim.Adam(net(seed=1).parameters(), lr=0.5)
    checkpoint.restore_optimizer(checkpoint.load(tmp_path / "m"), fresh)
    a, b = optimizer.state_dict(), fresh.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert a["state"].keys() == b["state"].keys() == {0, 2, 3}
    for number, entry in a["state"].items():
        for slot, value in entry.items():
            np.testing.assert_array_equal(b["state"][number][slot], value)


def test_load_is_the_public_name():
    assert fathom.load is train.load
