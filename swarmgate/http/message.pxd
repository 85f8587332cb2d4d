# What the compiler is told of the attributes of message.py.

cpdef bytes lines_of(fields)


cdef class FieldBlock:
    cdef readonly tuple fields
    cdef readonly bytes lines


cdef class Request:
    cdef public bytes method
    cdef public bytes path
    cdef public bytes asked_path
    cdef public bytes query
    cdef public int major
    cdef public int minor
    cdef public bytes authority
    cdef public bytes host
    cdef public FieldBlock block
    cdef list _fields
    cdef FieldBlock _added
    cdef public list forwarded
    cdef public long long length
    cdef public str client_ip
    cdef public bint secure
    cdef public bytes scheme
    cdef public bytes forwarded_for
    cdef public bytes upgrade
    cdef public bint expects_continue
    cdef public bint keep_alive
    cdef public bint trailers_wanted
    cdef bytes _routing_path

    cpdef add(self, FieldBlock block)
    cpdef bytes lines(self)
    cpdef bytes added_lines(self)


cdef class Response:
    cdef public int status
    cdef public bytes reason
    cdef public FieldBlock block
    cdef list _fields
    cdef public long long length

    cpdef bytes lines(self)
