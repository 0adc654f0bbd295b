"""Certificates: a model's vectors of golden inputs, stored beside its weights, that any machine can compute again.

`make(model).save(folder)` writes one; `verify(where)` holds every library that opens the folder to it.
"""

from zoo.publishing.certificate.checking import BATCHES, DTYPES, Report, Row, fetch, verify
from zoo.publishing.certificate.files import FILE, VECTORS, file_hashes
from zoo.publishing.certificate.golden import Golden
from zoo.publishing.certificate.making import Certificate, Tolerance, inputs_of, make

__all__ = [
    "BATCHES",
    "DTYPES",
    "FILE",
    "VECTORS",
    "Certificate",
    "Golden",
    "Report",
    "Row",
    "Tolerance",
    "fetch",
    "file_hashes",
    "inputs_of",
    "make",
    "verify",
]
