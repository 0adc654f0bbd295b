"""What Prometheus reads at /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class Metrics:
    """Counters of one application, in a registry of its own."""

    def __init__(self, model: str) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter("zoo_requests", "Answered requests.", ["status"], registry=own)
        self.seconds = Histogram(
            "zoo_request_seconds", "From a request's first byte to its answer.", registry=own, buckets=SECONDS
        )
        self.items = Counter("zoo_items", "Embedded items.", ["modality"], registry=own)
        self.tokens = Counter("zoo_tokens", "Tokens of the embedded texts.", registry=own)
        self.refused = Counter("zoo_refused", "Refused requests, by the error's code.", ["code"], registry=own)
        self.batch_items = Histogram("zoo_batch_items", "Items of one forward pass.", registry=own, buckets=SIZES)
        self.batch_seconds = Histogram("zoo_batch_seconds", "Time of one forward pass.", registry=own, buckets=SECONDS)
        self.waiting = Gauge("zoo_waiting_items", "Items of accepted requests without a vector yet.", registry=own)
        self.model = Gauge("zoo_model", "The served model; always 1.", ["name"], registry=own)
        self.model.labels(model).set(1)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
