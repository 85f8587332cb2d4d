cpdef bytes joined(tuple parts)
cpdef bytes decimal(long long number)
cpdef bint has_either(bytes octets, unsigned char one, unsigned char other)
cpdef Py_ssize_t whole_chunks(bytes data, Py_ssize_t at, Py_ssize_t longest, list pieces)
