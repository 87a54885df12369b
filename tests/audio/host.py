"""Runs a generated front end on this machine, under sanitizers and with warnings as errors."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tapc.audio import FrontEnd, Quantization, files_of

_MAIN = """
#include <stdio.h>
#include <stdlib.h>
#ifdef BINS
#include "x_frontend.c"
#else
#include "x_frontend.h"
#endif
static int8_t features[X_FRONTEND_COLUMNS * X_FRONTEND_FEATURES], column[X_FRONTEND_FEATURES];
int main(int argc, char **argv)
{
    const uint32_t piece = (uint32_t)atoi(argv[1]);
    for (int i = 2; i < argc; ++i) {
        FILE *file = fopen(argv[i], "rb");
        fseek(file, 0, SEEK_END);
        const uint32_t count = (uint32_t)ftell(file) / 2u;
        rewind(file);
        int16_t *samples = malloc(2u * count);
        if (fread(samples, 2, count, file) != count) return 1;
        fclose(file);
        x_frontend_reset();
        if (piece == 0) {
            x_frontend_clip(samples, count, features);
            fwrite(features, 1, sizeof features, stdout);
        }
        for (uint32_t begin = 0; piece != 0 && begin < count; begin += piece) {
            const int16_t *next = samples + begin;
            uint32_t left = count - begin < piece ? count - begin : piece;
            while (x_frontend_push(&next, &left, column)) {
#ifdef BINS
                fwrite(work, 1, sizeof work, stdout);
#else
                fwrite(column, 1, sizeof column, stdout);
#endif
                x_frontend_slide(features, column);
            }
        }
        free(samples);
    }
    return 0;
}
"""
_FLAGS = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror", "-fwrapv")
_SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-wrapv")


def built(spec: FrontEnd, quantization: Quantization, columns: int, folder: Path, *more: str) -> Path:
    """Compile a front end and a main."""
    for name, text in files_of(spec, quantization, columns, "x").items():
        (folder / name).write_text(text)
    (folder / "main.c").write_text(_MAIN)
    program = folder / "program"
    done = subprocess.run(
        ["gcc", *_FLAGS, *_SANITIZE, *more, "main.c", *(() if "-DBINS" in more else ("x_frontend.c",)), "-o", program],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return program


def outputs(program: Path, spec: FrontEnd, sounds: Sequence[NDArray[np.int16]], piece: int = 0) -> NDArray[np.int8]:
    """Return the columns of several sounds, one behind the other: of clips, or of streams in pieces of samples."""
    files = []
    for number, sound in enumerate(sounds):
        files.append(program.parent / f"{number}.raw")
        sound.tofile(files[-1])
    done = subprocess.run([program, str(piece), *files], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, np.int8).reshape(-1, spec.features)
