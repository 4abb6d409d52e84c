import math

import pytest

from fathom.train import History


@pytest.fixture
def history():
    filled = History()
    filled.append(loss=3.0, accuracy=0.5)
    filled.append(loss=1.0, accuracy=0.9)
    filled.append(loss=2.0, accuracy=0.7, val_loss=9.0)
    filled.append(loss=1.5)
    return filled


def test_columns_are_filled_where_nothing_was_measured(history):
    assert history["loss"] == [3.0, 1.0, 2.0, 1.5]
    assert history["accuracy"][:3] == [0.5, 0.9, 0.7]
    assert math.isnan(history["accuracy"][3])
    assert [math.isnan(v) for v in history["val_loss"]] == [True, True, False, True]
    assert len(history) == history.epochs == 4
    assert history.history is history.columns


def test_best_heeds_the_direction_and_skips_nan(history):
    assert history.best("loss") == (2, 1.0)
    assert history.best("accuracy") == (2, 0.9)
    assert history.best("val_loss") == (3, 9.0)


def test_rows_and_dictionary_round_trip(history):
    rows = list(history.rows())
    assert rows[1]["epoch"] == 2
    assert rows[1]["loss"] == 1.0
    copy = History(history.to_dict())
    copy.append(loss=0.0)
    assert (len(copy), len(history)) == (5, 4)


def test_table_is_aligned(history):
    lines = history.table().splitlines()
    assert lines[0].split() == ["epoch", "loss", "accuracy", "val_loss"]
    assert lines[2].split() == ["2", "1", "0.9", "nan"]
    assert len({len(line) for line in lines}) == 1


def test_text_and_html(history):
    assert repr(history) == "History(4 epochs: loss=1.5, accuracy=nan, val_loss=nan)"
    assert repr(History()) == "History(0 epochs)"
    assert history._repr_html_().count("<tr>") == 5
    assert len(History()) == 0


@pytest.mark.filterwarnings("default")
def test_plot_draws_the_losses(history):
    pytest.importorskip("matplotlib")
    ax = history.plot()
    assert [line.get_label() for line in ax.get_lines()] == ["loss", "val_loss"]
    assert list(ax.get_lines()[0].get_xdata()) == [1, 2, 3, 4]
    assert history.plot(ax) is ax
