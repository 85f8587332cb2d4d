cdef class TurnEnd:
    cdef object _soon
    cdef list _gathering

    cpdef add(self, connection)
