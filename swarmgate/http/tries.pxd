from swarmgate.http.upstream cimport Upstream


cpdef tuple answer_due(Upstream upstream)
