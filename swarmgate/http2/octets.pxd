cpdef bytes frame_head(Py_ssize_t size, int kind, int flags, long long stream_id)
