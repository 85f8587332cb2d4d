from swarmgate.http.upstream cimport Upstream


cpdef (double, double) answer_due(Upstream upstream)
