"""Input files as sources: .parquet, .jsonl and .csv.

The file as a whole is judged here (is it there, has it the columns, is it sorted), with one line when not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from services.mesh.errors import Fatal
from services.simulator.chunk import Source
from services.simulator.lines import CsvLines, JsonLines
from services.simulator.lines_file import LinesSource, read_header


def open_source(path: str, label_delay_ms: int) -> Source:
    """The file at ``path`` as a source; Fatal when it cannot be one."""
    file = Path(path)
    makers: dict[str, Callable[[Path, int], Source]] = {
        ".parquet": _parquet,
        ".jsonl": lambda f, delay: LinesSource(f, delay, JsonLines()),
        ".csv": lambda f, delay: LinesSource(f, delay, CsvLines(read_header(f))),
    }
    if file.suffix not in makers:
        raise Fatal(f"INPUT={path}: unknown extension {file.suffix or '(none)'}; must be {', '.join(makers)}")
    try:
        size = file.stat().st_size
        if file.is_dir():
            raise Fatal(f"INPUT={path}: is a directory; name one file of it")
        if size == 0:
            raise Fatal(f"INPUT={path}: is empty; nothing to send")
        return makers[file.suffix](file, label_delay_ms)
    except FileNotFoundError as error:
        raise Fatal(f"INPUT={path}: no such file (looked in {file.absolute().parent}); check the path") from error
    except PermissionError as error:
        raise Fatal(f"INPUT={path}: may not be read; check its permissions") from error


def _parquet(file: Path, label_delay_ms: int) -> Source:
    from services.simulator.parquet_file import ParquetSource  # pyarrow takes a third of a second to import

    return ParquetSource(file, label_delay_ms)
