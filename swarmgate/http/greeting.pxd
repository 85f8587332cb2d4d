from swarmgate.http.deadlines cimport Deadlines
from swarmgate.http.exchange cimport Exchange


cdef class Greeting:
    cdef object _entry_point
    cdef object _acceptor
    cdef Deadlines _deadlines
    cdef double _timeout
    cdef bytes _data
    cdef str _options
    cdef public double deadline
    cdef public object transport

    cpdef dataReceived(self, bytes data)


cdef class SecureSite:
    cdef object _entry_point
    cdef str _options
    cdef public object opened
    cdef public object closed
    cdef public object refused

    cpdef finished(self, Exchange exchange)
    cpdef serve(self, Exchange exchange)
