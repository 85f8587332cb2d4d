from swarmgate.http.upstream cimport Upstream


cdef class Member:
    cdef public object server
    cdef public Upstream upstream
    cdef public bint is_alone
    cdef public object _chance
    cdef public object well
    cdef public double seconds
    cdef public double _sum
    cdef public object _answers
    cdef public int _failures
    cdef public double _left_out_until
    cdef public double _warm_at
    cdef public double _warm_in
    cdef public bint restricted
