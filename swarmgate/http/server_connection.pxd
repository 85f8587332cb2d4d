cimport cython

from swarmgate.http.exchange cimport Exchange
from swarmgate.http.message cimport Request, Response
from swarmgate.http.request_head cimport Octets, write_request
from swarmgate.http.response_head cimport ResponseHead, parse_response
from swarmgate.http.tries cimport answer_due
from swarmgate.http.upstream cimport Upstream

cdef Py_ssize_t _LARGE_READ


cdef class ServerConnection:
    cdef public Upstream _upstream
    cdef public object made
    cdef public object transport
    cdef public double deadline
    cdef public bint was_kept
    cdef public double _answer_by
    cdef public Exchange _exchange
    cdef public object _chooser
    cdef public object _reader
    cdef public bint _reusable
    cdef public int _interim
    cdef ResponseHead _last
    cdef public bytes _buffer
    cdef public object _client
    cdef public object _tunnel
    cdef public object _half_ended
    cdef public bint _paused

    cpdef dataReceived(self, bytes data)
    cpdef send(self, Exchange exchange, chooser)
    @cython.locals(
        octets=Octets, head=ResponseHead, end=Py_ssize_t, size=Py_ssize_t, length="long long", rest=bytes,
        response=Response, status=int, reusable=bint, done=bint,
    )
    cdef _read_head(self, Exchange exchange, bytes data)
    cdef _finish(self, Exchange exchange)
