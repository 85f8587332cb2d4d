from swarmgate.http.exchange cimport Exchange
from swarmgate.resources.leaf cimport LeafResource


cdef class EntryPointRoot(LeafResource):
    cdef readonly str entry_point
    cdef object _not_found
    cdef object _shedding
    cdef object _finder
    cdef object _chains

    cpdef serve(self, Exchange exchange)


cdef class SecureEntryPointRoot(EntryPointRoot):
    cpdef serve(self, Exchange exchange)
