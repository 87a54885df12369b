"""Puts boards/, targets/ and prompts/, which lie beside the package, into the wheel as tapc/_shipped/."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("boards", "targets", "prompts")


class BuildWithShipped(build_py):
    """build_py, and the shipped folders unless the install is editable."""

    def run(self) -> None:
        """Build; an editable install finds the folders in the source tree."""
        super().run()
        if self.editable_mode:
            return
        source, target = Path(__file__).parent, Path(self.build_lib) / "tapc" / "_shipped"
        shutil.rmtree(target, ignore_errors=True)
        for folder in SHIPPED:
            shutil.copytree(source / folder, target / folder)


setup(cmdclass={"build_py": BuildWithShipped})
