"""Users of middlewares that ask for passwords, as options and files give them."""

from __future__ import annotations

from collections.abc import Iterable

_LARGEST_FILE = 16 * 1024 * 1024


def lines_of(users: Iterable[str], users_file: str) -> list[tuple[str, str]]:
    """Users in order, of the options ``users`` and ``usersFile``: pairs of where each was written and what.

    :raises ValueError: the file can't be read.
    """
    lines = [(f"users[{number}]", user) for number, user in enumerate(users)]
    if users_file:
        try:
            with open(users_file, encoding="utf-8") as file:
                text = file.read(_LARGEST_FILE)
        except (OSError, UnicodeDecodeError) as error:
            told = getattr(error, "strerror", None) or "not UTF-8"
            raise ValueError(f"usersFile: {users_file} can't be read: {told}") from None
        lines += [
            (f"{users_file}, line {number}", line)
            for number, line in enumerate(text.splitlines(), 1)
            if line.strip() and not line.lstrip().startswith("#")
        ]
    return lines
