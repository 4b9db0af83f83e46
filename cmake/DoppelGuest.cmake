# The embedded default guest and the guests of the tests, made of what guest/fetch left in the user's cache.
#
#   doppel_guest              a library with the default guest's kernel and initramfs in it (see src/boot/embedded_guest.h);
#                             both are empty when the cache was empty at the time of configuration; and what Debian images
#                             are made with
#   ${DOPPEL_GUEST_DIR}       kernels/{cloud,generic,rt,newest,i686}, vmlinux, memtest64, initramfs-{amd64,i386}: each is
#                             there if the cache has it; tests have the directory as the macro DOPPEL_GUEST_DIR

if(DEFINED ENV{DOPPEL_GUEST_CACHE})
  set(default_cache "$ENV{DOPPEL_GUEST_CACHE}")
elseif(DEFINED ENV{XDG_CACHE_HOME})
  set(default_cache "$ENV{XDG_CACHE_HOME}/doppel/guest")
else()
  set(default_cache "$ENV{HOME}/.cache/doppel/guest")
endif()
set(DOPPEL_GUEST_CACHE "${default_cache}" CACHE PATH "Where guest/fetch put the guests' kernels and programs")
set(DOPPEL_GUEST_DIR "${CMAKE_BINARY_DIR}/guest")
file(MAKE_DIRECTORY "${DOPPEL_GUEST_DIR}/kernels")

foreach(name kernels/cloud kernels/generic kernels/rt kernels/newest kernels/i686 vmlinux memtest64)
  if(EXISTS "${DOPPEL_GUEST_CACHE}/${name}")
    file(CREATE_LINK "${DOPPEL_GUEST_CACHE}/${name}" "${DOPPEL_GUEST_DIR}/${name}" SYMBOLIC)
  endif()
endforeach()

file(GLOB_RECURSE guest_rootfs CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/guest/rootfs/*")
file(GLOB_RECURSE guest_modules CONFIGURE_DEPENDS "${DOPPEL_GUEST_CACHE}/modules/*.ko")
set(modules_amd64)
if(guest_modules)
  set(modules_amd64 "${DOPPEL_GUEST_CACHE}/modules")
endif()
# The agent, linked statically and without what the preset adds (sanitizers): it runs in guests.
set(agent_amd64 "${DOPPEL_GUEST_DIR}/doppel-agent")
set(agent_i386)
add_custom_command(
  OUTPUT "${agent_amd64}"
  COMMAND "${CMAKE_CXX_COMPILER}" -std=c++20 -Os -Wall -Wextra -Werror -static -s -I "${CMAKE_SOURCE_DIR}/src" -o "${agent_amd64}"
          "${CMAKE_SOURCE_DIR}/guest/agent/agent.cpp"
  DEPENDS "${CMAKE_SOURCE_DIR}/guest/agent/agent.cpp" "${CMAKE_SOURCE_DIR}/src/cli/agent_protocol.h"
  VERBATIM)

set(guest_files)
foreach(arch amd64 i386)
  if(EXISTS "${DOPPEL_GUEST_CACHE}/busybox-${arch}" AND EXISTS "${DOPPEL_GUEST_CACHE}/busybox-amd64")
    add_custom_command(
      OUTPUT "${DOPPEL_GUEST_DIR}/initramfs-${arch}"
      COMMAND "${CMAKE_SOURCE_DIR}/guest/mkinitramfs" "${DOPPEL_GUEST_CACHE}/busybox-${arch}"
              "${DOPPEL_GUEST_DIR}/initramfs-${arch}" "${DOPPEL_GUEST_CACHE}/busybox-amd64" "${modules_${arch}}"
              "${agent_${arch}}"
      DEPENDS ${agent_${arch}} "${CMAKE_SOURCE_DIR}/guest/mkinitramfs" "${DOPPEL_GUEST_CACHE}/busybox-${arch}" ${guest_rootfs} ${guest_modules}
      VERBATIM)
    list(APPEND guest_files "${DOPPEL_GUEST_DIR}/initramfs-${arch}")
  endif()
endforeach()
add_custom_target(doppel_guest_files ALL DEPENDS ${guest_files})

set(kernel "${DOPPEL_GUEST_CACHE}/kernels/cloud")
set(initramfs "${DOPPEL_GUEST_DIR}/initramfs-amd64")
if(EXISTS "${kernel}" AND guest_files)
  set(include_kernel ".incbin \"${kernel}\"")
  set(include_initramfs ".incbin \"${initramfs}\"")
  set(embedded_files "${kernel}" "${initramfs}")
else()
  message(STATUS "No guest in ${DOPPEL_GUEST_CACHE}: building without an embedded one (guest/fetch gets it)")
  set(include_kernel "")
  set(include_initramfs "")
  set(embedded_files "")
endif()
set(debian_recipe "${CMAKE_SOURCE_DIR}/guest/debian")
set(shares_script "${CMAKE_SOURCE_DIR}/guest/rootfs/etc/doppel/shares")
set(agent_install "${CMAKE_SOURCE_DIR}/guest/agent/install")
list(APPEND embedded_files "${agent_amd64}" "${agent_install}" "${debian_recipe}/customize" "${debian_recipe}/pack" "${shares_script}")
configure_file("${CMAKE_CURRENT_LIST_DIR}/embedded_guest.S.in" "${CMAKE_BINARY_DIR}/embedded_guest.S" @ONLY)
set_source_files_properties("${CMAKE_BINARY_DIR}/embedded_guest.S" PROPERTIES OBJECT_DEPENDS "${embedded_files}")
add_library(doppel_guest STATIC "${CMAKE_BINARY_DIR}/embedded_guest.S")
# A compiler cache would not see the included files change.
set_target_properties(doppel_guest PROPERTIES C_COMPILER_LAUNCHER "" CXX_COMPILER_LAUNCHER "" ASM_COMPILER_LAUNCHER "")
