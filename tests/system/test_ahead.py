"""Results ahead of their use: in order, a few at a time, and none lost where the items end with an error."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from occjax.system.ahead import ahead


def test_results_come_in_order_and_few_are_under_way():
    taken = []

    def items():
        for item in range(6):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(2) as pool:
        for item, result in ahead(pool, lambda item: item**2, items(), 2):
            assert result.result() == item**2
            assert len(taken) == min(item + 3, 6)


@pytest.mark.parametrize("good", [0, 1, 2, 5])
def test_what_came_before_an_error_is_given_out(good):
    def items():
        yield from range(good)
        raise ValueError("the camera is gone")

    found = []
    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="the camera is gone"):
        for _, result in ahead(pool, lambda item: item, items(), 2):
            found.append(result.result())
    assert found == list(range(good))
