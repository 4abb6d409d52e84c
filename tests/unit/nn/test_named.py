"""Names with options, as texts and as mappings."""

import pytest

from fathom.engine.errors import ArgumentError
from fathom.nn.named import build, named, pick, spelled

VALUES = [
    ({"name": "huber", "delta": 0.5}, "huber:delta=0.5"),
    ({"name": "adamw", "betas": [0.9, 0.95], "lr": 0.001}, "adamw:betas=[0.9,0.95],lr=0.001"),
    ({"name": "sam", "base": "adam", "adaptive": True}, "sam:base=adam,adaptive=true"),
    ({"name": "l1"}, "l1"),
]


@pytest.mark.parametrize(("mapping", "text"), VALUES, ids=[text for _, text in VALUES])
def test_text_and_mapping_say_the_same(mapping, text):
    assert spelled(mapping) == text == spelled(text)
    options = {key: value for key, value in mapping.items() if key != "name"}
    assert named(text) == named(mapping) == (mapping["name"], options)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("huber:0.5", "'0.5' is not an option KEY=VALUE"),
        ("huber:", "'' is not an option"),
        ({"delta": 0.5}, "the key 'name'"),
        ({"name": 3}, "the key 'name'"),
    ],
)
def test_mistakes(value, text):
    with pytest.raises(ArgumentError, match=text):
        named(value, "loss")


def test_finding_and_building():
    known = {"scale": lambda most=0.1: most}
    assert build(pick(known, "Scale", "change"), {"most": 2}, "change") == 2
    with pytest.raises(ArgumentError, match=r"unknown change 'scael'\n.*did you mean 'scale'"):
        pick(known, "scael", "change")
    with pytest.raises(ArgumentError, match=r"no option 'mots'\n.*did you mean 'most'"):
        build(known["scale"], {"mots": 2}, "change 'scale'")
    with pytest.raises(ArgumentError, match="it has none"):
        build(lambda: 0, {"x": 1}, "change")
