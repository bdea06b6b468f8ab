"""Files as arrays: what a program sees that flattens them, and what a browser plays."""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageSequence


@dataclass
class Picture:
    """A file, decoded when it is looked at."""

    path: Path
    _cache: dict = field(default_factory=dict)

    @property
    def still(self) -> np.ndarray:
        """BGR; of an animated PNG the default image, as Pillow has it.

        Pillow and OpenCV's `imread` have the same. OpenCV 5.0's `imdecode`
        returns the first frame instead, which the chain `first frame` stands for.
        """
        if "still" not in self._cache:
            with Image.open(self.path) as image:
                self._cache["still"] = cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR)
        return self._cache["still"]

    @property
    def frames(self) -> np.ndarray:
        """The frames that are played, grey, from 0 (dark) to 1; the default image is none of them."""
        if "frames" not in self._cache:
            with Image.open(self.path) as image:
                hidden = bool(image.info.get("default_image"))
                played = [
                    np.asarray(frame.convert("L"), np.float32)
                    for frame in ImageSequence.Iterator(image)
                ]
            frames = np.stack(played[1:] if hidden and len(played) > 1 else played)
            low, high = frames.min(), frames.max()
            self._cache["frames"] = (frames - low) / max(1.0, high - low)
        return self._cache["frames"]
