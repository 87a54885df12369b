"""Names of the C library: everything global begins with the network's prefix, so that libraries can live together."""

import re
from dataclasses import dataclass
from pathlib import Path

from tapc.base.errors import DataError, UsageError

_LONGEST = 40
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
# Words of C and C++; headers of C libraries (a prefix is a file name: math.h); words, targets and libraries that CMake
# would take a target for (m); the example's and tapc's own.
_KEYWORDS = """
alignas alignof and and_eq asm atomic_cancel atomic_commit atomic_noexcept auto bitand bitor bool break case catch
char char8_t char16_t char32_t class compl concept const const_cast consteval constexpr constinit continue
co_await co_return co_yield decltype default delete do double dynamic_cast else enum explicit export extern false
float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq
private protected public reflexpr register reinterpret_cast requires restrict return short signed sizeof static
static_assert static_cast struct switch synchronized template this thread_local throw true try typedef typeid
typename typeof typeof_unqual union unsigned using virtual void volatile wchar_t while xor xor_eq
"""
_HEADERS = """
assert complex ctype errno fenv inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic stdbit
stdbool stdckdint stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype alloca ar
cpio dirent dlfcn elf endian fcntl features fnmatch ftw glob grp iconv io langinfo libgen link malloc memory
monetary net netdb nl_types poll process pthread pty pwd reent regdef regex sched search semaphore spawn stab
strings sys syslog tar termio termios trace ulimit unctrl unistd utime utmp utmpx values wordexp newlib cmsis
"""
_TARGETS = """
c g m gcc dl rt stdc nosys rdimon all all_build clean depend edit_cache help install install_local install_strip
list_install_components package package_source preinstall rebuild_cache run_tests test zero_check debug optimized
general object objects private public interface
"""
_OWN = """
main tapc
"""
_RESERVED = frozenset(f"{_KEYWORDS} {_HEADERS} {_TARGETS} {_OWN}".split())


def default_prefix(name: str) -> str:
    """Make a prefix of a network's name: a C identifier in lower case that nothing else needs."""
    words = re.sub(r"[^a-z0-9]+", "_", name.lower(), flags=re.ASCII).strip("_")[:_LONGEST].strip("_")
    if not words:
        return "network"
    if words[0].isdigit() or words in _RESERVED:
        return f"net_{words}"
    return words


def check_prefix(prefix: str) -> None:
    """Raise UsageError if a library's names cannot begin with `prefix`."""
    if not _IDENTIFIER.fullmatch(prefix) or len(prefix) > _LONGEST:
        raise UsageError(
            f"prefix {prefix!r} is no C identifier: use letters, digits and _, a letter first, at most {_LONGEST}"
        )
    if prefix.lower() in _RESERVED:
        raise UsageError(f"prefix {prefix!r} is a name that C, CMake or tapc needs itself; try {prefix}_net")


def identifier(name: str) -> str:
    """Return the part of a C identifier that tells a layer's name."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name, flags=re.ASCII).strip("_")[:_LONGEST].strip("_") or "op"


@dataclass(frozen=True)
class Names:
    """Names of one library.

    Attributes
    ----------
    prefix : str
        What functions, objects, files and the CMake target begin with; macros begin with it in capitals.
    """

    prefix: str

    @property
    def upper(self) -> str:
        """Prefix of the macros."""
        return self.prefix.upper()

    def symbol(self, what: str) -> str:
        """Return a function's or object's name: `run`, `input`, `output`, `arena`."""
        return f"{self.prefix}_{what}"

    def kernel(self, number: int, kind: str) -> str:
        """Return the name of a kernel's function."""
        return self.symbol(f"k_{number}_{kind}")

    def constant(self, role: str, step: int, layer: str) -> str:
        """Return the name of an array of constants; `memory_of` reads the role back."""
        return self.symbol(f"{role}_{step}_{identifier(layer)}")

    def macro(self, what: str) -> str:
        """Return a macro's name."""
        return f"{self.upper}_{what}"

    def file(self, part: str) -> str:
        """Return a file's name: `.h` and `.c`, or `kernels.c`, `steps.h`."""
        return f"{self.prefix}{part}" if part.startswith(".") else f"{self.prefix}_{part}"

    @property
    def example(self) -> str:
        """File of the example program, which has a `main`."""
        return self.file("example.c")

    def section_macro(self, region: str) -> str:
        """Return the macro that puts constants into a region; a build may define it otherwise."""
        return self.macro(f"IN_{region.upper()}")


def names_in(library: Path) -> Names:
    """Return the names of a library folder.

    Raises
    ------
    DataError
        The folder holds no library.
    """
    found = [path.name.removesuffix("_steps.h") for path in sorted(library.glob("*_steps.h"))]
    if len(found) != 1 or not _IDENTIFIER.fullmatch(found[0]):
        raise DataError(f"{library} is no tapc library folder: it needs one PREFIX_steps.h, and has {len(found)}")
    names = Names(found[0])
    for part in (".h", ".c"):
        if not (library / names.file(part)).is_file():
            raise DataError(f"{library} is no tapc library folder: {names.file(part)} is missing")
    return names
