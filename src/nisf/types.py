"""Names for array shapes, used in every public signature.

Letters: ``n`` points, ``s`` subjects in a batch, ``c`` intensity channels, ``k`` classes (background
included), ``d`` model coordinates, ``l`` latent size; ``x y z t`` are the axes of a volume.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Num

Matrix4 = Float[np.ndarray, "4 4"]
Vector3 = Float[np.ndarray, "3"]
PointsMm = Float[np.ndarray, "*n 3"]
Places = Num[np.ndarray, "*n 3"]
SliceImage = Num[np.ndarray, "x y c"]
SliceLabel = Int[np.ndarray, "x y"]
Vector = Sequence[float] | Sequence[int] | np.ndarray
