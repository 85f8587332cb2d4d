cimport cython

from swarmgate.http.message cimport FieldBlock, Request
from swarmgate.http.octets cimport joined


ctypedef const unsigned char* Octets

cdef bytes _IN_METHOD
cdef bytes _BEGINS_SEGMENT
cdef bytes _IN_SEGMENT
cdef bytes _IN_QUERY


cdef class RequestFields(FieldBlock):
    cdef readonly bytes octets
    cdef readonly list managed
    cdef readonly bytes host
    cdef readonly bytes authority
    cdef readonly bytes name
    cdef readonly long long length
    cdef readonly bint keep_alive
    cdef readonly bytes upgrade
    cdef readonly bint expects_continue


cdef class RequestHeads:
    cdef public object limits
    cdef Py_ssize_t _longest_line
    cdef Py_ssize_t _longest_head
    cdef object _normalise
    cdef str _underscores
    cdef dict _known

    @cython.locals(method_end=Py_ssize_t, path_end=Py_ssize_t, start=Py_ssize_t)
    cpdef Request read(self, bytes block)
    @cython.locals(method_end=Py_ssize_t, path_end=Py_ssize_t, start=Py_ssize_t)
    cpdef Request read_again(self, bytes data, RequestFields last)
    cdef Request _read_unusual(self, bytes block)
    cdef RequestFields _lines(self, bytes block, Py_ssize_t start)

@cython.locals(
    octets=Octets, in_method=Octets, begins_segment=Octets, in_segment=Octets, in_query=Octets, at=Py_ssize_t,
    method_end=Py_ssize_t, path_end=Py_ssize_t,
)
cpdef (Py_ssize_t, Py_ssize_t, Py_ssize_t) usual_line(bytes block)

@cython.locals(octets=Octets, method=bytes, path=bytes, query=bytes)
cdef Request _usual_request(bytes block, Py_ssize_t method_end, Py_ssize_t path_end, Py_ssize_t start, RequestFields lines)

cdef Request _request_of(bytes method, bytes path, bytes query, bint is_1_1, bytes authority, bytes name, RequestFields lines)

@cython.locals(length="long long")
cpdef bytes write_request(Request request)
