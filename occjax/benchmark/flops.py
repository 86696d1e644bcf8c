"""Arithmetic that a program cannot do without, in products and convolutions, and the bytes that it gathers."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax


class Work(NamedTuple):
    """Of one run: floating-point operations of products and convolutions, and bytes read by index."""

    flops: float = 0.0
    gathered_bytes: float = 0.0

    def times(self, count: int) -> "Work":
        """Of as many runs."""
        return Work(self.flops * count, self.gathered_bytes * count)

    def plus(self, other: "Work") -> "Work":
        """Of one after the other."""
        return Work(self.flops + other.flops, self.gathered_bytes + other.gathered_bytes)


def work_of(function: Callable, *args) -> Work:
    """Counted from the traced program, its loops of fixed length included; loops of unknown length count once."""
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr) -> Work:
    total = Work()
    for equation in jaxpr.eqns:
        total = total.plus(_count_equation(equation))
    return total


def _count_equation(equation) -> Work:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        ((contracted, _), _), left = params["dimension_numbers"], equation.invars[0].aval
        depth = math.prod(left.shape[axis] for axis in contracted)
        return Work(flops=2 * depth * equation.outvars[0].aval.size)
    if name == "conv_general_dilated":
        kernel, out_axis = equation.invars[1].aval, params["dimension_numbers"].rhs_spec[0]
        return Work(flops=2 * kernel.size / kernel.shape[out_axis] * equation.outvars[0].aval.size)
    if name == "gather":
        out = equation.outvars[0].aval
        return Work(gathered_bytes=out.size * out.dtype.itemsize)
    inner = [value for value in params.values() if hasattr(value, "eqns") or hasattr(value, "jaxpr")]
    inner = [getattr(value, "jaxpr", value) for value in inner]
    total = Work()
    for jaxpr in inner:
        total = total.plus(_count(jaxpr))
    return total.times(params["length"]) if name == "scan" else total
