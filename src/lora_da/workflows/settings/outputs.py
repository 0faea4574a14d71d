"""What a command writes, and what it must not replace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lora_da.system.settings import required, setting


@dataclass(frozen=True)
class Outputs:
    """The files of an initialisation.

    Attributes:
        output: The adapter folder.
        save_statistics: A file for the statistics, if they are wanted.
        overwrite: Whether they may be replaced; of folders, only one that holds an adapter or nothing.
    """

    output: Path = setting(required, "The folder to write.")
    save_statistics: Path | None = setting(None, "Also write the statistics, to solve other ranks from later.")
    overwrite: bool = setting(False, "Replace outputs that are there already.")

    def check(self) -> None:
        """Refuse outputs that exist or get in each other's way, before any work is done.

        Raises:
            FileExistsError: One of the paths exists and may not be replaced.
            ValueError: A file lies inside the folder.
        """
        folder, file = self.output, self.save_statistics
        for path in filter(None, (folder, file)):
            if path.exists() and not self.overwrite:
                raise FileExistsError(f"{path} exists already; choose another path, or give --overwrite to replace it")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / "adapter_config.json").is_file():
            raise FileExistsError(
                f"{folder} holds something that is no adapter and is not replaced; choose another folder"
            )
        if file is not None and file.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{file} lies inside {folder}, which is written as a whole; put it elsewhere")
