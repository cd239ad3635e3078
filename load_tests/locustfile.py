"""Locust's users and shape: requests that arrive when they are due, whatever the server does.

`locust -f load_tests/locustfile.py PhotoUser --arrival-rate 20 --arrival-seconds 60 --host URL`.
`--transport grpc --grpc-target HOST:PORT` sends over gRPC, and asks `--host` only for `/v1/info`.
Each user keeps a Poisson schedule of its own; together they arrive at the rate asked for. Locust's
own rows (`POST`, `GRPC`) count from when a request was sent, rows of type `SCHEDULED` from when it
was due: where the two part, users had to wait for earlier answers. Importing Locust patches sockets
and threads, so tests run this file in a process of its own.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore
from locust import FastHttpUser, LoadTestShape, constant, events, task
from locust.env import Environment
from locust.exception import StopUser

from benchmarks.serving.arrivals import bursts, poisson
from load_tests.bodies import SCENARIOS, Served, missing
from load_tests.transports import GrpcSender, HttpSender, Sender
from load_tests.wires import WIRES, Message

BODIES = 50
"""That each process makes beforehand of each scenario."""
LAST_ANSWERS_S = 65.0
"""After the test's end; senders give a request up after 60."""
SETTLING_S = 1.0
"""Between a user's start and its first schedule: the others prepare meanwhile, on the same core."""
log = logging.getLogger(__name__)
_users = itertools.count()
_messages: dict[str, list[Message]] = {}
_preparing = BoundedSemaphore()
"""One user prepares for all of its process; the others would do it again at once."""


@events.init_command_line_parser.add_listener
def add_arguments(parser: ArgumentParser) -> None:
    """Called by Locust."""
    add = parser.add_argument
    add("--arrival-rate", type=float, default=10.0, help="requests a second, of all users")
    add("--arrival-seconds", type=float, default=60.0, help="length of the test")
    add("--user-rate", type=float, default=0.2, help="requests a second of one user")
    add("--photos", type=int, default=12, help="how many different photos are sent")
    add("--transport", choices=list(WIRES), default="http", help="what carries the requests")
    add("--grpc-target", default="127.0.0.1:50051", help="host and port of the service's gRPC")


def users_for(options: Any) -> int:
    """So many that none is asked for more than `--user-rate`."""
    return max(1, math.ceil(options.arrival_rate / options.user_rate))


class ConstantArrivals(LoadTestShape):
    """All users from the start, until each has its last answer.

    Locust itself would end with requests under way, and lose what its workers counted last.
    """

    def tick(self) -> tuple[int, float] | None:
        """Called by Locust every second."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        assert options is not None
        late_s = self.get_run_time() - options.arrival_seconds - SETTLING_S
        if late_s > LAST_ANSWERS_S or (late_s > 0 and self.get_current_user_count() == 0):
            return None
        users = users_for(options)
        return users, users


class ScheduledUser(FastHttpUser):
    """Sends each request when it is due, or as soon after as the last answer allows."""

    abstract = True
    wait_time = constant(0)
    scenario: str

    def on_start(self) -> None:
        """Called by Locust."""
        options = self.environment.parsed_options
        assert options is not None
        number = next(_users) + 10_000 * _process_number(self.environment)
        pattern = bursts if SCENARIOS[self.scenario].bursts else poisson
        self._arrivals: Iterator[float] = pattern(
            options.arrival_rate / users_for(options), seed=number
        )
        self._sender = self._sender_of(options)
        self._turn = itertools.count(number)
        self._prepared = self._prepare(options)
        self._begun = time.perf_counter() + SETTLING_S
        self._end = self._begun + options.arrival_seconds

    def _sender_of(self, options: Any) -> Sender:
        if options.transport == "grpc":
            return GrpcSender(self.environment, options.grpc_target)
        return HttpSender(self.client)

    def _prepare(self, options: Any) -> list[Message]:
        with _preparing:
            return self._messages(options)

    def _messages(self, options: Any) -> list[Message]:
        if self.scenario not in _messages:
            served = Served.of(self.client.get("/v1/info", name="/v1/info").json())
            if lacks := missing(self.scenario, served):
                log.error("%s sends %s, which this server does not read", self.scenario, lacks)
                raise StopUser
            make = SCENARIOS[self.scenario].make
            seed = _process_number(self.environment)
            bodies = make(served, BODIES, seed, options.photos)
            _messages[self.scenario] = [WIRES[options.transport].encode(one) for one in bodies]
        return _messages[self.scenario]

    @task
    def arrive(self) -> None:
        """Waits until the next request is due, sends it and reports it; ends with the test."""
        due = self._begun + next(self._arrivals)
        early_s = min(due, self._end) - time.perf_counter()
        if early_s > 0:
            gevent.sleep(early_s)
        if time.perf_counter() >= self._end:
            raise StopUser
        message = self._prepared[next(self._turn) % len(self._prepared)]
        sent = self._sender.send(message, self.scenario)
        self.environment.events.request.fire(
            request_type="SCHEDULED",
            name=self.scenario,
            response_time=(time.perf_counter() - due) * 1000,
            response_length=sent.bytes,
            exception=None if sent.fault is None else RuntimeError(sent.fault),
            context={},
        )


def _process_number(environment: Environment) -> int:
    """0 in a process that runs alone; workers have numbers of their own."""
    return getattr(environment.runner, "worker_index", -1) + 1


class PhotoUser(ScheduledUser):
    """One photo a request."""

    scenario = "photos"


class TextUser(ScheduledUser):
    """A few texts a request."""

    scenario = "texts"


class MixedUser(ScheduledUser):
    """Photos with texts, texts, pictures."""

    scenario = "mixed"


class ActivationsUser(ScheduledUser):
    """Sixteen items of activations a request."""

    scenario = "activations"


class BurstUser(ScheduledUser):
    """The mixed requests, all in the first fifth of every ten seconds."""

    scenario = "bursts"


class PoisonUser(ScheduledUser):
    """Pictures, one in a hundred broken."""

    scenario = "poison"
