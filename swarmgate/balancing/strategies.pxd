cimport cython

from swarmgate.balancing.member cimport Member
from swarmgate.http.exchange cimport Exchange


cdef class Rotation:
    cdef public Py_ssize_t turn


cpdef bint can_be_asked(Member member, tried=*)


cdef class WeightedRoundRobin:
    cdef public list _order
    cdef public Rotation _rotation

    @cython.locals(count=Py_ssize_t, turn=Py_ssize_t, step=Py_ssize_t, place=Py_ssize_t, member=Member)
    cpdef choose(self, Exchange exchange, tried=*)
