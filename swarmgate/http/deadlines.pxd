cdef class Deadlines:
    cdef public double now
    cdef public object turn_end
    cdef public object _clock
    cdef public double _tick
    cdef public bint _stopped
    cdef public set _members
    cdef public object _call
