"""Write TFLite files of recurrent networks by TensorFlow's converter, from Keras 3 or tf_keras.

Run it where tensorflow is installed (`pip install tensorflow-cpu tf_keras`; tapc needs neither):

    python tools/keras_recurrent.py FOLDER [--library tf_keras] [--only NAME] [--form float]

A file is NAME.FORM.tflite. Conversions run in processes of their own, since some end the converter.
"""

import argparse
import importlib
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

STEPS, INPUTS, UNITS, WORDS = 6, 5, 7, 20
FORMS = ("float", "dynamic", "int8", "int8-ends", "int16x8")
Layers = Callable[[], list[Any]]


def networks(keras: Any) -> dict[str, Layers]:
    """Return what makes the layers of each network, by name; they make variables, which a process forks without."""
    made = keras.layers
    found: dict[str, Layers] = {
        "gru-reset-before": lambda: [made.GRU(UNITS, reset_after=False, return_sequences=True)],
        "lstm-hard": lambda: [made.LSTM(UNITS, recurrent_activation="hard_sigmoid")],
        "lstm-no-bias": lambda: [made.LSTM(UNITS, use_bias=False)],
        "lstm-gru": lambda: [made.LSTM(UNITS, return_sequences=True), made.GRU(UNITS)],
        "cells": lambda: [made.RNN([made.LSTMCell(UNITS), made.GRUCell(UNITS)], return_sequences=True)],
    }

    def both(one: Any, mode: str = "concat", **options: Any) -> Any:
        return made.Bidirectional(one(UNITS, **options), merge_mode=mode)

    def of(kind: str, one: Any, all_: dict[str, Any]) -> dict[str, Layers]:
        return {
            kind: lambda: [one(UNITS)],
            f"{kind}-sequence": lambda: [one(UNITS, **all_)],
            f"{kind}-backwards": lambda: [one(UNITS, go_backwards=True, **all_)],
            f"{kind}-stacked": lambda: [one(UNITS, **all_), one(UNITS + 1)],
            f"{kind}-both": lambda: [both(one)],
            f"{kind}-both-stacked": lambda: [both(one, **all_), both(one)],
            f"{kind}-both-sum": lambda: [both(one, "sum", **all_)],
            f"{kind}-both-mul": lambda: [both(one, "mul")],
            f"{kind}-unrolled": lambda: [one(UNITS, unroll=True)],
            f"{kind}-dropout": lambda: [one(UNITS, dropout=0.2, recurrent_dropout=0.2)],
            f"{kind}-masked": lambda: [made.Masking(), one(UNITS)],
            f"{kind}-embedding": lambda: [made.Embedding(WORDS, 6), one(UNITS)],
            f"{kind}-distributed": lambda: [made.TimeDistributed(made.Dense(4, activation="relu")), one(UNITS)],
            f"{kind}-each-step": lambda: [one(UNITS, **all_), made.TimeDistributed(made.Dense(4))],
            f"{kind}-conv": lambda: [made.Conv1D(8, 3, activation="relu"), made.MaxPooling1D(2), one(UNITS)],
            f"{kind}-decoder": lambda: [one(UNITS), made.RepeatVector(4), one(UNITS, **all_)],
            f"{kind}-pooled": lambda: [one(UNITS, **all_), made.GlobalAveragePooling1D()],
            f"{kind}-normalized": lambda: [one(UNITS, **all_), made.LayerNormalization(), one(UNITS)],
            f"{kind}-relu": lambda: [one(UNITS, activation="relu")],
        }

    for own in (made.LSTM, made.GRU, made.SimpleRNN):
        found |= of(own.__name__.lower(), own, {"return_sequences": True})
    return found


def convert(library: str, name: str, form: str, path: Path) -> None:
    """Write one network in one form."""
    import tensorflow as tf

    keras = importlib.import_module(library)
    tokens = "embedding" in name
    x = y = keras.Input(shape=(STEPS,) if tokens else (STEPS, INPUTS), batch_size=1)
    for layer in (*networks(keras)[name](), keras.layers.Dense(3)):
        y = layer(y)
    model = keras.Model(x, y)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.4, own.shape).astype(own.dtype) for own in model.get_weights()])

    def samples() -> Iterator[list[Any]]:
        for _ in range(20):
            drawn = rng.integers(0, WORDS, (1, STEPS)) if tokens else rng.normal(size=(1, STEPS, INPUTS))
            yield [drawn.astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if form != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form.startswith("int"):
        converter.representative_dataset = samples
    if form == "int8-ends":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    if form == "int16x8":
        own = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [own]
    path.write_bytes(converter.convert())


def main() -> None:
    """Write all files and say which the converter could not write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--library", default="keras", choices=("keras", "tf_keras"))
    parser.add_argument("--only", default="", help="part of the networks' names")
    parser.add_argument("--form", action="append", choices=FORMS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")  # loads TensorFlow once
    for name in networks(importlib.import_module(given.library)):
        if given.only not in name:
            continue
        for form in given.form or FORMS:
            path = given.folder / f"{name}.{form}.tflite"
            process = context.Process(target=convert, args=(given.library, name, form, path))
            process.start()
            process.join()
            code = process.exitcode
            print(path.name, f"not written: exit code {code}" if code else "written", flush=True)


if __name__ == "__main__":
    main()
