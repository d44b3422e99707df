"""What the C library does with freed memory: it keeps it, instead of fetching it anew every step.

XLA asks the C library for the temporaries of every execution of a program on a CPU, in one piece
that is larger than what glibc keeps by default: each training step had its pages cleared and
mapped again by the kernel, a fifth to a quarter of the time of a small model's step. Called by
`recjax.main` before any thread exists.
"""

import ctypes

# Names of <malloc.h>; see mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT_BYTES = 1 << 30  # a piece as large as this goes back to the system when it is freed


def keep_freed_memory() -> bool:
    """Asks glibc to keep freed memory for the next allocation; of the whole process.

    One arena for all threads, since no piece above 64 MiB fits any but the first: to be called
    before numpy or anything else has started a thread, later it is of no use. Peak memory is what
    it was; what is below `_KEPT_BYTES` stays with the process afterwards.

    Returns:
        Whether the C library does so: glibc 2.35 and later; others go on as ever.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = (
        (_M_ARENA_MAX, 1),
        (_M_MMAP_THRESHOLD, _KEPT_BYTES),
        (_M_TRIM_THRESHOLD, _KEPT_BYTES),
    )
    return all([mallopt(name, value) == 1 for name, value in settings])
