cimport cython

from swarmgate.http.message cimport FieldBlock, Response


cdef class _ResponseHead:
    cdef readonly int status
    cdef readonly bytes reason
    cdef readonly FieldBlock fields
    cdef readonly long long length
    cdef readonly bint is_reusable
    cdef readonly bytes upgrade


@cython.locals(head=_ResponseHead)
cpdef tuple parse_response(bytes block)

cpdef bytes write_response(int status, bytes reason, bytes lines, bytes end, bytes data=*)
