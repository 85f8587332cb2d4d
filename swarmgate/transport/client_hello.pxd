cimport cython


@cython.locals(header=bytes, message=bytes, at=Py_ssize_t, size=Py_ssize_t, length=Py_ssize_t, have=Py_ssize_t, _=int)
cpdef read_client_hello(bytes data)

@cython.locals(at=Py_ssize_t, size=Py_ssize_t, start=Py_ssize_t, end=Py_ssize_t, length=Py_ssize_t, kind=int, server_name=str)
cdef _read(bytes body)


cdef class _Octets:
    cdef bytes _data
    cdef Py_ssize_t _at

    @cython.locals(taken=bytes)
    cdef bytes take(self, Py_ssize_t count)
    cdef Py_ssize_t number(self, Py_ssize_t count) except -1
    cdef bytes vector(self, Py_ssize_t count)


@cython.locals(names=_Octets, kind=Py_ssize_t, name=bytes)
cdef str _server_name(bytes value)

@cython.locals(names=_Octets)
cdef tuple _protocols(bytes value)
