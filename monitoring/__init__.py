"""Prometheus rules, Grafana dashboards and a replay of traffic; knows the service by HTTP alone."""
