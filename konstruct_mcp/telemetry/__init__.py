"""What an operator watches: metrics and traces. The only package that knows prometheus_client and opentelemetry."""
