cimport cython

from swarmgate.http.deadlines cimport Deadlines
from swarmgate.http2.compression cimport Decoder, Encoder
from swarmgate.http2.octets cimport frame_head
from swarmgate.transport.turn_end cimport TurnEnd

cdef double NEVER
cdef int CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE
cdef int PING, WITH_PRIORITY
cdef long long FRAME_AT_MOST, WINDOW_AT_MOST, STREAM_WINDOW, CONNECTION_WINDOW
cdef long long _OPEN_STREAM_AT, _OPEN_CONNECTION_AT, _GATHERED_AT_MOST


cdef class Stream:
    cdef readonly long long id
    cdef public double deadline
    cdef public Py_ssize_t held
    cdef public long long window
    cdef public bint has_ended
    cdef public bint has_sent_all
    cdef public Connection _connection
    cdef bint _has_head
    cdef long long _left
    cdef bytes _out
    cdef bint _done
    cdef list _trailers
    cdef long long _unopened

    cdef open(self, Connection connection, long long stream_id)
    @cython.locals(was_held=Py_ssize_t)
    cpdef put(self, bytes data)
    cpdef put_end(self, list trailers)
    cpdef put_last(self, bytes data)
    cpdef drop(self)
    @cython.locals(connection=Connection, out=bytes, room="long long")
    cpdef bint send_some(self, long long at_most)
    @cython.locals(size="long long")
    cpdef open_window(self)
    cpdef watch(self)
    cpdef moved(self)
    cpdef sent_all(self)
    cpdef received_section(self, list fields, bint ends)
    cpdef received(self, bytes data, Py_ssize_t size, bint ends)
    cpdef received_end(self, list trailers)
    cpdef was_reset(self, long long error)
    cpdef is_faulty(self, int error)


cdef class Connection:
    cdef public Deadlines deadlines
    cdef TurnEnd _turn_end
    cdef public object transport
    cdef public bint is_full
    cdef public double full_since
    cdef public dict streams
    cdef public long long window
    cdef public long long first_window
    cdef public long long streams_at_most
    cdef bint _is_client
    cdef public long long _highest
    cdef dict _resets
    cdef Py_ssize_t _frame_at_most
    cdef Encoder _encoder
    cdef Py_ssize_t _encoder_table
    cdef list _out
    cdef Py_ssize_t _gathered
    cdef bint _is_due
    cdef dict _waiting
    cdef Decoder _decoder
    cdef Py_ssize_t _section_at_most
    cdef bytes _rest
    cdef bint _reading
    cdef long long _left
    cdef long long _consumed
    cdef bytes _pieces
    cdef long long _pieces_of
    cdef bint _pieces_end
    cdef int _continuations

    @cython.locals(
        at=Py_ssize_t, size=Py_ssize_t, length=Py_ssize_t, begin=Py_ssize_t, kind=int, flags=int, stream_id="long long"
    )
    cpdef bint take_frames(self, bytes data)
    cpdef bint take(self, int kind, int flags, long long stream_id, bytes data, Py_ssize_t at, Py_ssize_t end)
    cpdef receive(self, int kind, int flags, long long stream_id, bytes data, Py_ssize_t at, Py_ssize_t end)
    @cython.locals(stream=Stream, size=Py_ssize_t, ends=cython.bint)
    cdef _receive_data(self, int flags, long long stream_id, bytes data, Py_ssize_t at, Py_ssize_t end)
    cdef _receive_headers(self, int flags, long long stream_id, bytes data, Py_ssize_t at, Py_ssize_t end)
    cdef _receive_continuation(self, int flags, long long stream_id, bytes piece)
    @cython.locals(stream=Stream, fields=list)
    cdef _receive_section(self, long long stream_id, bint ends, bytes data, Py_ssize_t at, Py_ssize_t end)
    cpdef opened(self, long long stream_id, list fields, bint ends)
    @cython.locals(stream=Stream)
    cdef _receive_reset(self, long long stream_id, bytes data, Py_ssize_t at, Py_ssize_t end)
    @cython.locals(stream=Stream, size="long long")
    cdef _receive_window_update(self, long long stream_id, bytes data, Py_ssize_t at, Py_ssize_t end)
    cdef _receive_settings(self, int flags, long long stream_id, bytes payload)
    @cython.locals(stream=Stream)
    cdef _receive_setting(self, int key, long long value)
    cpdef settings_changed(self)
    cdef _receive_ping(self, int flags, long long stream_id, bytes payload)
    cpdef ping_acknowledged(self)
    cdef _check_not_idle(self, long long stream_id)
    cdef _late(self, long long stream_id)
    cpdef late(self)
    cpdef consumed(self, long long size)
    cpdef open_window(self, Stream stream, long long size)
    cpdef send_head(self, Stream stream, list fields, bint done)
    @cython.locals(at_most=Py_ssize_t, kind=int, flags=int)
    cpdef send_section(self, Stream stream, bytes section, bint done)
    @cython.locals(at_most=Py_ssize_t, size=Py_ssize_t, at=Py_ssize_t)
    cpdef send_data(self, Stream stream, bytes data, bint done)
    cpdef send_soon(self, Stream stream)
    @cython.locals(stream=Stream, waiting=dict, before=Py_ssize_t, stuck=Py_ssize_t)
    cpdef send_waiting(self)
    cpdef bint is_open(self, Stream stream)
    cpdef reset(self, Stream stream, int error)
    cpdef refuse(self, long long stream_id, int error)
    cdef _remember_reset(self, long long stream_id, bint is_own)
    cdef _put(self, bytes octets)
    cpdef flush(self)
    cpdef turn_ends(self)
    cpdef forget(self)
    @cython.locals(out=list, data=bytes)
    cpdef flush_now(self)
    cpdef wrote_beyond(self, Py_ssize_t size)
