"""Other build systems, as far as packages use them: CMake functions of Zephyr and ESP-IDF, and a header of Arduino."""

from pathlib import Path

ARDUINO_H = """#pragma once
#include <cstdio>
struct Stream {
  explicit operator bool() const { return true; }
  void begin(int) {}
  void print(const char *text) { std::printf("%s", text); }
  void print(unsigned long value) { std::printf("%lu", value); }
  void println(const char *text) { std::printf("%s\\n", text); }
};
static Stream Serial;
static inline unsigned long millis() { return 0; }
static inline unsigned long micros() { return 7; }
"""
ARDUINO_MAIN = '#include "Arduino.h"\n#include "{sketch}"\nint main() {{ setup(); loop(); return 0; }}\n'

# What find_package(Zephyr) brings: the application's library, symbols of prj.conf, and the modules' folders.
ZEPHYR = """
project(kernel C)
macro(project name)
endmacro()
file(STRINGS ${CMAKE_CURRENT_SOURCE_DIR}/prj.conf settings)
foreach(setting ${settings})
  string(REGEX MATCH "^(CONFIG_[A-Z0-9_]+)=(.*)$" _ "${setting}")
  set(${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
endforeach()
add_compile_options(-Os)
file(WRITE ${CMAKE_BINARY_DIR}/empty.c "")
add_executable(app ${CMAKE_BINARY_DIR}/empty.c)
macro(zephyr_library_named name)
  set(ZEPHYR_CURRENT_LIBRARY ${name})
  add_library(${name} STATIC)
  target_link_libraries(app PRIVATE ${name} m)
endmacro()
function(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()
function(zephyr_include_directories)
  target_include_directories(${ZEPHYR_CURRENT_LIBRARY} PUBLIC ${ARGN})
endfunction()
foreach(module ${ZEPHYR_EXTRA_MODULES})
  add_subdirectory(${module}/zephyr module)
endforeach()
"""

# $IDF_PATH/tools/cmake/project.cmake: the component by its folder's name, and the project's own.
ESP_IDF = """
macro(project name)
  _project(${name} C)
  add_compile_options(-Og)
  get_filename_component(component ${CMAKE_CURRENT_SOURCE_DIR}/../.. ABSOLUTE)
  add_subdirectory(${component} component)
  add_subdirectory(main)
endmacro()
function(idf_component_register)
  cmake_parse_arguments(own "" "" "SRCS;INCLUDE_DIRS;REQUIRES" ${ARGN})
  get_filename_component(name ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  if(name STREQUAL "main")
    file(WRITE ${CMAKE_BINARY_DIR}/start.c "void app_main(void); int main(void) { app_main(); return 0; }")
    add_executable(app ${own_SRCS} ${CMAKE_BINARY_DIR}/start.c)
    target_link_libraries(app PRIVATE ${own_REQUIRES} m)
  else()
    add_library(${name} STATIC ${own_SRCS})
    target_include_directories(${name} PUBLIC ${own_INCLUDE_DIRS})
  endif()
endfunction()
"""

LINKER = """
MEMORY { FLASH (rx) : ORIGIN = 0, LENGTH = 4M  RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 4M }
ENTRY(start)
SECTIONS {
  .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) } > FLASH
  .ARM.exidx : { *(.ARM.exidx*) } > FLASH
  .data : { *(.data*) } > RAM AT > FLASH
  .bss (NOLOAD) : { *(.bss*) *(COMMON) } > RAM
}
"""
START = """
#include "{check}"
static int semihosting(int what, const void *argument) {{
  register int r0 __asm__("r0") = what;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}}
int errno;
void start(void) {{
  *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* the FPU */
  __asm__ volatile("dsb\\nisb");
  semihosting(4, {prefix}_check() ? "differs\\n" : "exact\\n");
  semihosting(24, (const void *)0x20026);
  for (;;) {{}}
}}
const void *const vectors[2] __attribute__((section(".vectors"), used)) = {{(void *)0x20400000, (void *)start}};
"""


def fake_zephyr(folder: Path) -> Path:
    """Write a package that CMake finds as Zephyr, and return its folder."""
    folder.mkdir()
    (folder / "ZephyrConfig.cmake").write_text(ZEPHYR)
    return folder


def fake_idf(folder: Path) -> Path:
    """Write what a project of ESP-IDF includes, and return what IDF_PATH is."""
    place = folder / "tools" / "cmake"
    place.mkdir(parents=True)
    (place / "project.cmake").write_text(ESP_IDF)
    return folder
