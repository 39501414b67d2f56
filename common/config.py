"""The textbook's switch between NumPy and CuPy.

    from common import config
    config.GPU = True  # before anything else of common is imported

It decides what ``np`` is in ``from common.np import *``, with which the textbook's models make their weights. The
layers of this project need no switch: they follow the arrays in hand.
"""

GPU = False
