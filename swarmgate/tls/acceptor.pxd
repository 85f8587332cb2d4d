cdef class HostOptions:
    cdef dict _exact
    cdef dict _parents

    cpdef str of(self, str host)


cdef class Acceptor:
    cdef HostOptions _hosts
    cdef object _options
    cdef object _store
    cdef object _contexts
    cdef object _clock
    cdef object _challenge

    cpdef str options_of(self, str host)
    cpdef accept(self, hello)
