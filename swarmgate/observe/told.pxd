from swarmgate.http.exchange cimport Exchange
from swarmgate.observe.access_log cimport AccessLog
from swarmgate.observe.traffic cimport Traffic


cdef class Told:
    cdef object _trace
    cdef Traffic _traffic
    cdef AccessLog _access_log

    cpdef record(self, Exchange exchange)
