cimport cython

from swarmgate.http.deadlines cimport Deadlines
from swarmgate.http.exchange cimport Exchange
from swarmgate.http.forwarded cimport Forwarded
from swarmgate.http.message cimport Request, Response
from swarmgate.http.request_head cimport RequestFields, RequestHeads
from swarmgate.http.response_head cimport write_response

cdef Py_ssize_t _LARGE_READ


cdef class ClientConnection:
    cdef public object _site
    cdef public object _settings
    cdef public Deadlines _deadlines
    cdef RequestHeads _heads
    cdef str _entry_point
    cdef bint _is_secure
    cdef double _idle_timeout
    cdef double _answer_timeout
    cdef bint _ends
    cdef public object transport
    cdef public str client_ip
    cdef public double deadline
    cdef public Forwarded _forwarded
    cdef public double _begun
    cdef public long long _requests
    cdef RequestFields _last
    cdef public bytes _buffer
    cdef public bint _keep_alive
    cdef public bint _paused
    cdef public bint _closing
    cdef public long long _lingering
    cdef public object _tunnel
    cdef public bint _reading
    cdef public Exchange _exchange
    cdef public object _reader
    cdef public bint _holding
    cdef public bint _chunked
    cdef public double _until

    @cython.locals(request=Request)
    cpdef dataReceived(self, bytes data)
    cdef double _in(self, double seconds)
    cdef _read(self, bytes data, Py_ssize_t seen=*)
    @cython.locals(lines=RequestFields, length="long long")
    cdef _begin(self, Request request, bytes rest)
    @cython.locals(request=Request, status=int, keep_alive=bint, length="long long", end=bytes)
    cpdef send_head(self, Exchange exchange, Response response, bytes data, bint done)
    cpdef send_data(self, bytes data)
    cpdef send_end(self, list trailers)
    cdef _write(self, bytes data)
    cdef _answered(self, Exchange exchange)
    cpdef go_on(self)
