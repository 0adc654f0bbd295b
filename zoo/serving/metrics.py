"""What Prometheus reads at /metrics."""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class Metrics:
    """Counters of one application, in a registry of its own."""

    def __init__(self, models: Sequence[str]) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter("zoo_requests", "Answered requests.", ["status"], registry=own)
        self.seconds = Histogram(
            "zoo_request_seconds", "From a request's first byte to its answer.", registry=own, buckets=SECONDS
        )
        self.items = Counter("zoo_items", "Embedded items.", ["modality"], registry=own)
        self.pairs = Counter("zoo_pairs", "Scored pairs of a query and a document.", registry=own)
        self.tokens = Counter("zoo_tokens", "Tokens of the embedded texts and scored pairs.", registry=own)
        self.refused = Counter("zoo_refused", "Refused requests, by the error's code.", ["code"], registry=own)
        self.batch_items = Histogram(
            "zoo_batch_items", "Items or pairs of one forward pass.", registry=own, buckets=SIZES
        )
        self.batch_seconds = Histogram("zoo_batch_seconds", "Time of one forward pass.", registry=own, buckets=SECONDS)
        self.waiting = Gauge(
            "zoo_waiting_items", "Items and pairs of accepted requests without a result yet.", registry=own
        )
        self._waits: list[Callable[[], float]] = []
        self.waiting.set_function(lambda: sum(wait() for wait in self._waits))
        self.model = Gauge("zoo_model", "The served models; always 1.", ["name"], registry=own)
        for model in models:
            self.model.labels(model).set(1)

    def count_waiting(self, waiting: Callable[[], float]) -> None:
        """Adds a queue to those of which `zoo_waiting_items` is the sum."""
        self._waits.append(waiting)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
