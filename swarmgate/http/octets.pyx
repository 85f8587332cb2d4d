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


cdef inline int _hexadecimal(unsigned char digit) noexcept:
    if 48 <= digit <= 57:
        return digit - 48
    digit |= 32
    if 97 <= digit <= 102:
        return digit - 87
    return -1


cdef inline Py_ssize_t _after_extensions(const unsigned char* octets, Py_ssize_t at, Py_ssize_t end) noexcept:
    """Where what stands between a chunk's size and the line's end is over; -1: it is malformed."""
    while at < end and (octets[at] == 32 or octets[at] == 9):
        at += 1
    if at == end or octets[at] != 59:
        return -1
    while at < end and (octets[at] >= 128 or 32 <= octets[at] < 127 or octets[at] == 9):
        at += 1
    return at


cpdef Py_ssize_t whole_chunks(bytes data, Py_ssize_t at, Py_ssize_t longest, list pieces):
    cdef const unsigned char* octets = data
    cdef Py_ssize_t size = len(data), begin, length, end
    cdef int digit
    while True:
        length = 0
        begin = at
        while begin < size and begin - at < 7:
            digit = _hexadecimal(octets[begin])
            if digit < 0:
                break
            length = length * 16 + digit
            begin += 1
        if not length:
            return at
        if begin < size and octets[begin] != 13:
            begin = _after_extensions(octets, begin, min(size, at + longest))
            if begin < 0:
                return at
        end = begin + 2 + length
        if end + 2 > size or begin + 2 - at > longest:
            return at
        if octets[begin] != 13 or octets[begin + 1] != 10 or octets[end] != 13 or octets[end + 1] != 10:
            return at
        pieces.append(PyBytes_FromStringAndSize(<const char*>octets + begin + 2, length))
        at = end + 2
