"""How inner loops run: eagerly, compiled by torch.compile, or captured in CUDA graphs.

The kit writes each inner step once, as a function of tensors: all randomness and all schedules are
drawn beforehand and passed in, state is changed in place, nothing is read back to Python. Such a
function gives the same numbers (up to rounding) whichever way it runs, so the way is a matter of the
machine: it is chosen at a run's first start, recorded, and kept when the run is resumed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from . import compile_cache

Result = TypeVar("Result")

GRAPH_STEPS = 10
"""Steps in one CUDA graph: enough to hide the host, few enough to fit small turns."""

MOST_COMPILED = 10_000
"""Agents of a process that may compile one function; torch's own limit is eight, after which it fails."""

_compiling = False


def use_compiler(on: bool) -> None:
    """Say whether this process compiles its inner steps. Off until a run asks for it."""
    global _compiling
    _compiling = on


def why_no_compiler(device: str) -> str | None:
    """Return why torch.compile does not work here, in a few words, or None when it does.

    The only honest test is to compile something; the result is cached on disk between processes.
    """
    try:
        _in_the_cache(
            lambda: torch.compile(_probe, fullgraph=True, dynamic=False), torch.ones(4, device=device)
        )
    except Exception as error:  # noqa: BLE001 - whatever a broken tool chain raises
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[0][:160] if lines else type(error).__name__
    return None


def _probe(x: Tensor) -> Tensor:
    return x.sin() + 1.0


def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    """Return ``function``, compiled at its first call where this process compiles.

    Every shape and every Python value that it sees is a constant of the compiled code: pass what
    changes as a tensor.
    """

    @functools.cache
    def fast() -> Callable[..., Result]:
        from torch._dynamo import config  # imports the compiler: seconds

        config.recompile_limit = config.accumulated_recompile_limit = MOST_COMPILED
        return torch.compile(function, fullgraph=True, dynamic=False)

    called = False

    @functools.wraps(function)
    def call(*arguments: Any) -> Result:
        nonlocal called
        if not _compiling:
            return function(*arguments)
        if called:
            return fast()(*arguments)
        result = _in_the_cache(fast, *arguments)
        called = True
        return result

    return call


def _in_the_cache(made: Callable[[], Callable[..., Result]], *arguments: Any) -> Result:
    """Do the first call of a function that ``made`` compiles, and publish what came out.

    Where a file of another process makes it fail it is compiled from nothing. Nothing has been computed by
    then: a step is one graph, which runs when all of it is compiled.
    """
    cache = compile_cache.shared()
    try:
        result = made()(*arguments)
    except Exception:
        if not cache.seeded:
            raise
        cache.renew()
        _forget()
        result = made()(*arguments)
        cache.publish(replace=True)
    else:
        cache.publish()
    return result


def _forget() -> None:
    """Forget what torch's compiler has concluded from the files of its folder.

    Which vector instructions the processor has is probed by small libraries there: one that does not load is
    taken for a processor without them, on which the same step rounds differently.
    """
    from torch._inductor import cpu_vec_isa

    torch.compiler.reset()
    owners = [cpu_vec_isa, *(value for value in vars(cpu_vec_isa).values() if isinstance(value, type))]
    for value in [value for owner in owners for value in vars(owner).values()]:
        if callable(clear := getattr(value, "cache_clear", None)):
            clear()


class Repeat:
    """Calls a step many times, with the k-th slice of its inputs at the k-th call.

    ``step(source, *slices)`` changes tensors in place and returns nothing; ``source`` is the same for all.
    Where calls differ in what they do, ``kinds`` says so for each: ``step(kind, source, *slices)``. On a GPU
    its calls are captured in CUDA graphs of up to ten steps and replayed, which takes the host out of the
    loop; steps of a kind must then always touch the same tensors. The first call of a kind runs uncaptured:
    it compiles and warms up, and its work counts.
    """

    def __init__(self, step: Callable[..., None]) -> None:
        self.step = step
        self.warm: set[Any] = set()
        self.graphs: dict[Any, tuple[Any, list[Tensor]]] = {}

    @torch.no_grad()
    def __call__(self, source: Any, *inputs: Tensor, kinds: Sequence[Any] | None = None) -> None:
        """Do as many steps as the inputs' first axis is long."""
        whole = [x.contiguous() for x in inputs]  # a step sees the same strides however it runs
        count, done = len(whole[0]), 0
        of_step = [()] * count if kinds is None else [(kind,) for kind in kinds]
        if not whole[0].is_cuda:
            self._run(of_step, source, whole)
            return
        while done < count:
            size = GRAPH_STEPS if count - done >= GRAPH_STEPS else 1
            part = slice(done, done + size)
            self._replay(of_step[part], source, [x[part] for x in whole])
            done += size

    def _run(self, kinds: Sequence[tuple[Any, ...]], source: Any, inputs: list[Tensor]) -> None:
        for kind, *slices in zip(kinds, *inputs, strict=True):
            self.step(*kind, source, *slices)

    def _replay(self, kinds: Sequence[tuple[Any, ...]], source: Any, inputs: list[Tensor]) -> None:
        graph_of = (tuple(kinds), *((x.shape, x.dtype) for x in inputs))
        if graph_of not in self.warm:
            self.warm.add(graph_of)
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._run(kinds, source, inputs)
            torch.cuda.current_stream().wait_stream(stream)
            return
        if graph_of not in self.graphs:
            graph, buffers = torch.cuda.CUDAGraph(), [x.clone() for x in inputs]
            with torch.cuda.graph(graph):
                self._run(kinds, source, buffers)
            self.graphs[graph_of] = (graph, buffers)
        graph, buffers = self.graphs[graph_of]
        for buffer, tensor in zip(buffers, inputs, strict=True):
            buffer.copy_(tensor)
        graph.replay()
