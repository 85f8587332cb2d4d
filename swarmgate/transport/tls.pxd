cimport cython

cdef Py_ssize_t _LARGE_READ, _RECORD, _AT_ONCE, _OWED_AT_MOST, _NOTHING_AT_MOST


cdef class TLSTransport:
    cdef object _incoming
    cdef object _outgoing
    cdef object _tls
    cdef object _inner
    cdef object _secured
    cdef object _failed
    cdef bint _server_side
    cdef long long _nothing
    cdef object _protocol
    cdef object _below
    cdef public object negotiatedProtocol
    cdef public bint disconnecting
    cdef public double deadline

    @cython.locals(begins=bint, ended=bint, received=bytes, piece=bytes, pieces=list, size=Py_ssize_t)
    cpdef dataReceived(self, bytes data)
    cpdef write(self, bytes data)
    cpdef write_last(self, bytes data)
    cdef _encrypt(self, bytes data)
    cdef bint _shake_hands(self) except -1
    cdef _give_up(self, object error)
    cdef _break(self, object error)
    cdef _flush(self)
    cdef _end(self)
    cdef _announce_end(self)
