"""Signatures are checked in tests: shapes and types, in functions within functions too."""

from concurrent.futures import ThreadPoolExecutor

import jaxtyping
import numpy as np
import pytest
from jaxtyping import Float

import checker
from nisf.data.geometry import Affine


def adder(number: int):
    def added(values: Float[np.ndarray, "n 3"], times: int = 1) -> Float[np.ndarray, "n 3"]:
        return values + number if times == 1 else added(values, times - 1) + number

    added = checker.sampled(added, typechecker=checker.check)
    return added


def wrong_result():
    def halved(values: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        return values[:1]

    return checker.sampled(halved, typechecker=checker.check)


def test_a_wrong_shape_is_refused():
    identity = Affine(np.eye(4))
    assert identity(np.zeros((5, 3))).shape == (5, 3)
    with pytest.raises(jaxtyping.TypeCheckError):
        identity(np.zeros((5, 2)))


def test_functions_within_functions_are_checked_and_keep_what_they_close_over():
    one, ten = adder(1), adder(10)
    zeros = np.zeros((2, 3))
    assert one(zeros).max() == 1
    assert ten(zeros).max() == 10
    checker.begin_test()
    assert ten(zeros, 4).max() == 40  # calls itself
    checker.begin_test()
    with pytest.raises(jaxtyping.TypeCheckError):
        adder(3)(np.zeros((2, 2)))
    with pytest.raises(jaxtyping.TypeCheckError):
        wrong_result()(zeros)
    with ThreadPoolExecutor(4) as threads:
        numbers = list(range(40))
        assert list(threads.map(lambda k: adder(k)(zeros).max(), numbers)) == numbers
