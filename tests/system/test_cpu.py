"""Both spellings of a sum agree, each platform gets its own, and freed memory is kept where the C library is glibc."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from occjax.system.cpu import (
    column_sums,
    column_sums_by_product,
    column_sums_by_reduction,
    error_histogram,
    error_histogram_at_once,
    error_histogram_by_copies,
    sum_all,
    sum_all_by_product,
    sum_all_by_reduction,
)

_COUNT_FAULTS = """
import resource, sys
import numpy as np
from occjax.system.cpu import keep_freed_memory

if sys.argv[1] == "keep" and not keep_freed_memory():
    print("unsupported")
    sys.exit()
np.ones(25_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(25_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", _COUNT_FAULTS, how], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_second_array_takes_the_memory_of_the_first():
    kept = faults("keep")
    if kept == "unsupported":
        pytest.skip("needs glibc")
    # 200 MB are 49 thousand pages of 4 kB, or 95 of 2 MB.
    assert int(kept) < 20 < int(faults("leave"))


@pytest.mark.parametrize("shape", [(3, 5), (4, 6, 7, 5), (1, 40, 50, 3)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_both_spellings_of_column_sums(shape, dtype, is_weighted):
    r = np.random.default_rng(0)
    x = jnp.asarray(r.normal(1, 1, shape), dtype)
    weight = jnp.asarray(np.arange(shape[0]) % 2, jnp.float32) if is_weighted else None
    wide = np.asarray(x, np.float64)
    if is_weighted:
        wide = wide[1::2]
    expected = wide.sum(axis=tuple(range(x.ndim - 1)))
    for spelling in (column_sums, column_sums_by_product, column_sums_by_reduction):
        found = jax.jit(spelling)(x, weight)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=spelling.__name__)


@pytest.mark.parametrize("spelling", [sum_all, sum_all_by_product, sum_all_by_reduction])
def test_every_spelling_of_a_sum(spelling):
    values = jnp.asarray(np.random.default_rng(0).normal(1, 1, (3, 5, 101)), jnp.bfloat16)
    np.testing.assert_allclose(jax.jit(spelling)(values), np.asarray(values, np.float64).sum(), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: 2 * spelling(x))(jnp.ones((3, 4))), np.full((3, 4), 2.0))


@pytest.mark.parametrize("summed", [column_sums, lambda x, _: sum_all(x)])
def test_a_cpu_multiplies_and_a_gpu_reduces(summed):
    arguments = (jax.ShapeDtypeStruct((2, 3, 4), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.float32))
    lowered = {p: export.export(jax.jit(summed), platforms=[p])(*arguments).mlir_module() for p in ("cpu", "cuda")}
    assert "[HIGHEST, HIGHEST]" in lowered["cpu"] and "dot_general" not in lowered["cuda"]
    assert "stablehlo.reduce" in lowered["cuda"]


def test_both_spellings_of_a_histogram():
    r = np.random.default_rng(0)
    rank, labels, counted = r.integers(0, 5, (7, 11, 3)), r.integers(0, 3, (7, 11)), r.random((7, 11)) < 0.7
    is_class = labels[..., None] == np.arange(3)
    expected = np.zeros((3, 2, 5), int)
    for x, y, k in np.ndindex(rank.shape):
        expected[k, int(is_class[x, y, k]), rank[x, y, k]] += counted[x, y]
    cell = np.ravel_multi_index(np.broadcast_arrays(np.arange(3), is_class.astype(int), rank), expected.shape)
    for spelling in (error_histogram, error_histogram_at_once, error_histogram_by_copies):
        found = jax.jit(spelling, static_argnums=2)(jnp.asarray(cell), counted, 5)
        np.testing.assert_array_equal(found, expected, err_msg=spelling.__name__)
