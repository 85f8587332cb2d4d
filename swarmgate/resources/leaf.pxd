cdef class LeafResource:
    pass
