"""How much of a stranger's table comes into memory at once: bounds on columns, lines, cells, rows and what is packed.

Each is far above honest tables: the widest of the Hub's largest data sets has a few hundred columns, text in columns packs to a
tenth or a fiftieth, and the longest lines hold an image in base64.
"""

MAX_COLUMNS = 2_000
DEEPEST = 64
"""Lists and objects within each other, in one cell."""
MAX_LINE = 2**26
"""Letters of a line and of a cell; and bytes of the texts of a row that were packed."""
MAX_WHOLE = 2**20
"""Bytes of a file that is one text: a novel. No model reads more of it than its beginning."""
MAX_VALUES = 2**22
"""Values in one JSON object: each takes some fifty bytes in memory, and two letters in the file."""
PIECE = 2**28
"""Bytes that may come out of what is packed, however small it was."""
COPIES = 2**26
"""Bytes of texts that may become Python's as copies of a few; beyond, a row at a time does. And bytes that may come out of a
packed file of text, whatever its size."""
PACKED_RATIO = 200
"""Beyond `PIECE`, how many times as large as in the file what is packed may be."""
LEAST_ROWS = 1_000_000
ROWS_A_BYTE = 20
"""Beyond `LEAST_ROWS`, how many rows a byte of a file may stand for."""
