cimport cython

from swarmgate.http.message cimport FieldBlock, Request, Response
from swarmgate.http.request_head cimport RequestHeads


cdef int _COLON


cdef class _Alike:
    cdef bytes method
    cdef bytes authority
    cdef bytes host
    cdef FieldBlock fields
    cdef list managed
    cdef object length
    cdef bint expects_continue
    cdef bint has_length
    cdef Py_ssize_t line
    cdef Py_ssize_t octets


cdef class Requests:
    cdef readonly RequestHeads heads
    cdef bint _websockets
    cdef Py_ssize_t _longest_line
    cdef Py_ssize_t _longest_head
    cdef dict _known
    cdef dict _paths

    @cython.locals(
        alike=_Alike, parts=tuple, request=Request, place=Py_ssize_t, path=bytes, others=tuple, size=Py_ssize_t
    )
    cpdef Request read(self, list fields, bint ended)
    @cython.locals(head=bytes, upgrade=bytes, request=Request, block=FieldBlock, size=Py_ssize_t, line=Py_ssize_t)
    cdef Request _read(self, list fields, tuple others, bytes path, bint ended)


@cython.locals(place=Py_ssize_t, field=tuple, name=bytes)
cdef Py_ssize_t _place_of_path(list fields)

@cython.locals(
    lines=list, cookies=list, pseudo=dict, field=tuple, name=bytes, value=bytes, regular=cython.bint, has_length=cython.bint
)
cdef tuple _head_of(list fields, bint ended, bint websockets)

cpdef list response_fields(Response response, length)

cpdef list request_fields(Request request)

cpdef Response read_response(list fields)
