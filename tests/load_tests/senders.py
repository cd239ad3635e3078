"""Sends as users do, in a process that Locust has patched, and prints what came of it as JSON."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import gevent
from locust.contrib.fasthttp import FastHttpSession
from locust.env import Environment

from load_tests.transports import GrpcSender, HttpSender
from load_tests.wires import Message

NOTHING = Message(b"", ())
NOWHERE = "127.0.0.1:9"


def main(target: str) -> None:
    """Twenty users at once to `target`, then one to nowhere over each transport."""
    environment, reported = Environment(), []

    def note(request_type: str, exception: Exception | None, **told: Any) -> None:
        reported.append((request_type, told["name"], told["response_time"], str(exception or "")))

    environment.events.request.add_listener(note)
    begun = time.perf_counter()
    users = [
        gevent.spawn(lambda: GrpcSender(environment, target).send(NOTHING, "stalls").fault)
        for _ in range(20)
    ]
    gevent.sleep(0.2)
    awake_s = time.perf_counter() - begun
    gevent.joinall(users, raise_error=True)
    all_s = time.perf_counter() - begun
    http = FastHttpSession(f"http://{NOWHERE}", environment.events.request, user=None)
    gone = [
        sender.send(NOTHING, "gone").fault
        for sender in (GrpcSender(environment, NOWHERE), HttpSender(http))
    ]
    faults = [user.value for user in users]
    json.dump([awake_s, all_s, faults, gone, reported], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
