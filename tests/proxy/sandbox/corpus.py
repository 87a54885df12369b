# ruff: noqa: E501
"""Programs that mean harm or are broken: what each is, and how it has to end.

`kinds` are the ends that are allowed behind the source check and with harmless builtins only. `raw` are those with the
source check switched off and every builtin handed over, where nothing but the kernel's lock holds; None where a program
only makes sense in the first setting. "ok" means that it ran and did no harm.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    name: str
    code: str
    kinds: tuple[str, ...]
    raw: tuple[str, ...] | None = None


def score(body: str) -> str:
    """Return a program whose score does something and then answers well."""
    lines = "".join(f"    {line}\n" for line in body.strip("\n").split("\n"))
    return f"def score(layers):\n{lines}    return [1.0 for layer in layers]\n"


# Behind -I -S no module file can be opened; these are loaded, with ctypes as the way to any system call.
LIBC = "import sys\nctypes, os = sys.modules['ctypes'], sys.modules['os']\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def call(text: str) -> str:
    """Return a program that makes a system call by number; it must not come back with success."""
    check = "if result >= 0:\n    raise SystemExit('the kernel allowed it')"
    return score(f"{LIBC}ctypes.set_errno(0)\nresult = libc.syscall({text})\n{check}")


FORBIDDEN = ("forbidden",)
DENIED = ("forbidden", "ok")  # killed, or refused with EPERM and nothing happened
E_OK = ("ok",)

CASES = (
    # files
    Case("read a file", score("open('CANARY').read()"), FORBIDDEN, FORBIDDEN),
    Case("write a file", score("open('CANARY', 'w').write('x')"), FORBIDDEN, FORBIDDEN),
    Case("create a file", score("open('CANARY.new', 'w').write('x')"), FORBIDDEN, FORBIDDEN),
    Case("delete a file", score("import os\nos.unlink('CANARY')"), FORBIDDEN, FORBIDDEN),
    Case("rename a file", score("import os\nos.rename('CANARY', 'CANARY.moved')"), FORBIDDEN, FORBIDDEN),
    Case("list a folder", score("import os\nos.listdir('/')"), FORBIDDEN, FORBIDDEN),
    Case("change folder", score("import os\nos.chdir('/tmp')"), FORBIDDEN, FORBIDDEN),
    Case("symlink", score("import os\nos.symlink('/etc/passwd', 'CANARY.link')"), FORBIDDEN, FORBIDDEN),
    Case("read its own memory file", score("open('/proc/self/mem', 'rb')"), FORBIDDEN, FORBIDDEN),
    Case("openat by number", call("257, -100, b'/etc/passwd', 0"), FORBIDDEN, DENIED),
    Case("openat2 by number", call("437, -100, b'/etc/passwd', 0, 0"), FORBIDDEN, DENIED),
    Case("memfd", call("319, b'x', 0"), FORBIDDEN, DENIED),
    Case("pathlib", "from pathlib import Path\n" + score("Path('CANARY').read_text()"), FORBIDDEN, FORBIDDEN),
    # processes
    Case("fork", score("import os\nos.fork()"), FORBIDDEN, FORBIDDEN),
    Case("fork bomb", score("import os\nwhile True:\n    os.fork()"), FORBIDDEN, FORBIDDEN),
    Case("shell", score("import os\nos.system('touch CANARY.new')"), FORBIDDEN, FORBIDDEN),
    Case("exec", score("import os\nos.execv('/bin/sh', ['sh'])"), FORBIDDEN, FORBIDDEN),
    Case("subprocess", "import subprocess\n" + score("subprocess.run(['id'])"), FORBIDDEN, FORBIDDEN),
    Case("clone by number", call("56, 17, 0, 0, 0, 0"), FORBIDDEN, FORBIDDEN),
    Case("clone3 by number", call("435, 0, 0"), FORBIDDEN, FORBIDDEN),
    Case("thread", "import _thread\n" + score("_thread.start_new_thread(print, ())"), FORBIDDEN, ("forbidden", "exception")),
    Case("kill the parent", score("import os\nos.kill(os.getppid(), 9)"), FORBIDDEN, FORBIDDEN),
    Case("kill everyone", score("import os\nos.kill(-1, 9)"), FORBIDDEN, FORBIDDEN),
    Case("stop itself", score("import os\nos.kill(os.getpid(), 19)"), FORBIDDEN, FORBIDDEN),
    Case("leave the session", score("import os\nos.setsid()"), FORBIDDEN, FORBIDDEN),
    Case("ptrace", call("101, 16, 1, 0, 0"), FORBIDDEN, FORBIDDEN),
    Case("raise limits", "import resource\n" + score("resource.setrlimit(resource.RLIMIT_AS, (-1, -1))"), FORBIDDEN,
         ("forbidden", "exception")),
    Case("undo no_new_privs", call("157, 38, 0, 0, 0, 0"), FORBIDDEN, DENIED),
    Case("another seccomp filter", call("317, 1, 0, 0"), FORBIDDEN, DENIED),
    # network
    Case("socket", "import socket\n" + score("socket.create_connection(('127.0.0.1', PORT))"), FORBIDDEN, FORBIDDEN),
    Case("socket by number", call("41, 2, 1, 0"), FORBIDDEN, FORBIDDEN),
    Case("urllib", "import urllib.request\n" + score("urllib.request.urlopen('http://127.0.0.1:PORT')"), FORBIDDEN, FORBIDDEN),
    # the kernel
    Case("mount", call("165, b'none', b'/mnt', b'tmpfs', 0, 0"), FORBIDDEN, FORBIDDEN),
    Case("unshare", call("272, 0x10000000"), FORBIDDEN, FORBIDDEN),
    Case("bpf", call("321, 0, 0, 0"), FORBIDDEN, FORBIDDEN),
    Case("io_uring", call("425, 8, 0"), FORBIDDEN, FORBIDDEN),
    Case("userfaultfd", call("323, 0"), FORBIDDEN, FORBIDDEN),
    Case("executable memory", call("9, 0, 4096, 7, 0x22, -1, 0"), FORBIDDEN, DENIED),
    Case("32-bit system call", call("0x40000000 + 39"), FORBIDDEN, FORBIDDEN),
    Case("read another process's memory", call("310, 1, 0, 0, 0, 0, 0"), FORBIDDEN, FORBIDDEN),
    Case("ctypes null pointer", "import ctypes\n" + score("ctypes.string_at(0)"), FORBIDDEN, ("crash",)),
    Case("write over memory", score(f"{LIBC}ctypes.memset(ctypes.c_void_p(id(layers)), 255, 4096)"), FORBIDDEN,
         ("crash", "exception", "ok", "timeout", "output", "memory", "result", "forbidden")),
    # resources
    Case("endless loop", score("while True:\n    pass"), ("timeout",), ("timeout",)),
    Case("endless recursion", "def f():\n    return f()\n" + score("f()"), ("exception",), ("exception",)),
    Case("deep recursion", "def f(n):\n    return n and f(n - 1)\n" + score("f(100000)"), ("exception",), ("exception",)),
    # On a busy host the time is up before the memory is; "one huge list" is the memory's alone.
    Case("memory bomb", score("x = []\nwhile True:\n    x.append(' ' * 10000000)"), ("memory", "timeout"), ("memory", "timeout")),
    Case("one huge list", score("[0] * 10**10"), ("memory",), ("memory",)),
    Case("huge power", score("10 ** 10 ** 8"), ("timeout", "memory"), ("timeout", "memory")),
    Case("huge integer as text", score("str(10 ** 4999)"), ("exception",), ("exception",)),
    Case("a loop in C", score("sum(range(10 ** 12))"), ("timeout",), ("timeout",)),
    Case("sorting for ever", score("sorted(range(10 ** 9))"), ("memory", "timeout"), ("memory", "timeout")),
    Case("catastrophic pattern", "import re\n" + score("re.match('(a+)+$', 'a' * 64 + 'b')"), FORBIDDEN, ("timeout", "forbidden")),
    Case("sleep", "import time\n" + score("time.sleep(60)"), FORBIDDEN, ("forbidden", "exception", "ok", "timeout")),
    Case("nested brackets", score("x = " + "[" * 5000 + "]" * 5000), ("syntax", "forbidden"), ("syntax", "memory", "exception")),
    Case("long chain", score("x = " + "+".join("1" for _ in range(30000))), ("forbidden", "syntax"), ("ok", "exception", "syntax", "memory")),
    Case("a million lines", score("x = 1\n" * 100000), FORBIDDEN, ("ok", "timeout")),
    # the result's channel
    Case("print a result", score("print('{\"results\": [[9, 9]]}')"), E_OK, ("ok", "output")),
    Case("write a result", "import os\n" + score("os.write(1, b'\\x02\\x00\\x00\\x00{}')"), FORBIDDEN, ("output",)),
    Case("write rubbish", "import os\n" + score("os.write(1, b'x' * 1000)"), FORBIDDEN, ("output",)),
    Case("announce 4 GiB", "import os\n" + score("os.write(1, b'\\xff\\xff\\xff\\xff')"), FORBIDDEN, ("output",)),
    Case("announce and wait", "import os\n" + score("os.write(1, b'\\xff\\x00\\x00\\x00')\nwhile True:\n    pass"), FORBIDDEN, ("timeout",)),
    Case("write for ever", "import os\n" + score("while True:\n    os.write(1, b'x' * 65536)"), FORBIDDEN, ("output", "timeout")),
    Case("close the channel", "import os\n" + score("os.close(1)"), FORBIDDEN, ("crash",)),
    Case("close it and go on", "import os\n" + score("os.close(1)\nwhile True:\n    pass"), FORBIDDEN, ("timeout", "crash")),
    Case("leave quietly", "import os\n" + score("os._exit(0)"), FORBIDDEN, ("crash",)),
    Case("raise SystemExit", score("raise SystemExit(0)"), ("exception",), ("exception",)),
    Case("raise KeyboardInterrupt", score("raise KeyboardInterrupt"), ("exception",), ("exception",)),
    Case("huge result", "def score(layers):\n    return ['x' * 100000] * 100\n", ("output",), ("output",)),
    Case("nested result", "def score(layers):\n    x = []\n    for _ in range(100):\n        x = [x]\n    return x\n", ("result",), ("result",)),
    Case("circular result", "def score(layers):\n    x = []\n    x.append(x)\n    return x\n", ("result",), ("result",)),
    # wrong results
    Case("nothing", "def score(layers):\n    pass\n", ("scores",)),
    Case("too few", "def score(layers):\n    return [1.0]\n", ("scores",)),
    Case("not a number", "def score(layers):\n    return [float('nan') for _ in layers]\n", ("result",)),
    Case("infinite", "def score(layers):\n    return [1e308 * 10 for _ in layers]\n", ("result",)),
    Case("negative", "def score(layers):\n    return [-1.0 for _ in layers]\n", ("scores",)),
    Case("all zero", "def score(layers):\n    return [0.0 for _ in layers]\n", ("scores",)),
    Case("texts", "def score(layers):\n    return ['1' for _ in layers]\n", ("scores",)),
    Case("booleans", "def score(layers):\n    return [True for _ in layers]\n", ("scores",)),
    Case("complex", "def score(layers):\n    return [1j for _ in layers]\n", ("result",)),
    Case("a generator", "def score(layers):\n    return (1.0 for _ in layers)\n", ("result",)),
    Case("a set", "def score(layers):\n    return {1.0, 2.0}\n", ("result",)),
    Case("a function", "def score(layers):\n    return score\n", ("result",)),
    Case("no score", "def scores(layers):\n    return []\n", ("missing",), ("missing",)),
    Case("score is a number", "score = 1\n", ("missing",), ("missing",)),
    Case("no syntax", "def score(layers)\n    return 1\n", ("syntax",), ("syntax",)),
    Case("null bytes", "def score(layers):\n    return '\0'\n", ("syntax",), ("syntax", "exception")),
    Case("empty", "", ("missing",), ("missing",)),
    Case("divides by zero", score("1 / 0"), ("exception",), ("exception",)),
    Case("unknown column", score("layers[0]['tensor']"), ("exception",), ("exception",)),
    # ways around Python
    Case("subclasses", score("().__class__.__base__.__subclasses__()"), FORBIDDEN, E_OK),
    Case("format reaches attributes", score("'{0.__class__}'.format(layers)"), FORBIDDEN, E_OK),
    Case("import by hand", score("__import__('os').getcwd()"), FORBIDDEN, FORBIDDEN),
    Case("eval", score("eval('1')"), FORBIDDEN, E_OK),
    Case("globals", score("globals()['__builtins__']"), FORBIDDEN, E_OK),
    Case("getattr", score("getattr(layers, '__cl' + 'ass__')"), FORBIDDEN, E_OK),
    Case("sys.modules", "import sys\n" + score("sys.modules.clear()"), FORBIDDEN, ("ok", "exception", "crash", "output")),
    Case("walks frames", score("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    e.__traceback__.tb_frame.f_back"), FORBIDDEN, E_OK),
    Case("frames of a generator", score("g = (x for x in [1])\ng.gi_frame.f_back"), FORBIDDEN, E_OK),
    Case("collector", "import gc\n" + score("gc.get_objects()"), FORBIDDEN, ("ok", "forbidden")),
    Case("pickle", "import pickle\n" + score("pickle.loads(b'')"), FORBIDDEN, FORBIDDEN),
    Case("signal handlers", "import signal\n" + score("signal.signal(2, signal.SIG_IGN)"), FORBIDDEN, ("forbidden", "ok")),
    Case("math is not os", "import math\n" + score("math.os"), ("exception",), ("exception",)),
    Case("class with __del__", "class X:\n    def __del__(self):\n        while True:\n            pass\n" + score("x = X()"), FORBIDDEN, ("timeout",)),
    Case("hostile message", "class E(Exception):\n    def __str__(self):\n        raise SystemExit\n" + score("raise E"), FORBIDDEN, ("exception",)),
    Case("float in disguise", "class F(float):\n    pass\ndef score(layers):\n    return [F(1) for _ in layers]\n", FORBIDDEN, ("result",)),
    Case("asynchronous", "async def score(layers):\n    return [1.0]\n", FORBIDDEN, ("result",)),
    Case("global state", "n = 0\ndef score(layers):\n    global n\n    n += 1\n    return [n] * len(layers)\n", FORBIDDEN, E_OK),
    # nondeterminism
    Case("address as score", "def score(layers):\n    return [float(repr(score).split('0x')[1][:-1].__hash__() % 97) for _ in layers]\n", FORBIDDEN),
    Case("order of a set", "def score(layers):\n    return [float(list({str(i) for i in range(50)}).index('7')) + 1 for _ in layers]\n",
         ("nondeterministic", "ok")),
    Case("address in text", "def score(layers):\n    return [float(int(repr(score).split('0x')[1][:-1], 16)) for _ in layers]\n",
         ("nondeterministic",)),
)  # fmt: skip
