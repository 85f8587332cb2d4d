"""Asks a gate once or more, one request after the other, and writes every answer as a line of JSON.

Run in a namespace of the laboratory: ``python3 ask.py ADDRESS:PORT HOST [--path PATH] [--count N] [--keep]``. Each
line has ``status`` (0: no answer), ``body`` and ``seconds``. Each request has a connection of its own unless all are
to ``--keep`` one. With the standard library of any Python from 3.11 on.
"""

import argparse
import http.client
import json
import time


def ask(connection: http.client.HTTPConnection, host: str, path: str, keep: bool) -> tuple[int, str]:
    """Return status and body of one answer; 0 and the reason where there is none."""
    try:
        connection.request("GET", path, headers={"Host": host, "Connection": "keep-alive" if keep else "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        keep = False
        return 0, repr(error)
    finally:
        if not keep:
            connection.close()


def main() -> None:
    """Ask as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("at")
    parser.add_argument("host")
    parser.add_argument("--path", default="/")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    connection = http.client.HTTPConnection(options.at, timeout=15)
    for _ in range(options.count):
        began = time.monotonic()
        status, body = ask(connection, options.host, options.path, options.keep)
        print(json.dumps({"status": status, "body": body, "seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
