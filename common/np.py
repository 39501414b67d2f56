"""``from common.np import *`` brings ``np``, NumPy or CuPy as ``common.config.GPU`` says, and ``GPU``, that switch.

Raises
------
common.backend.GpuUnavailable
    If CuPy is asked for and cannot be used.
"""

from common.config import GPU

if GPU:
    from common.backend import require_gpu

    np = require_gpu()
else:
    import numpy as np

__all__ = ["GPU", "np"]
