cimport cython


@cython.locals(message=bytes, at=Py_ssize_t, size=Py_ssize_t, length=Py_ssize_t, have=Py_ssize_t, _=int)
cpdef read_client_hello(bytes data)

@cython.locals(
    octets="const unsigned char*",
    at=Py_ssize_t,
    size=Py_ssize_t,
    start=Py_ssize_t,
    end=Py_ssize_t,
    kind=int,
    server_name=str,
    protocols=tuple,
)
cdef _read(bytes body)

@cython.locals(octets="const unsigned char*", at=Py_ssize_t, start=Py_ssize_t, end=Py_ssize_t, kind=int)
cdef str _server_name(bytes value)

@cython.locals(octets="const unsigned char*", at=Py_ssize_t, start=Py_ssize_t, end=Py_ssize_t, protocols=list)
cdef tuple _protocols(bytes value)

@cython.locals(end=Py_ssize_t)
cdef Py_ssize_t _end_of_list(bytes value) except -1
