"""Which frames of an AV1 video no other one is made of, from the heads of its packets (AV1 Bitstream & Decoding Process, 5.3 to 5.9).

Such a frame is written into none of the eight places for references, so that a decoder which never sees it gives every other one the
same. What is rare (layers, a decoder model, a still image) is not looked into, and then every frame counts as needed.
"""

from collections.abc import Iterator
from typing import NamedTuple

_SEQUENCE, _FRAME_HEADER, _FRAME, _REDUNDANT = 1, 3, 6, 7
_KEY, _INTER, _INTRA_ONLY, _SWITCH = range(4)
_TOLD = 2  # SELECT_SCREEN_CONTENT_TOOLS, SELECT_INTEGER_MV: each frame says
_HEAD = 64  # bytes of a unit in which all that is read here lies


class _Bits:
    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "big"), 8 * len(data)

    def __call__(self, count: int) -> int:
        self.left -= count
        if self.left < 0:
            raise EOFError
        return self.value >> self.left & ((1 << count) - 1)


class _Sequence(NamedTuple):
    """What a sequence says that stands before `refresh_frame_flags` in the head of each of its frames."""

    frame_id: int  # bits, 0 for none
    screen_content: int
    integer_mv: int
    order_hint: int  # bits


class Leaves:
    """Tells packet by packet, in order.

    Args:
        extradata: the codec's own head, with the sequence in MP4 and Matroska.
    """

    def __init__(self, extradata: bytes) -> None:
        self._sequence: _Sequence | None = None
        if extradata[:1] == b"\x81":  # a marker and the version; then two bytes of facts and one of delay
            self(memoryview(extradata)[4:])

    def __call__(self, packet: memoryview) -> bool:
        """Whether a packet holds nothing but frames of which no other one is made."""
        leaf: bool | None = False
        try:
            for kind, unit in _units(packet):
                if kind == _SEQUENCE:
                    self._sequence = _sequence(_Bits(bytes(unit[:_HEAD])))
                    leaf = None
                elif kind in (_FRAME_HEADER, _FRAME, _REDUNDANT) and leaf is not None:
                    alone = self._sequence is not None and _is_leaf(_Bits(bytes(unit[:_HEAD])), self._sequence)
                    leaf = True if alone else None
        except (EOFError, IndexError):
            return False
        return bool(leaf)


def _units(packet: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(kind, content) of the units of a packet; raises EOFError where it is none that a file may hold."""
    at = 0
    while at < len(packet):
        head = packet[at]
        # obu_header, from the highest bit: forbidden 1, type 4, extension 1, has_size 1, reserved 1.
        if head & 0x81 or head & 4 or not head & 2:  # no unit; in a layer; without its length
            raise EOFError
        # leb128: seven bits a byte, the lowest first; the eighth bit says that another byte follows.
        size, shift, at = 0, 0, at + 1
        while True:
            byte = packet[at]
            size, shift, at = size | (byte & 0x7F) << shift, shift + 7, at + 1
            if not byte & 0x80:
                break
            if shift > 28:
                raise EOFError
        if at + size > len(packet):
            raise EOFError
        yield head >> 3 & 15, packet[at : at + size]
        at += size


def _sequence(bits: _Bits) -> _Sequence | None:
    """sequence_header_obu, as far as the order hint's length; None for what is not looked into."""
    bits(3)  # seq_profile
    still, reduced = bits(1), bits(1)
    if still or reduced or bits(1):  # timing_info_present_flag: a decoder model may follow
        return None
    delay = bits(1)
    if bits(5) or bits(12):  # operating points, and the layers of the first
        return None
    if bits(5) > 7:  # seq_level_idx
        bits(1)
    if delay and bits(1):
        bits(4)
    width, height = bits(4) + 1, bits(4) + 1
    bits(width + height)
    frame_id = bits(4) + 2 + bits(3) + 1 if bits(1) else 0
    bits(3 + 4)  # tools within a frame, and between frames
    has_order = bits(1)
    if has_order:
        bits(2)
    screen = _TOLD if bits(1) else bits(1)
    integer = _TOLD
    if screen:
        integer = _TOLD if bits(1) else bits(1)
    return _Sequence(frame_id, screen, integer, bits(3) + 1 if has_order else 0)


def _is_leaf(bits: _Bits, sequence: _Sequence) -> bool:
    """uncompressed_header, as far as `refresh_frame_flags`."""
    if bits(1):  # show_existing_frame
        return False
    kind, shown = bits(2), bits(1)
    if not shown:
        bits(1)  # showable_frame
    if kind in (_KEY, _SWITCH):  # written into all places, or nearly
        return False
    resilient = bits(1)
    bits(1)  # disable_cdf_update
    screen = bits(1) if sequence.screen_content == _TOLD else sequence.screen_content
    if screen and sequence.integer_mv == _TOLD:
        bits(1)
    bits(sequence.frame_id)
    bits(1)  # frame_size_override_flag
    bits(sequence.order_hint)
    if kind == _INTER and not resilient:
        bits(3)  # primary_ref_frame
    # refresh_frame_flags: a bit for each of the eight places that this frame is written into.
    return bits(8) == 0
