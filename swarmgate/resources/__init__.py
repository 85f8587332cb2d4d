"""The twisted.web resource tree of an entry point.

Its root finds the route of a request; the route's middlewares lead to a leaf. A leaf that can answer an exchange
does so, :class:`~swarmgate.resources.proxy.ReverseProxyResource` above all; any other ``IResource`` gets an ordinary
twisted.web ``Request``. And the root is an ordinary resource itself, for any twisted.web ``Site`` to serve.
"""
