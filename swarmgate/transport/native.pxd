cdef class NativeTransport:
    cdef object _protocol
    cdef object _producer
    cdef object _socket
    cdef public bint disconnecting
    cdef public object data_received
    cdef public object write
