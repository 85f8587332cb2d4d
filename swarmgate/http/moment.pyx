"""What ``moment.py`` says: the clock of Linux's :func:`time.perf_counter`, asked without it."""

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec


cpdef double moment() noexcept:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return at.tv_sec + at.tv_nsec * 1e-9
