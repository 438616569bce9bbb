"""Readers and named data sets: from a file to arrays, or to a message that names the first bad row and column.

A data set is a pair of arrays (inputs, targets), or two pairs where it comes split for testing, and a card that says
where it comes from, under which licence, and by which digest it is known. Nothing here imports JAX: arrays are NumPy's,
and go into any function of the library as they are.
"""

from separatrix._errors import DataError as DataError, DataMissing as DataMissing
from separatrix.data.arrays import read_npy as read_npy, read_npz as read_npz
from separatrix.data.arrow import from_arrow as from_arrow
from separatrix.data.dataset import Card as Card, DataSet as DataSet
from separatrix.data.delimited import column_names as column_names, read_csv as read_csv
from separatrix.data.experiments import Experiment as Experiment, Series as Series, series as series
from separatrix.data.idx import read_idx as read_idx
from separatrix.data.images import (
    Pictures as Pictures,
    read_image_files as read_image_files,
    read_images as read_images,
)
from separatrix.data.loading import card as card, load as load, locate as locate, names as names, summary as summary
from separatrix.data.parquet import parquet_names as parquet_names, read_parquet as read_parquet
from separatrix.data.png import picture_grid as picture_grid, picture_levels as picture_levels, png_bytes as png_bytes
from separatrix.data.sets import GRAVITY as GRAVITY
from separatrix.data.splitting import Split as Split, split as split, split_files as split_files
from separatrix.data.table import Features as Features, Table as Table
from separatrix.data.text import Text as Text, read_text as read_text

__all__ = [
    "Card", "DataError", "DataMissing", "DataSet", "Experiment", "Features", "GRAVITY", "Pictures", "Series", "Split",
    "Table", "Text", "card", "column_names", "from_arrow", "load", "locate", "names", "parquet_names", "picture_grid",
    "picture_levels", "png_bytes", "read_csv", "read_idx", "read_image_files", "read_images", "read_npy", "read_npz",
    "read_parquet", "read_text", "series", "split", "split_files", "summary",
]  # fmt: skip
