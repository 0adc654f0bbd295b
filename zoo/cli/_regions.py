"""Regions of an image on the command line: the options that point at them, and how they are told."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InvalidRegionError, ZooError

if TYPE_CHECKING:
    from zoo.inputs.regions import Region

_RULES = "masked-crop (the usual one), dense or ensemble"


def add_region_options(parser: argparse.ArgumentParser, *, each: bool = False) -> None:
    """`--box`, `--point`, `--polygon` and `--mask`, whose order is kept, and with `each` also `--each`."""
    group = parser.add_argument_group(
        "regions of the image, in pixels of it upright, or with % of its sides; all together are one"
    )
    for name, metavar, what in (
        ("box", "X0,Y0,X1,Y1", "left, top, right, bottom: 10,20,200,220 or 0%%,0%%,50%%,100%%"),
        ("point", "X,Y", "a place on the thing that is meant"),
        ("polygon", "X,Y,X,Y,…", "its outline by corners"),
        ("mask", "FILE", "an image of the same size, black outside (PNG; no JPEG)"),
    ):
        kind = _mask if name == "mask" else _numbers(name)
        group.add_argument(
            f"--{name}", dest="regions", action="append", default=[], type=kind, metavar=metavar, help=f"{what}; repeat"
        )
    if each:
        group.add_argument("--each", action="store_true", help="a vector for each of them, in their order")


def add_rule_option(parser: argparse.ArgumentParser) -> None:
    """`--region`, wherever a model embeds regions."""
    parser.add_argument(
        "--region",
        metavar="RULE",
        help=f"how a model that reads whole images reads a region: {_RULES}; see docs/regions.md",
    )


def _numbers(name: str):  # -> Callable[[str], Region]
    def parse(text: str) -> "Region":
        from zoo.inputs.region_json import region_from_dict

        words = text.replace(" ", ",").strip(",").split(",")
        share = all(word.endswith("%") for word in words)
        try:
            numbers = [float(word.removesuffix("%")) / 100 if share else float(word) for word in words]
            pairs = list(zip(numbers[::2], numbers[1::2], strict=True)) if name == "polygon" else numbers
            return region_from_dict({name: pairs, **({"unit": "relative"} if share else {})}, name="it")
        except InvalidRegionError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers, or mixes pixels and %") from None

    return parse


def _mask(text: str) -> "Region":
    from zoo.inputs.masks import MaskFile
    from zoo.inputs.regions import Mask

    return Mask(MaskFile(Path(text).expanduser()))


def check_regions(arguments: argparse.Namespace, images: int) -> None:
    """Raises ZooError where regions are given and there is not one image that they are of, or a mask is no file."""
    files = [getattr(getattr(region, "pixels", None), "source", None) for region in arguments.regions or ()]
    if missing := [file for file in files if file is not None and not file.is_file()]:
        raise ZooError(f"--mask: {missing[0]} is no file")
    if arguments.regions and images != 1:
        raise ZooError(
            f"--box, --point, --polygon and --mask are of one image, and there are {images or 'none'}: --image FILE"
        )
    if getattr(arguments, "region", None) and not arguments.regions:
        raise ZooError("--region is how regions are read; give one: --box X0,Y0,X1,Y1")
    if getattr(arguments, "each", False) and not arguments.regions:
        raise ZooError("--each is of several regions; give them: --box X0,Y0,X1,Y1 --box X0,Y0,X1,Y1")


def told(regions: "Sequence[Region]") -> str:
    """Regions in words, as the options take them where they are short: "box 10,20,200,220 + mask"."""
    return " + ".join(map(_told, regions))


def _told(region: "Region") -> str:
    from zoo.inputs.regions import Mask, Polygon

    name = type(region).__name__.lower()
    if isinstance(region, Mask):
        return name
    if isinstance(region, Polygon) and len(region.corners) > 4:
        return f"{name} of {len(region.corners)} corners"
    share = region.unit == "relative"
    numbers = ",".join(f"{number * 100:.4g}%" if share else f"{number:.6g}" for number in region.numbers)
    return f"{name} {numbers}"


def to_json(regions: "Sequence[Region]") -> list[Mapping[str, Any]]:
    """Regions as `zoo.inputs.region_json` writes them, masks by the names of their files."""
    from zoo.inputs.masks import MaskFile
    from zoo.inputs.region_json import region_to_dict

    def one(region: "Region") -> Mapping[str, Any]:
        pixels = getattr(region, "pixels", None)
        return {"mask": str(pixels.source)} if isinstance(pixels, MaskFile) else region_to_dict(region)

    return [one(region) for region in regions]
