cimport cython

from swarmgate.http.message cimport FieldBlock, Response
from swarmgate.http.octets cimport joined


cdef class ResponseHead:
    cdef readonly bytes octets
    cdef readonly int status
    cdef readonly bytes reason
    cdef readonly FieldBlock fields
    cdef readonly long long length
    cdef readonly bint is_reusable
    cdef readonly bytes upgrade

    cpdef Response response(self)


@cython.locals(head=ResponseHead)
cpdef ResponseHead parse_response(bytes block)

cpdef bytes write_response(int status, bytes reason, bytes lines, bytes end, bytes data=*)
