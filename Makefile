# Two commands: `make demo` compiles ResNet-8 for the STM32H747I-DISCO, `make test` lints, type-checks and tests.
# Both set up .venv first, and the cross compiler and QEMU through apt where they are missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2

# Tests start many processes: each would compile every module of tapc again.
unexport PYTHONDONTWRITEBYTECODE

PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo test test-cpus test-qemu quick lint types unit setup tools test-tools fuzz fuzz-share soak soak-share thorough clean

demo: setup
	$(BIN)/tapc compile resnet8 --board stm32h7 --target-bits 3 --eval 300

# Types are checked beside the tests: they take one processor, and the tests wait for others now and then.
test: setup test-tools lint
	@$(MAKE) --no-print-directory -j2 types unit
	@$(MAKE) --no-print-directory test-qemu

lint: setup
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# Each worker keeps to one thread: threads of several wait for each other most of the time. One more than processors, as
# tests wait now and then.
unit: setup
	$(PYTEST) -n $$(($(JOBS) + 1)) --dist worksteal

# What runs in QEMU, with the newer QEMU of the release's backports, where there is one.
test-qemu: setup
	@folder=$$(sh tools/qemu-backports.sh build/qemu-backports) || { [ $$? = 3 ]; exit; }; \
	export PATH="$$folder:$$PATH"; \
	qemu-system-arm --version | head -n 1; \
	$(PYTEST) -n $(JOBS) --dist worksteal tests/device/test_qemu.py tests/device/test_speaking.py \
		tests/device/test_halves.py tests/device/test_hostile_twins.py tests/firmware/test_foreign_firmware.py

LEARNED := $(patsubst %,tests/quantize/test_%.py,coupling derivatives gptq influence learn quantize statistics \
	together torch_graph)

# What is computed by torch, with the instruction sets that `unit` did not use.
test-cpus: setup
	@mine=$$($(BIN)/python -c 'import torch; print(torch.backends.cpu.get_cpu_capability().lower())'); \
	for cpu in avx2 default; do \
		if [ $$cpu = $$mine ] || [ $$mine = default ]; then continue; fi; \
		echo "ATEN_CPU_CAPABILITY=$$cpu"; \
		ATEN_CPU_CAPABILITY=$$cpu $(PYTEST) -n $(JOBS) --dist worksteal tests/finetune $(LEARNED) || exit; \
	done

# Tests of what changed since main, for a minute at most: see tools/quick.py.
quick: setup
	$(BIN)/ruff check --no-cache .
	$(BIN)/python tools/quick.py --jobs $(JOBS)

setup: tools $(STAMP)

$(STAMP): pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tapc needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); sh tools/apt-install.sh python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $(STAMP)

tools:
	@sh tools/apt-install.sh \
		qemu-system-arm:qemu-system-arm \
		arm-none-eabi-gcc:gcc-arm-none-eabi,libnewlib-arm-none-eabi \
		qemu-system-riscv32:qemu-system-misc \
		riscv64-unknown-elf-gcc:gcc-riscv64-unknown-elf,picolibc-riscv64-unknown-elf \
		cc:gcc,libc6-dev

test-tools:
	@sh tools/apt-install.sh clang:clang cmake:cmake g++:g++ llvm-mca-19:llvm-19 chromium:chromium openocd:openocd
	@echo 'int main(void) { return 0; }' | clang -fsanitize=address,undefined -x c - -o /dev/null 2>/dev/null || \
		sh tools/apt-install.sh libclang-rt-$$(clang -dumpversion | cut -d. -f1)-dev

# What repeats on other cores and networks what `make test` shows on one: a quarter of an hour.
thorough: setup test-tools
	$(PYTEST) -n $(JOBS) --dist worksteal -m thorough

# Hostile inputs of every kind: ten minutes of processor time, or the share of them that continuous integration runs.
fuzz fuzz-share: setup test-tools
	OMP_NUM_THREADS=1 $(BIN)/python tools/run_fuzz.py $(if $(filter fuzz,$@),--count 1500,--count 28 --seed 1)

# 2,000 random instances of every operator, in the largest networks too: half a day. Or continuous integration's share.
soak: setup test-tools
	TAPC_SOAK=1 $(PYTEST) -n $(JOBS) --dist worksteal -m "" tests/flow/test_architectures.py tests/frontend/test_networks.py
	$(BIN)/python tools/run_properties.py --count 2000 --jobs $(JOBS)

soak-share: setup test-tools
	$(BIN)/python tools/run_properties.py --count 28 --share --jobs $(JOBS)

clean:
	rm -rf build $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
