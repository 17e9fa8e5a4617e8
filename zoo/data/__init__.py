"""One's own pictures: opened, checked once, split by content."""

from zoo.data.duplicates import near_duplicates
from zoo.data.opening import open_data, open_unlabelled
from zoo.data.pictures import Pictures, images
from zoo.data.records import write_records
from zoo.data.split import SIDES, Split, split

__all__ = [
    "SIDES",
    "Pictures",
    "Split",
    "images",
    "near_duplicates",
    "open_data",
    "open_unlabelled",
    "split",
    "write_records",
]
