cpdef double moment() noexcept
