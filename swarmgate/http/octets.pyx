"""What ``octets.py`` says, with a loop of C's in place of a call for each part."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.string cimport memchr, memcpy


cpdef bytes joined(tuple parts):
    cdef Py_ssize_t size = 0, index, count = PyTuple_GET_SIZE(parts)
    cdef char* to
    for index in range(count):
        if not isinstance(<object>PyTuple_GET_ITEM(parts, index), bytes):
            raise TypeError("only bytes can be joined")
        size += PyBytes_GET_SIZE(<object>PyTuple_GET_ITEM(parts, index))
    whole = PyBytes_FromStringAndSize(NULL, size)
    to = PyBytes_AS_STRING(whole)
    for index in range(count):
        size = PyBytes_GET_SIZE(<object>PyTuple_GET_ITEM(parts, index))
        memcpy(to, PyBytes_AS_STRING(<object>PyTuple_GET_ITEM(parts, index)), size)
        to += size
    return <bytes>whole


cpdef bytes decimal(long long number):
    cdef char digits[20]
    cdef int at = 20
    if number < 0:
        return b"%d" % number
    while True:
        at -= 1
        digits[at] = <char>(48 + number % 10)
        number //= 10
        if not number:
            break
    return PyBytes_FromStringAndSize(digits + at, 20 - at)


cpdef bint has_either(bytes octets, unsigned char one, unsigned char other):
    cdef size_t size = len(octets)
    cdef const char* start = octets
    return memchr(start, one, size) != NULL or memchr(start, other, size) != NULL
