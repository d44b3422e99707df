"""Freed memory stays with the process: the pages of a step's temporaries are not mapped anew."""

import platform
import subprocess
import sys

import pytest

_COUNT_FAULTS = """
import resource, sys
from recjax.host_memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
import jax, jax.numpy as jnp
step = jax.jit(lambda x: jax.nn.softmax(x @ x.T) @ x)
x = jnp.ones((5_000, 8))  # the temporaries are 100 MB and more
for _ in range(12):  # until the pieces that are in use at the same time have all been mapped once
    step(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step(x).block_until_ready()
print(kept, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)
"""


def faults_of_a_step(argument: str) -> tuple[bool, int]:
    """Whether glibc promised to keep memory, and page faults an execution."""
    command = [sys.executable, "-c", _COUNT_FAULTS, argument]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return answer[0] == "True", int(answer[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_temporaries_of_a_step_are_not_mapped_anew():
    kept, faults = faults_of_a_step("keep")
    if not kept:
        pytest.skip("glibc before 2.35 does not take the threshold")
    _, faults_without = faults_of_a_step("leave")
    assert faults < 1_000 < faults_without
