import cv2
import numpy as np
import pytest

from fortify_lab.engines import Tesseract


def picture(letters: str) -> np.ndarray:
    image = np.full((60, 220), 255, np.uint8)
    cv2.putText(image, letters, (20, 45), cv2.FONT_HERSHEY_SIMPLEX, 1.5, 0, 4)
    return image


class Fragile(Tesseract):
    """Crashes over the pictures of these numbers, and then over a list that has one of them."""

    def __init__(self, *numbers: int):
        self.names = [f"{number:05d}.png" for number in numbers]

    def _pages(self, what, options):
        said = str(what)
        named = said + (what.read_text() if said.endswith(".txt") else "")
        return [] if any(name in named for name in self.names) else Tesseract._pages(what, options)


def test_a_picture_that_tesseract_crashes_over_is_read_as_nothing():
    images = [picture(letters) for letters in ("HELLO", "HOLE", "HELL")]
    read = Fragile(1).read(images, Tesseract.options[0], "EHLO")
    assert [letters for letters, _ in read] == ["HELLO", "", "HELL"]


def test_a_tesseract_that_reads_nothing_at_all_is_no_result():
    with pytest.raises(RuntimeError):
        Fragile(0, 1).read([picture("HELLO"), picture("HOLE")], Tesseract.options[0], "EHLO")
