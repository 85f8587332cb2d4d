cpdef bytes joined(tuple parts)
cpdef bytes decimal(long long number)
cpdef bint has_either(bytes octets, unsigned char one, unsigned char other)
