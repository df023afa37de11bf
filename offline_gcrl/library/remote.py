"""Ingested datasets in an object store with the interface of S3, which are copied to this machine."""

from pathlib import Path

from offline_gcrl.config.outputs import SCHEMA
from offline_gcrl.support.errors import DataError

PREFIX = "s3://"


def is_remote(source: object) -> bool:
    """Whether a source is an address of an object store."""
    return isinstance(source, str) and source.startswith(PREFIX)


def copied(address: str, folder: Path) -> Path:
    """Copy a folder of ingested episodes; its digests are compared when it is opened.

    Args:
        address: ``s3://<bucket>/<folder>``. The variables of the AWS tools name the credentials, the region and, as
            ``AWS_ENDPOINT_URL``, the server, if it is not Amazon's.
        folder: where the folder with the copy is made.

    Returns:
        The folder with the files.

    Raises:
        DataError: there is no ingested dataset at the address, or the store cannot be read.
    """
    from pyarrow import fs

    target = folder / "parquet" / (address.rstrip("/").rpartition("/")[2] or "data")
    target.mkdir(parents=True)
    try:
        store, path = fs.FileSystem.from_uri(address.rstrip("/"))
        found = store.get_file_info(f"{path}/{SCHEMA}").type == fs.FileType.File
        if found:
            fs.copy_files(path, str(target), source_filesystem=store)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{address}: cannot be read ({_first_sentence(error)}); check the address, AWS_ENDPOINT_URL and the credentials "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile)"
        ) from error
    if not found:
        raise DataError(
            f"{address}: has no {SCHEMA}; copy a folder such as datasets/parquet/<name> there, with all of its files"
        )
    return target


def _first_sentence(error: Exception) -> str:
    return str(error).split(" (Request ID")[0].splitlines()[0]
