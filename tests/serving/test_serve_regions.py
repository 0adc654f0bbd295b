"""Regions on the wire: the vectors of `encode_regions`, limits, and errors that name the item."""

import numpy as np
import pytest

import zoo
from tests.serving.serve_support import data_url, make_image, serving
from zoo.inputs.masks import RunLengths
from zoo.serving import Limits

SIZE = (48, 40)  # width, height
BITS = np.zeros(SIZE[::-1], bool)
BITS[5:30, 10:20] = True
RUNS = RunLengths.of(BITS)
MASK = {"mask": {"size": [40, 48], "counts": RUNS.text}}


@pytest.fixture(scope="module")
def model():
    return zoo.build_model("mini-test").eval()


@pytest.fixture(scope="module")
def served(model):
    with serving(model, limits=Limits(regions=3, pixels=5000)) as served:
        yield served


@pytest.mark.parametrize(
    ("told", "regions"),
    [
        ([{"box": [1, 2, 30, 20]}], [zoo.Box(1, 2, 30, 20)]),
        ({"box": [0, 0, 0.5, 0.5], "unit": "relative"}, [zoo.Box(0, 0, 24, 20)]),
        (
            [{"point": [9, 9]}, {"polygon": [[0, 0], [30, 0], [0, 30]]}],
            [zoo.Point(9, 9), zoo.Polygon([(0, 0), (30, 0), (0, 30)])],
        ),
        ([MASK], [zoo.Mask(BITS)]),
        ([{"mask": {"size": [40, 48], "counts": list(RUNS.counts)}}], [zoo.Mask(BITS)]),
    ],
)
def test_an_image_with_regions_has_the_vector_of_these(served, model, told, regions):
    data = make_image(size=SIZE)
    expected = model.encode_regions(data, [regions])
    image = data_url(data)
    inputs = [
        {"image": image, "regions": told},
        {"content": [{"type": "image_url", "image_url": {"url": image}}], "regions": told},
        {"image": image},
    ]
    vectors = served.embed(inputs).vectors()
    np.testing.assert_allclose(vectors[:2], expected.expand(2, -1), atol=1e-5)
    assert np.abs(vectors[2] - vectors[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("told", "code", "words"),
    [
        ([{"box": [1, 2, 30]}], "invalid-region", "a box is a list of 4 numbers"),
        ([{"box": [1, 2, 30, 20], "label": 1}], "invalid-region", "unknown key 'label'"),
        ([{"box": [100, 2, 130, 20]}], "invalid-region", "lies outside the upright image"),
        ([{"mask": {"size": [8, 8], "counts": [10, 54]}}], "invalid-region", "is not of the size of the upright image"),
        ([{"mask": {"size": [40, 48], "counts": [1920]}}], "invalid-region", "is False everywhere"),
        ([{"mask": {"size": [100, 51], "counts": [1, 5099]}}], "image-too-large", "at most 5,000"),
        ([{"mask": "/etc/passwd"}], "invalid-region", "no file is opened here"),
        ("/etc/passwd", "invalid-region", "must be a list"),
        ([{"point": [1, 1]}] * 4, "too-many-regions", "4 regions; at most 3"),
        (7, "invalid-region", "or a list of them"),
    ],
)
def test_bad_regions_are_refused_with_their_place(served, told, code, words):
    answer = served.embed(["a", {"image": data_url(make_image(size=SIZE)), "regions": told}])
    assert answer.status == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("input[1]", code)
    assert words in error["message"]


def test_regions_of_no_image_are_refused(served):
    answer = served.embed({"text": "a", "regions": [{"box": [0, 0, 4, 4]}]})
    assert (answer.status, answer.json()["error"]["code"]) == (400, "invalid-region")
