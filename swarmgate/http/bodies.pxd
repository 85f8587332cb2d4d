cimport cython

from swarmgate.http.octets cimport whole_chunks


cdef class SizedBody:
    cdef public long long remaining
    cdef public bint done
    cdef public bytes rest
    cdef public list trailers

    cpdef bytes feed(self, bytes data)


cdef class OpenBody:
    cdef public bint done
    cdef public bytes rest
    cdef public list trailers

    cpdef bytes feed(self, bytes data)


cdef class ChunkedBody:
    cdef public bytes _held
    cdef public long long _remaining
    cdef public bint _trailing
    cdef public bint done
    cdef public bytes rest
    cdef public list trailers

    @cython.locals(seen=Py_ssize_t, size=Py_ssize_t, at=Py_ssize_t, whole=Py_ssize_t)
    cpdef bytes feed(self, bytes data)
    cdef Py_ssize_t _read_size(self, bytes data, Py_ssize_t at)
    cdef Py_ssize_t _read_trailers(self, bytes data, Py_ssize_t at, Py_ssize_t seen)
