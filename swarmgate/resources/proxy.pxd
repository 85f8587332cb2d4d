cimport cython

from swarmgate.balancing.member cimport Member
from swarmgate.http.exchange cimport Exchange
from swarmgate.http.upstream cimport Upstream
from swarmgate.resources.leaf cimport LeafResource


cdef class ReverseProxyResource(LeafResource):
    cdef public str service
    cdef public tuple members
    cdef public object room
    cdef public object balancing
    cdef public object stickiness
    cdef public object _strategy
    cdef bint _pass_host_header
    cdef bint _attempts

    @cython.locals(member=Member)
    cpdef serve(self, Exchange exchange)
    cdef Member _choose(self, Exchange exchange)
    @cython.locals(upstream=Upstream)
    cdef _send(self, Exchange exchange, Member member)
