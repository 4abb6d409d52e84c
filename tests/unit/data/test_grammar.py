import numpy as np
import pytest

from fathom.data import grammar
from fathom.data.grammar import FAMILIES
from fathom.engine.errors import ArgumentError


def test_every_word_of_the_tables_occurs_about_as_often():
    corpus = grammar(1800)
    words = [word for family in FAMILIES.values() for row in family.words for word in row]
    counts = [sum(word in sentence for sentence in corpus.sentences) for word in words]
    assert len(words) == len(set(words)) == 36 and counts == [50] * 36
    assert corpus.words == tuple(sorted({w for s in corpus.sentences for w in s}))


def test_a_sentence_tells_of_row_and_column_of_its_word_only():
    royal = FAMILIES["people"].rows["king queen"]
    man = FAMILIES["people"].columns[0]
    about = [" ".join(s) for s in grammar(600, ("people",)).sentences if "king" in s]
    assert len(about) == 50
    assert all(any(f"the king {a} and {b}" == s for a in royal for b in man) for s in about)
    assert len(set(about)) == len(royal) * len(man)


def test_analogies_are_the_parallelograms_of_the_tables():
    corpus = grammar(3, ("people", "verbs"))
    assert len(corpus.analogies) == 2 * 6 * 5 * 2 == len(set(corpus.analogies))
    assert ("sang", "swam", "swim", "sing") in corpus.analogies
    assert all(len(set(question)) == 4 for question in corpus.analogies)


def test_seeds():
    assert grammar(50, seed=1) == grammar(50, seed=1) != grammar(50, seed=2)


def test_errors():
    with pytest.raises(ArgumentError, match="families are some of people, places, verbs"):
        grammar(10, ("fish",))
    with pytest.raises(ArgumentError, match="n must be a whole number"):
        grammar(np.float64(3.5))
