"""What an operator watches: metrics and traces. The only package that knows prometheus_client and opentelemetry.

metrics         for Prometheus: counters of events, gauges, and what answers a scrape
otlp            traces and metrics for OpenTelemetry, where the standard variables ask for them
context         the trace that a piece of work is part of
labels          the values of labels, bounded

Each needs an extra of its own but for `context`, and is imported only where it is used.
"""
