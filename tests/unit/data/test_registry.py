"""The catalogue: complete, true, and helpful about misspelt names."""

import pytest

import fathom.data as package
from fathom.data import Info, catalogue, load, names
from fathom.engine.errors import ArgumentError, DataError


def test_every_entry_is_what_the_catalogue_says():
    for info in catalogue():
        assert isinstance(info, Info) and info.summary and info.licence
        if info.source == "file":
            continue
        data = load(info.name)
        found = (data.name, data.task, len(data), data.x.shape[1], len(data.classes))
        assert found == (info.name, info.task, info.n, info.features, info.classes)


def test_names_are_those_of_the_catalogue():
    assert names() == [info.name for info in catalogue()]
    assert len(set(names())) == len(names())
    assert {"digits", "iris", "diabetes", "xor", "moons", "sine", "mnist"} <= set(names())


def test_spelling_is_lenient_about_case_and_hyphens():
    assert load("Iris").name == "iris"
    assert load("xor-cloud", n=8).name == "xor_cloud"


def test_options_are_passed_on():
    assert len(load("sine", n=17, noise=0.0)) == 17
    assert load("spirals", classes=4).classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load("digit"), "(?s)unknown data set 'digit'.*did you mean 'digits'"),
        (lambda: load("mnsit"), "did you mean 'mnist'"),
        (lambda: load("moons", noize=1), "(?s)no option 'noize'.*did you mean 'noise'"),
        (lambda: load("xor", n=4), "(?s)no option 'n'.*it has no options"),
        (lambda: load("iris", seed=1), "no option 'seed'"),
    ],
)
def test_unknown_names_and_options(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_name_of_a_csv_file():
    with pytest.raises(DataError, match=r"read_csv\('data/people\.csv', target="):
        load("data/people.csv")


def test_all_public_names_are_there():
    assert sorted(package.__all__) == package.__all__
    assert all(hasattr(package, name) for name in package.__all__)
