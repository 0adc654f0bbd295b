"""One transformer over one sequence of text and marked media.

Read in this order: `encoder.py`, `media.py` (what a medium is to it), `image.py`, `video.py` and `audio.py`,
`template.py` (the layout of the text), `backbones/` (what differs from one backbone of transformers to another).
"""

import importlib
import pkgutil

from zoo.encoders.sequence.content import content_of as content_of
from zoo.encoders.sequence.encoder import SequenceEncoder as SequenceEncoder
from zoo.encoders.sequence.encoder import sequence as sequence

SequenceEncoder.__module__ = __name__  # what saved files call it

# A medium is one file here, found by being here: it registers its reader.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
