"""Videos and animations that strangers could make, as bytes; most are the head of an honest one with something else in it."""

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image

PLAYLIST = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\nhttp://127.0.0.1:{port}/x.mp4\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile 'http://127.0.0.1:{port}/x.mp4'\n"
SESSION = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} TCP/RTP/AVP 96\n"
DASH = '<?xml version="1.0"?><MPD profiles="urn:mpeg:dash:profile:full:2011"><BaseURL>http://127.0.0.1:{port}/</BaseURL></MPD>'
EBML = b"\x1a\x45\xdf\xa3"


def box(name: bytes, *content: bytes) -> bytes:
    """A box of MP4."""
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + name + body


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of RIFF."""
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def mp4(width: int = 64, height: int = 48, reference: bytes = b"url \0\0\0\1", samples: int = 1) -> bytes:
    """An MP4 of one track of raw images, whose frames lie where `reference` says."""
    entry = box(
        b"raw ",
        bytes(6),
        b"\0\1",
        bytes(16),
        struct.pack(">HH", width, height),
        bytes(14),
        bytes(32),
        b"\0\x18\xff\xff",
    )
    frame = 3 * 64 * 48
    table = box(
        b"stbl",
        box(b"stsd", struct.pack(">II", 0, 1), entry),
        box(b"stts", struct.pack(">IIII", 0, 1, samples, 100)),
        box(b"stsc", struct.pack(">IIIII", 0, 1, 1, 1, 1)),
        box(b"stsz", struct.pack(">III", 0, frame, samples)),
        box(b"stco", struct.pack(">III", 0, 1, 40)),
    )
    references = box(b"dref", struct.pack(">II", 0, 1), struct.pack(">I", 4 + len(reference)) + reference)
    media = box(
        b"mdia",
        box(b"mdhd", struct.pack(">IIIIII", 0, 0, 0, 1000, 100, 0)),
        box(b"hdlr", bytes(8), b"vide", bytes(13)),
        box(b"minf", box(b"vmhd", bytes(12)), box(b"dinf", references), table),
    )
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    track = (
        struct.pack(">IIIIII", 1, 0, 0, 1, 0, 100) + bytes(16) + matrix + struct.pack(">II", width << 16, height << 16)
    )
    header = struct.pack(">IIIII", 0, 0, 0, 1000, 100) + bytes(80)
    movie = box(b"moov", box(b"mvhd", header), box(b"trak", box(b"tkhd", track), media))
    return box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + box(b"wide") + box(b"mdat", bytes(frame)) + movie


def avi(width: int = 16, height: int = 16, subtitle: bytes = b"") -> bytes:
    """An AVI of one raw frame of 16 x 16, and a second track of subtitles that are what they are."""
    main = struct.pack("<14I", 100_000, 0, 0, 0x10, 1, 0, 2, 0, width, height, 0, 0, 0, 0)
    video = b"vids" + struct.pack("<11I4H", 0, 0, 0, 0, 1, 10, 0, 1, 768, 0, 0, 0, 0, 16, 16)
    shape = struct.pack("<IiiHH6I", 40, width, height, 1, 24, 0, 768, 0, 0, 0, 0)
    texts = b"txts" + struct.pack("<11I4H", 0, 0, 0, 0, 1, 10, 0, 1, 768, 0, 0, 0, 0, 0, 0)
    tracks = chunk(b"LIST", b"strl" + chunk(b"strh", video) + chunk(b"strf", shape))
    tracks += chunk(b"LIST", b"strl" + chunk(b"strh", texts) + chunk(b"strf", b""))
    told = b"GAB2\0" + struct.pack("<HI", 2, 2) + b"a\0" + struct.pack("<HI", 4, len(subtitle)) + subtitle
    movie = chunk(b"LIST", b"movi" + chunk(b"01tx", told) + chunk(b"00db", bytes(768)))
    return chunk(b"RIFF", b"AVI " + chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + tracks) + movie)


def matroska(kind: bytes = b"webm", width: int = 64) -> bytes:
    """The head of a WebM that speaks of one track of such a width."""

    def element(number: bytes, body: bytes) -> bytes:
        return number + b"\x08" + len(body).to_bytes(4, "big") + body

    size = element(b"\xb0", width.to_bytes(8, "big")) + element(b"\xba", (48).to_bytes(2, "big"))
    track = element(b"\xd7", b"\1") + element(b"\x83", b"\1") + element(b"\x86", b"V_VP8") + element(b"\xe0", size)
    tracks = element(b"\x16\x54\xae\x6b", element(b"\xae", track))
    return element(EBML, element(b"\x42\x82", kind)) + element(b"\x18\x53\x80\x67", tracks)


def gif(width: int, height: int, frames: int, drawn: int = 1) -> bytes:
    """A GIF of so many frames, each of which draws `drawn` pixels anew."""
    one = io.BytesIO()
    Image.new("P", (drawn, 1)).save(one, "GIF")
    head = one.getvalue()
    body = head[head.index(b",") : -1]
    screen = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(6)
    control = b"!\xf9\x04\x04\x0a\0\0\0"
    return screen + (control + body) * frames + b";"


def apng(count: int) -> bytes:
    """A PNG that speaks of so many frames and has one."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "PNG")
    data = out.getvalue()
    facts = b"acTL" + struct.pack(">II", count, 0)
    place = data.index(b"IDAT") - 4
    return data[:place] + struct.pack(">I", 8) + facts + struct.pack(">I", zlib.crc32(facts)) + data[place:]


def webp() -> bytes:
    """The head of an animation whose canvas has 268 megapixels."""
    canvas = b"\x02\0\0\0" + (16382).to_bytes(3, "little") + (16382).to_bytes(3, "little")
    return chunk(b"RIFF", b"WEBP" + chunk(b"VP8X", canvas) + chunk(b"ANIM", bytes(6)))


NO_VIDEO = "is no video that the zoo reads"
DAMAGED = "is damaged|holds no video|has no frames|is cut off|not to RGB"
TOO_LARGE = "has frames of|is too much work|megapixels"
# name → (content for a port, what the error says; "" where its one frame is read, and the rest left alone).
CONTENTS: dict[str, tuple[Callable[[int], bytes], str]] = {
    "playlist": (lambda port: PLAYLIST.format(port=port).encode(), NO_VIDEO),
    "concat": (lambda port: CONCAT.format(port=port).encode(), NO_VIDEO),
    "session": (lambda port: SESSION.format(port=port).encode(), NO_VIDEO),
    "dash": (lambda port: DASH.format(port=port).encode(), NO_VIDEO),
    "matroska-session": (lambda port: EBML + b"\x81\n\n" + SESSION.format(port=port).encode() + b"\n" * 3000, NO_VIDEO),
    "matroska-playlist": (lambda port: EBML + b"\x81\n" + PLAYLIST.format(port=port).encode(), NO_VIDEO),
    "mp4-session": (lambda port: b"aaaaftypisom\n" + SESSION.format(port=port).encode() + b"\n" * 3000, NO_VIDEO),
    "mp4-dash": (lambda port: b"\n<a>ftypisom" + DASH.format(port=port).encode(), NO_VIDEO),
    "matroska-other": (lambda port: matroska(b"other"), NO_VIDEO),
    "avi-playlist": (lambda port: avi(subtitle=PLAYLIST.format(port=port).encode()), ""),
    "avi-session": (lambda port: avi(subtitle=SESSION.format(port=port).encode()), ""),
    "mp4-url": (lambda port: mp4(reference=b"url \0\0\0\0http://127.0.0.1:%d/x\0" % port), "in another file"),
    "mp4-urn": (lambda port: mp4(reference=b"urn \0\0\0\0file:///etc/passwd\0"), "in another file"),
    "mp4-alias": (lambda port: mp4(reference=b"alis\0\0\0\0" + bytes(160)), "in another file"),
    "mp4-wide": (lambda port: mp4(width=65535, height=65535), TOO_LARGE),
    "mp4-samples": (lambda port: mp4(samples=2**32 - 1), f"{DAMAGED}|{TOO_LARGE}"),
    "avi-wide": (lambda port: avi(60_000, 60_000), TOO_LARGE),
    "matroska-wide": (lambda port: matroska(width=2**40), TOO_LARGE),
    "matroska-head": (lambda port: matroska(), DAMAGED),
    "gif-frames": (lambda port: gif(8000, 8000, 20_000), "20,000 frames of 8000x8000"),
    "gif-wide": (lambda port: gif(65535, 65535, 2), TOO_LARGE),
    "apng-frames": (lambda port: apng(2**31 - 1), f"{DAMAGED}|{TOO_LARGE}"),
    "webp-wide": (lambda port: webp(), f"{DAMAGED}|{TOO_LARGE}"),
    "zeros": (lambda port: b"\0\0\1\xba" + bytes(10**6), DAMAGED),
}
