import numpy as np
from PIL import Image

from fortify_lab.pictures import Picture


def test_the_default_image_is_the_still_and_no_frame(tmp_path):
    path = tmp_path / "a.png"
    shades = [Image.new("L", (8, 6), shade) for shade in (128, 0, 255, 0)]
    shades[0].save(path, save_all=True, append_images=shades[1:], default_image=True, duration=60)
    picture = Picture(path)
    assert picture.still.mean() == 128
    assert picture.frames.shape == (3, 6, 8)
    assert list(picture.frames.mean((1, 2))) == [0, 1, 0]


def test_a_plain_picture_has_one_frame(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(path)
    assert Picture(path).frames.shape == (1, 1, 2)
