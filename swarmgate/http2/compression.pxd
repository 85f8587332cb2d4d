cimport cython

from swarmgate.http2.octets cimport symbols

cdef bytes _NEXT
cdef bytes _KINDS
cdef bytes _COMPLETE
cdef bytes _MAY_END
cdef Py_ssize_t _FIRST_DYNAMIC
cdef Py_ssize_t _OVERHEAD
cdef dict _FIELDS
cdef dict _NAMES


@cython.locals(decoded=bytes)
cpdef bytes huffman_decoded(bytes data)


cdef class Decoder:
    cdef public Py_ssize_t max_header_list_size
    cdef public Py_ssize_t max_allowed_table_size
    cdef Py_ssize_t _at
    cdef Py_ssize_t _at_most
    cdef public Py_ssize_t _used
    cdef list _table

    @cython.locals(
        table=list, fields=list, field=tuple, left=Py_ssize_t, octet=int, index=Py_ssize_t, prefix=int, name=bytes
    )
    cpdef list decode(self, bytes data, Py_ssize_t at=*, Py_ssize_t end=*)
    @cython.locals(octet=int, shift=int)
    cdef Py_ssize_t _integer(self, bytes data, Py_ssize_t end, Py_ssize_t value, Py_ssize_t prefix)
    @cython.locals(octet=int, length=Py_ssize_t, begin=Py_ssize_t, value=bytes)
    cdef bytes _string(self, bytes data, Py_ssize_t end)
    cdef _resize(self, Py_ssize_t at_most)
    @cython.locals(size=Py_ssize_t)
    cdef _add(self, tuple field)
    @cython.locals(table=list)
    cdef _shrink(self, Py_ssize_t at_most)


cdef _put_integer(bytearray out, int first, Py_ssize_t prefix, Py_ssize_t value)


cdef class Encoder:
    cdef public long long changes
    cdef Py_ssize_t _at_most
    cdef Py_ssize_t _used
    cdef Py_ssize_t _smallest
    cdef object _entries
    cdef long long _made
    cdef dict _fields
    cdef dict _names

    @cython.locals(out=bytearray, field=tuple)
    cpdef bytes encode(self, list fields)
    @cython.locals(name=bytes, value=bytes, index=Py_ssize_t, size=Py_ssize_t, entry=tuple)
    cdef _put_literal(self, bytearray out, tuple field)
    cdef _shrink(self, Py_ssize_t at_most)
