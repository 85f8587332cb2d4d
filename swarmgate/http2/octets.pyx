"""What ``octets.py`` says, without a number of Python's for each part."""

from cpython.bytes cimport PyBytes_FromStringAndSize


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
