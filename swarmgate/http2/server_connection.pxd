cimport cython

from swarmgate.http.exchange cimport Exchange
from swarmgate.http.message cimport Request, Response
from swarmgate.http.upstream cimport Upstream
from swarmgate.http2.connection cimport Connection, Stream


cdef class Http2ServerConnection(Connection):
    cdef public object upstream
    cdef public object made
    cdef public double deadline
    cdef public bint was_used
    cdef public bint is_ending
    cdef long long _room
    cdef bint _closed
    cdef public dict _begun

    cpdef dataReceived(self, bytes data)
    cpdef bint take(self, int kind, int flags, long long stream_id, bytes data, Py_ssize_t at, Py_ssize_t end)
    cpdef bint has_room(self)
    cpdef bint is_closed(self)
    cpdef bint is_idle(self)
    @cython.locals(stream=ServerStream, stream_id="long long")
    cpdef send(self, Exchange exchange, chooser)
    cdef discard(self, ServerStream stream)
    cdef begun(self, ServerStream stream)
    cpdef settings_changed(self)
    cdef _goaway(self, bytes payload)
    @cython.locals(begun=dict, stream=ServerStream)
    cdef _tell_begun(self)


cdef class ServerStream(Stream):
    cdef Upstream _upstream
    cdef public Exchange _exchange
    cdef object _chooser
    cdef double _answer_by
    cdef bint _sends
    cdef bint _stalls
    cdef bytes _first
    cdef int _interim
    cdef Response _response
    cdef bint _is_answered
    cdef object _expected
    cdef bint _paused

    @cython.locals(exchange=Exchange, connection=Http2ServerConnection, request=Request, body=bytes, done=cython.bint)
    cdef begin(self)
    cdef _keep(self, bytes data)
    cpdef body_data(self, bytes data)
    cpdef body_end(self, list trailers)
    @cython.locals(exchange=Exchange)
    cpdef watch(self)
    cpdef moved(self)
    cpdef sent_all(self)
    @cython.locals(exchange=Exchange)
    cdef _leave(self, error)
    @cython.locals(connection=Http2ServerConnection)
    cdef _over(self, error)
    @cython.locals(connection=Http2ServerConnection)
    cpdef received_section(self, list fields, bint ends)
    cdef _received_trailers(self, list fields, bint ends)
    @cython.locals(exchange=Exchange, response=Response)
    cdef interim(self, list fields)
    @cython.locals(exchange=Exchange, response=Response)
    cpdef head(self, list fields, bint ends)
    @cython.locals(exchange=Exchange, response=Response, upstream=Upstream, connection=Http2ServerConnection)
    cdef respond(self, bytes data, bint done)
    cdef _expect_progress(self)
    @cython.locals(exchange=Exchange, whole=cython.bint)
    cpdef received(self, bytes data, Py_ssize_t size, bint ends)
    @cython.locals(exchange=Exchange)
    cpdef received_end(self, list trailers)
    cdef _finish(self, Exchange exchange)
    cpdef was_reset(self, long long error)
    cpdef is_faulty(self, int error)
