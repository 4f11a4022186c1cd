"""`prepare`: a release, read once, checked and resized, becomes a folder that every run maps into memory.

    manifest.parquet          the rows whose image is stored, row i of the table is image i of the store
    images-*.arrow            the images (data/store.py)
    rejected.parquet          image_id, path, reason, detail of every row that cannot be used
    dataset_statistics.json   images, pixel mean and deviation of every split (data/statistics_file.py)
    card.json                 the data card with counts, pixel statistics, settings; written last

run.py tells the steps in their order.
"""

from radlearn.prepare.command import main, prepared_folder
from radlearn.prepare.folder import load_prepared, settings_hash, source_states, table_of
from radlearn.prepare.outcome import Estimate, Prepared
from radlearn.prepare.run import FORMAT, prepare

__all__ = [
    "FORMAT",
    "Estimate",
    "Prepared",
    "load_prepared",
    "main",
    "prepare",
    "prepared_folder",
    "settings_hash",
    "source_states",
    "table_of",
]
