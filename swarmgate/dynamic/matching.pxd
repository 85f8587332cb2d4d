cdef class RouteIndex:
    cdef public dict _candidates
    cdef public dict _exact
    cdef public dict _parents
    cdef public list _general
    cdef public dict _merged_exact
    cdef public dict _merged_parents
    cdef public Py_ssize_t _merged_entries
    cdef public tuple _choices_of_others

    cpdef find(self, request)
