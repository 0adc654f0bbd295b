"""Regions: what is accepted, what is refused and by which words, and which pixels are meant."""

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo import Box, Item, Mask, Point, Polygon
from zoo.errors import InvalidRegionError
from zoo.inputs.hashing import item_key
from zoo.inputs.item import as_item
from zoo.inputs.regions import MAX_REGIONS, checked_regions, mask_of, resolved

HEIGHT, WIDTH = 40, 60
IMAGE = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
NAN, INF = float("nan"), float("inf")


def meant(*regions) -> np.ndarray:
    return mask_of(checked_regions(regions), IMAGE)


def test_a_box_means_the_pixels_whose_middle_lies_in_it() -> None:
    for box, rows, columns in (
        (Box(2, 3, 5, 9), (3, 9), (2, 5)),
        (Box(2.4, 3.6, 5.4, 9.6), (4, 10), (2, 5)),
        (Box(-7, -7, 5, 9), (0, 9), (0, 5)),  # cut at the border
        (Box(50, 30, 99, 99), (30, HEIGHT), (50, WIDTH)),
        (Box(10.6, 10.6, 10.8, 10.8), (10, 11), (10, 11)),  # between two middles: the pixel that it lies in
        (Box(59.9, 39.9, 70, 70), (39, 40), (59, 60)),
        (Box(0, 0, WIDTH, HEIGHT), (0, HEIGHT), (0, WIDTH)),
    ):
        expected = np.zeros((HEIGHT, WIDTH), bool)
        expected[slice(*rows), slice(*columns)] = True
        assert (meant(box) == expected).all(), box


def test_relative_coordinates_are_parts_of_the_sides() -> None:
    assert resolved([Box.relative(0.25, 0.5, 1, 1)], HEIGHT, WIDTH) == (Box(15, 20, 60, 40),)
    assert resolved([Point.relative(0.5, 0.25)], HEIGHT, WIDTH) == (Point(30, 10),)
    assert resolved([Polygon.relative([(0, 0), (1, 0), (0, 1)])], HEIGHT, WIDTH) == (
        Polygon([(0, 0), (60, 0), (0, 40)]),
    )


def test_points_on_the_border_are_of_the_last_pixel() -> None:
    assert resolved([Point(WIDTH, HEIGHT)], HEIGHT, WIDTH) == (Point(WIDTH - 1, HEIGHT - 1),)
    assert meant(Point(WIDTH, HEIGHT))[HEIGHT - 1, WIDTH - 1]
    assert meant(Point(0, 0))[0, 0]


@pytest.mark.parametrize(
    "corners",
    [
        [(5, 5), (50, 8), (30, 35)],
        [(10, 5), (50, 35), (50, 5), (10, 35)],  # crosses itself: two triangles
        [(30, 2), (42, 38), (8, 14), (52, 14), (18, 38)],  # a star, whose middle lies outside by the even-odd rule
        [(-20, -20), (90, 10), (20, 70)],
    ],
)
def test_a_polygon_is_filled_by_the_even_odd_rule(corners) -> None:
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    places = np.stack([x.ravel(), y.ravel()], 1)
    crossings = np.zeros(len(places), int)
    for (a, b), (c, d) in zip(corners, [*corners[1:], corners[0]], strict=True):
        over = (b > places[:, 1]) != (d > places[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            at = a + (places[:, 1] - b) / np.float64(d - b) * (c - a)
        crossings += over & (places[:, 0] < at)
    expected = (crossings % 2 == 1).reshape(HEIGHT, WIDTH)
    assert (meant(Polygon(corners)) == expected).all()


def test_a_mask_means_its_pixels_and_several_regions_their_union() -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[3, 4] = True
    for given in (mask, mask.astype(np.uint8) * 255, torch.from_numpy(mask), np.asarray(Image.fromarray(mask))):
        assert (meant(Mask(given)) == mask).all()
    both = meant(Mask(mask), Box(10, 10, 20, 20))
    assert both.sum() == 101
    assert both[3, 4]


VALID = np.ones((HEIGHT, WIDTH), bool)


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (Box(0, 0, NAN, 4), "finite"),
        (Point(INF, 4), "finite"),
        (Box("0", 0, 4, 4), "numbers"),
        (Box(True, 0, 4, 4), "numbers"),
        (Box(5, 5, 5, 9), "no area"),
        (Box(5, 5, 4, 9), r"left, top, right, bottom"),
        (Box(0.1, 0.2, 0.5, 0.9), r"Box.relative"),
        (Point(0.4, 0.5), r"Point.relative"),
        (Box.relative(0, 0, 30, 30), "from 0 to 1"),
        (Box(1, 2, 30, 30, "inches"), "unit"),
        (Box(61, 0, 70, 9), "outside"),
        (Box(-9, 0, -1, 9), "outside"),
        (Point(61, 5), "outside"),
        (Point(-1, 5), "outside"),
        (Polygon([(70, 0), (80, 0), (75, 9)]), "outside"),
        (Polygon([(1, 1), (5, 5)]), "3 to"),
        (Polygon([(1, 1), (5, 5), (9, 9)]), "one line"),
        (Mask(np.ones((WIDTH, HEIGHT), bool)), "60 by 40"),
        (Mask(np.zeros((HEIGHT, WIDTH), bool)), "False everywhere"),
        (Mask(np.ones((HEIGHT, WIDTH, 3), bool)), r"\(height, width\)"),
        (Mask(np.ones((HEIGHT, WIDTH))), "threshold"),
        (Mask(-np.ones((HEIGHT, WIDTH), int)), "negative"),
        ((0, 0, 9, 9), r"zoo\.Box"),
        ("box", r"zoo\.Box"),
        (None, r"zoo\.Box"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_region_of_the_image_is_refused_by_its_place(region, said: str) -> None:
    with pytest.raises(InvalidRegionError, match=said) as caught:
        meant(Mask(VALID), region)
    assert "region 1" in str(caught.value)


def test_a_polygon_of_odd_corners_is_refused_where_it_is_written() -> None:
    for corners in ([(1, 2, 3)] * 3, [1, 2, 3], 5):
        with pytest.raises(InvalidRegionError):
            Polygon(corners)


def test_ten_thousand_points_in_one_item_are_refused_with_the_way_to_a_vector_of_each() -> None:
    with pytest.raises(InvalidRegionError, match="encode_regions") as caught:
        as_item(Item(image=IMAGE, regions=[Point(i % WIDTH, 3) for i in range(10_000)]))
    assert f"{MAX_REGIONS:,}" in str(caught.value)


def test_regions_without_an_image_are_refused() -> None:
    for item in (Item(text="a dog", regions=[Box(0, 0, 4, 4)]), Item(video=[IMAGE] * 2, regions=[Box(0, 0, 4, 4)])):
        with pytest.raises(InvalidRegionError, match="of an image"):
            as_item(item)


def test_coordinates_are_of_the_upright_image(tmp_path) -> None:
    model = zoo.build_model("mini-test").eval()
    image = Image.fromarray(IMAGE)
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # upright after a quarter turn to the right
    image.rotate(90, expand=True).save(turned, exif=exif, quality=95)
    upright = tmp_path / "upright.jpg"
    image.save(upright, quality=95)
    box = Box(40, 2, 58, 20)
    one, other = model.encode([Item(image=turned, regions=[box]), Item(image=upright, regions=[box])])
    elsewhere = model.encode(Item(image=upright, regions=[Box(2, 2, 20, 20)]))
    assert one @ other > 0.99 > one @ elsewhere


def test_keys_tell_regions_apart() -> None:
    given = [
        (),
        (Box(0, 0, 1, 1),),
        (Box.relative(0, 0, 1, 1),),
        (Point(0, 0),),
        (Polygon([(0, 0), (9, 0), (0, 9)]),),
        (Polygon([(0, 0), (9, 0), (0, 8)]),),
        (Mask(VALID),),
        (Mask(~VALID),),
        (Box(0, 0, 1, 1), Point(0, 0)),
    ]
    assert len({item_key(Item(image=IMAGE, regions=regions)) for regions in given}) == len(given)
