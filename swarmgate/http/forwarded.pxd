from swarmgate.http.message cimport Request


cdef class Forwarded:
    cdef public tuple _known
    cdef public object _policy
    cdef public bint _trusts

    cpdef add(self, Request request)
