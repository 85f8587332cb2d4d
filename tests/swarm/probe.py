"""Asks a gate for hosts, again and again, and writes a line of JSON whenever an answer is another than before.

Run in a namespace of the laboratory: ``python3 probe.py --interval S ADDRESS:PORT[,ADDRESS:PORT...] HOST...``. Each
line has ``time`` (seconds since 1970, when the answer had come), ``at`` (whom it asked), ``host``, ``status`` (0: no
answer) and ``task`` (who answered, as the test application says). SIGTERM ends it, with a last line of ``asked``, how
many requests there were, and ``failed``, how many had no answer or one of 5xx.
"""

import argparse
import asyncio
import json
import signal
import sys
import time


class Probe:
    """Asks, and tells what has changed."""

    def __init__(self) -> None:
        self.asked = 0
        self.failed = 0

    async def ask(self, at: str, host: str) -> tuple[int, str]:
        """Return status and task of one answer; 0 and the reason where there is none."""
        address, port = at.rsplit(":", 1)
        writer = None
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(address, int(port)), 2)
            writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = await asyncio.wait_for(reader.read(), 5)
        except (TimeoutError, OSError) as error:
            return 0, type(error).__name__
        finally:
            if writer is not None:
                writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        try:
            status = int(head.split(None, 2)[1])
        except (IndexError, ValueError):
            return 0, "no answer"
        try:
            return status, json.loads(body)["task"]
        except (ValueError, KeyError, TypeError):
            return status, ""

    async def follow(self, at: str, host: str, interval: float) -> None:
        """Ask for a host until cancelled."""
        before = -1
        while True:
            began = time.monotonic()
            status, task = await self.ask(at, host)
            self.asked += 1
            self.failed += status == 0 or status >= 500
            if status != before:
                before = status
                told = {"time": time.time(), "at": at, "host": host, "status": status, "task": task}
                print(json.dumps(told), flush=True)
            await asyncio.sleep(max(0.0, interval - (time.monotonic() - began)))


async def main() -> None:
    """Ask until told to end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--interval", type=float, default=0.02, help="seconds between two requests for a host")
    parser.add_argument("at")
    parser.add_argument("hosts", nargs="+")
    options = parser.parse_args()
    probe = Probe()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    following = [
        asyncio.ensure_future(probe.follow(at, host, options.interval))
        for at in options.at.split(",")
        for host in options.hosts
    ]
    await ended.wait()
    for task in following:
        task.cancel()
    print(json.dumps({"asked": probe.asked, "failed": probe.failed}), flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
