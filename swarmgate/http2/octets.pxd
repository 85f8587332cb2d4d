cpdef bytes frame_head(Py_ssize_t size, int kind, int flags, long long stream_id)
cpdef bytes symbols(bytes code, bytes following, bytes kinds, bytes complete, bytes may_end)
