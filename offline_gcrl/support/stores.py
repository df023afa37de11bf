"""Folders in an object store with the interface of S3, which are copied to this machine."""

from pathlib import Path

from offline_gcrl.support.errors import DataError
from offline_gcrl.support.files import remove_tree

PREFIX = "s3://"


def is_remote(source: object) -> bool:
    """Whether a source is an address of an object store."""
    return isinstance(source, str) and source.startswith(PREFIX)


def copy_from_store(address: str, target: Path, needed: str, remedy: str) -> None:
    """Copy a folder.

    Args:
        address: ``s3://<bucket>/<folder>``. The variables of the AWS tools name the credentials, the region and, as
            ``AWS_ENDPOINT_URL``, the server, if it is not Amazon's.
        target: folder of the copy, which does not exist.
        needed: a file that the folder must contain.
        remedy: what to do if it does not, the end of a sentence.

    Raises:
        DataError: the folder lacks the file, or the store cannot be read.
    """
    from pyarrow import fs

    folder = address.partition("://")[2].partition("?")[0]
    if wrong := [letter for letter in "#% " if letter in folder]:
        raise DataError(
            f"{address}: has '{wrong[0]}', which addresses cannot have; rename the folder"
        )
    try:
        store, path = fs.FileSystem.from_uri(address.rstrip("/"))
        found = store.get_file_info(f"{path}/{needed}").type == fs.FileType.File
        if found:
            target.mkdir(parents=True)
            fs.copy_files(path, str(target), source_filesystem=store)
    except (OSError, ValueError) as error:
        remove_tree(target)
        raise DataError(
            f"{address}: cannot be read ({_first_sentence(error)}); check the address, AWS_ENDPOINT_URL and the credentials "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile)"
        ) from error
    if not found:
        raise DataError(f"{address}: has no {needed}; {remedy}")


def _first_sentence(error: Exception) -> str:
    return str(error).split(" (Request ID")[0].splitlines()[0]
