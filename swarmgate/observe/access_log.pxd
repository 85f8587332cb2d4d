cimport cython

from swarmgate.http.exchange cimport Exchange
from swarmgate.http.message cimport Request
from swarmgate.http.moment cimport moment
from swarmgate.http.octets cimport decimal, has_either, joined


cdef bytes _number(long long number)


cdef class AccessLog:
    cdef public object _sink
    cdef public object _settings
    cdef public object _clock
    cdef public object _wall
    cdef public object _now
    cdef public object _statuses
    cdef public bint _is_filtered
    cdef public dict _modes
    cdef public dict _header_modes
    cdef public str _referer
    cdef public str _agent
    cdef public bint _has_headers
    cdef public bint _is_fast
    cdef public bint _is_generic
    cdef bint _keep_query
    cdef bint _internals
    cdef public list _lines
    cdef public Py_ssize_t _size
    cdef public double _offset
    cdef public long long count
    cdef long long _second
    cdef bytes _stamped
    cdef public dict _seconds
    cdef public dict _quoted
    cdef public dict _shown
    cdef public dict _clients
    cdef public dict _names
    cdef public dict _subjects

    cpdef record(self, Exchange exchange)
    @cython.locals(
        request=Request, path=bytes, query=bytes, mark=bytes, second="long long",
        number=bytes, router=bytes, server=bytes, took=bytes, space=bytes, end=bytes,
    )
    cdef bytes _common(self, Exchange exchange, double seconds, long long count)
    cdef double _moment(self) except? -1
    cdef bytes _client_and_user(self, Exchange exchange)
    cdef bytes _headers_of(self, Request request)
    cdef bytes _shown_of(self, fields)
    cdef tuple _referer_and_agent(self, fields)
