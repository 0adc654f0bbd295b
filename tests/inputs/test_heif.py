"""HEIC and HEIF images: read like any other where pillow-heif is, refused by name where it is not, and where strangers send them."""

import io
import struct
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from tests.demos.demo_support import COLOURS, colour_model, colour_photos
from tests.inputs.test_orientation import STORED, upright
from tests.serving.serve_support import data_url, form, serving
from zoo.errors import CorruptImageError, ImageTooLargeError, InputError, NotMediaError, UnreadHeifError, ZooError
from zoo.inputs import heif
from zoo.inputs.apart import ImagesApart
from zoo.inputs.image import load_pixels
from zoo.inputs.kinds import kind_of
from zoo.inputs.video import load_video
from zoo.serving import Limits, create_app

HEAD = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf"
needed = pytest.mark.skipif(find_spec("pillow_heif") is None, reason='pip install "embedding-zoo[heif]"')
LOSSLESS = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}


def heic(image: Image.Image, **options) -> bytes:
    """An image as the bytes of a HEIC file."""
    from pillow_heif import register_heif_opener

    out = io.BytesIO()
    register_heif_opener()
    try:
        image.save(out, "HEIF", **{**LOSSLESS, **options})
    finally:  # writing needs it; that others open HEIC by the way is what the zoo does without
        Image.ID.remove("HEIF")
        del Image.OPEN["HEIF"]
    return out.getvalue()


def test_sizes_are_found_in_every_form_of_their_box():
    box = struct.pack(">III", 0, 7000, 9000)
    assert heif.largest_size(HEAD) == (1, 1)
    assert heif.largest_size(HEAD + b"\0\0\0\x14ispe" + struct.pack(">III", 0, 30, 20)) == (30, 20)
    assert heif.largest_size(HEAD + b"\0\0\0\x14ispe" + box + b"\0\0\0\x14ispe" + bytes(12)) == (7000, 9000)
    assert heif.largest_size(HEAD + b"\0\0\0\x01ispe" + struct.pack(">Q", 28) + box) == (7000, 9000)
    assert heif.largest_size(HEAD + b"\0\0\0\x18ispe" + box + bytes(4)) == (7000, 9000)


def with_size(data: bytes, *size: int) -> bytes:
    """The file with another size in its header."""
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", *size) + data[at + 8 :]


# ---- What is HEIC


@pytest.mark.parametrize(
    ("head", "yes"),
    [
        (HEAD, True),
        (b"\0\0\0\x18ftypheix\0\0\0\0mif1heix", True),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", True),
        (b"\0\0\0\x14ftypmsf1\0\0\0\0hevc", True),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", False),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1heic", False),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp41hvc1", False),
        (b"\0\0\0\x18ftypmif1", True),
        (b"\xff\xd8\xff", False),
    ],
)
def test_heic_is_told_by_its_brands(head, yes):
    assert heif.is_heif(head) is yes
    assert (kind_of(head) == "image") is (b"isom" not in head)


def test_without_the_package_the_error_names_the_extra_and_converting(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heif.check_library.cache_clear()
    (tmp_path / "phone.heic").write_bytes(HEAD)
    with pytest.raises(UnreadHeifError, match=r"phone\.heic.*embedding-zoo\[heif\].*or convert it to JPEG") as caught:
        load_pixels(tmp_path / "phone.heic")
    assert isinstance(caught.value, NotMediaError)
    results = list(zoo.build_model("image-test").encode_stream([tmp_path / "phone.heic", upright()]))
    assert [getattr(one.error, "code", None) for one in results] == ["unread-heif", None]
    with pytest.raises(ZooError, match=r"embedding-zoo\[heif\]"):
        create_app(zoo.build_model("clip-test"), heif=True)


@needed
@pytest.mark.parametrize(
    ("libheif", "decoder", "said"),
    [("1.23.5", "version 1.1.3", "libheif 1.23.5"), ("1.23.6", "version 1.1.2", "1.1.2"), ("1.24.0", None, "absent")],
)
def test_a_library_with_known_faults_is_refused_by_name(libheif, decoder, said, monkeypatch):
    import pillow_heif

    info = {"libheif": libheif, "decoders": {"libde265": decoder} if decoder else {}}
    monkeypatch.setattr(pillow_heif, "libheif_info", lambda: info)
    heif.check_library.cache_clear()
    with pytest.raises(UnreadHeifError, match=said):
        load_pixels(HEAD)


# ---- Read like any other


@needed
@pytest.mark.parametrize("orientation", STORED)
def test_pixels_are_those_that_were_saved_and_turned_once(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = heic(STORED[orientation](upright()), exif=exif.tobytes())
    (tmp_path / "image.heic").write_bytes(data)
    for source in (data, tmp_path / "image.heic", io.BytesIO(data)):
        np.testing.assert_array_equal(load_pixels(source), np.asarray(upright()))
    assert "HEIF" not in Image.OPEN


@needed
def test_transparency_ten_bits_and_grey():
    rgba = upright()
    rgba.putalpha(Image.linear_gradient("L").resize(rgba.size))
    np.testing.assert_allclose(load_pixels(heic(rgba)), load_pixels(rgba), atol=1)
    np.testing.assert_array_equal(load_pixels(heic(upright("L"))), load_pixels(upright("L")))
    deep = Image.fromarray(np.asarray(upright("L"), np.uint16) * 257)
    data = heic(deep)
    import pillow_heif

    assert pillow_heif.open_heif(data).info["bit_depth"] == 10
    np.testing.assert_allclose(load_pixels(data), load_pixels(upright("L")), atol=1)


@needed
def test_of_several_images_the_primary_one_is_read():
    others = [Image.new("RGB", (64, 64), COLOURS[name]) for name in ("red", "green")]
    data = heic(upright(), save_all=True, append_images=others, primary_index=1)
    assert load_pixels(data).shape == (64, 64, 3)
    np.testing.assert_allclose(load_pixels(data)[0, 0], COLOURS["red"], atol=1)


@needed
def test_a_model_and_a_folder_read_it_like_the_png(tmp_path):
    from zoo.tables.images import walk_images

    (tmp_path / "b.heic").write_bytes(heic(upright()))
    (tmp_path / "named-nothing").write_bytes(heic(upright()))
    assert [name for name, error in walk_images(tmp_path) if not error] == ["b.heic", "named-nothing"]
    vectors = zoo.build_model("image-test").encode([upright(), tmp_path / "b.heic"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    with pytest.raises(NotMediaError, match="no video"):
        load_video(tmp_path / "b.heic")


# ---- Hostile bytes


@needed
def test_hostile_bytes_give_pixels_or_a_named_error_in_a_limited_process():
    data, child = heic(Image.effect_noise((96, 80), 90).convert("RGB"), quality=40), ImagesApart()
    try:
        with heif.decoding(child):
            load_pixels(data)
            pids = child.process.pids
            for share in (0.01, 0.1, 0.3, 0.6, 0.9, 0.999):
                with pytest.raises(CorruptImageError, match="damaged or cut off"):
                    load_pixels(data[: max(32, int(len(data) * share))])
            for size in ((60_000, 60_000), (2**31, 2**31), (8001, 8000)):
                with pytest.raises(ImageTooLargeError):
                    load_pixels(with_size(data, *size))
            for size in ((0, 5), (20, 12), (8000, 8000)):
                with pytest.raises(CorruptImageError):
                    load_pixels(with_size(data, *size))
            flip, outcomes = np.random.default_rng(0), set()
            for _ in range(150):
                broken = bytearray(data)
                broken[flip.integers(24, len(data))] ^= 1 << flip.integers(8)
                try:
                    outcomes.add(load_pixels(bytes(broken)).shape[2])
                except InputError as error:
                    outcomes.add(error.code)
            assert {3, "corrupt-image"} <= outcomes
            np.testing.assert_array_equal(load_pixels(data).shape, (80, 96, 3))
            assert child.process.pids == pids  # none of them killed it
    finally:
        child.close()


# ---- In a process of its own, whose decoder does harm


@pytest.mark.parametrize(
    ("decoder", "options", "error", "said"),
    [
        ("hangs", {"seconds": 0.5}, CorruptImageError, r"took more than 0\.5 s"),
        ("takes_all_memory", {}, ImageTooLargeError, "too much memory"),
        ("lies", {"max_pixels": 100}, CorruptImageError, "made to do harm"),
        ("answers_by_itself", {}, CorruptImageError, "made to do harm"),
        ("raises_anything", {}, CorruptImageError, "SystemExit"),
        ("never_ends", {}, CorruptImageError, "more pieces"),
        ("says_another_size", {}, CorruptImageError, "other pixels"),
        ("says_no_size", {}, CorruptImageError, "no size"),
    ],
)
def test_what_a_decoder_may_do_costs_one_image(decoder, options, error, said):
    child = ImagesApart(decoder=f"tests.inputs.heif_decoders:{decoder}", **options)
    try:
        with heif.decoding(child), pytest.raises(error, match=said):
            load_pixels(HEAD)
    finally:
        child.close()


def test_a_crash_is_an_error_of_one_image_and_the_next_is_decoded():
    child = ImagesApart(decoder="tests.inputs.heif_decoders:dies")
    out = io.BytesIO()
    upright().save(out, "PNG")
    try:
        with pytest.raises(CorruptImageError, match=r"a\.heic is damaged.*ended with status -11"):
            child(b"die", "a.heic")
        np.testing.assert_array_equal(child(out.getvalue(), "b.png"), np.asarray(upright()))
    finally:
        child.close()


# ---- Servers and pages


def test_a_server_refuses_heic_by_name_unless_enabled():
    with serving(zoo.build_model("clip-test")) as served:
        answers = [
            served.embed([{"image": data_url(HEAD, "image/heic")}]),
            served.call("POST", "/v1/embeddings", *form([("file", HEAD)])),
        ]
        for answer in answers:
            assert (answer.status, answer.json()["error"]["code"]) == (400, "unread-heif")
            assert "--heif" in answer.json()["error"]["message"]
        assert served.embed(["a cat"]).status == 200


@needed
def test_a_server_that_enables_it_survives_a_decoder_that_dies():
    model, data = zoo.build_model("clip-test"), heic(upright())
    with serving(model, heif=True, limits=Limits(pixels=5000)) as served:
        found = served.embed([{"image": data_url(data, "image/heic")}]).vectors()
        np.testing.assert_allclose(found[0], model.encode(upright()), atol=1e-5)
        answer = served.embed([{"image": data_url(with_size(data, 100, 51), "image/heic")}])
        assert answer.json()["error"]["code"] == "image-too-large"
        way = served.app.state.service.heif
        way.close()
        way.process.function = "tests.inputs.heif_decoders:dies"
        answer = served.embed(["a cat", {"image": data_url(HEAD + b"die", "image/heic")}])
        assert (answer.status, answer.json()["error"]["code"], answer.json()["error"]["param"]) == (
            400,
            "corrupt-image",
            "input[1]",
        )
        assert served.embed([{"image": data_url(data, "image/heic")}, "a cat"]).status == 200
    assert not way.process.pids


def page(tmp_path: Path, **options):
    """The handlers of a search page over images of colours."""
    gr = pytest.importorskip("gradio")
    from zoo.demos import search
    from zoo.demos.gallery import embed_files

    from tests.demos.demo_support import folder_images

    model = colour_model()
    gallery = embed_files(model, folder_images(colour_photos(tmp_path / "photos")))
    made, kept = [], search.Search

    class Kept(kept):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more)
            made.append(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(search, "Search", Kept)
        search.build(model, gallery, workspace=tmp_path / "work", **options)
    return gr, made[0]


def test_a_public_page_refuses_what_visitors_send_by_name(tmp_path):
    gr, search = page(tmp_path, local=False)
    (tmp_path / "phone.heic").write_bytes(HEAD)
    upload = str(tmp_path / "phone.heic")
    for call in (
        lambda: search.by_image(upload),
        lambda: search.by_both(upload, "blue"),
        lambda: search.classify(upload, "red, blue"),
        lambda: search.index_files([upload]),
    ):
        with pytest.raises(gr.Error, match="HEIC images are not read on this page") as caught:
            call()
        assert str(tmp_path) not in caught.value.message


@needed
@pytest.mark.parametrize("options", [{"local": True}, {"local": False, "heif": True}], ids=["local", "enabled"])
def test_a_local_and_an_enabled_page_read_it(options, tmp_path):
    _, search = page(tmp_path, **options)
    (tmp_path / "phone.heic").write_bytes(heic(Image.new("RGB", (64, 64), COLOURS["purple"])))
    upload = str(tmp_path / "phone.heic")
    try:
        assert search.by_image(upload, 1)[0][0][1].startswith("purple.png")
        own, _ = search.index_files([upload], False)
        assert "phone.heic" in [one.caption for one in search._in_use(own)[0].images]
        assert (search.heif is None) is options["local"]
        assert search.heif is None or search.heif.process.pids  # that one has decoded it
    finally:
        if search.heif is not None:
            search.heif.close()
