cimport cython

from swarmgate.http.exchange cimport Exchange
from swarmgate.http.message cimport Request
from swarmgate.http.moment cimport moment


cdef class Tally:
    cdef public list counts
    cdef public double seconds
    cdef public long long received
    cdef public long long sent
    cdef public long long retries
    cdef public list told
    cdef public double told_seconds


@cython.locals(place=Py_ssize_t, beyond=Py_ssize_t, middle=Py_ssize_t, bound=double)
cdef Py_ssize_t _place(tuple bounds, double seconds)


cdef class Traffic:
    cdef public tuple buckets
    cdef public tuple bounds
    cdef public bint _internals
    cdef public object _now
    cdef public dict _tallies
    cdef dict _recent

    @cython.locals(request=Request, recent=tuple, key=tuple, tally=Tally, known=Tally, seconds=double, status=int)
    cpdef record(self, Exchange exchange)
    cdef Tally _tally(self, Exchange exchange)
    cdef Tally _first(self, Exchange exchange, tuple key)
