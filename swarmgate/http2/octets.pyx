"""What ``octets.py`` says, without a number of Python's for each part."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc


cpdef bytes frame_head(Py_ssize_t size, int kind, int flags, long long stream_id):
    cdef unsigned char head[9]
    head[0] = <unsigned char>(size >> 16)
    head[1] = <unsigned char>(size >> 8)
    head[2] = <unsigned char>size
    head[3] = <unsigned char>kind
    head[4] = <unsigned char>flags
    head[5] = <unsigned char>(stream_id >> 24)
    head[6] = <unsigned char>(stream_id >> 16)
    head[7] = <unsigned char>(stream_id >> 8)
    head[8] = <unsigned char>stream_id
    return PyBytes_FromStringAndSize(<char*>head, 9)


cpdef bytes symbols(bytes code, bytes following, bytes kinds, bytes complete, bytes may_end):
    if len(following) < 4096 or len(kinds) < 4096 or len(complete) < 4096 or len(may_end) < 256:
        raise ValueError("a table is too short")
    cdef Py_ssize_t size = PyBytes_GET_SIZE(code), at, length = 0
    cdef const unsigned char* octets = <const unsigned char*>PyBytes_AS_STRING(code)
    cdef const unsigned char* states = <const unsigned char*>PyBytes_AS_STRING(following)
    cdef const unsigned char* kind_of = <const unsigned char*>PyBytes_AS_STRING(kinds)
    cdef const unsigned char* symbol_of = <const unsigned char*>PyBytes_AS_STRING(complete)
    cdef unsigned char few[256]
    cdef unsigned char* out = few
    cdef unsigned int step, kind, state = 0, shift
    if size > 160:
        # Symbols have five bits at least, so that there are no more of them than this.
        out = <unsigned char*>PyMem_Malloc(size * 8 // 5 + 1)
        if out == NULL:
            raise MemoryError
    try:
        for at in range(size):
            for shift in (4, 0):
                step = state << 4 | octets[at] >> shift & 0x0F
                kind = kind_of[step]
                if kind == 1:
                    out[length] = symbol_of[step]
                    length += 1
                elif kind == 2:
                    return None
                state = states[step]
        if not may_end[state]:
            return None
        return PyBytes_FromStringAndSize(<char*>out, length)
    finally:
        if out != few:
            PyMem_Free(out)
