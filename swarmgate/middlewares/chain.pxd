from swarmgate.http.exchange cimport Exchange


cdef class Chain:
    cdef public object _leaf
    cdef public tuple _request_bodies
    cdef public tuple _responses
    cdef public tuple _steps
    cdef public str router

    cpdef serve(self, Exchange exchange)
