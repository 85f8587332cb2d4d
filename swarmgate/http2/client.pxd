cimport cython

from swarmgate.http.exchange cimport Exchange
from swarmgate.http.forwarded cimport Forwarded
from swarmgate.http.message cimport FieldBlock, Request, Response
from swarmgate.http2.compression cimport Encoder
from swarmgate.http2.connection cimport Connection, Stream
from swarmgate.http2.heads cimport Requests

cdef double NEVER, _SECTION_OCTETS_COUNT
cdef int CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE
cdef int GOAWAY, ACK
cdef long long HIGHEST_STREAM
cdef Py_ssize_t _EARNS, _LONG, _LONG_EARNS, _FRAMES_A_TURN, _SECTION_COUNTS


cdef class Http2Connection(Connection):
    cdef public object site
    cdef public object settings
    cdef bint _is_secure
    cdef public object http2
    cdef Requests requests
    cdef public str client_ip
    cdef public double deadline
    cdef public bytes _preface
    cdef public double _begun
    cdef public long long _requests
    cdef public bint _closing
    cdef public long long _last
    cdef public bint _ending
    cdef public long long _section
    cdef double _partial_until
    cdef double _idle_until
    cdef object _allowances
    cdef public list _accepted
    cdef bint _waits
    cdef double _turn
    cdef double _answers_earned
    cdef double _data_earned
    cdef double _frames_earned
    cdef double _sections_earned
    cdef long long _unread
    cdef dict _sections
    cdef long long _sections_of
    cdef Forwarded _forwarded

    cpdef dataReceived(self, bytes data)
    @cython.locals(progress=bint)
    cdef _take_turn(self, bytes data)
    cpdef bint take(self, int kind, int flags, long long stream_id, bytes data, Py_ssize_t at, Py_ssize_t end)
    cdef _wait_for_turn(self, bint waits)
    cdef double _in(self, double seconds)
    cdef double _patience(self)
    cdef _watch_partial(self, bint progress)
    @cython.locals(deadline=double)
    cdef _set_deadline(self)
    @cython.locals(size=Py_ssize_t)
    cdef _receive(self, int kind, int flags, long long stream_id, bytes data, Py_ssize_t at, Py_ssize_t end)
    cdef bint _is_wanted(self, int kind, int flags, long long stream_id)
    cdef _spend(self, budget)
    @cython.locals(stream=ClientStream, request=Request)
    cpdef opened(self, long long stream_id, list fields, bint ends)
    @cython.locals(stream=ClientStream)
    cdef _serve_accepted(self)
    cpdef late(self)
    cpdef ping_acknowledged(self)
    cpdef spend_stream_error(self)
    cpdef send_section(self, Stream stream, bytes section, bint done)
    cpdef send_data(self, Stream stream, bytes data, bint done)
    @cython.locals(encoder=Encoder, block=FieldBlock, sections=dict, known=tuple, section=bytes)
    cpdef bytes section_of(self, Response response, length)
    cdef answered(self, ClientStream stream)
    cdef discard(self, ClientStream stream)
    cdef _stream_gone(self)
    cpdef wrote_beyond(self, Py_ssize_t size)
    cdef announce_end_if_worn(self)


cdef class ClientStream(Stream):
    cdef Request _accepted
    cdef public Exchange _exchange
    cdef public int error
    cdef bint _in_body
    cdef object _expected
    cdef bint _paused
    cdef double _until
    cdef object _producer
    cdef bint _producer_paused
    cdef double _stalled_at
    cdef bint _is_tunnel
    cdef public object _tunnel
    cdef public object transport
    cdef bytes _early

    cdef accept(self, Request request, bint ended)
    @cython.locals(connection=Http2Connection, request=Request, exchange=Exchange)
    cdef begin(self)
    @cython.locals(connection=Http2Connection, response=Response)
    cdef refuse(self, error, bint without_body)
    @cython.locals(exchange=Exchange)
    cpdef received(self, bytes data, Py_ssize_t size, bint ends)
    cdef _tunnel_data(self, bytes data)
    cpdef received_section(self, list fields, bint ends)
    @cython.locals(exchange=Exchange)
    cpdef received_end(self, list trailers)
    @cython.locals(connection=Http2Connection)
    cpdef was_reset(self, long long error)
    @cython.locals(connection=Http2Connection)
    cpdef is_faulty(self, int error)
    @cython.locals(connection=Http2Connection)
    cdef is_malformed(self, error)
    @cython.locals(connection=Http2Connection)
    cdef double _body_deadline(self)
    @cython.locals(connection=Http2Connection, request=Request)
    cpdef send_head(self, Exchange exchange, Response response, bytes data, bint done)
    @cython.locals(connection=Http2Connection)
    cpdef send_data(self, bytes data)
    @cython.locals(connection=Http2Connection)
    cpdef send_end(self, list trailers)
    cpdef moved(self)
    @cython.locals(connection=Http2Connection)
    cpdef watch(self)
    @cython.locals(connection=Http2Connection)
    cpdef abort(self)
    cpdef feed_from(self, producer)
    cpdef pause_body(self)
    cpdef resume_body(self)
    @cython.locals(connection=Http2Connection, exchange=Exchange)
    cpdef sent_all(self)
    @cython.locals(connection=Http2Connection)
    cpdef end(self, int error)
    @cython.locals(connection=Http2Connection, exchange=Exchange)
    cpdef gone(self)
