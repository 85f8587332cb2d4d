from swarmgate.http.message cimport Request, Response
from swarmgate.http.moment cimport moment


cdef class Exchange:
    cdef public object client
    cdef public Request request
    cdef public str entry_point
    cdef public double started
    cdef public object route
    cdef public int passed
    cdef public str router
    cdef public str service
    cdef public str server
    cdef public str user
    cdef public object connection
    cdef public set tried
    cdef public int retries
    cdef public object retrying
    cdef public object trace
    cdef public int untold
    cdef public list places
    cdef public double wait_until
    cdef public str tls_options
    cdef public object _waiting
    cdef public bytes pending
    cdef public bint taken
    cdef public bint body_done
    cdef public list trailers
    cdef public tuple _request_transforms
    cdef public tuple _response_transforms
    cdef public int status
    cdef public Response response
    cdef public object origin_fields
    cdef public int origin_status
    cdef public double origin_started
    cdef public double origin_seconds
    cdef public long long received
    cdef public long long sent
    cdef public long long origin_sent
    cdef public bint ended
    cdef public int answers
    cdef public object taker
    cdef public list last_fields
    cdef public dict remembered

    cpdef bytes connect(self, connection)
    cpdef respond(self, Response response, bytes data, bint done)
    cdef _send_head(self, Response response, bytes data, bint done)
    cpdef data(self, bytes data)
    cpdef end(self, list trailers)
    cpdef leave(self)
