# One static library per room of the house, one test program per room that has tests.

add_library(doppel_options INTERFACE)
# -Wno-psabi: GCC's notes on how 32-byte aligned arguments were passed before GCC 4.6.
target_compile_options(doppel_options INTERFACE -Wall -Wextra -Wpedantic -Werror $<$<CXX_COMPILER_ID:GNU>:-Wno-psabi>)
target_include_directories(doppel_options INTERFACE ${CMAKE_SOURCE_DIR}/src)

# doppel_room(<name> [<library>...]): src/<name>/**.cpp as the library room_<name>.
function(doppel_room name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cpp)
  if(sources)
    add_library(room_${name} STATIC ${sources})
    target_link_libraries(room_${name} PUBLIC doppel_options ${ARGN})
  else()
    add_library(room_${name} INTERFACE)
    target_link_libraries(room_${name} INTERFACE doppel_options ${ARGN})
  endif()
endfunction()

# doppel_room_tests(<name> [<library>...]): tests/<name>/**.cpp as the program test_<name>, each case a ctest. The ctest label
# is "unit"; tests/guest, whose cases boot whole guests with the program, is "boot".
function(doppel_room_tests name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${name}/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(test_${name} ${sources})
  target_include_directories(test_${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(
    test_${name} PRIVATE DOPPEL_GOLDEN_DIR="${CMAKE_SOURCE_DIR}/tests/state/golden"
                         DOPPEL_GUEST_DIR="${DOPPEL_GUEST_DIR}" DOPPEL_PROGRAM="${CMAKE_BINARY_DIR}/doppel")
  target_link_libraries(test_${name} PRIVATE ${ARGN} GTest::gtest GTest::gmock GTest::gtest_main)
  set(label unit)
  set(limit 300)
  if(TARGET room_${name})
    target_link_libraries(test_${name} PRIVATE room_${name})
  endif()
  if(name STREQUAL guest)
    set(label boot)
    set(limit 1200)
    if(TARGET doppel)
      add_dependencies(test_${name} doppel)
    endif()
    add_dependencies(test_${name} doppel_guest_files)
  endif()
  gtest_discover_tests(test_${name} TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST
                       PROPERTIES LABELS ${label} TIMEOUT ${limit})
endfunction()
