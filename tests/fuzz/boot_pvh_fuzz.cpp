#include "boot/pvh.h"
#include "fuzz/boot_fuzz_memory.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return doppel::test::fuzz_loader(data, size, doppel::boot::load_pvh);
}
