"""Real and synthetic data as batches: loaders, order, padding, packing and checks."""

from typing import TYPE_CHECKING

from rnnlab._lazy import lazily

if TYPE_CHECKING:
    from rnnlab.data import ngram as ngram
    from rnnlab.data.alphabet import Corpus as Corpus
    from rnnlab.data.alphabet import decode as decode
    from rnnlab.data.alphabet import encode as encode
    from rnnlab.data.alphabet import encode_with as encode_with
    from rnnlab.data.batch import Batch as Batch
    from rnnlab.data.batching import Batches as Batches
    from rnnlab.data.batching import batches as batches
    from rnnlab.data.boundaries import bucket_boundaries as bucket_boundaries
    from rnnlab.data.bucketing import Bucketed as Bucketed
    from rnnlab.data.bucketing import bucketed as bucketed
    from rnnlab.data.checks import check_batch as check_batch
    from rnnlab.data.files import TextSplit as TextSplit
    from rnnlab.data.files import corpora as corpora
    from rnnlab.data.files import split_files as split_files
    from rnnlab.data.gaps import Observations as Observations
    from rnnlab.data.gaps import forward_fill as forward_fill
    from rnnlab.data.gaps import interpolate as interpolate
    from rnnlab.data.gaps import observations as observations
    from rnnlab.data.order import Order as Order
    from rnnlab.data.packing import Packed as Packed
    from rnnlab.data.packing import packed as packed
    from rnnlab.data.resampling import regular_grid as regular_grid
    from rnnlab.data.resampling import resample as resample
    from rnnlab.data.series import Series as Series
    from rnnlab.data.series import Standardizer as Standardizer
    from rnnlab.data.series import sunspots as sunspots
    from rnnlab.data.streaming import Streams as Streams
    from rnnlab.data.streaming import streams as streams
    from rnnlab.data.synthetic import Generated as Generated
    from rnnlab.data.synthetic import generated as generated
    from rnnlab.data.tables import Table as Table
    from rnnlab.data.tables import read_table as read_table
    from rnnlab.data.text import TextFile as TextFile
    from rnnlab.data.text import read_text as read_text
    from rnnlab.data.text import standard_library as standard_library
    from rnnlab.data.text import standard_library_files as standard_library_files
    from rnnlab.data.time_files import read_time_table as read_time_table
    from rnnlab.data.time_tables import TimeTable as TimeTable
    from rnnlab.data.windowing import Forecasting as Forecasting
    from rnnlab.data.windowing import forecasting as forecasting
    from rnnlab.data.windowing import windows as windows

_HOME = {
    "Batch": "batch",
    "Batches": "batching",
    "Bucketed": "bucketing",
    "Corpus": "alphabet",
    "Forecasting": "windowing",
    "Generated": "synthetic",
    "Observations": "gaps",
    "Order": "order",
    "Packed": "packing",
    "Series": "series",
    "Standardizer": "series",
    "Streams": "streaming",
    "Table": "tables",
    "TextFile": "text",
    "TextSplit": "files",
    "TimeTable": "time_tables",
    "batches": "batching",
    "bucket_boundaries": "boundaries",
    "bucketed": "bucketing",
    "check_batch": "checks",
    "corpora": "files",
    "decode": "alphabet",
    "encode": "alphabet",
    "encode_with": "alphabet",
    "forecasting": "windowing",
    "forward_fill": "gaps",
    "generated": "synthetic",
    "interpolate": "gaps",
    "observations": "gaps",
    "packed": "packing",
    "read_table": "tables",
    "read_text": "text",
    "read_time_table": "time_files",
    "regular_grid": "resampling",
    "resample": "resampling",
    "split_files": "files",
    "standard_library": "text",
    "standard_library_files": "text",
    "streams": "streaming",
    "sunspots": "series",
    "windows": "windowing",
}
_MODULES = ("ngram",)

__all__ = [*_HOME, *_MODULES]

__getattr__, __dir__ = lazily("rnnlab.data", _HOME, _MODULES)
