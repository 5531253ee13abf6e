"""Readers of image datasets, one file per folder layout: a directory in, samples out."""

from blemish.datasets.btad import read_btad
from blemish.datasets.csv_file import read_csv
from blemish.datasets.folder import read_folder, read_folders
from blemish.datasets.hyper_kvasir import read_hyper_kvasir
from blemish.datasets.kolektorsdd import read_kolektorsdd, read_kolektorsdd2
from blemish.datasets.lag import read_lag
from blemish.datasets.masks import load_mask
from blemish.datasets.motion import BORDERS, ROTATIONS
from blemish.datasets.mvtec import read_mvtec
from blemish.datasets.rd_mvtec import VERSIONS, RdMvtec
from blemish.datasets.read import LAYOUTS, categories, detect_layout, read_dataset
from blemish.datasets.sample import NORMAL, Sample
from blemish.datasets.shanghaitech import read_shanghaitech
from blemish.datasets.visa import read_visa

__all__ = [
    "BORDERS",
    "LAYOUTS",
    "NORMAL",
    "ROTATIONS",
    "VERSIONS",
    "RdMvtec",
    "Sample",
    "categories",
    "detect_layout",
    "load_mask",
    "read_btad",
    "read_csv",
    "read_dataset",
    "read_folder",
    "read_folders",
    "read_hyper_kvasir",
    "read_kolektorsdd",
    "read_kolektorsdd2",
    "read_lag",
    "read_mvtec",
    "read_shanghaitech",
    "read_visa",
]
