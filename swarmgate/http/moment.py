"""When something is: a clock that goes on evenly, for how long things take.

This is what ``moment.pyx`` does by a call of the system's library where it can be compiled, without a float being made;
it is used where that can't be.
"""

from __future__ import annotations

from time import perf_counter

moment = perf_counter
"""The moment, in seconds; what is measured is told by it alone, as the compiled one may begin elsewhere."""
