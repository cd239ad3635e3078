"""Redis, the service, the drift worker, Prometheus and Alertmanager on the loopback.

Prometheus reads the rules that are shipped, unchanged; of its configuration and Alertmanager's
only ports, folders and intervals differ.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from monitoring.expressions import HERE
from monitoring.tour.processes import Processes, answers, listens, port

SCRAPE_S = 1
"""How often is scraped and evaluated; 15 as shipped."""
BENTOML = Path(sys.executable).with_name("bentoml")


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """How drift is judged; hours become seconds here."""

    bucket_s: int = 2
    """Each a block, since the traffic has no keys."""
    window_s: int = 20
    """Ten blocks and more."""
    grace_s: int = 6
    """Counts are in Redis after five seconds."""
    learn_items: int = 1200
    """Of which a segment's own reference is made."""
    reference: str = "artifact"
    """What all traffic is compared with; `live` is its own beginning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """What is started, and where; every port is free when this is made."""

    artifact: Path
    """What the service serves."""
    folder: Path
    """Logs, data and configurations."""
    windows: Windows = field(default_factory=Windows)
    """Of drift."""
    service_port: int = field(default_factory=lambda: port(3000))
    """Of the service."""
    drift_port: int = field(default_factory=lambda: port(3001))
    """Of the drift worker."""
    redis_port: int = field(default_factory=port)
    """Of Redis."""
    prometheus_port: int = field(default_factory=lambda: port(9090))
    """Of Prometheus."""
    alertmanager_port: int = field(default_factory=lambda: port(9093))
    """Of Alertmanager."""
    receiver_port: int = 0
    """Of whoever takes what Alertmanager sends; 0 leaves Alertmanager out."""

    @property
    def service(self) -> str:
        """The service's address."""
        return f"http://127.0.0.1:{self.service_port}"

    @property
    def prometheus(self) -> str:
        """Prometheus' address."""
        return f"http://127.0.0.1:{self.prometheus_port}"

    @property
    def alertmanager(self) -> str:
        """Alertmanager's address."""
        return f"http://127.0.0.1:{self.alertmanager_port}"

    @property
    def settings(self) -> dict[str, str]:
        """Of the service and of the drift worker."""
        windows = self.windows
        return {
            "BENTOML_HOME": str(self.folder / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
            "KOINE_ARTIFACT": str(self.artifact.resolve()),
            "KOINE_REDIS_URL": f"redis://127.0.0.1:{self.redis_port}",
            "KOINE_GRPC_PORT": "0",
            "KOINE_AUDIT": str(self.folder / "audit"),
            "KOINE_AUDIT_KEY": str(self.folder / "audit.key"),
            "KOINE_DRIFT_PORT": str(self.drift_port),
            "KOINE_DRIFT_BUCKET_S": str(windows.bucket_s),
            "KOINE_DRIFT_WINDOW_S": str(windows.window_s),
            "KOINE_DRIFT_GRACE_S": str(windows.grace_s),
            "KOINE_DRIFT_LEARN_ITEMS": str(windows.learn_items),
            "KOINE_DRIFT_REFERENCE": windows.reference,
        }

    def start(self, processes: Processes) -> None:
        """Starts all of it, each when the one before is ready."""
        for name in ("bentoml", "audit"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        python = sys.executable
        redis = ["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1"]
        redis += ["--save", "", "--dir", str(self.folder)]
        processes.start("redis", redis, {}, listens(self.redis_port))
        key = self.folder / "audit.key"
        make_key = [python, "-m", "koine", "audit", "key", "--out", str(key)]
        processes.once("audit-key", make_key)
        serve = [str(BENTOML), "serve", "service.app:ConceptService"]
        serve += ["--host", "127.0.0.1", "--port", str(self.service_port)]
        processes.start("service", serve, self.settings, answers(f"{self.service}/readyz"))
        judge = [python, "-m", "service.drift"]
        ready = answers(f"http://127.0.0.1:{self.drift_port}/readyz")
        processes.start("drift", judge, self.settings, ready)
        if self.receiver_port:
            self._start_alertmanager(processes)
        self._start_prometheus(processes)

    def _start_prometheus(self, processes: Processes) -> None:
        config = _written(self.folder / "prometheus.yml", self._prometheus_config())
        command = ["prometheus", f"--config.file={config}"]
        command += [f"--storage.tsdb.path={self.folder / 'prometheus'}"]
        command += [f"--web.listen-address=127.0.0.1:{self.prometheus_port}"]
        processes.start("prometheus", command, {}, answers(f"{self.prometheus}/-/ready"))

    def _start_alertmanager(self, processes: Processes) -> None:
        config = _written(self.folder / "alertmanager.yml", self._alertmanager_config())
        command = ["prometheus-alertmanager", f"--config.file={config}"]
        command += [f"--storage.path={self.folder / 'alertmanager'}", "--cluster.listen-address="]
        command += [f"--web.listen-address=127.0.0.1:{self.alertmanager_port}"]
        processes.start("alertmanager", command, {}, answers(f"{self.alertmanager}/-/ready"))

    def _prometheus_config(self) -> dict[str, Any]:
        config = yaml.safe_load((HERE / "prometheus.yml").read_text())
        config["global"] = dict.fromkeys(("scrape_interval", "evaluation_interval"), f"{SCRAPE_S}s")
        config["rule_files"] = [str(HERE / path) for path in config["rule_files"]]
        ports = {"koine": self.service_port, "koine-drift": self.drift_port}
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
        target = {"targets": [f"127.0.0.1:{self.alertmanager_port}"]}
        config["alerting"]["alertmanagers"] = [{"static_configs": [target]}]
        if not self.receiver_port:
            del config["alerting"]
        return config

    def _alertmanager_config(self) -> dict[str, Any]:
        config = yaml.safe_load((HERE / "alertmanager.yml").read_text())
        for route in (config["route"], *config["route"]["routes"]):
            route |= {"group_wait": "1s", "group_interval": "2s"}
        for receiver in config["receivers"]:
            url = f"http://127.0.0.1:{self.receiver_port}/{receiver['name'].removesuffix('s')}"
            receiver["webhook_configs"] = [{"url": url, "send_resolved": True}]
        return config


def _written(path: Path, config: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(config), sort_keys=False))
    return path
