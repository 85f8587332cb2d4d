"""What OpenSSL can and CPython's ssl does not let one ask for: several groups, ticket keys, unverified certificates.

CPython keeps its ``SSL_CTX`` as the first member of an ``SSLContext``, in all versions so far, and its ``_ssl`` module
leads to the library's functions. Whether both hold is tried out once, on a context whose options are known; where they
don't, the functions here say so by returning False, and nothing is changed.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import ssl
import sysconfig
import weakref
from collections.abc import Callable
from typing import Any

_SET_TICKET_KEYS = 59  # SSL_CTRL_SET_TLSEXT_TICKET_KEYS
_SET_GROUPS_LIST = 92  # SSL_CTRL_SET_GROUPS_LIST
_SET_MODE = 33  # SSL_CTRL_MODE
_SET_SESSION_CACHE = 44  # SSL_CTRL_SET_SESS_CACHE_MODE
_SET_STATUS_CALLBACK = 63  # SSL_CTRL_SET_TLSEXT_STATUS_REQ_CB
_SET_STATUS = 71  # SSL_CTRL_SET_TLSEXT_STATUS_REQ_OCSP_RESP
_STATUS_GIVEN = 0  # SSL_TLSEXT_ERR_OK
_NO_STATUS = 3  # SSL_TLSEXT_ERR_NOACK
_RELEASE_BUFFERS = 0x10  # SSL_MODE_RELEASE_BUFFERS
_VERIFY_PEER = 1
_FAIL_IF_NO_PEER_CERT = 2

#: Octets of a ticket key: 16 that name it, 32 for HMAC-SHA256, 32 for AES-256 (SSL_CTX_set_tlsext_ticket_keys).
TICKET_KEY = 80


#: OpenSSL asks it whether a certificate will do: any will.
_accept = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(lambda preverified, store: 1)

_StatusCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
#: What OpenSSL calls has to be there as long as the context is, and a connection has a hold on its context.
_status_callbacks: weakref.WeakKeyDictionary[ssl.SSLContext, Any] = weakref.WeakKeyDictionary()


@functools.cache
def _library() -> Any:
    """libssl, None where it can't be reached."""
    if platform.python_implementation() != "CPython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None
    try:
        import _ssl

        library = ctypes.CDLL(_ssl.__file__)
        library.SSL_CTX_ctrl.restype = ctypes.c_long
        library.SSL_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        library.SSL_CTX_set_verify.restype = None
        library.SSL_CTX_set_verify.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
        library.SSL_CTX_set_ciphersuites.restype = ctypes.c_int
        library.SSL_CTX_set_ciphersuites.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.SSL_CTX_callback_ctrl.restype = ctypes.c_long
        library.SSL_CTX_callback_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, _StatusCallback]
        library.SSL_CTX_get0_certificate.restype = ctypes.c_void_p
        library.SSL_CTX_get0_certificate.argtypes = [ctypes.c_void_p]
        library.SSL_get_certificate.restype = ctypes.c_void_p
        library.SSL_get_certificate.argtypes = [ctypes.c_void_p]
        library.SSL_ctrl.restype = ctypes.c_long
        library.SSL_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        library.CRYPTO_malloc.restype = ctypes.c_void_p
        library.CRYPTO_malloc.argtypes = [ctypes.c_size_t, ctypes.c_char_p, ctypes.c_int]
        library.CRYPTO_free.restype = None
        library.CRYPTO_free.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
        library.SSL_CTX_get_options.restype = ctypes.c_uint64
        library.SSL_CTX_get_options.argtypes = [ctypes.c_void_p]
    except (ImportError, AttributeError, OSError):
        return None
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    probe.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    known = library.SSL_CTX_get_options(_pointer(probe)) == probe.options & 0xFFFFFFFFFFFFFFFF
    return library if known else None


def _pointer(context: ssl.SSLContext) -> int | None:
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value


def _control(context: ssl.SSLContext, command: int, number: int, data: bytes | None = None) -> int:
    """What SSL_CTX_ctrl returns, 0 where it can't be called."""
    library = _library()
    if library is None:
        return 0
    pointer = None if data is None else ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p)
    return int(library.SSL_CTX_ctrl(_pointer(context), command, number, pointer))


def set_groups(context: ssl.SSLContext, names: tuple[str, ...]) -> bool:
    """Agree on keys in one of the groups *names*, best first, as OpenSSL calls them (``X25519``, ``P-256``).

    :return: whether that is so now.
    """
    return _control(context, _SET_GROUPS_LIST, 0, ":".join(names).encode("ascii")) == 1


def set_cipher_suites(context: ssl.SSLContext, names: tuple[str, ...]) -> bool:
    """Speak TLS 1.3 with the cipher suites *names*, best first, by their registered names.

    :return: whether that is so now.
    """
    library = _library()
    if library is None:
        return False
    return bool(library.SSL_CTX_set_ciphersuites(_pointer(context), ":".join(names).encode("ascii")) == 1)


def set_ticket_key(context: ssl.SSLContext, key: bytes) -> bool:
    """Encrypt session tickets with *key*, of :data:`TICKET_KEY` octets, so that whoever has it can take them.

    :return: whether that is so now.
    """
    if len(key) != TICKET_KEY:
        raise ValueError(f"a ticket key has {TICKET_KEY} octets, not {len(key)}")
    return _control(context, _SET_TICKET_KEYS, TICKET_KEY, key) == 1


def release_buffers(context: ssl.SSLContext) -> bool:
    """Keep no buffers for connections that are idle, which saves some 17 KB for each and costs nothing to be measured.

    :return: whether that is so now.
    """
    return bool(_control(context, _SET_MODE, _RELEASE_BUFFERS) & _RELEASE_BUFFERS)


def ask_for_any_certificate(context: ssl.SSLContext, required: bool) -> bool:
    """Ask clients for a certificate and take any: it is not verified.

    :return: whether that is so now.
    """
    library = _library()
    if library is None:
        return False
    mode = _VERIFY_PEER | (_FAIL_IF_NO_PEER_CERT if required else 0)
    library.SSL_CTX_set_verify(_pointer(context), mode, ctypes.cast(_accept, ctypes.c_void_p))
    return True


def no_session_cache(context: ssl.SSLContext) -> bool:
    """Give clients no session ids to come back with, those of TLS 1.2 (RFC 5246, 7.3).

    :return: whether that is so now.
    """
    if _library() is None:
        return False
    _control(context, _SET_SESSION_CACHE, 0)  # SSL_SESS_CACHE_OFF; it returns the mode before.
    return True


def loaded_certificate(context: ssl.SSLContext) -> int | None:
    """What :func:`staple` calls the certificate that *context* was given last; None where that can't be told."""
    library = _library()
    found: int | None = None if library is None else library.SSL_CTX_get0_certificate(_pointer(context))
    return found


def staple(context: ssl.SSLContext, find: Callable[[int], bytes | None]) -> bool:
    """Show clients who ask for it what *find* gives, in each handshake (RFC 6066, 8).

    :param find: called with what :func:`loaded_certificate` has said of the certificate that the client gets; returns
        an OCSP response, DER, or None for nothing. It must hold no reference to *context*.
    :return: whether that is so now.
    """
    library = _library()
    if library is None:
        return False

    def give(connection: int, _: int | None) -> int:
        try:
            response = find(library.SSL_get_certificate(connection))
            if response is None:
                return _NO_STATUS
            # OpenSSL frees it.
            copy = library.CRYPTO_malloc(len(response), b"", 0)
            if not copy:
                return _NO_STATUS
            ctypes.memmove(copy, response, len(response))
            if library.SSL_ctrl(connection, _SET_STATUS, len(response), copy) != 1:
                library.CRYPTO_free(copy, b"", 0)
                return _NO_STATUS
            return _STATUS_GIVEN
        except Exception:
            # Nobody is there to catch it; the handshake goes on without.
            return _NO_STATUS

    callback = _StatusCallback(give)
    _status_callbacks[context] = callback
    return bool(library.SSL_CTX_callback_ctrl(_pointer(context), _SET_STATUS_CALLBACK, callback) == 1)
