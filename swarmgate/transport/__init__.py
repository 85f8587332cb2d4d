"""Sockets for Twisted protocols: uvloop's native ones, or Twisted's own where uvloop is missing.

A protocol cannot tell the difference. It is given a transport that has Twisted's ``ITransport`` and
``IPushProducer`` (``write``, ``loseConnection``, ``abortConnection``, ``getPeer``, ``registerProducer``,
``pauseProducing``, ``resumeProducing``) and ``loseWriteConnection``; it may have ``readConnectionLost``, as in
``IHalfCloseableProtocol``.
"""
