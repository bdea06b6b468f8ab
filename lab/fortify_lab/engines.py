"""Engines as they come, none trained here: Tesseract, both models of ddddocr, RapidOCR.

`ddddocr` and RapidOCR end in a line of probabilities per column (CTC). Beside their own decoding,
`alphabet` keeps only the characters that the question allows, which is ten lines for anyone.
"""

import os
import string
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from .answers import ALPHABET
from .labels import Sample

Image = np.ndarray
Reading = tuple[str, float]

SUM_CHARACTERS = "0123456789+-x=?" + "efghilnorstuvwx"


def characters_for(sample: Sample) -> str:
    """What a task's pictures can hold."""
    if sample.alphabet == "any":
        return string.digits + string.ascii_letters
    return SUM_CHARACTERS if sample.variant == "arithmetic" else ALPHABET


@dataclass(frozen=True)
class Option:
    """A way to run an engine."""

    name: str
    alphabet: bool = False
    psm: int = 7


class Tesseract:
    """The command of the Debian package, many pictures per process."""

    name = "tesseract"
    options = (
        Option("psm7+whitelist", True, 7),
        Option("psm8+whitelist", True, 8),
        Option("psm13+whitelist", True, 13),
        Option("psm6+whitelist", True, 6),
        Option("psm7", False, 7),
    )

    def read(self, images: list[Image], option: Option, characters: str) -> list[Reading]:
        if not images:
            return []
        with tempfile.TemporaryDirectory() as folder:
            names = []
            for index, image in enumerate(images):
                names.append(f"{folder}/{index:05d}.png")
                cv2.imwrite(names[-1], image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
            options = ["-l", "eng", "--psm", str(option.psm), "--dpi", "100"]
            if option.alphabet:
                options += ["-c", f"tessedit_char_whitelist={characters}"]
            listing = Path(folder, "list.txt")
            listing.write_text("\n".join(names) + "\n")
            pages = self._pages(listing, options)
            if len(pages) < len(names):
                # One picture that it crashes over ends the whole list.
                alone = [self._pages(name, options)[:1] for name in names]
                if not any(alone):
                    raise RuntimeError("tesseract reads no picture at all; are its English data there?")
                pages = [page for pages in alone for page in pages or [""]]
        return [("".join(page.split()), 0.0) for page in pages[: len(names)]]

    @staticmethod
    def _pages(what: Path | str, options: list[str]) -> list[str]:
        """The text of each page; none where it gave up."""
        environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
        command = ["tesseract", str(what), "-", *options]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        return done.stdout.split("\f") if done.returncode == 0 else []

    @staticmethod
    def version() -> str:
        done = subprocess.run(["tesseract", "--version"], capture_output=True, text=True)
        return (done.stdout + done.stderr).split("\n")[0]


class _Columns:
    """A network that gives, for each column of a line of text, the probability of each character."""

    options = (Option("own decoding"), Option("alphabet", True))

    def __init__(self, model: Path, characters: list[str]):
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(model), settings, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._characters = characters
        self._allowed: dict[str, np.ndarray] = {}

    def read(self, images: list[Image], option: Option, characters: str) -> list[Reading]:
        return [self._read(image, characters if option.alphabet else "") for image in images]

    def _read(self, image: Image, characters: str) -> Reading:
        columns = self._probabilities(self._session.run(None, {self._input: self._line(image)})[0])
        if characters:
            columns = columns * self._mask(characters)
        best = columns.argmax(1)
        chances = columns.max(1)
        kept = [i for i, c in enumerate(best) if c != 0 and (i == 0 or best[i - 1] != c)]
        text = "".join(self._characters[best[i]] for i in kept)
        return text, float(np.mean(chances[kept])) if kept else 0.0

    def _mask(self, characters: str) -> np.ndarray:
        if characters not in self._allowed:
            wanted = set(characters) | (set(characters.lower()) if characters == ALPHABET else set())
            wanted |= set("×？＝—") if characters == SUM_CHARACTERS else set()
            mask = np.array([name in wanted for name in self._characters], np.float32)
            mask[0] = 1.0
            self._allowed[characters] = mask
        return self._allowed[characters]


class Ddddocr(_Columns):
    """`ddddocr`; its `old` is its default model, so that there are two."""

    def __init__(self, beta: bool):
        import ddddocr
        from ddddocr.models.charset_manager import CharsetManager

        charset = CharsetManager()
        charset.load_default_charset(old=not beta, beta=beta)
        folder = Path(ddddocr.__file__).parent
        self.name = "ddddocr beta" if beta else "ddddocr"
        model = folder / ("common.onnx" if beta else "common_old.onnx")
        super().__init__(model, charset.get_charset())

    @staticmethod
    def _line(image: Image) -> Image:
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        width = max(1, int(grey.shape[1] * 64 / grey.shape[0]))
        shrinks = grey.shape[0] > 64
        grey = cv2.resize(grey, (width, 64), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        return (grey.astype(np.float32) / 255)[None, None]

    @staticmethod
    def _probabilities(output: np.ndarray) -> np.ndarray:
        columns = output[:, 0, :] if output.shape[1] == 1 else output[0]
        columns = np.exp(columns - columns.max(1, keepdims=True))
        return columns / columns.sum(1, keepdims=True)


class Rapid(_Columns):
    """The recognition model in `rapidocr-onnxruntime` (PP-OCRv4). Its text detector is left out: it
    takes fifty times as long and cuts these pictures into pieces."""

    name = "rapidocr"

    def __init__(self):
        import rapidocr_onnxruntime

        folder = Path(rapidocr_onnxruntime.__file__).parent
        model = folder / "models" / "ch_PP-OCRv4_rec_infer.onnx"
        bare = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        listed = bare.get_modelmeta().custom_metadata_map["character"].splitlines()
        super().__init__(model, ["", *listed, " "])

    @staticmethod
    def _line(image: Image) -> Image:
        colour = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        width = max(1, int(np.ceil(colour.shape[1] * 48 / colour.shape[0])))
        colour = cv2.resize(colour, (width, 48)).astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
        line = np.zeros((1, 3, 48, max(width, 320)), np.float32)
        line[0, :, :, :width] = colour
        return line

    @staticmethod
    def _probabilities(output: np.ndarray) -> np.ndarray:
        return output[0]


def load(names: list[str] | None = None) -> list:
    """The engines, or those of them that are named."""
    makers = {
        "tesseract": Tesseract,
        "ddddocr": lambda: Ddddocr(beta=False),
        "ddddocr-beta": lambda: Ddddocr(beta=True),
        "rapidocr": Rapid,
    }
    return [make() for name, make in makers.items() if not names or name in names]
