cimport cython

from swarmgate.http.message cimport FieldBlock, Request


cdef class _RequestFields:
    cdef readonly FieldBlock fields
    cdef readonly list managed
    cdef readonly bytes host
    cdef readonly bytes authority
    cdef readonly bytes name
    cdef readonly object length
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

    @cython.locals(lines=_RequestFields, size=Py_ssize_t, start=Py_ssize_t, method=bytes)
    cpdef Request read(self, bytes block)
    cdef Request _read_unusual(self, bytes block)
    cdef _RequestFields _lines(self, bytes block, Py_ssize_t start)

cdef Request _request_of(bytes method, bytes path, bytes query, bint is_1_1, bytes authority, bytes name, _RequestFields lines)

cpdef bytes write_request(Request request)
