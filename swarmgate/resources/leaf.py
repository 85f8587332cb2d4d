"""What twisted.web asks of a resource without children, for classes that are compiled.

Such a class can't inherit from :class:`twisted.web.resource.Resource`, which is none.
"""

from __future__ import annotations

from typing import Any


class LeafResource:
    """All of :class:`twisted.web.resource.IResource` but ``render``."""

    isLeaf = True

    def getChildWithDefault(self, name: bytes, request: Any) -> Any:
        """A leaf has no children."""
        raise NotImplementedError

    def putChild(self, path: bytes, child: Any) -> None:
        """A leaf has no children."""
        raise NotImplementedError
