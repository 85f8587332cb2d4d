from swarmgate.http.deadlines cimport Deadlines
from swarmgate.http.exchange cimport Exchange
from swarmgate.http.moment cimport moment


cdef class Upstream:
    cdef public str url
    cdef public str scheme
    cdef public bytes authority
    cdef public str host
    cdef public int port
    cdef public object settings
    cdef public double response_timeout
    cdef public double silence_timeout
    cdef double _idle_timeout
    cdef Py_ssize_t _idle_connections
    cdef public Deadlines deadlines
    cdef public long long in_flight
    cdef public object watch
    cdef public bint retired
    cdef public object _network
    cdef public list _idle
    cdef public long long failures
    cdef public bint is_silent
    cdef public bint is_troubled
    cdef public bint is_doubtful
    cdef public double heard
    cdef public long long _breaks
    cdef public double _shown
    cdef public bint _questioned
    cdef public double _born
    cdef public double _out_until

    cpdef send(self, Exchange exchange, chooser, bint fresh=*)
    cpdef release(self, connection)
