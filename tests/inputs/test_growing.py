"""What a point means: the thing around it, found by colour alone; its parts are held to scipy, scikit-image and shortest paths."""

import numpy as np
import pytest

from zoo import Point
from zoo.inputs import growing
from zoo.inputs.growing import grown
from zoo.inputs.regions import mask_of

RED, BLUE, WHITE = (200, 30, 30), (30, 60, 200), (250, 250, 250)


def overlap(found: np.ndarray, wanted: np.ndarray) -> float:
    return (found & wanted).sum() / (found | wanted).sum()


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A noisy red disk and a blue ring with a white middle, on green noise; the masks of both, the ring's with its middle."""
    rng = np.random.default_rng(0)
    pixels = np.full((180, 240, 3), (90.0, 150.0, 90.0))
    rows, columns = np.ogrid[:180, :240]
    disk, ring = ((rows - 90) ** 2 + (columns - x) ** 2 <= 40**2 for x in (65, 170))
    pixels[disk], pixels[ring] = RED, BLUE
    pixels[(rows - 90) ** 2 + (columns - 170) ** 2 <= 15**2] = WHITE
    return (pixels + rng.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8), disk, ring


def test_a_point_means_the_thing_that_it_lies_on(scene: tuple[np.ndarray, ...]) -> None:
    pixels, disk, ring = scene
    for place in ((65, 90), (40, 80), (80, 110)):
        assert overlap(grown(pixels, [place]), disk) > 0.9
    assert overlap(grown(pixels, [(170, 62)]), ring) > 0.9, "what surrounds a hole holds the hole"


def test_several_points_are_one_region_that_holds_all_of_them(scene: tuple[np.ndarray, ...]) -> None:
    pixels, disk, ring = scene
    found = mask_of([Point(65, 90), Point(170, 62)], pixels)
    assert overlap(found, disk | ring) > 0.9


@pytest.mark.parametrize(("side", "square"), [(160, True), (6, True), (60, False)])
def test_a_square_is_meant_where_what_is_found_is_a_speck_or_nearly_all(side: int, square: bool) -> None:
    pixels = np.full((180, 240, 3), BLUE, np.uint8)
    thing = np.zeros((180, 240), bool)
    thing[90 - side // 2 : 90 + side // 2, 120 - side // 2 : 120 + side // 2] = True
    pixels[thing] = RED
    found = grown(pixels, [(120, 90)])
    rows, columns = np.nonzero(found)
    if square:
        sides = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert sides == pytest.approx((0.3 * 180, 0.3 * 180), abs=4)
        assert found.sum() > 0.99 * sides[0] * sides[1]  # corners are rounded where the copy is scaled
    else:
        assert overlap(found, thing) > 0.9


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 400), (2000, 9)])
def test_images_of_any_size_give_a_mask_of_theirs_with_the_point(size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 128, np.uint8)
    for x, y in ((0, 0), (size[1] - 1, size[0] - 1), (size[1] - 0.5, size[0] / 2)):
        found = grown(pixels, [(x, y)])
        assert found.shape == size
        assert found.dtype == bool
        assert found[int(y), int(x)]


def test_a_turned_or_larger_image_means_the_same_thing(scene: tuple[np.ndarray, ...]) -> None:
    pixels, disk, _ = scene
    assert overlap(grown(np.ascontiguousarray(pixels.swapaxes(0, 1)), [(90, 65)]), disk.T) > 0.9
    large = pixels.repeat(5, 0).repeat(5, 1)
    assert overlap(grown(large, [(325, 450)]), disk.repeat(5, 0).repeat(5, 1)) > 0.9


def test_the_cheapest_ways_are_dijkstras() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(1)
    colours = rng.uniform(0, 30, (9, 13, 3))
    seeds = rng.random((9, 13)) < 0.05
    seeds[4, 4] = True
    numbers = np.arange(9 * 13).reshape(9, 13)
    edges = []
    for one, other in ((numbers[:, :-1], numbers[:, 1:]), (numbers[:-1], numbers[1:])):
        change = np.linalg.norm(colours.reshape(-1, 3)[one] - colours.reshape(-1, 3)[other], axis=-1)
        edges.append((one.ravel(), other.ravel(), ((change / growing._EDGE) ** 3 + growing._STEP).ravel()))
    start, end, cost = map(np.concatenate, zip(*edges, strict=True))
    graph = sparse.coo_array((cost, (start, end)), shape=(117, 117)).tocsr()
    wanted = sparse.csgraph.dijkstra(graph, directed=False, indices=np.flatnonzero(seeds), min_only=True)
    found = growing._spread(seeds, growing._ways(colours))
    np.testing.assert_allclose(found.ravel(), wanted, rtol=1e-6, atol=2e-3)


def test_what_hangs_together_and_its_holes_are_scipys() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(2)
    for _ in range(20):
        region, seeds = rng.random((30, 40)) < 0.62, np.zeros((30, 40), bool)
        seeds[15, 20] = region[15, 20] = True
        labels, _ = ndimage.label(region)
        own = labels == labels[15, 20]
        np.testing.assert_array_equal(growing._reached(seeds, region), own)
        np.testing.assert_array_equal(growing._whole(region, seeds), ndimage.binary_fill_holes(own))


def test_colours_are_cie_lab() -> None:
    lab = pytest.importorskip("skimage.color").rgb2lab
    colours = np.random.default_rng(3).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    np.testing.assert_allclose(growing._lab(colours), lab(colours), atol=0.01)
